"""NkiTensor: a strided view of storage. Views are free; nothing here moves data.

Element (i0, i1, ..) of a view lies at offset + sum(strides[k] * ik) of its storage, in elements of the view's dtype.
On-chip tensors keep dimension 0, the partition, first and whole, and never have fewer than two dimensions
(nki/get-started/nki-language-guide.rst; nki/api/nki/language/__init__.py, NkiTensor).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn

import numpy as np
from numpy.typing import NDArray

from triptych.simulator.dtypes import F32, DType, dtype_of
from triptych.simulator.errors import NkiValidationError, NotSimulated, OutOfBounds
from triptych.simulator.memory import PSUM, SBUF, MemoryRegion, Storage, row_major
from triptych.simulator.objects import NKIObject
from triptych.simulator.trace import Region

Array = NDArray[Any]
Shape = tuple[int, ...]
_make = tuple.__new__
_GUIDE = "nki.language.NkiTensor"


class DynamicSlice:
    """`nl.ds(start, size)`: the elements start, start + 1, .., start + size - 1."""

    def __init__(self, start: int, size: int) -> None:
        self.start = start
        self.size = size


@dataclass(frozen=True)
class Dynamic:
    """An index that is known only when the kernel runs (triptych.simulator.dynamic)."""

    index: Any  # a register, a tensor of one element, or a tile (P, 1)
    dim: int  # the dimension that it chooses from
    scale: int  # elements between two entries of that dimension
    count: int  # entries of that dimension
    vector: bool  # one index for each partition


class NkiTensor(NKIObject):
    """A view of HBM, SBUF or PSUM."""

    __slots__ = (
        "_array",
        "at",
        "buffer",
        "dtype",
        "dynamic",
        "form",
        "offset",
        "on_chip",
        "region",
        "shape",
        "storage",
        "strides",
    )

    any_dynamic: ClassVar[bool] = False  # whether a dynamic view was ever made: until then nobody looks for one

    storage: Storage
    dtype: DType
    buffer: MemoryRegion
    on_chip: bool
    offset: int
    shape: Shape
    strides: Shape
    at: tuple[int, Shape, Shape]  # offset, shape and strides: what storage needs to find the elements
    form: tuple[Shape, DType, str]  # what an instruction's checks depend on, beside where the elements lie
    region: Region  # the view as the trace names it
    dynamic: Dynamic | None  # an index that is read when an instruction uses the view

    def __init__(
        self,
        shape: Sequence[int],
        dtype: Any,
        storage: Storage,
        buffer: MemoryRegion = MemoryRegion.sbuf,
        name: str = "",
    ) -> None:
        shape = tuple(shape)
        dense = storage.dense if shape == storage.allocation.shape else row_major(shape)
        self._set(storage, dtype_of(dtype), buffer, 0, shape, dense)

    def _set(
        self, storage: Storage, dtype: DType, buffer: MemoryRegion, offset: int, shape: Shape, strides: Shape
    ) -> None:
        self.storage = storage
        self.dtype = dtype
        self.buffer = buffer
        self.on_chip = buffer is SBUF or buffer is PSUM
        self.offset = offset
        self.shape = shape
        self.strides = strides
        self.at = (offset, shape, strides)
        self.form = (shape, dtype, storage.allocation.buffer)
        # Region(...) without its Python-level constructor: a trace holds several for each instruction.
        self.region = _make(Region, (storage.allocation, offset, shape, strides, dtype))
        self.dynamic = None
        self._array: Array | None = None

    def _view(self, offset: int, shape: Sequence[int], strides: Sequence[int], dtype: DType | None = None) -> NkiTensor:
        new = NkiTensor.__new__(NkiTensor)
        new._set(self.storage, dtype or self.dtype, self.buffer, offset, tuple(shape), tuple(strides))
        new.dynamic = self.dynamic
        return new

    def at_offset(self, offset: int, shape: Shape) -> NkiTensor:
        """The ordinary view of `shape` with these strides at `offset`: what a dynamic view is at one moment."""
        new = self._view(offset, shape, self.strides)
        new.dynamic = None
        return new

    def _indexed(self, index: Any, dim: int, scale: int, count: int, vector: bool) -> NkiTensor:
        """This view, moved by `index * scale` elements when it is used."""
        if self.dynamic is not None:
            raise NkiValidationError(f"{self!r} is indirect already, and has one dynamic index", source=_GUIDE)
        new = self._view(self.offset, self.shape, self.strides)
        new.dynamic = Dynamic(index, dim, scale, count, vector)
        NkiTensor.any_dynamic = True
        return new

    # What it is

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def name(self) -> str:
        return self.storage.allocation.name

    @property
    def free_size(self) -> int:
        """Elements per partition."""
        return self.shape[1] if len(self.shape) == 2 else math.prod(self.shape[1:])

    def __repr__(self) -> str:
        return f"NkiTensor({self.name!r}, {self.shape}, {self.dtype}, {self.buffer.value})"

    def __len__(self) -> int:
        return self.shape[0]

    def __bool__(self) -> NoReturn:
        raise NkiValidationError(
            "the truth of a tensor is not known while a kernel is built; Python's `if` and `while` work on shapes and "
            "constants only",
            source="nki/get-started/nki-language-guide.rst",
        )

    def is_contiguous(self) -> bool:
        """Whether the free dimensions (all dimensions in HBM) lie row-major without gaps."""
        first = 1 if self.on_chip else 0
        dims = list(zip(self.shape, self.strides, row_major(self.shape), strict=True))
        return all(n == 1 or stride == dense for n, stride, dense in dims[first:])

    def is_indirect(self) -> bool:
        return self.dynamic is not None

    def get_pattern(self) -> list[list[int]]:
        """[[stride, count], ..] from the outermost dimension inwards."""
        return [[s, n] for s, n in zip(self.strides, self.shape, strict=True)]

    # Its data, for the engines

    @property
    def array(self) -> Array:
        """The elements, as a NumPy view of the storage."""
        if self._array is None:
            self._array = self.storage.array(self.dtype, self.at)
        return self._array

    def f32(self) -> Array:
        """The elements in float32, as every engine reads them."""
        if self.storage.np is F32 and self.dtype.np is F32:
            return self.array
        if self.dtype.kind == "x":
            raise NkiValidationError(f"{self!r} is packed: its elements are bits for nc_matmul_mx, not numbers")
        return self.storage.f32(self.dtype, self.at)

    def check_written(self) -> None:
        if self.storage.missing:
            self.storage.check_written(self.dtype, self.at)

    def wrote(self) -> None:
        self.storage.wrote(self.dtype, self.at)

    def wrote_where(self, chosen: Array) -> None:
        self.storage.wrote_where(self.dtype, (self.offset, self.shape, self.strides), chosen)

    # Views

    def __getitem__(self, key: Any) -> NkiTensor:
        keys = key if type(key) is tuple else (key,)
        if len(keys) != len(self.shape) or any(k is Ellipsis for k in keys):
            keys = self._expand(keys)
        on_chip = self.on_chip
        offset = self.offset
        shape: list[int] = []
        strides: list[int] = []
        for dim, k in enumerate(keys):
            n, stride = self.shape[dim], self.strides[dim]
            if type(k) is slice:
                start, stop, step = k.start, k.stop, k.step
                start = 0 if start is None else start if type(start) is int else _index(start)
                stop = n if stop is None else stop if type(stop) is int else _index(stop)
                step = 1 if step is None else _index(step)
                if start < 0:
                    start += n
                if stop < 0:
                    stop += n
            elif type(k) is DynamicSlice:
                start, stop, step = _index(k.start), _index(k.start) + _index(k.size), 1
            else:
                at = _index(k)
                at += n * (at < 0)
                if not 0 <= at < n:
                    raise OutOfBounds(f"index {k} is outside dimension {dim} of {self}", source=_GUIDE)
                offset += at * stride
                if on_chip and dim == 0:
                    shape.append(1)
                    strides.append(stride)
                continue
            if not (0 <= start < stop <= n and step >= 1):
                raise OutOfBounds(
                    f"slice {start}:{stop}:{step} of dimension {dim} needs 0 <= start < stop <= {n} and step >= 1 "
                    f"(tensor {self}); clip a ragged edge with min()",
                    source=_GUIDE,
                )
            if step > 1 and on_chip and dim == 0:
                raise NkiValidationError(
                    f"a step of {step} over partitions: the hardware does not stride over dimension 0", source=_GUIDE
                )
            offset += start * stride
            shape.append((stop - start + step - 1) // step)
            strides.append(stride * step)
        least = 2 if on_chip else 1
        while len(shape) < least:
            shape.append(1)
            strides.append(1)
        return self._view(offset, shape, strides)

    def _expand(self, keys: tuple[Any, ...]) -> tuple[Any, ...]:
        """`keys` with Ellipsis and missing trailing dimensions written out."""
        dots = [i for i, k in enumerate(keys) if k is Ellipsis]
        fill = len(self.shape) - (len(keys) - len(dots))
        if fill < 0 or len(dots) > 1:
            raise OutOfBounds(f"{len(keys)} indices for the {self.ndim} dimensions of {self}", source=_GUIDE)
        at = dots[0] if dots else len(keys)
        return (*keys[:at], *[slice(None)] * fill, *keys[at + len(dots) :])

    def __setitem__(self, key: Any, value: Any) -> NoReturn:
        raise NkiValidationError(
            "a tensor is not assigned to; use nisa.tensor_copy, nisa.memset or nisa.dma_copy with dst=", source=_GUIDE
        )

    def slice(self, dim: int, start: int, end: int, step: int = 1) -> NkiTensor:
        return self[tuple(slice(start, end, step) if d == dim else slice(None) for d in range(self._dim(dim) + 1))]

    def select(self, dim: int, index: Any) -> NkiTensor:
        if not isinstance(index, (int, np.integer)):
            if self._dim(dim) == 0 and self.on_chip:
                raise NkiValidationError("a dynamic select cannot choose the partition on chip", source=_GUIDE)
            chosen = self[tuple(0 if d == dim else slice(None) for d in range(dim + 1))]
            return chosen._indexed(_scalar_index(index), dim, self.strides[dim], self.shape[dim], False)
        return self[tuple(index if d == dim else slice(None) for d in range(self._dim(dim) + 1))]

    def permute(self, dims: Sequence[int]) -> NkiTensor:
        if sorted(dims) != list(range(self.ndim)):
            raise NkiValidationError(f"permute needs a permutation of 0..{self.ndim - 1}, got {dims}", source=_GUIDE)
        if self.on_chip and dims[0] != 0:
            raise NkiValidationError(f"permute keeps the partition first on chip, got {dims}", source=_GUIDE)
        return self._view(self.offset, [self.shape[d] for d in dims], [self.strides[d] for d in dims])

    def broadcast(self, dim: int, size: int) -> NkiTensor:
        self._free(dim, "broadcast")
        if self.shape[dim] != 1:
            raise NkiValidationError(f"broadcast needs size 1 in dimension {dim}, got {self.shape}", source=_GUIDE)
        shape, strides = list(self.shape), list(self.strides)
        shape[dim], strides[dim] = size, 0
        return self._view(self.offset, shape, strides)

    def expand_dim(self, dim: int) -> NkiTensor:
        if not 0 <= dim <= self.ndim or (self.on_chip and dim == 0):
            raise NkiValidationError(f"expand_dim({dim}) of {self}: not before the partition", source=_GUIDE)
        inner = self.strides[dim] * self.shape[dim] if dim < self.ndim else 1
        return self._view(
            self.offset, (*self.shape[:dim], 1, *self.shape[dim:]), (*self.strides[:dim], inner, *self.strides[dim:])
        )

    def squeeze_dim(self, dim: int) -> NkiTensor:
        self._free(dim, "squeeze_dim")
        if self.shape[dim] != 1:
            raise NkiValidationError(f"squeeze_dim needs size 1 in dimension {dim}, got {self.shape}", source=_GUIDE)
        self._keeps_rank(self.ndim - 1, "squeeze_dim")
        return self._view(
            self.offset, self.shape[:dim] + self.shape[dim + 1 :], self.strides[:dim] + self.strides[dim + 1 :]
        )

    def reshape_dim(self, dim: int, shape: Sequence[int]) -> NkiTensor:
        sizes = _infer(tuple(shape), self.shape[self._dim(dim)], "reshape_dim")
        if self.on_chip and dim == 0 and sizes != (self.shape[0],):
            raise NkiValidationError("reshape_dim cannot split the partition dimension", source=_GUIDE)
        inner = [s * self.strides[dim] for s in row_major(sizes)]
        return self._view(
            self.offset,
            (*self.shape[:dim], *sizes, *self.shape[dim + 1 :]),
            (*self.strides[:dim], *inner, *self.strides[dim + 1 :]),
        )

    def flatten_dims(self, start_dim: int, end_dim: int) -> NkiTensor:
        self._free(start_dim, "flatten_dims")
        if self._dim(end_dim) < start_dim:
            raise NkiValidationError(f"flatten_dims({start_dim}, {end_dim}) ends before it starts", source=_GUIDE)
        merged = math.prod(self.shape[start_dim : end_dim + 1])
        return self.reshape((*self.shape[:start_dim], merged, *self.shape[end_dim + 1 :]))

    def reshape(self, shape: Sequence[int]) -> NkiTensor:
        sizes = _infer(tuple(shape), self.size, "reshape")
        self._keeps_rank(len(sizes), "reshape")
        if self.on_chip and sizes[0] != self.shape[0]:
            raise NkiValidationError(
                f"reshape keeps the partition dimension on chip: {self.shape} cannot become {sizes}", source=_GUIDE
            )
        strides = _reshaped(self.shape, self.strides, sizes)
        if strides is None:
            raise NkiValidationError(
                f"reshape of {self.shape} with strides {self.strides} to {sizes} would need a copy", source=_GUIDE
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
            raise NkiValidationError("ap takes a scalar_offset or a vector_offset, not both", source=_GUIDE)
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
                f"ap {list(map(list, pattern))} at offset {start} leaves tensor {self.name!r} {allocation.shape} "
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
        fits = isinstance(index, NkiTensor) and index.buffer is SBUF and index.shape == (partitions, 1)
        if not fits or not index.dtype.is_int:
            raise NkiValidationError(f"vector_offset must be integers ({partitions}, 1) in SBUF, got {index!r}")

    def view(self, dtype: Any) -> NkiTensor:
        """The same bytes as another dtype; the last dimension is rescaled."""
        new = dtype_of(dtype)
        old_size, new_size = self.dtype.itemsize, new.itemsize
        last = self.shape[-1] * old_size
        steps = [self.offset, *[s for s, n in zip(self.strides[:-1], self.shape[:-1], strict=True) if n > 1]]
        apart = self.strides[-1] != 1 and self.shape[-1] > 1
        if apart or last % new_size or any(s * old_size % new_size for s in steps):
            raise NkiValidationError(
                f"view({new}) needs a contiguous last dimension that {new_size} bytes divide, got {self}", source=_GUIDE
            )
        self._check_reinterpretable()
        outer = [s * old_size // new_size for s in self.strides[:-1]]
        return self._view(self.offset * old_size // new_size, (*self.shape[:-1], last // new_size), (*outer, 1), new)

    reinterpret_cast = view

    def vector_select(self, dim: int, vector_offset: Any) -> NkiTensor:
        """Dimension 0 of an HBM tensor chosen by one index a partition."""
        partitions = vector_offset.shape[0] if isinstance(vector_offset, NkiTensor) else 0
        self._check_vector(vector_offset, partitions, dim)
        row = self._view(self.offset, (partitions, *self.shape[1:]), (0, *self.strides[1:]))
        return row._indexed(vector_offset, 0, self.strides[0], self.shape[0], True)

    def indirect(self, index: Any, num_elem: int | None = None) -> NoReturn:
        raise NotSimulated("NkiTensor.indirect (tensor indirection) is not simulated yet")

    def _dim(self, dim: int) -> int:
        if not 0 <= dim < self.ndim:
            raise OutOfBounds(f"dimension {dim} of {self}", source=_GUIDE)
        return dim

    def _keeps_rank(self, ndim: int, what: str) -> None:
        least = 2 if self.on_chip else 1
        if ndim < least:
            raise NkiValidationError(f"{what} of {self} would leave fewer than {least} dimensions", source=_GUIDE)

    def _check_reinterpretable(self) -> None:
        if self.storage.widened:
            raise NkiValidationError(f"{self}: the mode without rounding keeps no bits to see as another dtype")

    def _free(self, dim: int, what: str) -> None:
        if self._dim(dim) == 0 and self.on_chip:
            raise NkiValidationError(f"{what} cannot touch the partition dimension of {self}", source=_GUIDE)


def _scalar_index(index: Any) -> Any:
    """A dynamic index: a register, or an integer tensor of one element in SBUF."""
    if isinstance(index, NkiTensor) and not (index.size == 1 and index.buffer is SBUF and index.dtype.is_int):
        raise NkiValidationError(f"a dynamic index is a register or one integer in SBUF, got {index!r}", source=_GUIDE)
    return index


def _index(value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise NkiValidationError(
            f"an index must be an integer, a slice, nl.ds or ..., got {type(value).__name__}", source=_GUIDE
        ) from None


def _infer(shape: Shape, size: int, what: str) -> Shape:
    """`shape` with one -1 replaced, checked to hold `size` elements."""
    if shape.count(-1) == 1:
        rest = math.prod(s for s in shape if s != -1)
        shape = tuple(size // rest if s == -1 else s for s in shape) if rest else shape
    if math.prod(shape) != size or any(s < 1 for s in shape):
        raise NkiValidationError(f"{what} to {shape} does not hold the {size} elements there are", source=_GUIDE)
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


def _reach(start: int, strides: Sequence[int], shape: Sequence[int]) -> tuple[int, int]:
    """The lowest and highest element that a pattern touches."""
    steps = [s * (n - 1) for s, n in zip(strides, shape, strict=True)]
    return start + sum(s for s in steps if s < 0), start + sum(s for s in steps if s > 0)


def check_same_elements(a: NkiTensor, b: NkiTensor, what: str) -> None:
    """Both tiles have the same partitions and the same number of elements per partition."""
    if a.shape[0] != b.shape[0] or a.free_size != b.free_size:
        raise NkiValidationError(
            f"{what} need the same partitions and elements per partition, got {a.shape} and {b.shape}"
        )


def as_shape(values: Array, shape: Shape) -> Array:
    """`values` in another shape of as many elements (a view where possible)."""
    return values if values.shape == shape else np.reshape(values, shape)
