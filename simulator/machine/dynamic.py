"""How an instruction reads the indices of its operands: one for all rows of a view, or one for each.

The views are made in triptych.simulator.tensors.index. The index is read when the instruction runs
(nki/deep-dives/nki-aps.rst; nki/api/nki/isa/__init__.py, dma_transpose).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triptych.simulator.errors import NkiValidationError, OutOfBounds
from triptych.simulator.machine.indirection import Indirection
from triptych.simulator.machine.machine import Kind, Machine, machine
from triptych.simulator.machine.plan import Touched
from triptych.simulator.machine.registers import bound_value, writers
from triptych.simulator.machine.table import Indirect
from triptych.simulator.machine.unwritten import require_written
from triptych.simulator.memory.layout import Shape, reach
from triptych.simulator.tensors.index import DynamicIndex, Gather
from triptych.simulator.tensors.tensor import NkiTensor
from triptych.simulator.trace import Region

Array = NDArray[Any]
_make = tuple.__new__
_ANY = np.iinfo(np.int64).max


def indices(index: DynamicIndex) -> Array | list[int]:
    """The index, or one for each row."""
    m = machine()
    if isinstance(index.source, NkiTensor):
        require_written(m, (index.source,))
        return m.values(index.source).T.reshape(-1).astype(np.int64)
    m.index_writers.extend(writers(index.source))
    return [bound_value(index.source, wide=index.wide)]


def moved(t: NkiTensor, skip: bool = False) -> NkiTensor | None:
    """The ordinary view behind a view that one index moves; None where `skip` leaves out what is out of bounds."""
    index = t.index
    assert isinstance(index, DynamicIndex)
    entry = int(indices(index)[0])
    offset = t.offset + entry * index.scale
    inside = bool(_Room(t, index, t.shape, t.strides).holds(entry, offset))
    if inside and t.on_chip:
        allocation = t.storage.allocation
        row = allocation.nbytes // t.dtype.itemsize // allocation.shape[0]  # elements of one partition
        before, behind = reach(t.shape[1:], t.strides[1:])
        inside = offset // row == t.offset // row and offset % row + before >= 0 and offset % row + behind < row
    if inside:
        return t.plain(t.layout.changed(offset, t.shape, t.strides))
    if skip:
        return None
    raise _outside(t, index, entry)


class _Room:
    """Where views of a shape lie in a tensor, and their entries in the dimension that an index chooses."""

    def __init__(self, t: NkiTensor, index: DynamicIndex, shape: Shape, strides: Shape) -> None:
        before, behind = reach(shape, strides)
        self.first, self.end = -before, t.storage.allocation.nbytes // t.dtype.itemsize - behind
        self.entries = _ANY if index.count is None else index.count

    def holds(self, entry: Any, offset: Any) -> Any:
        """Whether it does, of one or of many."""
        return (entry >= 0) & (entry < self.entries) & (offset >= self.first) & (offset < self.end)


def _outside(t: NkiTensor, index: DynamicIndex, entry: int, row: int | None = None) -> OutOfBounds:
    where = "" if row is None else f"row {row} has "
    room = "" if index.count is None else f", which has {index.count} entries"
    return OutOfBounds(
        f"{where}index {entry} leaves dimension {index.dim} of {t.name!r}{room}; the device stops with "
        "NRT_EXEC_OOB, or skips it with oob_mode.skip",
        source="nki/deep-dives/nki-aps.rst",
    )


# Also in C: triptych.simulator.compiled.
def moved_to(region: Region, offsets: list[int]) -> list[Region]:
    """Regions like one, at other offsets."""
    allocation, _, shape, strides, dtype = region
    return [_make(Region, (allocation, offset, shape, strides, dtype)) for offset in offsets]


# Also in C: triptych.simulator.compiled.
def spread(entries: Array, offset: int, scale: int) -> tuple[int, int, list[int], bool]:
    """The least and the greatest of some entries, 0 if there are none, and `offset + entry * scale` of each.

    At last whether two of these are one.
    """
    values = entries.tolist()
    offsets = [offset + value * scale for value in values]
    return min(values, default=0), max(values, default=0), offsets, len(set(offsets)) < len(offsets)


class Rows:
    """The rows of a view of HBM with an index each, as the indices say when an instruction runs.

    An index out of bounds raises; with `skip` its row is left out. `repeat` says whether two rows are one.
    """

    def __init__(self, t: NkiTensor, skip: bool = False) -> None:
        index = t.index
        assert isinstance(index, DynamicIndex)
        entries = np.asarray(indices(index)[: t.shape[0]], np.int64)
        if len(entries) < t.shape[0]:
            raise NkiValidationError(
                f"{t.shape[0]} rows need an index each, and the tile of indices holds {len(entries)}"
            )
        self.kept: Array | None = None  # the rows of the view that are not left out, if not all
        scale = index.scale
        low, high, self._offsets, self.repeat = spread(entries, t.offset, scale)
        room = _Room(t, index, t.shape[1:], t.strides[1:])
        if not (room.holds(low, t.offset + low * scale) and room.holds(high, t.offset + high * scale)):
            inside = room.holds(entries, t.offset + entries * scale)
            if not skip:
                row = int(np.argmin(inside))
                raise _outside(t, index, int(entries[row]), row)
            self.kept = np.flatnonzero(inside)
            entries = entries[inside]
            low, high, self._offsets, self.repeat = spread(entries, t.offset, scale)
        first, step = t.offset + (low if scale >= 0 else high) * scale, abs(scale) or 1
        self.at = entries - low if scale > 0 else high - entries if scale else entries * 0  # rows, counted in `table`
        self.table = t.plain(
            t.layout.changed(first, ((high - low if scale else 0) + 1, *t.shape[1:]), (step, *t.strides[1:]))
        )

    def touched(self) -> Sequence[Touched]:
        """Each row, as an event names it, and as an observer is shown it."""
        of = self.table.region
        row = of._replace(shape=(1, *of.shape[1:]))
        if machine().options.observe is not None:
            return [self.table.plain(self.table.layout.changed(o, row.shape, row.strides)) for o in self._offsets]
        return moved_to(row, self._offsets)

    def check_reads(self, m: Machine) -> None:
        """Each row has been written, or the instruction is tried (`unwritten`)."""
        storage, layout = self.table.storage, self.table.layout
        if storage.written_at(layout) is not True:
            shape = (1, *layout.shape[1:])
            for offset in self._offsets:
                m.check_reads((self.table.plain(layout.changed(offset, shape, layout.strides)),))

    def read(self, tile: NkiTensor | None = None) -> Array:
        """The rows [n, ..], as they are stored; in place in a tile that takes all of them as they are."""
        array = self.table.array
        out = None if tile is None or self.kept is not None or tile.dtype != self.table.dtype else tile.array
        if out is not None and (out.shape != (len(self.at), *array.shape[1:]) or not out.flags.c_contiguous):
            out = None
        return self.among(array, out)

    def among(self, table: Array, out: Array | None = None) -> Array:
        """The rows of `table` as it is now, [n, ..]; in `out`, which has no gaps, if `table` has none either."""
        return table.take(self.at, axis=0, out=out, mode="clip") if table.flags.c_contiguous else table[self.at]

    def write(self, values: Array) -> None:
        """Make the rows `values` [n, ..], as they are stored; of rows that are one the last counts."""
        if len(self.at):
            self.table.array[self.at] = values.reshape((len(self.at), *self.table.shape[1:]))
            self.table.storage.wrote_rows(self.table.layout, self.at)

    def of(self, tile: NkiTensor) -> Array:
        """The rows of a tile that belong to these, as they are stored."""
        return tile.storage.seen(tile.layout) if self.kept is None else tile.array[self.kept]

    def put(self, tile: NkiTensor, values: Array) -> None:
        """Make the rows of a tile that belong to these `values`, as they are stored."""
        if self.kept is None:
            if values is not tile.array:
                tile.array[...] = values.reshape(tile.shape)
            tile.wrote()
        else:
            tile.array[self.kept] = values.reshape((len(self.kept), *tile.shape[1:]))
            tile.storage.wrote_rows(tile.layout, self.kept)


def same_view(a: NkiTensor, b: NkiTensor) -> bool:
    """Whether two views are one, with the same index if they have one."""
    if a.storage is not b.storage or a.layout != b.layout:
        return False
    if a.index is None or b.index is None:
        return a.index is b.index
    mine, other = a.index.source, b.index.source
    return mine is other or (isinstance(mine, NkiTensor) and isinstance(other, NkiTensor) and same_view(mine, other))


@functools.cache
def _signature(effect: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(effect)


def resolve_dynamic(
    m: Machine, kind: Kind, takes: Indirect | None, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Execute an instruction whose operands may have an index: read it now, and name what was read in the event.

    takes: which operands may be indirect views
    """
    if not any([isinstance(a, NkiTensor) and a.index is not None for a in (*args, *kwargs.values())]):
        return m.execute(kind, args, kwargs)
    call = _signature(kind.effect).bind(*args, **kwargs)
    operands = call.arguments
    gathers: dict[str, NkiTensor] = {}
    try:
        for what, t in operands.items():
            if not isinstance(t, NkiTensor) or t.index is None:
                continue
            if isinstance(t.index.source, NkiTensor):
                m.index_reads.append(t.index.source)
            if isinstance(t.index, Gather):
                gathers[what] = t
            elif t.index.vector:
                raise NkiValidationError(
                    f"{what} has one index a row, which only DMA takes", source="nki/deep-dives/nki-aps.rst"
                )
            else:
                operands[what] = moved(t)
        if not gathers:
            return m.execute(kind, call.args, call.kwargs)
        indirection = Indirection(takes, operands, gathers)
        operands.update(indirection.tiles)
        event = m.execute(kind, call.args, call.kwargs)
        indirection.finish(event)
        return event
    finally:
        m.index_reads.clear()
