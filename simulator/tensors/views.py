"""Views of a tensor that its shape and strides decide alone: reshaped, permuted, broadcast, seen as another dtype."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from triptych.simulator.dtypes import DType, dtype_of
from triptych.simulator.errors import NkiValidationError, OutOfBounds
from triptych.simulator.memory.storage import Storage, row_major
from triptych.simulator.objects import NKIObject

if TYPE_CHECKING:
    from triptych.simulator.tensors.tensor import NkiTensor

Shape = tuple[int, ...]
GUIDE = "nki.language.NkiTensor"


class Views(NKIObject):
    """What NkiTensor's views are made of, and the methods that make them."""

    __slots__ = ()

    if TYPE_CHECKING:
        shape: Shape
        strides: Shape
        offset: int
        dtype: DType
        storage: Storage
        on_chip: bool

        @property
        def ndim(self) -> int: ...

        @property
        def size(self) -> int: ...

        def __getitem__(self, key: Any) -> NkiTensor: ...

        def _view(
            self, offset: int, shape: Sequence[int], strides: Sequence[int], dtype: DType | None = None
        ) -> NkiTensor: ...

    @property
    def keeps_rows(self) -> bool:
        """Whether dimension 0 stays first and whole: the partition on chip, or rows that each have an index."""
        return self.on_chip

    def slice(self, dim: int, start: int, end: int, step: int = 1) -> NkiTensor:
        """Entries start, start + step, .. below end of one dimension."""
        return self[tuple(slice(start, end, step) if d == dim else slice(None) for d in range(self._dim(dim) + 1))]

    def permute(self, dims: Sequence[int]) -> NkiTensor:
        """The dimensions in another order; the partition stays first on chip."""
        if sorted(dims) != list(range(self.ndim)):
            raise NkiValidationError(f"permute needs a permutation of 0..{self.ndim - 1}, got {dims}", source=GUIDE)
        if self.keeps_rows and dims[0] != 0:
            raise NkiValidationError(f"permute keeps the partition first on chip, got {dims}", source=GUIDE)
        return self._view(self.offset, [self.shape[d] for d in dims], [self.strides[d] for d in dims])

    def broadcast(self, dim: int, size: int) -> NkiTensor:
        """A dimension of size 1 repeated `size` times, with stride 0."""
        self._free(dim, "broadcast")
        if self.shape[dim] != 1:
            raise NkiValidationError(f"broadcast needs size 1 in dimension {dim}, got {self.shape}", source=GUIDE)
        shape, strides = list(self.shape), list(self.strides)
        shape[dim], strides[dim] = size, 0
        return self._view(self.offset, shape, strides)

    def expand_dim(self, dim: int) -> NkiTensor:
        """A dimension of size 1 before `dim`; not before the partition."""
        if not 0 <= dim <= self.ndim or (self.keeps_rows and dim == 0):
            raise NkiValidationError(f"expand_dim({dim}) of {self!r}: not before the partition", source=GUIDE)
        inner = self.strides[dim] * self.shape[dim] if dim < self.ndim else 1
        return self._view(
            self.offset, (*self.shape[:dim], 1, *self.shape[dim:]), (*self.strides[:dim], inner, *self.strides[dim:])
        )

    def squeeze_dim(self, dim: int) -> NkiTensor:
        """Without a dimension of size 1."""
        self._free(dim, "squeeze_dim")
        if self.shape[dim] != 1:
            raise NkiValidationError(f"squeeze_dim needs size 1 in dimension {dim}, got {self.shape}", source=GUIDE)
        self._keeps_rank(self.ndim - 1, "squeeze_dim")
        return self._view(
            self.offset, self.shape[:dim] + self.shape[dim + 1 :], self.strides[:dim] + self.strides[dim + 1 :]
        )

    def reshape_dim(self, dim: int, shape: Sequence[int]) -> NkiTensor:
        """One dimension split into `shape`, of which one size may be -1."""
        sizes = _infer(tuple(shape), self.shape[self._dim(dim)], "reshape_dim")
        if self.keeps_rows and dim == 0 and sizes != (self.shape[0],):
            raise NkiValidationError("reshape_dim cannot split the partition dimension", source=GUIDE)
        inner = [s * self.strides[dim] for s in row_major(sizes)]
        return self._view(
            self.offset,
            (*self.shape[:dim], *sizes, *self.shape[dim + 1 :]),
            (*self.strides[:dim], *inner, *self.strides[dim + 1 :]),
        )

    def flatten_dims(self, start_dim: int, end_dim: int) -> NkiTensor:
        """Dimensions start_dim to end_dim, both included, as one."""
        self._free(start_dim, "flatten_dims")
        if self._dim(end_dim) < start_dim:
            raise NkiValidationError(f"flatten_dims({start_dim}, {end_dim}) ends before it starts", source=GUIDE)
        merged = math.prod(self.shape[start_dim : end_dim + 1])
        return self.reshape((*self.shape[:start_dim], merged, *self.shape[end_dim + 1 :]))

    def reshape(self, shape: Sequence[int]) -> NkiTensor:
        """The same elements in row-major order as `shape`; refused where that would need a copy."""
        sizes = _infer(tuple(shape), self.size, "reshape")
        self._keeps_rank(len(sizes), "reshape")
        if self.keeps_rows and sizes[0] != self.shape[0]:
            raise NkiValidationError(
                f"reshape keeps the partition dimension on chip: {self.shape} cannot become {sizes}", source=GUIDE
            )
        strides = _reshaped(self.shape, self.strides, sizes)
        if strides is None:
            raise NkiValidationError(
                f"reshape of {self.shape} with strides {self.strides} to {sizes} would need a copy", source=GUIDE
            )
        return self._view(self.offset, sizes, strides)

    def rearrange(
        self, src_pattern: Sequence[Any], dst_pattern: Sequence[Any], fixed_sizes: dict[str, int] | None = None
    ) -> NkiTensor:
        """Split, reorder and merge named dimensions: ('b', ('h', 'w')) -> ('b', 'w', 'h')."""
        known = fixed_sizes or {}
        groups = [(g,) if isinstance(g, str) else tuple(g) for g in src_pattern]
        if len(groups) != self.ndim:
            raise NkiValidationError(f"rearrange: {src_pattern} names {len(groups)} of {self.ndim} dimensions")
        view, names = self, [n for g in groups for n in g]
        for at in range(self.ndim - 1, -1, -1):
            if len(groups[at]) > 1:
                view = view.reshape_dim(at, [known.get(n, -1) for n in groups[at]])
        targets = [(g,) if isinstance(g, str) else tuple(g) for g in dst_pattern]
        order = [n for g in targets for n in g]
        if sorted(order) != sorted(names):
            raise NkiValidationError(f"rearrange: {dst_pattern} must name the dimensions of {src_pattern}")
        view = view.permute([names.index(n) for n in order])
        for at, group in enumerate(targets):
            if len(group) > 1:
                view = view.flatten_dims(at, at + len(group) - 1)
        return view

    def view(self, dtype: Any) -> NkiTensor:
        """The same bytes as another dtype; the last dimension is rescaled."""
        new = dtype_of(dtype)
        old_size, new_size = self.dtype.itemsize, new.itemsize
        last = self.shape[-1] * old_size
        steps = [self.offset, *[s for s, n in zip(self.strides[:-1], self.shape[:-1], strict=True) if n > 1]]
        apart = self.strides[-1] != 1 and self.shape[-1] > 1
        if apart or last % new_size or any(s * old_size % new_size for s in steps):
            raise NkiValidationError(
                f"view({new}) needs a contiguous last dimension that {new_size} bytes divide, got {self!r}",
                source=GUIDE,
            )
        self._check_reinterpretable()
        outer = [s * old_size // new_size for s in self.strides[:-1]]
        return self._view(self.offset * old_size // new_size, (*self.shape[:-1], last // new_size), (*outer, 1), new)

    reinterpret_cast = view

    def _dim(self, dim: int) -> int:
        if not 0 <= dim < self.ndim:
            raise OutOfBounds(f"dimension {dim} of {self!r}", source=GUIDE)
        return dim

    def _keeps_rank(self, ndim: int, what: str) -> None:
        least = 2 if self.on_chip else 1
        if ndim < least:
            raise NkiValidationError(f"{what} of {self!r} would leave fewer than {least} dimensions", source=GUIDE)

    def _check_reinterpretable(self) -> None:
        if self.storage.widened:
            raise NkiValidationError(f"{self!r}: the mode without rounding keeps no bits to see as another dtype")

    def _free(self, dim: int, what: str) -> None:
        if self._dim(dim) == 0 and self.keeps_rows:
            raise NkiValidationError(f"{what} cannot touch the partition dimension of {self!r}", source=GUIDE)


def _infer(shape: Shape, size: int, what: str) -> Shape:
    """`shape` with one -1 replaced, checked to hold `size` elements."""
    if shape.count(-1) == 1:
        rest = math.prod(s for s in shape if s != -1)
        shape = tuple(size // rest if s == -1 else s for s in shape) if rest else shape
    if math.prod(shape) != size or any(s < 1 for s in shape):
        raise NkiValidationError(f"{what} to {shape} does not hold the {size} elements there are", source=GUIDE)
    return shape


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
