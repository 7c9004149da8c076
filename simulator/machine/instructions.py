"""How an instruction is declared and carried out.

`instruction` declares one NKI instruction: its engines, its cost, the first generation that has it and its effect stand
together, and the declaration is a row of `INSTRUCTIONS` (triptych.simulator.machine.table). `collective` is the same
for `nki.collectives`.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec

from triptych.simulator.analysis.costs import Cost
from triptych.simulator.analysis.regions import Order, Rules
from triptych.simulator.enums import engine, named
from triptych.simulator.errors import NkiError, NkiValidationError
from triptych.simulator.machine.dynamic import resolve_dynamic
from triptych.simulator.machine.machine import Kind, Machine, machine
from triptych.simulator.machine.table import COLLECTIVES, INSTRUCTIONS, Indirect, Instruction
from triptych.simulator.machine.unwritten import Trial, UnwrittenRead, require_written
from triptych.simulator.wrong_calls import wrong_call

RAW = "is no member of its enumeration; raw integers are not accepted since NKI 0.3.0"
MIGRATION = "nki/migration/index.rst, Integer enum constants no longer supported"
P = ParamSpec("P")
_UNKNOWN = engine.unknown


class Declared(NamedTuple):
    """An instruction of `nki.isa` or a collective as it was declared, for who carries out a call of it."""

    kind: Kind
    module: str  # "nisa" or "ncc"
    since: int  # the first generation that has it
    indirect: Indirect | None
    reads_indices: bool


def instruction(
    *engines: engine,
    cost: Cost,
    since: int = 2,
    source: str = "nki/api/nki/isa/__init__.py",
    indirect: Indirect | None = None,
    reads_indices: bool = False,
    own_starts: bool = False,
    order: Order = "stream",
) -> Callable[[Callable[P, Any]], Callable[P, Any]]:
    """Declare an instruction of `nki.isa`: engines it can run on, cost in nanoseconds, first generation, source.

    `indirect` says which operands may be indirect views. An index that moves a view is resolved before the instruction
    runs, unless it `reads_indices` itself, as DMA does. `own_starts` and `order`: triptych.simulator.analysis.regions.
    """
    computes = engines[0] not in (engine.dma, engine.sync)
    rules = Rules(computes, own_starts, order)
    return _declared(INSTRUCTIONS, "nisa", engines, cost, since, source, indirect, reads_indices, rules)


def collective(engine: engine, cost: Cost, since: int = 2) -> Callable[[Callable[P, Any]], Callable[P, Any]]:
    """Declare a function of `nki.collectives`."""
    source = "nki/api/nki/collectives/__init__.py"
    return _declared(COLLECTIVES, "ncc", (engine,), cost, since, source, None, False, None)


def _declared(
    table: dict[str, Instruction],
    module: str,
    engines: tuple[engine, ...],
    cost: Cost,
    since: int,
    source: str,
    indirect: Indirect | None,
    reads_indices: bool,
    rules: Rules | None,
) -> Callable[[Callable[P, Any]], Callable[P, Any]]:
    def declare(effect: Callable[P, Any]) -> Callable[P, Any]:
        name = effect.__name__
        parameters = list(inspect.signature(effect).parameters)
        label = parameters.index("name") if "name" in parameters else len(parameters)
        kind = Kind(name, effect, rules, label)

        what = Declared(kind, module, since, indirect, reads_indices)

        def tried(m: Machine, read: UnwrittenRead, args: Any, kwargs: Any) -> Any:
            if rules is None:  # what leaves the rank has been written
                require_written(m, (read.tensor,))
            trial = Trial(m, f"{module}.{name}", read, (*args, *kwargs.values()))
            return trial.carry_out(lambda: _execute(m, what, args, kwargs))

        # Apart from `issue`: a variable of its own that another function sees would cost each call.
        def in_members(error: NkiError, kwargs: dict[str, Any]) -> dict[str, Any] | None:
            """The arguments with members in place of raw numbers; None without one, and the error says whose it is."""
            meant = named(kwargs) if error.op is None else kwargs
            if meant != kwargs and not machine().options.forbids("raw-member"):
                raw = next(what for what in kwargs if meant[what] is not kwargs[what])
                machine().remark("raw-member", f"{module}.{name}: {raw}={kwargs[raw]!r} {RAW}", MIGRATION)
                return meant
            if error.op is None:
                error.op = f"{module}.{name}"
                error.source = error.source or table[name].source
            return None

        @functools.wraps(effect)
        def issue(*args: P.args, **kwargs: P.kwargs) -> Any:
            try:
                try:
                    return carry_out(what, args, kwargs)
                except UnwrittenRead as read:
                    return tried(machine(), read, args, kwargs)
            except NkiError as error:
                meant = in_members(error, kwargs)
                if meant is not None:
                    return issue(*args, **meant)
                raise
            except TypeError as e:
                raise wrong_call(f"{module}.{name}", effect, args, kwargs, e) from None

        table[name] = Instruction(name, engines, cost, since, f"{source}, {name}", indirect, effect, issue)
        return issue

    return declare


# The frequent case also in C: triptych.simulator.compiled.
def carry_out(what: Declared, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Carry out a call on the machine that runs, which is told the line where the caller of whoever asks stands."""
    m = machine()
    frame = sys._getframe(2)
    m.line = m.lines.known.get((id(frame.f_code), frame.f_lasti)) or m.lines.of(frame)
    if m.chip.generation < what.since:
        raise NkiValidationError(f"needs NeuronCore-v{what.since} or newer, and the target is {m.chip.name}")
    if m.rounds is not None:
        m.rounds.see(f"{what.module}.{what.kind.name}", args, kwargs, m.line)
    return _execute(m, what, args, kwargs)


def _execute(m: Machine, what: Declared, args: Any, kwargs: Any) -> Any:
    if m.any_dynamic and not what.reads_indices:
        return resolve_dynamic(m, what.kind, what.indirect, args, kwargs)
    return m.execute(what.kind, args, kwargs)


def choose(asked: Any, *allowed: engine) -> engine:
    """The engine that runs an instruction: the one asked for, or the first allowed."""
    if asked is _UNKNOWN:
        return allowed[0]
    if asked not in allowed:
        names = ", ".join(f"nisa.engine.{e.name}" for e in allowed)
        raise NkiValidationError(f"engine must be one of {names} here, got {asked!r}")
    return asked  # type: ignore[no-any-return]
