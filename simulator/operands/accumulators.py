"""The accumulators of the Vector and the Scalar Engine, which some instructions fold their results into.

There is one float32 register a partition, and it holds a value from a reset on: `reduce` without a reset is an error.
On the Vector Engine an instruction in mode `idle` may change it too (nki/api/nki/isa/__init__.py, select_reduce), so
after one it holds nothing; on the Scalar Engine idle leaves it (activation).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from triptych.simulator.dtypes import F32, float32
from triptych.simulator.enums import reduce_cmd
from triptych.simulator.errors import NkiValidationError
from triptych.simulator.operands.in_order import ORDERED, in_order
from triptych.simulator.operands.operands import column, on_chip, per_partition, put
from triptych.simulator.operands.operators import Op
from triptych.simulator.tensors.partitions import partitions_of
from triptych.simulator.tensors.tensor import NkiTensor
from triptych.simulator.trace import Allocation, Region

Array = NDArray[Any]
# Held outside the class: in Python 3.10 and 3.11 an enumeration's members are slow to reach through it.
_IDLE, _RESET, _REDUCE, _LOAD = reduce_cmd.idle, reduce_cmd.reset, reduce_cmd.reduce, reduce_cmd.load_reduce


class AccumulatorTile(NamedTuple):
    """The registers of some partitions."""

    region: Region


class Accumulator:
    """An engine's accumulator: one float32 register a partition, and whether it holds a value.

    In the trace it is a memory of its own, so that what goes through it can be seen.
    """

    def __init__(self, owner: str, buffer: str, ordered: bool = False) -> None:
        self.owner = owner
        self.ordered = ordered  # whether a row is folded from left to right, as far as is known
        self.values = np.zeros((128, 1), F32)
        self.started = np.zeros_like(self.values, bool)
        self.doubtful = np.zeros_like(self.values, bool)  # where the value rests on memory that nothing wrote
        self.allocation = Allocation(-1, owner, buffer, (128, 1), float32, ("?", 0), (0, 0))
        self._tiles: dict[tuple[int, int], AccumulatorTile] = {}

    def accumulate(
        self, data: NkiTensor, command: reduce_cmd, fold: Any, identity: float, values: Array, initial: Any = None
    ) -> None:
        """Fold `values` [P, F] into the registers of data's partitions, as a command says."""
        if command is _IDLE:
            return
        held = self.begin(data, command, identity, initial)
        if command is not _RESET:
            if self.ordered and fold in ORDERED:
                total = in_order(fold, values)[:, None]
            else:
                total = fold.reduce(values, axis=1, keepdims=True)
            fold(held, total, out=held)

    def begin(self, data: NkiTensor, command: reduce_cmd, identity: float, initial: Any = None) -> Array:
        """The registers [P, 1] of data's partitions with what `command` has them start from: to be folded into."""
        at = partitions_of(data)
        held = self.values[at]
        if command is _LOAD:
            held[...] = np.reshape(column(initial, data), (-1, 1))
        elif command is not _REDUCE:
            held[...] = identity
        if command is not _REDUCE:
            self.doubtful[at] = False
        return held

    def read_out(self, data: NkiTensor, dst: NkiTensor | None, negate: bool = False) -> None:
        """dst[P, 1] = what the registers of data's partitions hold, if there is a dst."""
        if dst is not None:
            held = self.values[partitions_of(data)]
            put(dst, -held if negate else held)

    def used(self, data: NkiTensor, command: reduce_cmd, result: Any, forgets: bool = False) -> Use | None:
        """What a command does with the registers of data's partitions, if anything.

        forgets: whether an idle one leaves nothing there
        """
        if command is _IDLE and result is None and not forgets:
            return None
        return Use(self, partitions_of(data), command, result is not None, forgets)

    def tile(self, partitions: slice) -> AccumulatorTile:
        key = (partitions.start, partitions.stop)
        tile = self._tiles.get(key)
        if tile is None:
            first, last = key
            region = Region(self.allocation, first, (last - first, 1), (1, 1), self.allocation.dtype)
            tile = self._tiles[key] = AccumulatorTile(region)
        return tile

    def check_started(self, at: slice) -> None:
        started = self.started[at]
        if not started.all():
            raise NkiValidationError(
                f"the accumulator of the {self.owner} holds nothing on partition "
                f"{at.start + int(np.argmin(started))}: no reset has started it, or an instruction in "
                "mode idle has run since"
            )


class Use(NamedTuple):
    """What an instruction does with the registers of some partitions."""

    accumulator: Accumulator
    partitions: slice
    command: reduce_cmd
    reads_out: bool
    forgets: bool

    def begin(self) -> tuple[tuple[AccumulatorTile, ...], tuple[AccumulatorTile, ...]]:
        """Check that there is a value where one is read, and note where there is one now.

        Returns the registers that are read from earlier instructions, and those that are left to later ones.
        """
        accumulator, at, command, reads_out, forgets = self
        idle = command is _IDLE
        if command is _REDUCE or (idle and reads_out):
            accumulator.check_started(at)
        if forgets or not idle:
            accumulator.started[at] = not idle
        tile = (accumulator.tile(at),)
        return (tile if command is _REDUCE or idle and reads_out else ()), (tile if forgets or not idle else ())


class _AbsFold:
    """abs_max or abs_min as a fold: the last of the values whose magnitude is the largest or the smallest."""

    def __init__(self, beats: Any, pick: Any) -> None:
        self.beats = beats
        self.pick = pick

    def reduce(self, values: Array, axis: int, keepdims: bool) -> Array:
        last = values.shape[axis] - 1 - self.pick(np.flip(np.abs(values), axis), axis=axis, keepdims=keepdims)
        return np.take_along_axis(values, last, axis)

    def __call__(self, held: Array, new: Array, out: Array) -> None:
        np.copyto(out, np.where(self.beats(np.abs(held), np.abs(new)), held, new))


# operator -> (fold, value after a reset)
_FOLDS: dict[str, tuple[Any, float]] = {
    "add": (np.add, 0.0),
    "subtract": (np.subtract, 0.0),
    "multiply": (np.multiply, 1.0),
    "maximum": (np.maximum, -np.inf),
    "minimum": (np.minimum, np.inf),
    "abs_max": (_AbsFold(np.greater, np.argmax), 0.0),
    "abs_min": (_AbsFold(np.less, np.argmin), np.inf),
}
_ALIASES = {"max": "maximum", "min": "minimum"}  # the documentation's other names


def operator_name(op: Any) -> str:
    """The name of a reduction operator, with nl.max and nl.min as the maximum and minimum that they stand for."""
    name = op.name if isinstance(op, Op) else getattr(op, "__name__", "")
    return _ALIASES.get(name, name)


def fold_of(op: Any, allowed: tuple[str, ...], what: str = "reduce_op") -> tuple[Any, float]:
    """The fold that `op` names, and its identity."""
    name = operator_name(op)
    if name not in allowed:
        raise NkiValidationError(f"{what} must be {' or '.join(f'nl.{a}' for a in allowed)}, got {op!r}")
    return _FOLDS[name]


def check_command(command: Any, allowed: tuple[reduce_cmd, ...]) -> None:
    if command not in allowed:
        names = ", ".join(f"nisa.reduce_cmd.{c.name}" for c in allowed)
        raise NkiValidationError(f"reduce_cmd must be one of {names}, got {command!r}")


def check_defined(reduce_res: Any, command: reduce_cmd) -> None:
    """On the Vector Engine what an idle command leaves cannot be read out."""
    if reduce_res is not None and command is _IDLE:
        raise NkiValidationError("reduce_res with reduce_cmd idle: the accumulator it would show is not defined")


def check_result(reduce_res: Any, data: NkiTensor) -> None:
    """`reduce_res` is None or a column of data's partitions."""
    if reduce_res is None:
        return
    on_chip(reduce_res=reduce_res)
    if reduce_res.shape[0] != data.shape[0] or reduce_res.free_size != 1:
        raise NkiValidationError(f"reduce_res must be ({data.shape[0]}, 1), got {reduce_res.shape}")


def initial_value(what: str, value: Any, command: reduce_cmd, data: NkiTensor) -> tuple[Any, tuple[NkiTensor, ...]]:
    """What load_reduce loads, a number or a column [P, 1], and the tiles to be read.

    Other commands take none.
    """
    if command is not _LOAD:
        if value is not None:
            raise NkiValidationError(f"{what} goes with reduce_cmd load_reduce only, got it with {command!r}")
        return None, ()
    if value is None:
        raise NkiValidationError(f"reduce_cmd load_reduce needs {what}, a number or a column in float32")
    start, tiles = per_partition(value, data, what)
    check_float32(what, tiles)
    return start, tiles


def check_float32(what: str, tiles: tuple[NkiTensor, ...]) -> None:
    for t in tiles:
        if t.dtype != "float32":
            raise NkiValidationError(f"{what} must be float32, got {t!r}")
