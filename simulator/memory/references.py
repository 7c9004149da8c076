"""Values that were passed on and not yet moved: a view of a tensor that stands for the elements of another.

A copy makes `dst` hold what `src` holds. As long as neither changes, `dst` may be read where `src` lies. That is
arithmetic on layouts: an element of a view of dst has an index in what was written, and lies in src at the same index.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any, NamedTuple

from triptych.simulator.memory.layout import Layout, Shape, laid_out, one_tuple, overlaps, reach

_make = tuple.__new__


class Reference(NamedTuple):
    """The elements of a layout in a source: a storage, or a product whose elements lie row by row."""

    source: Any
    layout: Layout


def passed_through(view: Layout, written: Layout, value: Layout) -> Layout | None:
    """Where the elements of a view lie, if `written` holds, element by element, what lies at `value`.

    None if some of the view lies outside `written`, or this cannot be said in strides.
    """
    if view.dtype != written.dtype:
        return None
    first, _, strides, _ = written
    found = through(written.shape, strides, view.offset - first, view.shape, view.strides, value.strides)
    return None if found is None else _make(Layout, (value.offset + found[0], view.shape, found[1], value.dtype))


@functools.lru_cache(1 << 14)
def through(
    shape: Shape, strides: Shape, offset: int, inner: Shape, inner_strides: Shape, into: Shape
) -> tuple[int, Shape] | None:
    """Of a view in the dimensions of another: its offset and strides where those dimensions have strides `into`."""
    found = _within(shape, strides, offset, inner, inner_strides)
    if found is None:
        return None
    start, steps = found
    return sum([i * s for i, s in zip(start, into, strict=True)]), one_tuple(tuple([n * into[dim] for dim, n in steps]))


def _within(
    shape: Shape, strides: Shape, offset: int, inner: Shape, inner_strides: Shape
) -> tuple[Shape, tuple[tuple[int, int], ...]] | None:
    """A view in the dimensions of another: the index of its first element; of its own, which and in steps of how many.

    offset: of the inner view's first element from the outer's, in elements
    """
    if offset < 0 or min(strides) < 0 or overlaps(shape, strides):
        return None
    start = [0] * len(shape)
    dims = sorted([d for d, n in enumerate(shape) if n > 1], key=lambda d: -strides[d])
    for d in dims:
        start[d] = min(offset // strides[d], shape[d] - 1)
        offset -= start[d] * strides[d]
    if offset:
        return None
    last, steps = list(start), []
    for n, stride in zip(inner, inner_strides, strict=True):
        if n == 1:
            steps.append((0, 0))
            continue
        along = next((d for d in dims if strides[d] <= stride), None)
        if along is None or stride % strides[along]:
            return None
        steps.append((along, stride // strides[along]))
        last[along] += steps[-1][1] * (n - 1)
    return None if any([i >= n for i, n in zip(last, shape, strict=True)]) else (tuple(start), tuple(steps))


def joined(first: Layout, second: Layout) -> tuple[int, Layout] | None:
    """Two layouts as one, if the second goes on where the first ends: the dimension that grows, and the whole."""
    if first.strides != second.strides or first.dtype != second.dtype:
        return None
    for d, n in enumerate(first.shape):
        if second.offset - first.offset == n * first.strides[d]:
            rest = first.shape[:d] == second.shape[:d] and first.shape[d + 1 :] == second.shape[d + 1 :]
            if rest:
                shape = (*first.shape[:d], n + second.shape[d], *first.shape[d + 1 :])
                return d, laid_out(first.offset, shape, first.strides, first.dtype)
    return None


def perhaps_sharing(at: Layout, others: Iterable[Layout], width: int) -> list[Layout]:
    """The views that may share a byte with one, of a memory that is looked at in rows of `width` of its elements."""
    (top, bottom), (left, right) = _box(at, width)
    size = at.dtype.itemsize
    return [
        other
        for other, ((a, b), (c, d)) in [(other, _box(other, width)) for other in others]
        if (a < bottom and top < b and c < right and left < d) or other.dtype.itemsize != size
    ]


@functools.lru_cache(1 << 14)
def _box(at: Layout, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """The rows and columns that a view reaches into, each (first, behind the last); all columns if it goes over the end
    of a row.
    """
    across = [(n, s) for n, s in zip(at.shape, at.strides, strict=True) if s % width]
    down = [(n, s // width) for n, s in zip(at.shape, at.strides, strict=True) if not s % width]
    row, column = divmod(at.offset, width)
    (low, high), (above, below) = [reach(tuple([n for n, _ in d]), tuple([s for _, s in d])) for d in (across, down)]
    if column + low < 0 or column + high >= width:
        first, end = (column + low) // width, (column + high) // width
        return (row + above + first, row + below + end + 1), (0, width)
    return (row + above, row + below + 1), (column + low, column + high + 1)
