"""Registers of the engine sequencers, and the loops that run on them.

A register holds a 32-bit integer that is known when the kernel runs, not when it is built: it carries loop bounds, loop
conditions and dynamic addresses. Python's own `if` and arithmetic cannot use one. `while register:` and
`nl.dynamic_range` work and are deprecated; `nl.fori_loop` and `nl.while_loop` took their place in NKI 0.6.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from triptych.simulator import enums
from triptych.simulator.analysis import costs
from triptych.simulator.errors import NkiValidationError
from triptych.simulator.machine.instructions import instruction
from triptych.simulator.machine.machine import NkiInstruction, machine
from triptych.simulator.objects import NKIObject
from triptych.simulator.operands.operands import describe, put
from triptych.simulator.tensors.tensor import NkiTensor

_LOOPS = "nki/api/nki/language/__init__.py, fori_loop"
_SYNC = enums.engine.sync


class VirtualRegister(NKIObject):
    """A 32-bit register (nki.isa.VirtualRegister). A frozen one, a loop's counter, cannot be written."""

    __slots__ = ("frozen", "state")

    def __init__(self, state: int | None = None, frozen: bool = False) -> None:
        self.state = state
        self.frozen = frozen

    def __repr__(self) -> str:
        return f"VirtualRegister({self.state})"

    def __bool__(self) -> bool:
        machine().note("`while register:` is deprecated in NKI 0.6; use nl.while_loop")
        return self.value() != 0

    def __eq__(self, other: object) -> bool:
        """Whether it is the same register, or None; a number cannot be compared with."""
        return self._no() if isinstance(other, (int, float, np.number)) else self is other

    __hash__ = object.__hash__

    def value(self) -> int:
        """What the register holds when an instruction reads it."""
        if self.state is None:
            raise NkiValidationError("reads a register that nothing has written; load it first, or give it a value")
        return self.state

    def _no(self, *_: Any) -> Any:
        raise NkiValidationError(
            "a register's value is not known while the kernel is built: no Python arithmetic, comparison or int() on "
            "it; use tensor instructions and nisa.register_load",
            source="nki/api/nki/isa/__init__.py, VirtualRegister",
        )

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __floordiv__ = __mod__ = __neg__ = _no
    __lt__ = __le__ = __gt__ = __ge__ = __int__ = __index__ = _no


def register_alloc(x: Any = None) -> VirtualRegister:
    """A new register, holding the integer `x` or nothing."""
    if type(x) is NkiTensor and not machine().options.check_operands:
        register = VirtualRegister()
        register_load(register, x)
        return register
    if x is not None and not isinstance(x, (int, np.integer)):
        raise NkiValidationError(f"register_alloc takes an integer or None, got {describe(x)}")
    return VirtualRegister(None if x is None else _wrapped(int(x)))


@instruction(_SYNC, cost=costs.free)
def register_move(dst: VirtualRegister, src: Any) -> NkiInstruction:
    """dst = src, an integer or another register."""
    m = machine()
    _writable(dst)
    dst.state = _wrapped(bound_value(src))
    return m.record("register_move", _SYNC, (), ())


@instruction(_SYNC, cost=costs.free)
def register_load(dst: VirtualRegister, src: NkiTensor) -> NkiInstruction:
    """dst = the one element of src, in HBM or SBUF, of up to 32 bits."""
    m = machine()
    _writable(dst)
    _check_element(src, "src")
    m.check_reads((src,))
    element = m.values(src).reshape(-1)[0]
    dst.state = _wrapped(int(element) if src.dtype.is_int else int(np.rint(np.float32(element))))
    return m.record("register_load", _SYNC, (src,), ())


@instruction(_SYNC, cost=costs.free)
def register_store(dst: NkiTensor, src: VirtualRegister) -> NkiInstruction:
    """The one element of dst, in HBM or SBUF, = src."""
    m = machine()
    _check_element(dst, "dst")
    if not isinstance(src, VirtualRegister):
        raise NkiValidationError(f"src must be a register, got {describe(src)}")
    put(dst, np.array([src.value()], np.int64))
    return m.record("register_store", _SYNC, (), (dst,))


def bound_value(x: Any) -> int:
    """The integer that a register, or a constant in its place, stands for."""
    if isinstance(x, VirtualRegister):
        return x.value()
    if isinstance(x, (int, np.integer)):
        return int(x)
    raise NkiValidationError(f"expected an integer or a register, got {describe(x)}")


def _writable(dst: Any) -> None:
    if not isinstance(dst, VirtualRegister):
        raise NkiValidationError(f"dst must be a register of nisa.register_alloc, got {describe(dst)}")
    if dst.frozen:
        raise NkiValidationError("the counter of a loop is read only; carry other state through SBUF", source=_LOOPS)


def _check_element(t: Any, what: str) -> None:
    if type(t) is not NkiTensor or t.size != 1 or t.buffer.value == "psum" or t.dtype.kind == "x":
        raise NkiValidationError(f"{what} must be one number in HBM or SBUF, got {describe(t)}")


def _wrapped(value: int) -> int:
    """`value` as the 32-bit register holds it."""
    return (value + 2**31) % 2**32 - 2**31


def _check_step(step: Any) -> None:
    if not isinstance(step, int) or step < 1:
        raise NkiValidationError(f"step must be a compile-time integer of 1 or more, got {step!r}", source=_LOOPS)


def _check_order() -> None:
    if "no_reorder" in machine().marks:
        raise NkiValidationError(
            "a loop that runs on registers cannot stand in nl.no_reorder(); put the block into the loop's body",
            source="nki/migration/index.rst, Rules for migrated loops",
        )


def dynamic_range(start: Any, stop: Any = None, step: int = 1) -> Iterator[VirtualRegister]:
    """Counters from start to stop, whose bounds may be registers (deprecated: nl.fori_loop)."""
    _check_step(step)
    _check_order()
    machine().note("nl.dynamic_range is deprecated in NKI 0.6; use nl.fori_loop")
    first, last = (0, start) if stop is None else (start, stop)
    counters = range(bound_value(first), bound_value(last), step)
    in_round = _opened()

    def rounds() -> Iterator[VirtualRegister]:
        for n, i in enumerate(counters):
            with in_round(n):
                yield VirtualRegister(i, frozen=True)

    return rounds()


def _opened() -> Callable[[int], AbstractContextManager[None]]:
    """Opens a dynamic loop; what is called then with a round's number marks the events of that round."""
    m = machine()
    around, loop = m.marks.get("loop", ()), m.opened()
    return lambda n: m.marking(loop=(*around, (loop, n)))


def fori_loop(lower: Any, upper: Any, body_fun: Callable[[VirtualRegister], Any], step: int = 1) -> None:
    """body_fun(i) for i in lower, lower + step, .. below upper; the bounds may be registers."""
    _check_step(step)
    _check_order()
    counters = range(bound_value(lower), bound_value(upper), step)
    in_round = _opened()
    for n, i in enumerate(counters):
        with in_round(n):
            if body_fun(VirtualRegister(i, frozen=True)) is not None:
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
        with in_round(n):
            condition = body_fun(VirtualRegister(condition.value()))
