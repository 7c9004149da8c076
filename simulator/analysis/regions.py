"""What the memory that an instruction touches has to fulfil, whichever instruction it is.

Compute engines (nki/guides/architecture/trainium_inferentia2_arch.rst, data access; later guides change none of it):

    partitions   more than 64 start at partition 0, more than 32 at 0 or 64, others at 0, 32, 64 or 96
    pattern      at most four free dimensions, once those that lie without a gap are one; strides of 16 bits, with sign
    elements     at most 64K a partition in SBUF, and 4K in PSUM for the engines that stream over it

Every engine: the free dimension is time (the same guide). So a result may lie where an operand does if an instruction
goes over the same elements of a partition in the same order, on any partitions (nc_stream_shuffle is documented to run
in place), and where its first element needs all of the operand, as a sum over it does. How far reading is ahead of
writing is not documented: any other overlap of a result with an operand raises, as do that of two results, and any
overlap in instructions that read in another order than they write, such as a gather.
"""

from __future__ import annotations

import functools
import math
from typing import Literal, NamedTuple

import numpy as np

from triptych.simulator.dtypes import Array, DType
from triptych.simulator.errors import NkiValidationError, show_line
from triptych.simulator.memory.layout import Layout, reach
from triptych.simulator.memory.placement import START_RULE, allowed_starts
from triptych.simulator.trace import Allocation, Event, IndirectRegion, Region

_STRIDES = range(-(1 << 15), 1 << 15)
_DIMENSIONS = 4
_ELEMENTS = {"sbuf": 1 << 16, "psum": 1 << 12}


Order = Literal["stream", "late", "mixed"]  # written as it is read; when all has been read; in another order


class Rules(NamedTuple):
    """What an instruction is checked for."""

    computes: bool  # on a compute engine
    own_starts: bool  # it checks start partitions itself
    order: Order


def check_regions(event: Event, rules: Rules) -> None:
    """Raise NkiValidationError for what the module forbids. The first tests leave little to look at closely."""
    computes, own_starts, _ = rules
    if computes:
        for region in event.reads + event.writes:
            row = region.strides[0]
            long = row > 4096 and (row > 32767 or region.allocation.buffer == "psum")
            if region.offset >= row or long or len(region.strides) > 5:
                _check_access(event, region, own_starts)
    check_overlaps(event, rules)


def check_overlaps(event: Event, rules: Rules) -> None:
    """The part that depends on which tensors are one; the rest depends on the form of each."""
    computes, _, order = rules
    reads, writes = event.reads, event.writes
    if "scattered" in event.attributes:  # rows that have an index each
        return
    for at, written in enumerate(writes):
        allocation = written.allocation
        for region in _beside(allocation, reads) if order != "late" else ():
            if region is not written or order != "stream":
                _check_overlap(region, written, computes, order)
        for region in _beside(allocation, writes[:at]):
            _check_results(region, written)


def _beside(a: Allocation, regions: tuple[Region, ...]) -> list[Region]:
    """The regions that may share bytes with a tensor: of the same, or with addresses in the same memory."""
    if not a.address:
        return [r for r in regions if r.allocation is a]
    return [r for r in regions if r.allocation is a or (r.allocation.address and r.allocation.buffer == a.buffer)]


def _check_access(event: Event, region: Region, own_starts: bool) -> None:
    buffer = region.allocation.buffer
    if buffer not in _ELEMENTS:
        return
    fault = None if own_starts else _start_fault(_place(region), _layout(region))
    fault = fault or _pattern_fault(_layout(region), "sbuf" if event.engine == "tensor" else buffer)
    if fault:
        raise NkiValidationError(f"{_named(region)} {fault}", source=START_RULE)


def check_start(region: Region) -> None:
    """The start partition of what a compute engine touches."""
    fault = _start_fault(_place(region), _layout(region))
    if fault:
        raise NkiValidationError(f"{_named(region)} {fault}", source=START_RULE)


class _Place(NamedTuple):
    """What of an allocation says where its elements lie: the same for many of them."""

    buffer: str
    shape: tuple[int, ...]
    dtype: DType
    address: tuple[int, int] | None


def _place(region: Region) -> _Place:
    a = region.allocation
    return _Place(a.buffer, a.shape, a.dtype, a.address)


def _layout(region: Region) -> Layout:
    return Layout._make(region[1:])


@functools.lru_cache(4096)
def _start_fault(place: _Place, at: Layout) -> str | None:
    first, partitions = _partition(place, at)[0], at.shape[0]
    allowed = allowed_starts(partitions)
    if first in allowed:
        return None
    return (
        f"starts at partition {first}, and {partitions} partitions must start at {', '.join(map(str, allowed))}; DMA "
        "moves them there"
    )


def _partition(place: _Place, at: Layout) -> tuple[int, int]:
    """Where a region on chip begins: partition and byte of it."""
    partition, byte = divmod(at.offset * at.dtype.itemsize, math.prod(place.shape[1:]) * place.dtype.itemsize)
    return (partition + place.address[0], byte + place.address[1]) if place.address else (partition, byte)


@functools.lru_cache(4096)
def _pattern_fault(at: Layout, buffer: str) -> str | None:
    sizes, steps = _merged(at.shape[1:], at.strides[1:])
    if len(sizes) > _DIMENSIONS or any(s not in _STRIDES for s in steps):
        pairs = [list(p) for p in zip(steps, sizes, strict=True)]
        return f"has the pattern {pairs}; at most {_DIMENSIONS} free dimensions are possible, with strides of 16 bits"
    elements = math.prod(at.shape[1:])
    if elements > _ELEMENTS[buffer]:
        return f"has {elements} elements a partition, and an instruction goes over {_ELEMENTS[buffer]}"
    return None


def _named(region: Region) -> str:
    a = region.allocation
    return f"{region.shape} of {a.name!r} {a.shape}"


def _merged(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Sizes and strides without dimensions of size 1, and with those as one that lie without a gap."""
    out: list[tuple[int, int]] = []
    for n, stride in zip(shape, strides, strict=True):
        if n == 1:
            continue
        if out and out[-1][1] == n * stride:
            out[-1] = (out[-1][0] * n, stride)
        else:
            out.append((n, stride))
    return tuple([n for n, _ in out]), tuple([s for _, s in out])


def _check_overlap(read: Region, written: Region, computes: bool, order: Order) -> None:
    if computes and written.free_size == 1 and order == "stream":
        return
    same = _relation(read, written)
    if same is None or (same and order == "stream"):
        return
    raise NkiValidationError(
        f"the result {_named(written)} overlaps {_named(read)}, which is read at other elements or in another order: "
        f"what is found there is not documented. Write to another tensor than this, from "
        f"{show_line(written.allocation.line)}",
        source=START_RULE,
    )


def _check_results(first: Region, second: Region) -> None:
    """A column of reductions is read out of the accumulator after the result beside it; no other order is known."""
    if second.free_size > 1 and _relation(first, second) is not None:
        raise NkiValidationError(f"two results overlap: {_named(first)} and {_named(second)}", source=START_RULE)


def _relation(one: Region, other: Region) -> bool | None:
    """Whether two regions go over the same bytes in the same order; None if they share no byte."""
    if type(one) is Region and type(other) is Region:
        return _related(_place(one), _layout(one), _place(other), _layout(other))
    offsets = [r.offsets if type(r) is IndirectRegion else None for r in (one, other)]
    return _compared(*[_path(_place(r), _layout(r), o) for r, o in zip((one, other), offsets, strict=True)])


@functools.lru_cache(4096)
def _related(one: _Place, at: Layout, other: _Place, other_at: Layout) -> bool | None:
    return _compared(_path(one, at), _path(other, other_at))


class _Path(NamedTuple):
    """The way of an instruction over a memory: the bytes where elements begin, in order, the same in each partition."""

    partitions: tuple[int, int]  # first, and the one after the last; HBM is one partition
    start: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in elements
    itemsize: int
    offsets: tuple[int, ...] | None  # of elements in a partition, where these give the way

    def bytes(self) -> Array:
        if self.offsets is not None:
            return self.start + np.array(self.offsets) * self.itemsize
        at = np.array(self.start)
        for n, stride in zip(self.shape, self.strides, strict=True):
            at = at[..., None] + np.arange(n) * stride * self.itemsize
        return at.reshape(-1)

    def span(self) -> tuple[int, int]:
        """The first byte, and the one after the last; of all that offsets choose from."""
        before, behind = reach(self.shape, self.strides)
        return self.start + before * self.itemsize, self.start + (behind + 1) * self.itemsize


def _path(place: _Place, at: Layout, offsets: tuple[int, ...] | None = None) -> _Path:
    offset, shape, strides, dtype = at
    size = dtype.itemsize
    if place.buffer not in _ELEMENTS:
        return _Path((0, 1), offset * size, *_merged(shape, strides), size, offsets)
    partition, byte = _partition(place, at)
    return _Path((partition, partition + shape[0]), byte, *_merged(shape[1:], strides[1:]), size, offsets)


def _compared(one: _Path, other: _Path) -> bool | None:
    for (a, b), (c, d) in ((one.partitions, other.partitions), (one.span(), other.span())):
        if a >= d or c >= b:
            return None
    if one[1:] == other[1:]:
        return True
    first, second = one.bytes(), other.bytes()
    if one.itemsize == other.itemsize and np.array_equal(first, second):
        return True
    touched = [(at[:, None] + np.arange(p.itemsize)).reshape(-1) for at, p in ((first, one), (second, other))]
    return False if np.isin(touched[0], touched[1]).any() else None
