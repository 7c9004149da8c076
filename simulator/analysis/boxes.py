"""The bytes that a view touches, as a box: a range of rows times a range of bytes in each row.

A row is a partition on chip, and the outermost stride of the view in HBM. The bytes between the first and the last of a
row count as touched, so two views that interleave within a row (every other element) share bytes though they share no
element.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from triptych.simulator.trace import Region


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
    steps = [(abs(stride) * size, n) for n, stride in zip(shape, strides, strict=True) if n > 1 and stride]
    start += sum([(n - 1) * min(stride, 0) * size for n, stride in zip(shape, strides, strict=True)])
    whole = size + sum([(n - 1) * step for step, n in steps])
    if steps:
        pitch, rows = max(steps)
        row, low = divmod(start, pitch)
        extent = whole - (rows - 1) * pitch
        if low + extent <= pitch and extent < pitch:
            return Box(pitch, row, row + rows - 1, low, low + extent)
    return Box(0, 0, 0, start, start + whole)


def meet(a: Box, b: Box) -> bool:
    """Whether two boxes of one memory share a byte."""
    if a.pitch != b.pitch:
        if a.pitch and b.pitch:
            (low, high), (first, last) = reach(a), reach(b)
            return low < last and first < high
        if a.pitch:
            b = _rows(b, a.pitch)
        else:
            a = _rows(a, b.pitch)
    return a.low < b.high and b.low < a.high and a.first <= b.last and b.first <= a.last


def _rows(flat: Box, pitch: int) -> Box:
    """A range of bytes in rows of `pitch`: part of one row, or whole rows."""
    first, last = flat.low // pitch, (flat.high - 1) // pitch
    if first == last:
        return Box(pitch, first, last, flat.low - first * pitch, flat.high - first * pitch)
    return Box(pitch, first, last, 0, pitch)


def within(inner: Box, outer: Box) -> bool:
    """Whether no byte of `inner` lies outside `outer`."""
    return (
        inner.pitch == outer.pitch
        and outer.low <= inner.low
        and inner.high <= outer.high
        and outer.first <= inner.first
        and inner.last <= outer.last
    )


def reach(box: Box) -> tuple[int, int]:
    """The first byte that a box spans and the one after its last; on chip, of a partition."""
    if box.pitch > 1:
        return box.first * box.pitch + box.low, box.last * box.pitch + box.high
    return box.low, box.high
