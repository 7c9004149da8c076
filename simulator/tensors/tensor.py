"""NkiTensor: a strided view of storage. Views are free; nothing here moves data.

Slicing is here; the other views are in triptych.simulator.tensors.views, patterns and dynamic indices in .access.

Element (i0, i1, ..) of a view lies at offset + sum(strides[k] * ik) of its storage, in elements of the view's dtype.
On-chip tensors keep dimension 0, the partition, first and whole, and never have fewer than two dimensions
(nki/get-started/nki-language-guide.rst; nki/api/nki/language/__init__.py, NkiTensor).
"""

from __future__ import annotations

import functools
import linecache
import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triptych.simulator.dtypes import F32, DType, dtype_of
from triptych.simulator.errors import NkiValidationError, OutOfBounds, kernel_line
from triptych.simulator.memory.storage import PSUM, SBUF, MemoryRegion, Outside, Storage, row_major
from triptych.simulator.running import is_running, running
from triptych.simulator.tensors.access import AccessPatterns, Columns, Dynamic
from triptych.simulator.tensors.showing import values
from triptych.simulator.tensors.views import GUIDE, Shape
from triptych.simulator.trace import Region

Array = NDArray[Any]
_new, _make = object.__new__, tuple.__new__


@functools.lru_cache(1 << 16)
def _one(sizes: Shape) -> Shape:
    """One tuple for all that are equal: views are many, and those in a trace stay."""
    return sizes


class DynamicSlice:
    """`nl.ds(start, size)`: the elements start, start + 1, .., start + size - 1."""

    def __init__(self, start: int, size: int) -> None:
        self.start = start
        self.size = size


class NkiTensor(AccessPatterns):
    """A view of HBM, SBUF or PSUM."""

    __slots__ = (
        "_array",
        "at",
        "buffer",
        "dtype",
        "form",
        "offset",
        "on_chip",
        "region",
        "shape",
        "storage",
        "strides",
    )

    storage: Storage
    dtype: DType
    buffer: MemoryRegion
    on_chip: bool
    offset: int
    shape: Shape
    strides: Shape
    at: tuple[int, Shape, Shape]  # offset, shape and strides: what storage needs to find the elements
    form: Any  # what a run without data knows a tensor by, once it was asked for
    region: Region  # the view as the trace names it
    dynamic: Dynamic | Columns | None = None  # an index that is read when an instruction uses the view
    is_comparison: bool = False  # whether a comparison of the language gave it, so that `assert` asks for its elements

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
        dense = storage.dense if shape == storage.allocation.shape else row_major(shape)
        self._set(storage, dtype_of(dtype), buffer, 0, shape, dense)

    @classmethod
    def dense(cls, storage: Storage, dtype: DType, buffer: MemoryRegion) -> NkiTensor:
        """All of `storage`."""
        new = _new(cls)
        new._set(storage, dtype, buffer, 0, storage.allocation[3], storage.dense)
        return new

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
        self.form = None
        # Region(...) without its Python-level constructor: a trace holds several for each instruction.
        self.region = _make(Region, (storage.allocation, offset, shape, strides, dtype))
        self._array: Array | None = None

    def _view(self, offset: int, shape: Sequence[int], strides: Sequence[int], dtype: DType | None = None) -> NkiTensor:
        new = _new(NkiTensor)
        new._set(self.storage, dtype or self.dtype, self.buffer, offset, _one(tuple(shape)), _one(tuple(strides)))
        if self.is_comparison:
            new.is_comparison = True
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

    def __str__(self) -> str:
        """What print shows: the tensor and the values that it holds now, which only a simulator knows."""
        return f"{self!r}\n{values(self)}"

    @property
    def base_tensor(self) -> NkiTensor:
        """The whole tensor that this is a view of, as it was allocated: an attribute of NKI 0.3 (nki-library)."""
        allocation = self.storage.allocation
        whole = NkiTensor(allocation.shape, allocation.dtype, self.storage, self.buffer)
        whole.is_comparison = self.is_comparison
        return whole

    def __len__(self) -> int:
        return self.shape[0]

    __eq__ = object.__eq__  # kernels compare tensors with None, and keep them in lists; what they hold is not known
    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        """True: the tensor is there. A note says so, for its values are not known while a kernel is built.

        AWS's kernels ask in this way whether an optional operand was given (nki-library, core/mlp/mlp_tkg). What a
        comparison gives is asked for otherwise: 43 examples of the API say `assert nl.equal(c, expected)`
        (nki/api/nki/language/__init__.py). Such an assertion holds here if every element does, as nki.simulate knows
        them too; a branch on it is an error, because a compiler cannot take it.
        """
        line = kernel_line()
        statement = linecache.getline(*line).lstrip()
        compared = self.is_comparison and is_running()
        if statement.startswith("while ") or (compared and statement and not statement.startswith("assert")):
            raise NkiValidationError(
                f"a branch on {self!r}: what a tensor holds is not known while a kernel is built; loop on a "
                "register, or choose elements with nl.where",
                source="nki/get-started/nki-language-guide.rst",
            )
        if not compared:
            if is_running():
                running().note(f"the truth of {self!r} is that it is there, not what it holds; write `!= None`", line)
            return True
        running().note("an assertion on what a tensor holds is checked in simulation only", line)
        self.check_written()
        return not self.storage.has_data or bool(np.all(self.array != 0))

    def is_contiguous(self) -> bool:
        """Whether the free dimensions (all dimensions in HBM) lie row-major without gaps."""
        first = 1 if self.on_chip else 0
        dims = list(zip(self.shape, self.strides, row_major(self.shape), strict=True))
        return all(n == 1 or stride == dense for n, stride, dense in dims[first:])

    def is_indirect(self) -> bool:
        """Whether an index that is read when an instruction runs moves the view."""
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
        """Indices, slices, nl.ds and `...` as NumPy reads them; on chip the partition and two dimensions stay.

        A slice outside its dimension is an error; an empty one once an instruction uses it: where a kernel splits work,
        a core may get none.
        """
        keys = key if type(key) is tuple else (key,)
        sizes, steps = self.shape, self.strides
        if len(keys) != len(sizes):
            keys = self._expand(keys)
        on_chip = self.on_chip
        offset = self.offset
        shape: list[int] = []
        strides: list[int] = []
        empty: OutOfBounds | None = None
        for dim, k in enumerate(keys):
            n, stride = sizes[dim], steps[dim]
            if type(k) is slice:
                start, stop, step = k.start, k.stop, k.step
                start = 0 if start is None else start if type(start) is int else _index(start)
                stop = n if stop is None else stop if type(stop) is int else _index(stop)
                if step is None:
                    if not 0 <= start < stop <= n:
                        start, stop = start + n * (start < 0), stop + n * (stop < 0)
                        if not 0 <= start < stop <= n:
                            empty = self._outside(start, stop, 1, dim)
                    offset += start * stride
                    shape.append(stop - start)
                    strides.append(stride)
                    continue
                start, stop, step = start + n * (start < 0), stop + n * (stop < 0), _index(step)
            elif type(k) is DynamicSlice:
                start, stop, step = _index(k.start), _index(k.start) + _index(k.size), 1
            elif k is Ellipsis:
                return self[self._expand(keys)]
            else:
                at = _index(k)
                at += n * (at < 0)
                if not 0 <= at < n:
                    raise OutOfBounds(f"index {k} is outside dimension {dim} of {self!r}", source=GUIDE)
                offset += at * stride
                if on_chip and dim == 0:
                    shape.append(1)
                    strides.append(stride)
                continue
            if not (0 <= start < stop <= n and step >= 1):
                empty = self._outside(start, stop, step, dim)
            if step > 1 and on_chip and dim == 0:
                raise NkiValidationError(
                    f"a step of {step} over partitions: the hardware does not stride over dimension 0", source=GUIDE
                )
            offset += start * stride
            shape.append((stop - start + step - 1) // step)
            strides.append(stride * step)
        least = 2 if on_chip else 1
        while len(shape) < least:
            shape.append(1)
            strides.append(1)
        view = self._view(offset, shape, strides)
        if empty is not None:
            view.storage = Outside(self.storage.allocation, empty)
        return view

    def _outside(self, start: int, stop: int, step: int, dim: int) -> OutOfBounds:
        """The error of a slice that is not inside a dimension: raised, unless the slice is only empty."""
        n = self.shape[dim]
        error = OutOfBounds(
            f"slice {start}:{stop}:{step} of dimension {dim} needs 0 <= start < stop <= {n} and "
            f"step >= 1 (tensor {self!r}); clip a ragged edge with min()",
            source=GUIDE,
        )
        if 0 <= start == stop <= n and step >= 1:
            return error
        raise error

    def _expand(self, keys: tuple[Any, ...]) -> tuple[Any, ...]:
        """`keys` with Ellipsis and missing trailing dimensions written out."""
        dots = [i for i, k in enumerate(keys) if k is Ellipsis]
        fill = len(self.shape) - (len(keys) - len(dots))
        if fill < 0 or len(dots) > 1:
            raise OutOfBounds(f"{len(keys)} indices for the {self.ndim} dimensions of {self!r}", source=GUIDE)
        at = dots[0] if dots else len(keys)
        return (*keys[:at], *[slice(None)] * fill, *keys[at + len(dots) :])

    def __setitem__(self, key: Any, value: Any) -> None:
        """Copy a tile into a view, by nisa.tensor_copy: `buffer[0:128, i] = nl.load(x[i])`."""
        if not (self.on_chip and isinstance(value, NkiTensor) and value.on_chip):
            raise NkiValidationError(
                f"only a tile is assigned, and to a tile; got {value!r} for {self!r}; use nisa.memset for a number and "
                "nisa.dma_copy or nl.store for HBM",
                source="nki/migration/index.rst",
            )
        running().issue("tensor_copy", dst=self[key], src=value)


def _index(value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise NkiValidationError(
            f"an index must be an integer, a slice, nl.ds or ..., got {type(value).__name__}", source=GUIDE
        ) from None


def as_shape(values: Array, shape: Shape) -> Array:
    """`values` in another shape of as many elements (a view where possible)."""
    return values if values.shape == shape else np.reshape(values, shape)
