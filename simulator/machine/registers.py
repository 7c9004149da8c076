"""Registers of the engine sequencers: 32-bit integers that are known when the kernel runs, not when it is built.

A register carries loop bounds, loop conditions and dynamic addresses. Python's own `if` and arithmetic cannot use one.
Instructions on registers: triptych.simulator.engines.registers; loops: triptych.simulator.language.loops.
"""

from __future__ import annotations

import linecache
from typing import Any

import numpy as np

from triptych.simulator.errors import NkiValidationError, kernel_line
from triptych.simulator.machine.scalars import SOURCE as SCALARS
from triptych.simulator.machine.scalars import NkiScalar, late
from triptych.simulator.objects import NKIObject
from triptych.simulator.operands.operands import describe
from triptych.simulator.running import running
from triptych.simulator.trace import Event


class VirtualRegister(NKIObject):
    """A 32-bit register (nki.isa.VirtualRegister). A frozen one, a loop's counter, cannot be written."""

    __slots__ = ("frozen", "state", "written_by")

    def __init__(self, state: int | None = None, frozen: bool = False) -> None:
        self.state = state
        self.frozen = frozen
        self.written_by: Event | None = None  # the instruction that gave it its value

    def __repr__(self) -> str:
        return f"VirtualRegister({self.state})"

    def __bool__(self) -> bool:
        """In NKI 0.6 `while register:` is a loop on the chip, and deprecated; any other question has no answer."""
        statement = linecache.getline(*kernel_line()).lstrip()
        if running().options.api == "0.7" or not statement.startswith("while "):
            raise late("a register")
        running().note("`while register:` is deprecated in NKI 0.6, and removed in 0.7; use nl.while_loop")
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
        raise late("a register")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __floordiv__ = __mod__ = __neg__ = _no
    __lt__ = __le__ = __gt__ = __ge__ = __int__ = __index__ = _no


def bound_value(x: Any, wide: bool = False) -> int:
    """The integer that a register, a scalar or a constant stands for; `wide`: a scalar of 64 bits too."""
    if isinstance(x, VirtualRegister):
        return x.value()
    if isinstance(x, NkiScalar):
        if x.dtype == "int64" and not wide:
            raise NkiValidationError(f"expected a scalar of 32 bits, got {x!r}", source=SCALARS)
        return x.value()
    if isinstance(x, (int, np.integer)):
        return int(x)
    raise NkiValidationError(f"expected an integer or a register, got {describe(x)}")


def writers(*values: Any) -> tuple[Event, ...]:
    """The instructions that wrote those of `values` that are registers or scalars: who reads one waits for them."""
    registers = [x.written_by for x in values if isinstance(x, VirtualRegister) and x.written_by is not None]
    return (*registers, *[event for x in values if isinstance(x, NkiScalar) for event in x.written_by])
