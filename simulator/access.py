"""Views with an explicit access pattern, or with an index that is known only when the kernel runs.

What such an index is, and how an instruction reads it: triptych.simulator.dynamic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import numpy as np

from triptych.simulator.dtypes import dtype_of
from triptych.simulator.errors import NkiValidationError, NotSimulated, OutOfBounds
from triptych.simulator.memory import SBUF, MemoryRegion
from triptych.simulator.views import GUIDE, Shape, Views

if TYPE_CHECKING:
    from triptych.simulator.tensor import NkiTensor


@dataclass(frozen=True)
class Dynamic:
    """An index that is known only when the kernel runs (triptych.simulator.dynamic)."""

    index: Any  # a register, a tensor of one element, or a tile (P, 1)
    dim: int  # the dimension that it chooses from
    scale: int  # elements between two entries of that dimension
    count: int  # entries of that dimension
    vector: bool  # one index for each partition


class AccessPatterns(Views):
    """The methods of NkiTensor that take a pattern or an index."""

    __slots__ = ()

    any_dynamic: ClassVar[bool] = False  # whether a dynamic view was ever made: until then nobody looks for one

    if TYPE_CHECKING:
        buffer: MemoryRegion
        dynamic: Dynamic | None

    def at_offset(self, offset: int, shape: Shape) -> NkiTensor:
        """The ordinary view of `shape` with these strides at `offset`: what a dynamic view is at one moment."""
        new = self._view(offset, shape, self.strides)
        new.dynamic = None
        return new

    def _indexed(self, index: Any, dim: int, scale: int, count: int, vector: bool) -> NkiTensor:
        """This view, moved by `index * scale` elements when it is used."""
        if self.dynamic is not None:
            raise NkiValidationError(f"{self!r} is indirect already, and has one dynamic index", source=GUIDE)
        new = self._view(self.offset, self.shape, self.strides)
        new.dynamic = Dynamic(index, dim, scale, count, vector)
        AccessPatterns.any_dynamic = True
        return new

    def select(self, dim: int, index: Any) -> NkiTensor:
        """Entry `index` of a dimension, which goes; a register or a tensor of one element is read when it is used."""
        if not isinstance(index, (int, np.integer)):
            if self._dim(dim) == 0 and self.on_chip:
                raise NkiValidationError("a dynamic select cannot choose the partition on chip", source=GUIDE)
            chosen = self[tuple(0 if d == dim else slice(None) for d in range(dim + 1))]
            return chosen._indexed(_scalar_index(index), dim, self.strides[dim], self.shape[dim], False)
        return self[tuple(index if d == dim else slice(None) for d in range(self._dim(dim) + 1))]

    def ap(
        self,
        pattern: Sequence[Sequence[int]],
        offset: int | None = None,
        scalar_offset: Any = None,
        vector_offset: Any = None,
        indirect_dim: int = 0,
        dtype: Any = None,
    ) -> NkiTensor:
        """An explicit access pattern of [stride, count] pairs over the storage, in elements of `dtype`.

        `offset` adds to the view's own offset, as the API's docstring says; nki/deep-dives/nki-aps.rst says that the
        view's offset is ignored. The docstring is newer and was taken.
        """
        if scalar_offset is not None and vector_offset is not None:
            raise NkiValidationError("ap takes a scalar_offset or a vector_offset, not both", source=GUIDE)
        new = dtype_of(dtype) if dtype is not None else self.dtype
        if new != self.dtype:
            self._check_reinterpretable()
        self._keeps_rank(len(pattern), "ap")
        strides, shape = [int(p[0]) for p in pattern], [int(p[1]) for p in pattern]
        if vector_offset is not None:
            self._check_vector(vector_offset, shape[0], indirect_dim)
            strides[0] = 0  # each partition has its own index: the leading stride is ignored
        start, rest = divmod(self.offset * self.dtype.itemsize, new.itemsize)
        if rest:
            raise NkiValidationError(f"ap as {new}: the view begins inside an element, at {self.offset} of {self!r}")
        start += offset or 0
        allocation = self.storage.allocation
        total = allocation.nbytes // new.itemsize
        row = total // allocation.shape[0]  # elements of one partition
        low, high = _reach(start, strides, shape)
        inside = min(shape) >= 1 and low >= 0 and high < total
        if inside and self.on_chip:
            if shape[0] > 1 and strides[0] != row:
                raise NkiValidationError(
                    f"ap: the first stride of an on-chip pattern is the partition's, {row} elements; got {strides[0]}",
                    source="nki/deep-dives/nki-aps.rst",
                )
            low, high = _reach(start % row, strides[1:], shape[1:])
            inside = low >= 0 and high < row
        if not inside:
            raise OutOfBounds(
                f"ap {list(map(list, pattern))} at offset {start} leaves tensor {allocation.name!r} {allocation.shape} "
                f"({total} elements, {row} a row)",
                source="nki/deep-dives/nki-aps.rst",
            )
        view = self._view(start, shape, strides, new)
        if scalar_offset is None and vector_offset is None:
            return view
        scale = self.strides[self._dim(indirect_dim)] * self.dtype.itemsize // new.itemsize
        index = _scalar_index(scalar_offset) if vector_offset is None else vector_offset
        count = self.shape[indirect_dim]
        return view._indexed(index, indirect_dim, scale, count, vector_offset is not None)

    def _check_vector(self, index: Any, partitions: int, dim: int) -> None:
        """A vector index: one integer a partition, in SBUF, over dimension 0 of a tensor in HBM."""
        if self.on_chip or dim != 0:
            raise NkiValidationError(f"a vector index goes over dimension 0 of a tensor in HBM, got {dim} of {self!r}")
        fits = isinstance(index, AccessPatterns) and index.buffer is SBUF and index.shape == (partitions, 1)
        if not fits or not index.dtype.is_int:
            raise NkiValidationError(f"vector_offset must be integers ({partitions}, 1) in SBUF, got {index!r}")

    def vector_select(self, dim: int, vector_offset: Any) -> NkiTensor:
        """Dimension 0 of an HBM tensor chosen by one index a partition."""
        partitions = vector_offset.shape[0] if isinstance(vector_offset, AccessPatterns) else 0
        self._check_vector(vector_offset, partitions, dim)
        row = self._view(self.offset, (partitions, *self.shape[1:]), (0, *self.strides[1:]))
        return row._indexed(vector_offset, 0, self.strides[0], self.shape[0], True)

    def indirect(self, index: Any, num_elem: int | None = None) -> NoReturn:
        """Elements of the free dimension chosen by a tile of indices, the same for all partitions (NeuronCore-v4)."""
        raise NotSimulated("NkiTensor.indirect (tensor indirection) is not simulated yet")


def _scalar_index(index: Any) -> Any:
    """A dynamic index: a register, or an integer tensor of one element in SBUF."""
    if isinstance(index, AccessPatterns) and not (index.size == 1 and index.buffer is SBUF and index.dtype.is_int):
        raise NkiValidationError(f"a dynamic index is a register or one integer in SBUF, got {index!r}", source=GUIDE)
    return index


def _reach(start: int, strides: Sequence[int], shape: Sequence[int]) -> tuple[int, int]:
    """The lowest and highest element that a pattern touches."""
    steps = [s * (n - 1) for s, n in zip(strides, shape, strict=True)]
    return start + sum(s for s in steps if s < 0), start + sum(s for s in steps if s > 0)
