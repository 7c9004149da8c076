"""NkiTensor: a strided view of storage. Views are free; nothing here moves data.

Where the elements lie is a layout (triptych.simulator.memory.layout). What is here is what a tensor keeps whatever view
is made of it: on-chip tensors have dimension 0, the partition, first and whole, and never fewer than two dimensions
(nki/get-started/nki-language-guide.rst; nki/api/nki/language/__init__.py, NkiTensor).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triptych.simulator.dtypes import F32, DType, dtype_of
from triptych.simulator.errors import NkiValidationError, OutOfBounds
from triptych.simulator.memory.layout import TENSOR_API, Layout, Shape, row_major
from triptych.simulator.memory.storage import PSUM, SBUF, MemoryRegion, Outside, Storage
from triptych.simulator.objects import NKIObject
from triptych.simulator.running import running
from triptych.simulator.tensors import arithmetic, views
from triptych.simulator.tensors.index import DynamicIndex, Gather, check_kept, entry_index, gather, rows, rows_stay
from triptych.simulator.tensors.patterns import access_pattern
from triptych.simulator.tensors.slicing import DynamicSlice, sliced
from triptych.simulator.tensors.tensor_repr import values_text
from triptych.simulator.tensors.truth import asserts_values
from triptych.simulator.trace import Region

Array = NDArray[Any]
_new, _make = object.__new__, tuple.__new__


class NkiTensor(NKIObject):
    """A view of HBM, SBUF or PSUM."""

    __slots__ = (
        "_array",
        "buffer",
        "dtype",
        "form",
        "index",
        "is_comparison",
        "layout",
        "offset",
        "on_chip",
        "region",
        "shape",
        "storage",
        "strides",
    )

    storage: Storage
    buffer: MemoryRegion
    on_chip: bool
    layout: Layout  # its fields are attributes too, which are read at every turn
    offset: int
    shape: Shape
    strides: Shape
    dtype: DType
    index: DynamicIndex | Gather | None  # read when an instruction uses the view; then it is no plain tensor yet
    is_comparison: bool  # whether a comparison of the language gave it, so that `assert` asks for its elements
    form: Any  # what a shape-only run knows a tensor by, once it was asked for
    region: Region  # the view as the trace names it

    def __init__(
        self,
        shape: Sequence[int],
        dtype: Any,
        storage: Storage,
        buffer: MemoryRegion = MemoryRegion.sbuf,
        name: str = "",
    ) -> None:
        """A dense tensor over `storage`; kernels make theirs with nl.ndarray."""
        shape = tuple(shape)
        self._set(storage, buffer, _make(Layout, (0, shape, row_major(shape), dtype_of(dtype))))

    @classmethod
    def at(cls, layout: Layout, storage: Storage, buffer: MemoryRegion) -> NkiTensor:
        """A view of `storage`, which keeps to no rule of views."""
        new = _new(cls)
        new._set(storage, buffer, layout)
        return new

    def _set(
        self,
        storage: Storage,
        buffer: MemoryRegion,
        layout: Layout,
        index: DynamicIndex | Gather | None = None,
        is_comparison: bool = False,
    ) -> None:
        self.storage = storage
        self.buffer = buffer
        self.on_chip = buffer is SBUF or buffer is PSUM
        self.layout = layout
        self.offset, self.shape, self.strides, self.dtype = offset, shape, strides, dtype = layout
        self.index = index
        self.is_comparison = is_comparison
        self.form = None
        # Region(...) without its Python-level constructor: a trace holds several for each instruction.
        self.region = _make(Region, (storage.allocation, offset, shape, strides, dtype))
        self._array: Array | None = None

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
    def address(self) -> tuple[int, int] | None:
        """(partition, byte) of the whole tensor where `address=` placed it (library/kernel-utils/allocator.rst)."""
        return self.storage.allocation.address

    @property
    def free_size(self) -> int:
        """Elements per partition."""
        return self.shape[1] if len(self.shape) == 2 else math.prod(self.shape[1:])

    def __repr__(self) -> str:
        return f"NkiTensor({self.name!r}, {self.shape}, {self.dtype}, {self.buffer.value})"

    def __str__(self) -> str:
        """What print shows: the tensor and the values that it holds now, which only a simulator knows."""
        return f"{self!r}\n{self.shown_values()}"

    def shown_values(self) -> str:
        """The values that it holds now, or why there are none."""
        if self.index is not None:
            return "(an index chooses its elements when an instruction uses it)"
        if not self.storage.has_data:
            return "(no values: this run has shapes alone)"
        values = self.f32() if self.dtype.kind == "f" else self.array
        return values_text(values, self.dtype, self.storage.written_at(self.layout))

    @property
    def base_tensor(self) -> NkiTensor:
        """The whole tensor that this is a view of, as it was allocated: an attribute of NKI 0.3 (nki-library)."""
        allocation = self.storage.allocation
        whole = NkiTensor(allocation.shape, allocation.dtype, self.storage, self.buffer)
        whole.is_comparison = self.is_comparison
        return whole

    @property
    def data(self) -> NkiTensor:
        """The tensor itself, as a grid's `data` is the tensor of its cells (NKI 0.7)."""
        return self

    def __len__(self) -> int:
        return self.shape[0]

    __eq__ = object.__eq__  # kernels compare tensors with None, and keep them in lists; what they hold is not known
    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        """True: the tensor is there. In an assertion on a comparison's result: every element of it holds."""
        if not asserts_values(self, self.is_comparison):
            return True
        self.check_written()
        return not self.storage.has_data or bool(np.all(self.array != 0))

    def is_contiguous(self) -> bool:
        """Whether the free dimensions (all dimensions in HBM) lie row-major without gaps."""
        return self.layout.is_contiguous(1 if self.on_chip else 0)

    def is_indirect(self) -> bool:
        """Whether an index that is read when an instruction runs moves the view."""
        return self.index is not None

    def get_pattern(self) -> list[list[int]]:
        """[[stride, count], ..] from the outermost dimension inwards."""
        return [[s, n] for s, n in zip(self.strides, self.shape, strict=True)]

    # Its data, for the engines

    @property
    def array(self) -> Array:
        """The elements, as a NumPy view of the storage."""
        if self.storage.pending is not None:
            self.storage.pending.open(self.storage)
        if self._array is None:
            self._array = self.storage.array(self.layout)
        return self._array

    def f32(self) -> Array:
        """The elements in float32, as every engine reads them. They may lie elsewhere: an engine writes to `array`."""
        if self.dtype.np is F32 and self.storage.pending is None:
            return self.array
        if self.dtype.kind == "x":
            raise NkiValidationError(f"{self!r} is packed: its elements are bits for nc_matmul_mx, not numbers")
        return self.storage.f32(self.layout)

    def check_written(self) -> None:
        if self.storage.missing:
            self.storage.check_written(self.layout)

    def wrote(self) -> None:
        self.storage.wrote(self.layout)

    def wrote_where(self, chosen: Array) -> None:
        self.storage.wrote_where(self.layout, chosen)

    # Views

    @property
    def keeps_rows(self) -> bool:
        """Whether dimension 0 stays first and whole: the partition on chip, or rows that each have an index."""
        return self.on_chip or (self.index is not None and self.index.vector)

    def _view(
        self, layout: Layout, index: DynamicIndex | Gather | None = None, error: OutOfBounds | None = None
    ) -> NkiTensor:
        """A view of this view, with its index or a new one; any use of it raises `error`, if given."""
        if self.index is not None:
            check_kept(self, self.index, layout, index)
            index = self.index
        elif index is not None:
            running().any_dynamic = True
        new = _new(NkiTensor)
        storage = self.storage if error is None else Outside(self.storage.allocation, error)
        new._set(storage, self.buffer, layout, index, self.is_comparison)
        return new

    def plain(self, layout: Layout) -> NkiTensor:
        """An ordinary view of the same storage: what a view with an index is at one moment."""
        return NkiTensor.at(layout, self.storage, self.buffer)

    # With what it calls also in C: triptych.simulator.compiled.
    def __getitem__(self, key: Any) -> NkiTensor:
        """Indices, slices, nl.ds and `...` as NumPy reads them; on chip the partition and two dimensions stay.

        A slice outside its dimension is an error; an empty one once an instruction uses it: where a kernel splits work,
        a core may get none.
        """
        if self.index is not None and self.index.vector:
            first = key[0] if type(key) is tuple and key else key
            if not isinstance(first, (slice, type(...), DynamicSlice)):
                raise rows_stay(self)
        layout, error = sliced(self, key)
        if error is not None or self.index is not None:
            return self._view(layout, error=error)
        new = _new(NkiTensor)
        new._set(self.storage, self.buffer, layout, None, self.is_comparison)
        return new

    def __setitem__(self, key: Any, value: Any) -> None:
        """Copy a tile into a view, by nisa.tensor_copy: `buffer[0:128, i] = nl.load(x[i])`."""
        if not (self.on_chip and isinstance(value, NkiTensor) and value.on_chip):
            raise NkiValidationError(
                f"only a tile is assigned, and to a tile; got {value!r} for {self!r}; use nisa.memset for a number and "
                "nisa.dma_copy or nl.store for HBM",
                source="nki/migration/index.rst",
            )
        running().issue("tensor_copy", dst=self[key], src=value)

    def slice(self, dim: int, start: int, end: int, step: int = 1) -> NkiTensor:
        """Entries start, start + step, .. below end of one dimension."""
        return self[(*[slice(None)] * views.check_dim(self, dim), slice(start, end, step))]

    def permute(self, dims: Sequence[int]) -> NkiTensor:
        """The dimensions in another order; the partition stays first on chip."""
        return self._view(views.permute(self, dims))

    def broadcast(self, dim: int, size: int) -> NkiTensor:
        """A dimension of size 1 repeated `size` times, with stride 0."""
        return self._view(views.broadcast(self, dim, size))

    def expand_dim(self, dim: int) -> NkiTensor:
        """A dimension of size 1 before `dim`; not before the partition."""
        return self._view(views.expand_dim(self, dim))

    def squeeze_dim(self, dim: int) -> NkiTensor:
        """Without a dimension of size 1."""
        return self._view(views.squeeze_dim(self, dim))

    def reshape_dim(self, dim: int, shape: Sequence[int]) -> NkiTensor:
        """One dimension split into `shape`, of which one size may be -1."""
        return self._view(views.reshape_dim(self, dim, shape))

    def flatten_dims(self, start_dim: int, end_dim: int) -> NkiTensor:
        """Dimensions start_dim to end_dim, both included, as one."""
        return self._view(views.flatten_dims(self, start_dim, end_dim))

    def reshape(self, shape: Sequence[int]) -> NkiTensor:
        """The same elements in row-major order as `shape`; refused where that would need a copy."""
        return self._view(views.reshape(self, shape))

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
        self._check_plain()
        return self._view(views.as_dtype(self, dtype_of(dtype)))

    reinterpret_cast = view

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
        self._check_plain()
        kind = self.dtype if dtype is None else dtype_of(dtype)
        return self._view(*access_pattern(self, pattern, offset or 0, kind, scalar_offset, vector_offset, indirect_dim))

    def select(self, dim: int, index: Any) -> NkiTensor:
        """Entry `index` of a dimension, which goes; a register or a tensor of one element is read when it is used."""
        before = [slice(None)] * views.check_dim(self, dim)
        if isinstance(index, (int, np.integer)):
            return self[(*before, index)]
        if dim == 0 and self.on_chip:
            raise NkiValidationError("a dynamic select cannot choose the partition on chip", source=TENSOR_API)
        chosen = self[(*before, 0)]
        return chosen._view(
            chosen.layout, entry_index(index, dim, self.strides[dim], self.shape[dim], not self.on_chip)
        )

    def vector_select(self, dim: int, vector_offset: Any) -> NkiTensor:
        """Dimension 0 of an HBM tensor chosen by one index a partition."""
        self._check_plain()
        return self._view(*rows(self, vector_offset, dim))

    def indirect(self, index: Any, num_elem: int | None = None) -> NkiTensor:
        """[P, num_elem]: the elements of each partition that the offsets in `index` choose, on NeuronCore-v4.

        An offset counts elements of the partition's free dimensions, which must lie without gaps: what it would count
        in a strided view is not documented.
        """
        self._check_plain()
        return self._view(*gather(self, index, num_elem))

    def _check_plain(self) -> None:
        if self.index is not None:
            raise NkiValidationError(
                f"{self!r} is indirect: it gets no other dtype, pattern or index", source=TENSOR_API
            )


for _name, _method in arithmetic.METHODS.items():
    setattr(NkiTensor, _name, _method)
