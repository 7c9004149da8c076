"""What the memory that an instruction touches has to fulfil, whichever instruction it is.

Compute engines (nki/guides/architecture/trainium_inferentia2_arch.rst, data access; later guides change none of it):

    partitions   more than 64 start at partition 0, more than 32 at 0 or 64, others at 0, 32, 64 or 96
    pattern      at most four free dimensions, once those that lie without a gap are one; strides of 16 bits, with sign
    elements     at most 64K a partition in SBUF, and 4K in PSUM for the engines that stream over it

Every engine: the free dimension is time (the same guide), so that a result may lie where an operand does if an
instruction goes over the same elements of a partition in the same order, on any partitions (nc_stream_shuffle is
documented to run in place), and where its results need all of its operands, as a reduction to one element does. How far
reading is ahead of writing is not documented, so that any other overlap of a result with an operand raises, as does
that of two results, and any overlap in instructions that read in another order than they write, such as a transpose.
"""

from __future__ import annotations

import functools
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from triptych.simulator.errors import NkiValidationError, show_line
from triptych.simulator.placement import START_RULE, allowed_starts
from triptych.simulator.trace import Event, IndirectRegion, Region

Array = NDArray[Any]
_STRIDES = range(-(1 << 15), 1 << 15)
_DIMENSIONS = 4
_ELEMENTS = {"sbuf": 1 << 16, "psum": 1 << 12}


Order = Literal["stream", "late", "mixed"]  # written as it is read; when all has been read; in another order


def check_regions(event: Event, computes: bool, own_starts: bool, order: Order) -> None:
    """Raise NkiValidationError for what the module forbids. The first tests leave little to look at closely.

    `own_starts`: the instruction checks start partitions itself.
    """
    reads, writes = event.reads, event.writes
    if computes:
        for region in (*reads, *writes):
            row = region[3][0]
            if region[1] >= row or row >= 1 << 12 or len(region[3]) > _DIMENSIONS + 1:
                _check_access(event, region, own_starts)
    if "scattered" in event.attributes:  # rows that have an index each
        return
    for at, written in enumerate(writes):
        allocation = written[0]
        for region in reads if order != "late" else ():
            if (region is not written or order == "mixed") and (
                region[0] is allocation or (allocation[6] and region[0][6])
            ):
                _check_overlap(region, written, computes, order)
        for region in writes[:at]:
            if region[0] is allocation or (allocation[6] and region[0][6]):
                _check_results(region, written)


def _check_access(event: Event, region: Region, own_starts: bool) -> None:
    a = region.allocation
    if a.buffer not in _ELEMENTS:
        return
    if not own_starts:
        check_start(region)
    shape, strides = _merged(region.shape[1:], region.strides[1:])
    if len(shape) > _DIMENSIONS or any(s not in _STRIDES for s in strides):
        raise NkiValidationError(
            f"an access pattern has at most {_DIMENSIONS} free dimensions, with strides of 16 bits; {_named(region)} "
            f"has {[list(p) for p in zip(strides, shape, strict=True)]}",
            source=START_RULE,
        )
    limit = _ELEMENTS["sbuf" if event.engine == "tensor" else a.buffer]
    if region.free_size > limit:
        raise NkiValidationError(
            f"an instruction goes over at most {limit} elements of a {a.buffer} partition; {_named(region)} has "
            f"{region.free_size}",
            source="nki/guides/architecture/trainium_inferentia2_arch.rst, Layout & Tile Size",
        )


def check_start(region: Region) -> None:
    """The start partition of what a compute engine touches."""
    a, partitions = region.allocation, region.shape[0]
    first = region.offset * region.dtype.itemsize // _row(region) + (a.address[0] if a.address else 0)
    if first not in allowed_starts(partitions):
        allowed = ", ".join(map(str, allowed_starts(partitions)))
        raise NkiValidationError(
            f"{partitions} partitions of {a.buffer} must start at {allowed}; {_named(region)} starts at {first}. DMA "
            "moves them there",
            source=START_RULE,
        )


def _row(region: Region) -> int:
    """Bytes of one partition of a region's allocation."""
    return region.allocation.nbytes // region.allocation.shape[0]


def _named(region: Region) -> str:
    a = region.allocation
    return f"{region.shape} of {a.name!r} {a.shape}"


def _merged(shape: tuple[int, ...], strides: tuple[int, ...], unit: int = 1) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Sizes and strides times `unit`, without dimensions of size 1, and with those as one that lie without a gap."""
    out: list[tuple[int, int]] = []
    for n, stride in zip(shape, strides, strict=True):
        if n == 1:
            continue
        if out and out[-1][1] == n * stride * unit:
            out[-1] = (out[-1][0] * n, stride * unit)
        else:
            out.append((n, stride * unit))
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
    """None if two regions have no byte in common, else whether they go over the same bytes in the same order."""
    if one.allocation.buffer != other.allocation.buffer:
        return None
    return _related(_path(one), _path(other))


class _Path(NamedTuple):
    """The way of an instruction over a memory: the bytes where elements begin, in order, the same in each partition."""

    partitions: tuple[int, int]  # first, and the one after the last; HBM is one partition
    start: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    itemsize: int
    chosen: tuple[int, ...] | None  # offsets, where these give the way

    def bytes(self) -> Array:
        if self.chosen is not None:
            return self.start + np.array(self.chosen) * self.itemsize
        at = np.array(self.start)
        for n, stride in zip(self.shape, self.strides, strict=True):
            at = at[..., None] + np.arange(n) * stride
        return at.reshape(-1)

    def reach(self) -> tuple[int, int]:
        """The first byte, and the one after the last."""
        if self.chosen is not None:
            at = self.bytes()
            return int(at.min()), int(at.max()) + self.itemsize
        steps = [s * (n - 1) for s, n in zip(self.strides, self.shape, strict=True)]
        return self.start + sum(s for s in steps if s < 0), self.start + sum(s for s in steps if s > 0) + self.itemsize


def _path(region: Region) -> _Path:
    a, size = region.allocation, region.dtype.itemsize
    chosen = region.chosen if isinstance(region, IndirectRegion) else None
    if a.buffer not in _ELEMENTS:
        return _Path((0, 1), region.offset * size, *_merged(region.shape, region.strides, size), size, chosen)
    partition, column = divmod(region.offset * size, _row(region))
    if a.address:
        partition, column = partition + a.address[0], column + a.address[1]
    rows = (partition, partition + region.shape[0])
    return _Path(rows, column, *_merged(region.shape[1:], region.strides[1:], size), size, chosen)


@functools.lru_cache(4096)
def _related(one: _Path, other: _Path) -> bool | None:
    for (a, b), (c, d) in ((one.partitions, other.partitions), (one.reach(), other.reach())):
        if a >= d or c >= b:
            return None
    if one[1:] == other[1:]:
        return True
    first, second = one.bytes(), other.bytes()
    if one.itemsize == other.itemsize and np.array_equal(first, second):
        return True
    touched = [(at[:, None] + np.arange(p.itemsize)).reshape(-1) for at, p in ((first, one), (second, other))]
    return False if np.isin(touched[0], touched[1]).any() else None
