"""Which bytes of a memory are marked, kept without the bytes.

Marks are a grid of cells, which is cut where marks begin and end. The memory is `height` rows of `width` bytes. Its
cells are the product of row intervals and column intervals; each row interval has one integer, whose bit j says that
column interval j is marked. So a tensor of gigabytes that is written in a hundred tiles takes a hundred cells, whatever
its size, and a tile of one column chunk takes one comparison.
"""

from __future__ import annotations

import functools
import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from triptych.simulator.memory.layout import Layout, Shape, reach

Array = NDArray[Any]
Runs = tuple[tuple[int, int], ...]  # (first, behind the last)
Piece = tuple[Runs, Runs]  # the bytes in all of some rows and some columns


class Extents:
    """A set of bytes of `height` rows of `width`."""

    __slots__ = ("_bits", "_columns", "_rows", "missing", "width")

    def __init__(self, height: int, width: int, full: bool = False) -> None:
        self.width = width
        self.missing = 0 if full else height * width  # bytes that are not marked
        self._rows = [0, height]  # where row intervals begin, and the end
        self._columns = [0, width]
        self._bits = [int(full)]

    def copy(self) -> Extents:
        new = Extents.__new__(Extents)
        new.width, new.missing = self.width, self.missing
        new._rows, new._columns, new._bits = self._rows[:], self._columns[:], self._bits[:]
        return new

    def mark(self, pieces: Sequence[Piece], value: bool = True) -> None:
        """Mark pieces, or take their marks away."""
        for rows, columns in pieces:
            mask = 0
            for first, end in columns:  # from left to right, so that a cut moves no cell that is in the mask
                low = self._cut_columns(first)
                mask |= (1 << self._cut_columns(end)) - (1 << low)
            for first, end in rows:
                low = self._cut_rows(first)
                for at in range(low, self._cut_rows(end)):
                    before = self._bits[at]
                    changed = mask & ~before if value else mask & before
                    if changed:
                        self._bits[at] = before ^ changed
                        size = self._length(changed) * (self._rows[at + 1] - self._rows[at])
                        self.missing += -size if value else size

    def state(self, pieces: Sequence[Piece]) -> bool | None:
        """Whether all of some pieces is marked, or None where only a part is."""
        found = set()
        for rows, columns in pieces:
            mask = self._cells(columns)
            for first, end in rows:
                for at in range(bisect_right(self._rows, first) - 1, bisect_left(self._rows, end)):
                    here = self._bits[at] & mask
                    found.add(True if here == mask else None if here else False)
        return found.pop() if len(found) == 1 else None

    def first_gap(self) -> int:
        """The first byte that is not marked, counted row by row."""
        every = (1 << len(self._columns) - 1) - 1
        at = next(i for i, bits in enumerate(self._bits) if bits != every)
        gap = ~self._bits[at]
        return self._rows[at] * self.width + self._columns[(gap & -gap).bit_length() - 1]

    def elements(self, offset: int, shape: Shape, steps: Shape, itemsize: int) -> Array | bool:
        """Which elements of a view, given in bytes, are wholly marked: none, or an array of its shape."""
        before, behind = reach(shape, steps)
        low, high = (offset + before) // self.width, (offset + behind + itemsize - 1) // self.width
        unit = math.gcd(*self._columns, *steps, offset, itemsize)  # bytes that are marked together
        count = len(self._columns) - 1
        cells = np.array([[bits >> j & 1 for j in range(count)] for bits in self._bits], bool)
        row = np.searchsorted(self._rows, np.arange(low, high + 1), "right") - 1
        column = np.searchsorted(self._columns, np.arange(0, self.width, unit), "right") - 1
        every = np.ascontiguousarray(cells[row][:, column])
        start, inner = (offset - low * self.width) // unit, (*[s // unit for s in steps], 1)
        whole: Array = np.all(np.ndarray((*shape, itemsize // unit), bool, every, start, inner), -1)
        return whole if whole.any() else False

    def _cells(self, columns: Runs) -> int:
        """The bits of the column intervals that `columns` meet."""
        mask = 0
        for first, end in columns:
            low, high = bisect_right(self._columns, first) - 1, bisect_left(self._columns, end)
            mask |= (1 << high) - (1 << low)
        return mask

    def _length(self, bits: int) -> int:
        """How many columns the intervals of `bits` have together."""
        length = 0
        while bits:
            low = (bits & -bits).bit_length() - 1
            run = bits >> low
            high = (run ^ run + 1).bit_length() - 1 + low  # the end of the run of ones
            length += self._columns[high] - self._columns[low]
            bits = bits >> high << high
        return length

    def _cut_rows(self, at: int) -> int:
        """The index of the row interval that begins at `at`, cut there if need be; _cut_columns likewise."""
        i = bisect_left(self._rows, at)
        if self._rows[i] != at:
            self._rows.insert(i, at)
            self._bits.insert(i, self._bits[i - 1])
        return i

    def _cut_columns(self, at: int) -> int:
        j = bisect_left(self._columns, at)
        if self._columns[j] != at:
            self._columns.insert(j, at)
            low = (1 << j) - 1
            self._bits = [(bits & low) | (bits >> j - 1 << j) for bits in self._bits]
        return j


# A kernel writes to its tiles in one way, over and over: what is marked of a tile is found once. What these two return
# is everybody's, and stays as it is.


@functools.lru_cache(1024)
def unmarked(height: int, width: int, full: bool) -> Extents:
    """Nothing, or everything."""
    return Extents(height, width, full)


@functools.lru_cache(4096)
def marked(extents: Extents, at: Layout, value: bool) -> Extents:
    """A set with a view marked, or without it."""
    new = extents.copy()
    new.mark(pieces(at, new.width), value)
    return new


class _Footprint(NamedTuple):
    """Where a view at offset 0 lies in rows of `width` bytes.

    It holds where no row of the view goes over the end of one of the memory.
    """

    start: int  # of its lowest byte, counted from its first element: 0, or less with a negative stride
    rows: Runs
    columns: Runs
    end: int  # of the last column


@functools.lru_cache(4096)
def _footprint(shape: Shape, strides: Shape, itemsize: int, width: int) -> _Footprint:
    start = 0
    row_steps: list[tuple[int, int]] = []
    column_steps: list[tuple[int, int]] = []
    for n, stride in zip(shape, strides, strict=True):
        step = stride * itemsize
        if step < 0:
            start += step * (n - 1)
            step = -step
        rows, rest = divmod(step, width)
        (column_steps if rest else row_steps).append((step if rest else rows, n))
    columns = _runs(itemsize, column_steps)
    return _Footprint(start, _runs(1, row_steps), columns, columns[-1][1])


def _runs(unit: int, steps: Sequence[tuple[int, int]]) -> Runs:
    """The runs of `unit` repeated n times at each step, sorted and without gaps or overlaps between them."""
    runs = [(0, unit)]
    for step, n in sorted(steps):
        if len(runs) == 1 and step <= runs[0][1]:
            runs = [(0, step * (n - 1) + runs[0][1])]
        else:
            runs = [(i * step + a, i * step + b) for i in range(n) for a, b in runs]
    return _merged(runs)


def _merged(runs: list[tuple[int, int]]) -> Runs:
    merged: list[tuple[int, int]] = []
    for first, end in sorted(runs):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((first, end))
    return tuple(merged)


def pieces(at: Layout, width: int) -> list[Piece]:
    """A view as products of rows and columns, in bytes, of a memory whose rows have `width` bytes."""
    found = _footprint(at.shape, at.strides, at.dtype.itemsize, width)
    row, column = divmod(at.offset * at.dtype.itemsize + found.start, width)
    if column + found.end <= width:
        return [(moved(found.rows, row), moved(found.columns, column))]
    # Bytes in one line, some of them over the end of a row.
    start = row * width + column
    lines = [
        (start + r * width + a, start + r * width + b)
        for first, end in found.rows
        for r in range(first, end)
        for a, b in found.columns
    ]
    return [piece for first, end in _merged(lines) for piece in _by_rows(first, end, width)]


def best_width(shape: Shape, itemsize: int, views: Sequence[Layout]) -> int:
    """The bytes of a row with which views of a dense tensor are the fewest pieces."""
    widths = [math.prod(shape[k:]) * itemsize for k in range(1, max(2, len(shape)))]
    return min(widths, key=lambda w: sum(len(r) * len(c) for view in views for r, c in pieces(view, w)))


def moved(runs: Runs, by: int) -> Runs:
    return tuple([(first + by, end + by) for first, end in runs]) if by else runs


def _by_rows(first: int, end: int, width: int) -> list[Piece]:
    """A line of bytes as the rest of a row, whole rows, and the beginning of a row."""
    (top, left), (bottom, right) = divmod(first, width), divmod(end, width)
    if top == bottom:
        return [(((top, top + 1),), ((left, right),))]
    found: list[Piece] = []
    if left:
        found.append((((top, top + 1),), ((left, width),)))
        top += 1
    if top < bottom:
        found.append((((top, bottom),), ((0, width),)))
    if right:
        found.append((((bottom, bottom + 1),), ((0, right),)))
    return found
