"""Which event has to wait for which: read after write, write after read, write after write.

Two accesses meet if their boxes do. A box is a range of rows times a range of bytes in each row; a row is a partition
on chip, and the outermost stride of the view in HBM. The bytes between the first and the last of a row count as
touched, so two views that interleave within a row (every other element) wait for each other though they share none.

Tensors with addresses of their own meet where their addresses do.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
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


class _Memory:
    """The accesses to one memory that a later one may have to wait for."""

    __slots__ = ("readers", "writers")

    def __init__(self) -> None:
        self.readers: list[tuple[Box, int]] = []
        self.writers: list[tuple[Box, int]] = []


def _key(event: Event, region: Region) -> Hashable:
    allocation = region.allocation
    return allocation.id if allocation.address is None else (allocation.buffer, event.core)


def hazards(trace: Trace) -> list[list[Edge]]:
    """For each event, the earlier events that it waits for, with the reason; only those not implied by others."""
    position = {id(event): index for index, event in enumerate(trace.events)}
    last_write: dict[Hashable, int] = {}
    for index, event in enumerate(trace.events):
        for region in event.writes:
            last_write[_key(event, region)] = index
    memories: dict[Hashable, _Memory] = {}
    last_in_block: dict[tuple[int, int], int] = {}  # of nl.no_reorder
    edges: list[list[Edge]] = []
    boxes: dict[int, Box] = {}  # by the region's identity: a view that several events use has one region
    for index, event in enumerate(trace.events):
        found: dict[int, str] = {}
        for region in event.reads:
            key = _key(event, region)
            last = last_write.get(key)
            if last is None:
                continue
            memory = memories.get(key)
            if memory is None:
                memory = memories[key] = _Memory()
            box = boxes.get(id(region)) or boxes.setdefault(id(region), box_of(region))
            for other, writer in memory.writers:
                if meet(box, other):
                    found[writer] = READ_AFTER_WRITE
            if index < last:
                memory.readers.append((box, index))
        for region in event.writes:
            key = _key(event, region)
            memory = memories.get(key)
            if memory is None:
                memory = memories[key] = _Memory()
            box = boxes.get(id(region)) or boxes.setdefault(id(region), box_of(region))
            if memory.readers:
                memory.readers = _overwritten(memory.readers, box, index, found, WRITE_AFTER_READ)
            if memory.writers:
                memory.writers = _overwritten(memory.writers, box, index, found, WRITE_AFTER_WRITE)
            memory.writers.append((box, index))
        block = event.attributes.get("no_reorder")
        if block is not None:
            before = last_in_block.get((event.core, block))
            if before is not None:
                found.setdefault(before, WRITE_AFTER_WRITE)
            last_in_block[event.core, block] = index
        for producer in event.attributes.get("after", ()):
            found.setdefault(position[id(producer)], READ_AFTER_WRITE)
        found.pop(index, None)
        edges.append(list(found.items()))
    return edges


def _overwritten(
    accesses: list[tuple[Box, int]], box: Box, index: int, found: dict[int, str], why: str
) -> list[tuple[Box, int]]:
    """Wait for the accesses that `box` meets; returns those that it does not hide from later ones."""
    kept = []
    for access in accesses:
        other, earlier = access
        if meet(box, other):
            if earlier != index:
                found.setdefault(earlier, why)
            if _within(other, box):
                continue
        kept.append(access)
    return kept
