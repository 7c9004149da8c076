"""Views with an explicit access pattern, or with an index that is known only when the kernel runs.

What such an index is, and how an instruction uses it: triptych.simulator.machine.dynamic and .indirection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from triptych.simulator.dtypes import dtype_of
from triptych.simulator.errors import NkiValidationError, OutOfBounds
from triptych.simulator.memory.storage import SBUF, MemoryRegion, Outside
from triptych.simulator.running import running
from triptych.simulator.tensors.views import GUIDE, Views

if TYPE_CHECKING:
    from triptych.simulator.tensors.tensor import NkiTensor


@dataclass(frozen=True)
class Dynamic:
    """An index that moves a view when an instruction uses it: one for all of it, or one for each of its rows."""

    index: Any  # a register, a tensor of one element, or a tile of integers for the rows
    dim: int  # the dimension that it chooses from
    scale: int  # elements between two entries of that dimension
    count: int | None  # entries of that dimension; None where the index may leave it and not the tensor
    vector: bool  # one index for each row


@dataclass(frozen=True)
class Columns:
    """Tensor indirection: a tile of offsets that chooses elements of each partition, the same for all of them."""

    base: NkiTensor  # [P, F], of which they are chosen
    index: NkiTensor
    vector: ClassVar[bool] = False


class AccessPatterns(Views):
    """The methods of NkiTensor that take a pattern or an index."""

    __slots__ = ()

    if TYPE_CHECKING:
        buffer: MemoryRegion

        @property
        def free_size(self) -> int: ...

        def is_contiguous(self) -> bool: ...

        def is_indirect(self) -> bool: ...

    def _indexed(self, dynamic: Dynamic | Columns) -> NkiTensor:
        """This view, with an index that is read when the view is used."""
        from triptych.simulator.machine.dynamic import DynamicTensor

        return DynamicTensor.over(self, dynamic)

    def select(self, dim: int, index: Any) -> NkiTensor:
        """Entry `index` of a dimension, which goes; a register or a tensor of one element is read when it is used."""
        if not isinstance(index, (int, np.integer)):
            if self._dim(dim) == 0 and self.on_chip:
                raise NkiValidationError("a dynamic select cannot choose the partition on chip", source=GUIDE)
            chosen = self[tuple(0 if d == dim else slice(None) for d in range(dim + 1))]
            return chosen._indexed(Dynamic(_scalar_index(index), dim, self.strides[dim], self.shape[dim], False))
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
        view's offset is ignored. The docstring is newer and was taken. A pattern that leaves the tensor is an error
        once an instruction uses it: kernels make one and then see that there is nothing left to do.
        """
        if scalar_offset is not None and vector_offset is not None:
            raise NkiValidationError("ap takes a scalar_offset or a vector_offset, not both", source=GUIDE)
        new = dtype_of(dtype) if dtype is not None else self.dtype
        if new != self.dtype:
            self._check_reinterpretable()
        self._keeps_rank(len(pattern), "ap")
        strides, shape = [int(p[0]) for p in pattern], [int(p[1]) for p in pattern]
        if vector_offset is not None:
            self._check_vector(vector_offset, indirect_dim)
            strides[0] = 0  # each row has its own index: the leading stride is ignored
        start, rest = divmod(self.offset * self.dtype.itemsize, new.itemsize)
        if rest:
            raise NkiValidationError(f"ap as {new}: the view begins inside an element, at {self.offset} of {self!r}")
        start += offset or 0
        allocation = self.storage.allocation
        total = allocation.nbytes // new.itemsize
        row = total // allocation.shape[0]  # elements of one partition
        if self.on_chip and allocation.nbytes // allocation.shape[0] % new.itemsize:
            raise NkiValidationError(f"ap as {new}: a partition of {allocation.name!r} does not hold whole elements")
        if self.on_chip and strides[0] * new.itemsize == self.free_size * self.dtype.itemsize and _lenient():
            strides[0] = row  # the elements of the view in a partition, where a partition has more
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
        view = self._view(start, shape, strides, new)
        if not inside:
            view.storage = Outside(
                allocation,
                OutOfBounds(
                    f"ap {list(map(list, pattern))} at offset {start} leaves tensor {allocation.name!r} "
                    f"{allocation.shape} ({total} elements, {row} a row)",
                    source="nki/deep-dives/nki-aps.rst",
                ),
            )
            return view
        if scalar_offset is None and vector_offset is None:
            return view
        scale, rest = divmod(self.strides[self._dim(indirect_dim)] * self.dtype.itemsize, new.itemsize)
        if rest:
            raise NkiValidationError(f"ap as {new}: an entry of dimension {indirect_dim} ends inside an element")
        if vector_offset is not None:
            return view._indexed(Dynamic(vector_offset, indirect_dim, scale, self.shape[indirect_dim], True))
        # The pattern starts `scale` elements further for each: no dimension bounds it (nki/deep-dives/nki-aps.rst), and
        # kernels choose on one dimension by the stride of another that is the same.
        return view._indexed(Dynamic(_scalar_index(scalar_offset), indirect_dim, scale, None, False))

    def _check_vector(self, index: Any, dim: int) -> None:
        """A vector index: integers in SBUF, over dimension 0 of a tensor in HBM."""
        if self.on_chip or dim != 0:
            raise NkiValidationError(f"a vector index goes over dimension 0 of a tensor in HBM, got {dim} of {self!r}")
        _check_indices("vector_offset", index)

    def vector_select(self, dim: int, vector_offset: Any) -> NkiTensor:
        """Dimension 0 of an HBM tensor chosen by one index a partition."""
        self._check_vector(vector_offset, dim)
        if self.dtype != self.storage.allocation.dtype:
            raise NkiValidationError(
                "vector_select of a tensor seen as another dtype is not supported; copy it to a tensor of that dtype",
                source="release-notes/components/nki.rst, NKI 0.5.0, Known Issues",
            )
        row = self._view(self.offset, (vector_offset.shape[0], *self.shape[1:]), (0, *self.strides[1:]))
        return row._indexed(Dynamic(vector_offset, 0, self.strides[0], self.shape[0], True))

    def indirect(self, index: Any, num_elem: int | None = None) -> NkiTensor:
        """[P, num_elem]: the elements of each partition that the offsets in `index` choose, on NeuronCore-v4.

        An offset counts elements of the partition's free dimensions, which must lie without gaps: what it would count
        in a strided view is not documented.
        """
        chip = running().chip
        if chip.generation < 4:
            raise NkiValidationError(f"indirect needs NeuronCore-v4, and the target is {chip.name}", source=GUIDE)
        if not self.on_chip or not self.is_contiguous():
            raise NkiValidationError(f"indirect goes over gapless tiles in SBUF or PSUM, got {self!r}", source=GUIDE)
        _check_indices("index", index)
        count = index.size if num_elem is None else num_elem
        if index.shape[0] != self.shape[0] or not isinstance(count, int) or not 1 <= count <= index.size:
            raise NkiValidationError(
                f"index must have the {self.shape[0]} partitions of the tile and hold num_elem offsets, got "
                f"{index.shape} for {count!r}",
                source=GUIDE,
            )
        columns = self._view(self.offset, (self.shape[0], count), (self.strides[0], 0))
        base = self._view(self.offset, (self.shape[0], self.free_size), (self.strides[0], 1))
        return columns._indexed(Columns(base, index))


def _check_indices(what: str, index: Any) -> None:
    fits = isinstance(index, AccessPatterns) and index.buffer is SBUF and index.ndim == 2 and index.dtype.is_int
    if not fits or index.is_indirect():
        raise NkiValidationError(f"{what} must be integers in SBUF, in two dimensions, got {index!r}", source=GUIDE)


def _scalar_index(index: Any) -> Any:
    """A dynamic index: a register, or an integer tensor of one element in SBUF."""
    if isinstance(index, AccessPatterns) and not (index.size == 1 and index.buffer is SBUF and index.dtype.is_int):
        raise NkiValidationError(f"a dynamic index is a register or one integer in SBUF, got {index!r}", source=GUIDE)
    return index


def _reach(start: int, strides: Sequence[int], shape: Sequence[int]) -> tuple[int, int]:
    """The lowest and highest element that a pattern touches."""
    steps = [s * (n - 1) for s, n in zip(strides, shape, strict=True)]
    return start + sum(s for s in steps if s < 0), start + sum(s for s in steps if s > 0)


def _lenient() -> bool:
    return not running().options.check_operands
