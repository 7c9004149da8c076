"""Loops that run on registers: their bounds and conditions are known when the kernel runs.

`nl.fori_loop` and `nl.while_loop` took the place of `nl.dynamic_range` and `while register:` in NKI 0.6, where those
work and are deprecated; 0.7 has them no more.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from triptych.simulator.errors import NkiValidationError, kernel_line
from triptych.simulator.machine.machine import machine
from triptych.simulator.machine.registers import VirtualRegister, bound_value, writers
from triptych.simulator.machine.rounds import Rounds
from triptych.simulator.machine.scalars import NkiScalar
from triptych.simulator.operands.operands import describe

_LOOPS = "nki/api/nki/language/__init__.py, fori_loop"


def _check_step(step: Any) -> None:
    if not isinstance(step, int) or step < 1:
        raise NkiValidationError(f"step must be a compile-time integer of 1 or more, got {step!r}", source=_LOOPS)


def _check_order() -> None:
    if "no_reorder" in machine().scope:
        raise NkiValidationError(
            "a loop that runs on registers cannot stand in nl.no_reorder(); put the block into the loop's body",
            source="nki/migration/index.rst, Rules for migrated loops",
        )


def dynamic_range(start: Any, stop: Any = None, step: int = 1) -> Iterator[VirtualRegister]:
    """Counters from start to stop, whose bounds may be registers; removed in NKI 0.7, use nl.fori_loop."""
    if machine().options.api == "0.7":
        raise NkiValidationError(
            "nl.dynamic_range was removed in NKI 0.7; write the body as a function, nl.fori_loop(start, stop, body)",
            source="nki/migration/index.html of SDK 2.33.1",
        )
    _check_step(step)
    _check_order()
    machine().note("nl.dynamic_range is deprecated in NKI 0.6; use nl.fori_loop")
    first, last = (0, start) if stop is None else (start, stop)
    counters = range(bound_value(first), bound_value(last), step)
    in_round = _opened(first, last)

    def rounds() -> Iterator[VirtualRegister]:
        for n, i in enumerate(counters):
            with in_round(n):
                yield VirtualRegister(i, frozen=True)

    return rounds()


def _opened(*bounds: Any) -> Callable[..., AbstractContextManager[None]]:
    """Open a dynamic loop. What it returns, called with a round's number, names the round to its events.

    It also names what wrote the registers that decide on the round: the loop's bounds, and those given for this round.
    """
    m = machine()
    around, loop = m.scope.get("loop", ()), m.opened()
    awaited = (*m.scope.get("registers", ()), *writers(*bounds))
    rounds, line = Rounds() if m.rounds is None else m.rounds.inside(), kernel_line()

    @contextmanager
    def in_round(n: int, *more: Any) -> Iterator[None]:
        before = m.rounds
        rounds.begin(len(m.trace.allocations), m.shared, m.shared_seen)
        m.rounds = rounds
        try:
            with m.scoped(loop=(*around, (loop, n)), registers=(*awaited, *writers(*more))):
                yield
            rounds.end(line)
        finally:
            m.rounds = before

    return in_round


def fori_loop(lower: Any, upper: Any, body_fun: Callable[[VirtualRegister | NkiScalar], Any], step: int = 1) -> None:
    """body_fun(i) for i in lower, lower + step, .. below upper; the bounds may be registers or scalars of 32 bits.

    The counter is a scalar (NKI 0.7), and a register where a bound is one, and before.
    """
    _check_step(step)
    _check_order()
    counters = range(bound_value(lower), bound_value(upper), step)
    in_round = _opened(lower, upper)
    old = machine().options.api != "0.7" or any(isinstance(b, VirtualRegister) for b in (lower, upper))
    came = writers(lower, upper)
    for n, i in enumerate(counters):
        with in_round(n):
            counter = VirtualRegister(i, frozen=True) if old else NkiScalar(i, written_by=came)
            if body_fun(counter) is not None:
                raise NkiValidationError(
                    "the body of fori_loop returns nothing; carry state through SBUF", source=_LOOPS
                )


def while_loop(init: VirtualRegister, body_fun: Callable[[VirtualRegister], VirtualRegister]) -> None:
    """r = init; while r != 0: r = body_fun(r)."""
    _check_order()
    condition = init
    in_round = _opened()
    for n in itertools.count():
        if not isinstance(condition, VirtualRegister):
            raise NkiValidationError(
                f"while_loop's condition, and what its body returns, is a register; got {describe(condition)}",
                source="nki/api/nki/language/__init__.py, while_loop",
            )
        if condition.value() == 0:
            return
        with in_round(n, condition):
            condition = body_fun(VirtualRegister(condition.value()))
