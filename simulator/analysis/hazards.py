"""Which event has to wait for which: read after write, write after read, write after write.

Two accesses meet if their boxes do. A box is a range of rows times a range of bytes in each row; a row is a partition
on chip, and the outermost stride of the view in HBM. The bytes between the first and the last of a row count as
touched, so two views that interleave within a row (every other element) wait for each other though they share none.

Tensors with addresses of their own meet where their addresses do.

Two cores that share a tensor in HBM are ordered by what they meet at (`core_barrier`, a collective) and by nothing
else: what they do between two meetings does not wait for the other core, whichever the trace names first.

Time is linear in the accesses: those to one memory stand in strips of the bytes that they span, as wide as a typical
access, so that each is compared with its neighbours alone.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from typing import NamedTuple

from triptych.simulator.trace import Event, Region, Trace

READ_AFTER_WRITE, WRITE_AFTER_READ, WRITE_AFTER_WRITE = "data", "overwrite", "order"
Edge = tuple[int, str]  # index of the event to wait for, and why


class Box(NamedTuple):
    """Rows [first, last] of `pitch` bytes, and the bytes [low, high) of each; pitch 0 is one row."""

    pitch: int
    first: int
    last: int
    low: int
    high: int


def box_of(region: Region) -> Box:
    """The bytes that a view touches."""
    allocation, offset, shape, strides, dtype = region
    _, _, buffer, whole, kind, _, address = allocation
    size = dtype.itemsize
    if buffer != "sbuf" and buffer != "psum":
        return _hbm_box(offset * size, shape, strides, size)
    row, low = divmod(offset * size, math.prod(whole[1:]) * kind.itemsize)
    high = low + size
    for n, stride in zip(shape[1:], strides[1:], strict=True):
        reach = (n - 1) * stride * size
        if reach > 0:
            high += reach
        else:
            low += reach
    if address is not None:
        row += address[0]
        low += address[1]
        high += address[1]
    return Box(1, row, row + shape[0] - 1, low, high)


def _hbm_box(start: int, shape: tuple[int, ...], strides: tuple[int, ...], size: int) -> Box:
    if min(strides) < 0:
        start += sum([(n - 1) * stride * size for n, stride in zip(shape, strides, strict=True) if stride < 0])
        strides = tuple([abs(stride) for stride in strides])
    pitch, rows = 0, 1
    for n, stride in zip(shape, strides, strict=True):
        if n > 1 and stride * size > pitch:
            pitch, rows = stride * size, n
    extent = size
    taken = False
    for n, stride in zip(shape, strides, strict=True):
        if not taken and n == rows and stride * size == pitch:
            taken = True  # the outermost dimension is the rows
        else:
            extent += (n - 1) * stride * size
    if rows > 1:
        row, low = divmod(start, pitch)
        if low + extent <= pitch and extent < pitch:
            return Box(pitch, row, row + rows - 1, low, low + extent)
        extent += (rows - 1) * pitch
    return Box(0, 0, 0, start, start + extent)


def meet(a: Box, b: Box) -> bool:
    """Whether two boxes of one memory share a byte."""
    if a.pitch != b.pitch:
        if a.pitch and b.pitch:
            a, b = _flat(a), _flat(b)
        elif a.pitch:
            b = _rows(b, a.pitch)
        else:
            a = _rows(a, b.pitch)
    return a.low < b.high and b.low < a.high and a.first <= b.last and b.first <= a.last


def _flat(box: Box) -> Box:
    return Box(0, 0, 0, box.first * box.pitch + box.low, box.last * box.pitch + box.high)


def _rows(flat: Box, pitch: int) -> Box:
    """A range of bytes in rows of `pitch`: part of one row, or whole rows."""
    first, last = flat.low // pitch, (flat.high - 1) // pitch
    if first == last:
        return Box(pitch, first, last, flat.low - first * pitch, flat.high - first * pitch)
    return Box(pitch, first, last, 0, pitch)


def _within(inner: Box, outer: Box) -> bool:
    return (
        inner.pitch == outer.pitch
        and outer.low <= inner.low
        and inner.high <= outer.high
        and outer.first <= inner.first
        and inner.last <= outer.last
    )


_WIDE = range(0)  # the strips of an access that spans too many to stand in each of them
_MOST_STRIPS = 16
_Who = tuple[int, int] | None  # core and epoch of an access to memory that cores share
_Access = tuple[Box, int, _Who]  # with the index of its event


def _reach(box: Box) -> tuple[int, int]:
    """The first byte that a box spans and the one after its last; on chip, of a partition."""
    if box.pitch > 1:
        return box.first * box.pitch + box.low, box.last * box.pitch + box.high
    return box.low, box.high


class _Accesses:
    """Accesses of one kind to one memory, by strip."""

    __slots__ = ("strips", "wide")

    def __init__(self) -> None:
        self.strips: dict[int, list[_Access]] = {}
        self.wide: list[_Access] = []

    def add(self, access: _Access, strips: range) -> None:
        if strips is _WIDE:
            self.wide.append(access)
        for strip in strips:
            self.strips.setdefault(strip, []).append(access)

    def near(self, strips: range) -> list[list[_Access]]:
        """Those that an access in these strips can meet; one may come several times."""
        if strips is _WIDE:
            return [*self.strips.values(), self.wide]
        found = [self.strips[strip] for strip in strips if strip in self.strips]
        if self.wide:
            found.append(self.wide)
        return found


class _Memory:
    """The accesses to one memory that a later one may have to wait for."""

    __slots__ = ("bits", "last_write", "readers", "writers")

    def __init__(self, boxes: Iterable[Box], last_write: int) -> None:
        extents = [high - low for low, high in map(_reach, boxes)]
        self.bits = (sum(extents) // len(extents)).bit_length()  # of a byte's place within its strip
        self.last_write = last_write
        self.readers, self.writers = _Accesses(), _Accesses()

    def strips(self, box: Box) -> range:
        low, high = _reach(box)
        found = range(low >> self.bits, ((high - 1) >> self.bits) + 1)
        return found if len(found) <= _MOST_STRIPS else _WIDE


def _key(event: Event, region: Region) -> Hashable:
    allocation = region.allocation
    return allocation.id if allocation.address is None else (allocation.buffer, event.core)


def _memories(trace: Trace, boxes: dict[int, Box]) -> dict[Hashable, _Memory]:
    """Every memory that an event writes; the boxes of the regions in them are put into `boxes`."""
    last_write: dict[Hashable, int] = {}
    touched: dict[Hashable, list[Box]] = {}
    for index, event in enumerate(trace.events):
        for region in event.writes:
            key = _key(event, region)
            last_write[key] = index
            box = boxes.get(id(region)) or boxes.setdefault(id(region), box_of(region))
            touched.setdefault(key, []).append(box)
    return {key: _Memory(found, last_write[key]) for key, found in touched.items()}


def hazards(trace: Trace) -> list[list[Edge]]:
    """For each event, the earlier events that it waits for, with the reason; only those not implied by others."""
    position = {id(event): index for index, event in enumerate(trace.events)}
    boxes: dict[int, Box] = {}  # by the region's identity: a view that several events use has one region
    memories = _memories(trace, boxes)
    last_in_block: dict[tuple[int, int], int] = {}  # of nl.no_reorder
    edges: list[list[Edge]] = []
    for index, event in enumerate(trace.events):
        found: dict[int, str] = {}
        for region in event.reads:
            memory = memories.get(_key(event, region))
            if memory is None:
                continue
            box = boxes.get(id(region)) or boxes.setdefault(id(region), box_of(region))
            strips = memory.strips(box)
            who = _who(event, region)
            for accesses in memory.writers.near(strips):
                for other, writer, by in accesses:
                    if meet(box, other) and (who is None or _ordered(who, by)):
                        found[writer] = READ_AFTER_WRITE
            if index < memory.last_write:
                memory.readers.add((box, index, who), strips)
        for region in event.writes:
            memory = memories[_key(event, region)]
            box = boxes[id(region)]
            strips = memory.strips(box)
            access = (box, index, _who(event, region))
            _overwrite(memory.readers, access, strips, found, WRITE_AFTER_READ)
            _overwrite(memory.writers, access, strips, found, WRITE_AFTER_WRITE)
            memory.writers.add(access, strips)
        block = event.attributes.get("no_reorder")
        if block is not None:
            before = last_in_block.get((event.core, block))
            if before is not None:
                found.setdefault(before, WRITE_AFTER_WRITE)
            last_in_block[event.core, block] = index
        for producer in event.attributes.get("after", ()):
            found.setdefault(position[id(producer)], READ_AFTER_WRITE)
        for producer in event.attributes.get("registers", ()):
            found.setdefault(position[id(producer)], READ_AFTER_WRITE)
        found.pop(index, None)
        edges.append(list(found.items()))
    return edges


def _who(event: Event, region: Region) -> _Who:
    """The core and its epoch where a tensor is shared by cores; None where one core has it for itself."""
    if region.allocation.buffer != "shared_hbm" or "epoch" not in event.attributes:
        return None
    return event.core, event.attributes["epoch"]


def _ordered(a: tuple[int, int], b: _Who) -> bool:
    """Whether a core waits for an access of its own, or for one that lies before a meeting of the two."""
    return b is None or a[0] == b[0] or a[1] != b[1]


def _overwrite(earlier: _Accesses, access: _Access, strips: range, found: dict[int, str], why: str) -> None:
    """Wait for the accesses that one meets, and forget those that it hides from later ones."""
    box, index, who = access
    for accesses in earlier.near(strips):
        hidden = False
        for other, before, by in accesses:
            if meet(box, other) and (who is None or _ordered(who, by)):
                if before != index:
                    found.setdefault(before, why)
                hidden = hidden or _within(other, box)
        if hidden:
            accesses[:] = [a for a in accesses if not _hides(access, a)]


def _hides(access: _Access, other: _Access) -> bool:
    who = access[2]
    return _within(other[0], access[0]) and (who is None or _ordered(who, other[2]))
