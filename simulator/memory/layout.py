"""Where the elements of a view lie in its storage.

Element (i0, i1, ..) lies at offset + sum(strides[k] * ik), counted in elements of the view's dtype. The functions here
make one layout of another, and move no data. What a tensor has to keep, as the partition first, is not known here.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from typing import NamedTuple

from triptych.simulator.dtypes import DType
from triptych.simulator.errors import NkiValidationError

Shape = tuple[int, ...]
TENSOR_API = "nki.language.NkiTensor"  # the source of rules about views
TUPLES: dict[Shape, Shape] = {}  # each shape and all strides once
_make = tuple.__new__


class Layout(NamedTuple):
    """A strided view: where it begins, how many elements each dimension has, and how far apart they are."""

    offset: int
    shape: Shape
    strides: Shape
    dtype: DType

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def changed(self, offset: int, shape: Iterable[int], strides: Iterable[int]) -> Layout:
        """A layout of this dtype elsewhere."""
        return laid_out(offset, shape, strides, self.dtype)

    def permute(self, dims: Iterable[int]) -> Layout:
        """The dimensions in another order, a permutation of theirs."""
        order = tuple(dims)
        return self.changed(self.offset, [self.shape[d] for d in order], [self.strides[d] for d in order])

    def broadcast(self, dim: int, size: int) -> Layout:
        """A dimension of size 1 repeated `size` times, with stride 0."""
        if self.shape[dim] != 1:
            raise NkiValidationError(f"broadcast needs size 1 in dimension {dim}, got {self.shape}", source=TENSOR_API)
        return self._with_dim(dim, (size,), (0,))

    def expand_dim(self, dim: int) -> Layout:
        """A dimension of size 1 before `dim`."""
        inner = self.strides[dim] * self.shape[dim] if dim < len(self.shape) else 1
        return self.changed(
            self.offset, (*self.shape[:dim], 1, *self.shape[dim:]), (*self.strides[:dim], inner, *self.strides[dim:])
        )

    def squeeze_dim(self, dim: int) -> Layout:
        """Without a dimension of size 1."""
        if self.shape[dim] != 1:
            raise NkiValidationError(
                f"squeeze_dim needs size 1 in dimension {dim}, got {self.shape}", source=TENSOR_API
            )
        return self._with_dim(dim, (), ())

    def split_dim(self, dim: int, sizes: Shape) -> Layout:
        """One dimension as several, whose product it is."""
        return self._with_dim(dim, sizes, [s * self.strides[dim] for s in row_major(sizes)])

    def _with_dim(self, dim: int, sizes: Iterable[int], strides: Iterable[int]) -> Layout:
        """With other dimensions in the place of one."""
        return self.changed(
            self.offset,
            (*self.shape[:dim], *sizes, *self.shape[dim + 1 :]),
            (*self.strides[:dim], *strides, *self.strides[dim + 1 :]),
        )

    def reshape(self, sizes: Shape) -> Layout | None:
        """The same elements in row-major order as `sizes`, whose product is theirs; None where only a copy could."""
        if sizes == self.shape:
            return self
        strides = _reshaped(self.shape, self.strides, sizes)
        return None if strides is None else self.changed(self.offset, sizes, strides)

    def as_dtype(self, dtype: DType) -> Layout | None:
        """The same bytes as another dtype, the last dimension rescaled; None where they are no whole elements of it."""
        old, new = self.dtype.itemsize, dtype.itemsize
        last = self.shape[-1] * old
        steps = [self.offset, *[s for s, n in zip(self.strides[:-1], self.shape[:-1], strict=True) if n > 1]]
        apart = self.strides[-1] != 1 and self.shape[-1] > 1
        if apart or last % new or any(s * old % new for s in steps):
            return None
        outer = [s * old // new for s in self.strides[:-1]]
        return laid_out(self.offset * old // new, (*self.shape[:-1], last // new), (*outer, 1), dtype)

    def is_contiguous(self, first: int = 0) -> bool:
        """Whether the dimensions from `first` on lie row-major without gaps."""
        return _is_contiguous(self.shape[first:], self.strides[first:])


def laid_out(offset: int, shape: Iterable[int], strides: Iterable[int], dtype: DType) -> Layout:
    """A layout of these sizes."""
    return _make(Layout, (offset, one_tuple(tuple(shape)), one_tuple(tuple(strides)), dtype))


def one_tuple(sizes: Shape) -> Shape:
    """One tuple for all that are equal: views are many, and those in a trace stay."""
    return TUPLES.setdefault(sizes, sizes)


@functools.lru_cache(4096)
def reach(shape: Shape, strides: Shape) -> tuple[int, int]:
    """How far the elements of a view lie before its first one (0 or less), and how far behind it."""
    steps = [s * (n - 1) for s, n in zip(strides, shape, strict=True)]
    return sum([min(s, 0) for s in steps]), sum([max(s, 0) for s in steps])


@functools.lru_cache(4096)
def row_major(shape: Shape) -> Shape:
    """Strides, in elements, of a dense tensor."""
    strides = [1] * len(shape)
    for i in range(len(shape) - 2, -1, -1):
        strides[i] = strides[i + 1] * shape[i + 1]
    return tuple(strides)


@functools.lru_cache(4096)
def _is_contiguous(shape: Shape, strides: Shape) -> bool:
    return all([n == 1 or s == dense for n, s, dense in zip(shape, strides, row_major(shape), strict=True)])


@functools.lru_cache(4096)
def overlaps(shape: Shape, strides: Shape) -> bool:
    """Whether two indices of a view may name one element (a zero stride, or a hand-made pattern that folds back)."""
    reached = 0
    for stride, size in sorted((abs(s), n) for s, n in zip(strides, shape, strict=True) if n > 1):
        if stride <= reached:
            return True
        reached += stride * (size - 1)
    return False


@functools.lru_cache(4096)
def _reshaped(shape: Shape, strides: Shape, new: Shape) -> Shape | None:
    """Strides of the reshaped view, or None where only a copy could reshape."""
    dims = [(n, s) for n, s in zip(shape, strides, strict=True) if n != 1]
    out: list[int] = []
    at = 0
    sizes = list(new)
    while sizes:
        group = [sizes.pop(0)]
        if group[0] == 1:
            out.append(dims[at][1] * dims[at][0] if at < len(dims) else 1)
            continue
        taken = dims[at][0]
        first = at
        at += 1
        while math.prod(group) != taken:
            if math.prod(group) < taken:
                group.append(sizes.pop(0))
            else:
                taken *= dims[at][0]
                at += 1
        for (_, s), (n, inner) in zip(dims[first : at - 1], dims[first + 1 : at], strict=True):
            if s != n * inner:
                return None
        out.extend(s * dims[at - 1][1] for s in row_major(tuple(group)))
    return tuple(out)
