"""Scalars of the engine sequencers (nki.isa.NkiScalar of NKI 0.7): integers that are known when the kernel runs.

Unlike a register a scalar is a value: its operators give new ones, of the same width, which wrap around. It bounds
loops and moves access patterns, and Python's own control flow cannot use one. Pages of SDK 2.33: nki.isa.NkiScalar,
scalar_load, scalar_store; deep-dives/nki-scalar. They show + - * and the comparisons; of division, remainder, shifts
and bitwise operators they say nothing, which is read as that there are none.
"""

from __future__ import annotations

from typing import Any, NoReturn

from triptych.simulator.errors import NkiValidationError
from triptych.simulator.objects import NKIObject
from triptych.simulator.trace import Event

SOURCE = "nki.isa.NkiScalar.html of SDK 2.33"
_BITS = {"int32": 32, "int64": 64}


class LateValue(NkiValidationError, TypeError):
    """Python asks for a value that is known only when the kernel runs."""


class NkiScalar(NKIObject):
    """An integer on the device, int32 or int64 for all its life."""

    __slots__ = ("dtype", "is_comparison", "state", "written_by")

    def __init__(
        self, state: int, dtype: Any = None, is_comparison: bool = False, written_by: tuple[Event, ...] = ()
    ) -> None:
        kind = "int32" if dtype is None else str(dtype)
        if kind not in _BITS:
            raise NkiValidationError(f"a scalar is nl.int32 or nl.int64, got {dtype!r}", source=SOURCE)
        if not isinstance(state, int):
            raise NkiValidationError(f"a scalar is made of an integer, got {state!r}", source=SOURCE)
        self.dtype = kind
        self.state = _wrapped(state, kind)
        self.is_comparison = is_comparison
        self.written_by = written_by  # the instructions that it comes from

    def __repr__(self) -> str:
        return f"NkiScalar({self.state}, {self.dtype})"

    def value(self) -> int:
        """What it is when an instruction reads it."""
        if self.is_comparison:
            raise NkiValidationError("the result of a comparison of scalars cannot be used", source=SOURCE)
        return self.state

    def _combined(self, other: Any, result: int, is_comparison: bool = False) -> NkiScalar:
        came = other.written_by if isinstance(other, NkiScalar) else ()
        return NkiScalar(result, self.dtype, is_comparison, (*self.written_by, *came))

    def _other(self, other: Any) -> int:
        """The value of another operand: an integer, or a scalar of the same width."""
        if isinstance(other, NkiScalar):
            if other.dtype != self.dtype:
                raise NkiValidationError(f"scalars of {self.dtype} and {other.dtype} do not mix", source=SOURCE)
            return other.value()
        if isinstance(other, bool) or not isinstance(other, int):
            raise NkiValidationError(f"a scalar computes with integers and scalars, got {other!r}", source=SOURCE)
        return other

    def __add__(self, other: Any) -> NkiScalar:
        return self._combined(other, self.value() + self._other(other))

    def __sub__(self, other: Any) -> NkiScalar:
        return self._combined(other, self.value() - self._other(other))

    def __rsub__(self, other: Any) -> NkiScalar:
        return self._combined(other, self._other(other) - self.value())

    def __mul__(self, other: Any) -> NkiScalar:
        return self._combined(other, self.value() * self._other(other))

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> NkiScalar:
        return self._combined(None, -self.value())

    def _compared(self, other: Any) -> Any:
        if other is None:
            return False
        if self.dtype == "int64":
            raise NkiValidationError("scalars of 64 bits cannot be compared", source=SOURCE)
        self._other(other)
        return self._combined(other, 0, is_comparison=True)

    __eq__ = __lt__ = __le__ = __gt__ = __ge__ = _compared
    __hash__ = object.__hash__

    def __ne__(self, other: object) -> Any:
        return True if other is None else self._compared(other)

    def _late(self, *_: Any) -> NoReturn:
        raise late("a scalar")

    __bool__ = __int__ = __index__ = __float__ = _late
    __floordiv__ = __truediv__ = __mod__ = __pow__ = __lshift__ = __rshift__ = __and__ = __or__ = __xor__ = _late
    __rfloordiv__ = __rtruediv__ = __rmod__ = _late


def late(what: str) -> LateValue:
    """The error of Python that asks what a register or a scalar holds."""
    return LateValue(
        f"{what}'s value is not known while the kernel is built: no if, while, int(), range() or Python arithmetic on "
        "it but a scalar's + - *; use nl.fori_loop, nl.while_loop and instructions",
        source="nki/api/nki/isa/__init__.py, VirtualRegister; nki.isa.NkiScalar.html of SDK 2.33",
    )


def _wrapped(value: int, kind: str) -> int:
    """`value` in two's complement: 100000 * 100000 is 1410065408 in 32 bits."""
    bits = _BITS[kind]
    half = 1 << (bits - 1)
    return (value + half) % (2 * half) - half
