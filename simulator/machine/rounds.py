"""Bodies of loops on the chip are traced once: each round has to be what the first was, but for the counter.

Here a body runs in every round, so that Python which counts, appends or rebinds in it would give each round another
program, where the compiler bakes in the first. The calls of a round are compared with those of the first round: which
instruction, on what operands, with which numbers and names. Operands that the counter moves are one operand.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from triptych.simulator.errors import NkiValidationError, show_line
from triptych.simulator.machine.registers import VirtualRegister
from triptych.simulator.machine.scalars import NkiScalar
from triptych.simulator.tensors.tensor import NkiTensor

SOURCE = "neuron-agentic-development, Dynamic Loop Migration Guide of NKI 0.6: the body is traced once"
_Call = tuple[str, dict[str, Any], tuple[str, int]]  # instruction, what it is given, line


class Rounds:
    """The rounds of one loop on the chip."""

    def __init__(self) -> None:
        self._first: list[_Call] | None = None  # the calls of the first round, once it is over
        self._calls: list[_Call] = []
        self._inner: dict[int, Rounds] = {}  # of the loops inside, by which a round opens first
        self._opened = itertools.count()
        self._number = 0
        self._made: int  # how many allocations there were when the round began
        self._shared: Sequence[NkiTensor]  # of both cores' shared tensors, and
        self._met: int  # how many of them this core had when the round began
        self._appeared: dict[int, int]  # what the round made, in the order in which instructions name it

    def inside(self) -> Rounds:
        """Those of the loop that the round opens now."""
        return self._inner.setdefault(next(self._opened), Rounds())

    def begin(self, allocations: int, shared: Sequence[NkiTensor], met: int) -> None:
        self._number += 1
        self._calls, self._opened, self._made = [], itertools.count(), allocations
        self._shared, self._met, self._appeared = shared, met, {}

    def end(self, line: tuple[str, int]) -> None:
        if self._first is None:
            self._first = self._calls
        elif len(self._calls) < len(self._first):
            name, _, there = self._first[len(self._calls)]
            raise _differs(f"round {self._number} has no {name}, which round 1 has at {show_line(there)}", line)

    def see(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], line: tuple[str, int]) -> None:
        """An instruction of the round that runs."""
        given = {**{f"argument {i + 1}": a for i, a in enumerate(args)}, **kwargs}
        call = (name, {what: self._seen(value) for what, value in given.items()}, line)
        at = len(self._calls)
        self._calls.append(call)
        if self._first is None:
            return
        if at >= len(self._first):
            raise _differs(f"round {self._number} has a {name} that round 1 has not", line)
        other, before, there = self._first[at]
        if other != name or there != line:
            raise _differs(
                f"round {self._number} has {name} at {show_line(line)} where round 1 has {other} at {show_line(there)}",
                line,
            )
        for what, value in call[1].items():
            if before.get(what) != value:
                was, now = before.get(what), value
                raise _differs(
                    f"{name} has {what} {_show(was)} in round 1 and {_show(now)} in round {self._number}", line
                )

    def _seen(self, value: Any) -> Any:
        """What the compiler's trace keeps of an argument."""
        if isinstance(value, NkiTensor):
            which = self._which(value)
            if value.index is not None:
                return which, value.shape, value.strides, value.dtype, "moved"
            return which, value.shape, value.strides, value.dtype, value.offset
        if isinstance(value, (VirtualRegister, NkiScalar)):
            return type(value).__name__
        if isinstance(value, (tuple, list)):
            return tuple([self._seen(v) for v in value])
        if isinstance(value, np.ndarray):
            return value.dtype.str, value.shape, value.tobytes()
        # Of an object that the body makes anew, as a ReplicaGroup, what it says of itself.
        plain = getattr(type(value), "__repr__", None) is object.__repr__
        return type(value).__name__, "" if plain else repr(value)

    def _which(self, tensor: NkiTensor) -> tuple[str, int]:
        """A tensor that the body makes is known by when it appears: the cores take turns, and both count allocations.

        Shared tensors have been made by the other core if that came first.
        """
        number = tensor.storage.allocation.id
        made = number >= self._made or any(t.storage is tensor.storage for t in self._shared[self._met :])
        return (
            ("made in the round", self._appeared.setdefault(number, len(self._appeared)))
            if made
            else (tensor.name, number)
        )


def _show(seen: Any) -> str:
    if isinstance(seen, tuple) and len(seen) == 2 and isinstance(seen[1], str):
        return seen[1]
    if isinstance(seen, tuple) and len(seen) == 5:
        (name, number), shape, _, dtype, offset = seen
        return (
            f"{name} {number}, {dtype} {shape} at {offset}" if name == "made in the round" else f"{name!r} at {offset}"
        )
    return str(seen)


def _differs(what: str, line: tuple[str, int]) -> NkiValidationError:
    return NkiValidationError(
        f"the body of a loop on the chip is traced once, and {what}: only the counter may differ; loop in Python, "
        "which unrolls, or keep what changes in a tensor",
        source=SOURCE,
        line=line,
    )
