"""Memory of shape-only runs: it has no bytes, and only knows which of them have been written.

`ShapeDtype` stands for an argument or an output there.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triptych.simulator.chip.record import Chip
from triptych.simulator.dtypes import F32, DType, dtype_of
from triptych.simulator.errors import KernelError
from triptych.simulator.memory.extents import Extents, Piece, best_width, marked, moved, pieces, unmarked
from triptych.simulator.memory.layout import Layout, Shape
from triptych.simulator.memory.placement import Arena, Box, PlacedStorage, Places, both
from triptych.simulator.memory.storage import PSUM, MemoryRegion, Storage
from triptych.simulator.trace import Allocation

Array = NDArray[Any]
NO_BYTES = np.empty(0, np.uint8)


@dataclass(frozen=True, init=False)
class ShapeDtype:
    """An argument or an output of which only the shape and the dtype are known: ShapeDtype((128, 512), "bfloat16")."""

    shape: Shape
    dtype: DType

    def __init__(self, shape: Sequence[int], dtype: Any) -> None:
        try:
            sizes = tuple([operator.index(n) for n in shape])
        except TypeError:
            raise KernelError(f"a shape is a sequence of integers, got {shape!r}") from None
        object.__setattr__(self, "shape", sizes)
        object.__setattr__(self, "dtype", dtype_of(dtype))

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def zeros(allocation: Allocation, kind: np.dtype[Any], shape: Shape) -> Array:
    """Zeros to compute with once. Those of HBM, which may be gigabytes, all share one element."""
    if allocation.buffer.endswith("hbm"):
        return np.ndarray(shape, kind, np.zeros((), kind), 0, (0,) * len(shape))
    return np.zeros(shape, kind)


class ShapeStorage(Storage):
    """An allocation without bytes. `missing` counts the bytes that were never written."""

    __slots__ = ("_written",)

    has_data = False
    started: Extents | bool  # type: ignore[assignment]  # as cells, not as a mask

    def __init__(self, allocation: Allocation, widen: bool, written: bool = False) -> None:
        super().__init__(allocation, widen, raw=NO_BYTES)
        if self.widened:
            self.itemsize, self.nbytes = allocation.dtype.itemsize, allocation.nbytes
        self.missing = 0 if written else self.nbytes
        self._written: Extents | None = None  # where, while it is a part

    def array(self, at: Layout) -> Array:
        return zeros(self.allocation, self.np if self.widened else at.dtype.np, at.shape)

    def f32(self, at: Layout) -> Array:
        return zeros(self.allocation, F32, at.shape)

    def wrote(self, at: Layout, by_matmul: bool = False) -> None:
        if not self.missing and self.started is by_matmul:
            return
        if at.shape == self.allocation.shape and at.strides == self.dense and at.dtype.itemsize == self.itemsize:
            self.missing, self._written, self.started = 0, None, by_matmul
            return
        if self.started is not by_matmul:
            self._mark_started(at, by_matmul)
        if self.missing:
            self._written = self._mark(self._extents(at) if self._written is None else self._written, at, True)
            self.missing = self._written.missing

    def wrote_where(self, at: Layout, chosen: Array, by_matmul: bool = False) -> None:
        for part in parts_of(at, chosen):
            self.wrote(part, by_matmul)

    def _mark_started(self, at: Layout, value: bool) -> None:
        started = self.started
        self.started = self._mark(self._extents(at, started) if isinstance(started, bool) else started, at, value)

    def _mark(self, extents: Extents, at: Layout, value: bool) -> Extents:
        if self.row:
            return marked(extents, at, value)
        extents.mark(pieces(at, extents.width), value)
        return extents

    def started_at(self, at: Layout) -> Array | bool:
        return self.started if isinstance(self.started, bool) else _marked(self.started, self, at)

    def written_at(self, at: Layout) -> Array | bool:
        return self.missing == 0 if self._written is None or not self.missing else _marked(self._written, self, at)

    def first_missing(self) -> tuple[int, int]:
        missing = -(-self.missing // self.itemsize)
        return (0 if self._written is None else self._written.first_gap() // self.itemsize), missing

    def _extents(self, at: Layout, full: bool = False) -> Extents:
        """Nothing or everything marked, in rows in which a first view is one piece if there are such."""
        if self.row:
            return unmarked(self.nbytes // self.row, self.row, full)
        width = best_width(self.allocation.shape, self.itemsize, [at])
        return Extents(self.nbytes // width, width, full)


class ShapeArena(Arena):
    """One on-chip memory of one core, of which only the marks are kept."""

    def __init__(self, chip: Chip, buffer: MemoryRegion) -> None:
        self.rows, self.row = self.size_of(chip, buffer)
        self.places = Places()
        self.marks_written, self.marks_started = Extents(self.rows, self.row), Extents(self.rows, self.row)


class PlacedShapeStorage(PlacedStorage):
    """Storage without bytes at (partition, byte) of an arena."""

    __slots__ = ("_through_this",)

    has_data = False

    arena: ShapeArena

    def __init__(self, allocation: Allocation, arena: ShapeArena, partition: int, byte: int) -> None:
        Storage.__init__(self, allocation, False, raw=NO_BYTES)
        self._lie(arena, partition, byte)
        self._through_this = Extents(self.height, self.width) if allocation.buffer == PSUM.value else None

    def _poison(self, boxes: list[Box]) -> None:
        for rows, columns in boxes:
            self.arena.marks_written.mark([((rows,), (columns,))], False)

    array, f32, wrote_where = ShapeStorage.array, ShapeStorage.f32, ShapeStorage.wrote_where
    check_written = Storage.check_written

    def wrote(self, at: Layout, by_matmul: bool = False) -> None:
        own = pieces(at, self.width)
        there = self._moved(own)
        self.arena.marks_written.mark(there)
        if self._through_this is not None:
            self.arena.marks_started.mark(there, by_matmul)
            self._through_this.mark(own)

    def started_at(self, at: Layout) -> Array | bool:
        return self._marked(self.arena.marks_started, at)

    def written_at(self, at: Layout) -> Array | bool:
        return self._marked(self.arena.marks_written, at)

    def through_this(self, at: Layout) -> tuple[Array | bool, Array | bool]:
        assert self._through_this is not None
        mine = _marked(self._through_this, self, at)
        return both(mine, self.started_at(at)), both(mine, self.written_at(at))

    def _moved(self, own: list[Piece]) -> list[Piece]:
        """Pieces of this tensor as pieces of the arena."""
        row, column = divmod(self.base, self.arena.row)
        return [(moved(rows, row), moved(columns, column)) for rows, columns in own]

    def _marked(self, marks: Extents, at: Layout) -> Array | bool:
        found = marks.state(self._moved(pieces(at, self.width)))
        return marks.elements(*self.place(at)) if found is None else found


def _marked(extents: Extents, storage: Storage, at: Layout) -> Array | bool:
    """Where in a view there are marks, in the storage's own bytes: everywhere, nowhere, or a mask."""
    found = extents.state(pieces(at, extents.width))
    return extents.elements(*Storage.place(storage, at)) if found is None else found


def parts_of(at: Layout, chosen: Array) -> list[Layout]:
    """The elements of a view that a mask of its shape chooses, as views: runs of entries that are alike."""
    if chosen.all():
        return [at]
    offset, shape, strides, dtype = at
    differs = (chosen[1:] != chosen[:-1]).any(axis=tuple(range(1, chosen.ndim)))
    edges = [0, *(np.flatnonzero(differs) + 1).tolist(), shape[0]]
    found: list[Layout] = []
    for first, end in itertools.pairwise(edges):
        if chosen[first].any():
            row = Layout(offset + first * strides[0], shape[1:], strides[1:], dtype)
            for part in parts_of(row, chosen[first]):
                found.append(Layout(part.offset, (end - first, *part.shape), (strides[0], *part.strides), dtype))
    return found
