"""Storage behind tensors: raw bytes, and which of them have been written.

Memory that nothing has written is poisoned: it has no value, and reading it is an error that names the allocation. The
written state is one integer while a tensor is empty or full, and a mask of elements only in between.
"""

from __future__ import annotations

import enum
import functools
import math
import sys
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from triptych.simulator.dtypes import F32, DType
from triptych.simulator.errors import Uninitialized, show_line
from triptych.simulator.trace import Allocation

Array = NDArray[Any]
Strided = tuple[int, tuple[int, ...], tuple[int, ...]]  # offset, shape, strides


class MemoryRegion(enum.Enum):
    """Where a tensor lives (nki.language.MemoryRegion)."""

    sbuf = "sbuf"
    psum = "psum"
    private_hbm = "private_hbm"
    shared_hbm = "shared_hbm"

    @property
    def on_chip(self) -> bool:
        return self in _ON_CHIP


# Held outside the class: in Python 3.10 and 3.11 an enumeration's members are slow to reach through it.
SBUF, PSUM = MemoryRegion.sbuf, MemoryRegion.psum
_ON_CHIP = frozenset((SBUF, PSUM))


_SLAB = 16 << 20
_spare: list[Array] = []  # slabs of kernels that have ended, for the next one


class Pool:
    """Bytes for the on-chip tensors of one kernel: a dropped tensor's go to the next of its size.

    They are cut from slabs that outlive the kernel, because on a virtual machine a fresh page costs as much as many an
    instruction. A slab is large enough to lie in huge pages. Blocks do not all begin at one offset in a page, since a
    copy between equal offsets stalls.
    """

    def __init__(self) -> None:
        self._free: dict[int, list[Array]] = {}
        self._slabs: list[Array] = []
        self._end = _SLAB  # of what is taken of the last slab

    def take(self, nbytes: int) -> Array:
        free = self._free.get(nbytes)
        return free.pop() if free else self._cut(nbytes)

    def give(self, raw: Array) -> None:
        self._free.setdefault(raw.nbytes, []).append(raw)

    def _cut(self, nbytes: int) -> Array:
        if nbytes > _SLAB:
            return np.empty(nbytes, np.uint8)
        if self._end + nbytes > _SLAB:
            self._slabs.append(_spare.pop() if _spare else np.empty(_SLAB, np.uint8))
            self._end = 0
        start = self._end
        self._end += (nbytes + 127) // 64 * 64
        # By way of a memoryview: a view of a slice refers to the slab, and then nobody sees that the block is in use.
        return np.frombuffer(self._slabs[-1].data, np.uint8, nbytes, start)

    def __del__(self) -> None:
        self._free.clear()
        while self._slabs and len(_spare) < 4:
            slab = self._slabs.pop()
            if sys.getrefcount(slab) == 2:  # this name and getrefcount's: no view of a tensor outlives the kernel
                _spare.append(slab)


class Mask:
    """A truth value for each element of a storage, or for each byte once views of other element sizes use it."""

    __slots__ = ("bits", "unit")

    def __init__(self, nbytes: int, itemsize: int, value: bool) -> None:
        self.unit = itemsize
        self.bits: Array = (np.ones if value else np.zeros)(nbytes // itemsize, bool)

    def view(self, itemsize: int, at: Strided) -> Array:
        """The part that a view of elements of `itemsize` covers; in bytes, with one more axis, where units differ."""
        if itemsize != self.unit and self.unit != 1:
            self.bits = np.repeat(self.bits, self.unit)
            self.unit = 1
        offset, shape, strides = at
        if self.unit == itemsize:
            return np.ndarray(shape, bool, self.bits, offset, strides)
        return np.ndarray((*shape, itemsize), bool, self.bits, offset * itemsize, (*[s * itemsize for s in strides], 1))

    def count_false(self) -> int:
        return self.bits.size - int(np.count_nonzero(self.bits))


class Storage:
    """The bytes of one allocation.

    `widened` storage keeps a low-precision dtype in float32 (the mode without rounding); its element size is then 4.
    `missing` counts what was never written, in elements, or in bytes once views have other element sizes.
    """

    __slots__ = (
        "_f32",
        "_pool",
        "allocation",
        "dense",
        "itemsize",
        "mask",
        "missing",
        "np",
        "raw",
        "started",
        "widened",
    )

    has_data: ClassVar[bool] = True

    def __init__(self, allocation: Allocation, widen: bool, pool: Pool | None = None, raw: Array | None = None) -> None:
        self.allocation = allocation
        self.widened = widen and allocation.dtype.is_float and allocation.dtype.itemsize < 4
        self.np = F32 if self.widened else allocation.dtype.np
        self.itemsize = self.np.itemsize
        size = math.prod(allocation.shape)
        self.dense = row_major(allocation.shape)
        self._pool = pool
        if raw is None:
            raw = pool.take(size * self.itemsize) if pool else np.empty(size * self.itemsize, np.uint8)
            self.missing = size
        else:
            self.missing = 0
        self.raw: Array = raw
        self.mask: Mask | None = None
        self.started: Mask | bool = False  # PSUM: where the last to write was a matmul, so that the next may accumulate
        self._f32: dict[Strided, Array] = {}

    def __del__(self) -> None:
        # Two references are this object's and getrefcount's own; any more is a NumPy view that outlives the tensor.
        if self._pool is not None and sys.getrefcount(self.raw) == 2:
            self._pool.give(self.raw)

    def array(self, dtype: DType, at: Strided) -> Array:
        """The elements of a view, as a NumPy view of the raw bytes."""
        kind = self.np if self.widened else dtype.np
        offset, shape, strides = at
        n = kind.itemsize
        return np.ndarray(shape, kind, self.raw, offset * n, tuple([s * n for s in strides]))

    def f32(self, dtype: DType, at: Strided) -> Array:
        """The elements of a view as the engines see them: in float32. A low-precision view on chip is converted once.

        HBM is only read by DMA, once a transfer, and two arguments may share its bytes: nothing of it is kept.
        """
        if self.np == F32 and dtype.np == F32:
            return self.array(dtype, at)
        seen = self._f32.get(at)
        if seen is None or dtype != self.allocation.dtype:
            seen = self.array(dtype, at).astype(F32)
            if dtype == self.allocation.dtype and not self.allocation.buffer.endswith("hbm"):
                self._f32[at] = seen
        return seen

    # What has been written, and by whom

    def wrote(self, dtype: DType, at: Strided, by_matmul: bool = False) -> None:
        """Note that a view was written."""
        if self._f32:
            self._f32.clear()
        if self.started is not by_matmul:
            self.mark_started(dtype, at, by_matmul)
        if self.missing == 0:
            return
        if self.mask is None and self._covers(dtype, at):
            self.missing = 0
            return
        mask, view = self._mask(dtype, at)
        self.missing -= view.size - int(np.count_nonzero(view))
        overlapping = at[2] != self.dense and overlaps(at[1], at[2])
        view[...] = True
        if overlapping:
            self.missing = mask.count_false()
        if self.missing == 0:
            self.mask = None

    def wrote_where(self, dtype: DType, at: Strided, chosen: Array, by_matmul: bool = False) -> None:
        """Note that of a view only the elements where `chosen` is true were written."""
        if self._f32:
            self._f32.clear()
        if self.started is not by_matmul:
            self.mark_started(dtype, at, by_matmul, chosen)
        if self.missing == 0 or not chosen.any():
            return
        mask, view = self._mask(dtype, at)
        view[chosen] = True
        self.missing = mask.count_false()
        if self.missing == 0:
            self.mask = None

    def mark_started(self, dtype: DType, at: Strided, value: bool, chosen: Array | None = None) -> None:
        """Note that a matmul wrote a view last (True), or something else did (False)."""
        if chosen is None and self._covers(dtype, at):
            self.started = value
            return
        if isinstance(self.started, bool):
            self.started = Mask(self.raw.nbytes, self._size(dtype), self.started)
        self.started.view(self._size(dtype), at)[... if chosen is None else chosen] = value

    def started_at(self, dtype: DType, at: Strided) -> Array | bool:
        """Where in a view a matmul wrote last: everywhere, nowhere, or a mask."""
        if isinstance(self.started, bool):
            return self.started
        return summary(self.started.view(self._size(dtype), at), at)

    def written_at(self, dtype: DType, at: Strided) -> Array | bool:
        """Where in a view anything has been written: everywhere, nowhere, or a mask."""
        if self.missing == 0 or self.mask is None:
            return self.missing == 0
        return summary(self._mask(dtype, at)[1], at)

    def through_this(self, dtype: DType, at: Strided) -> tuple[Array | bool, Array | bool]:
        """Where in a PSUM view a matmul wrote last, and where anything has been written, through this tensor."""
        started = self.started_at(dtype, at)
        return started, started is True or self.written_at(dtype, at)

    def first_missing(self) -> tuple[int, int]:
        """The first element never written, and how many elements are not wholly written."""
        if self.mask is None:
            return 0, self.raw.nbytes // self.itemsize if self.missing else 0
        elements = self.mask.bits.reshape(self.raw.nbytes // self.itemsize, -1).all(axis=1)
        return int(np.argmin(elements)), elements.size - int(np.count_nonzero(elements))

    def _size(self, dtype: DType) -> int:
        return self.itemsize if self.widened else dtype.itemsize

    def _covers(self, dtype: DType, at: Strided) -> bool:
        """Whether a view is all of the storage."""
        return math.prod(at[1]) * self._size(dtype) == self.raw.nbytes and (
            at[2] == self.dense or not overlaps(at[1], at[2])
        )

    def _mask(self, dtype: DType, at: Strided) -> tuple[Mask, Array]:
        """The mask of what was written, made if need be, and the part of a view; `missing` follows its unit."""
        if self.mask is None:
            self.mask = Mask(self.raw.nbytes, self._size(dtype), False)
            self.missing = self.mask.bits.size
        before = self.mask.unit
        view = self.mask.view(self._size(dtype), at)
        self.missing *= before // self.mask.unit
        return self.mask, view

    def check_written(self, dtype: DType, at: Strided) -> None:
        """Raise Uninitialized if any element of a view was never written."""
        if self.missing == 0:
            return
        if self.mask is None:
            raise uninitialized(self.allocation, np.zeros(at[1], bool))
        written = elements_of(self._mask(dtype, at)[1], at)
        if not written.all():
            raise uninitialized(self.allocation, written)


class Outside(Storage):
    """What a view that leaves its tensor shows: nothing, and any use of it raises `error`."""

    __slots__ = ("error",)

    def __init__(self, allocation: Allocation, error: Exception) -> None:
        self.allocation = allocation
        self.error = error

    def __getattr__(self, name: str) -> Any:
        raise self.error

    def __del__(self) -> None:
        """It owns no bytes."""


def uninitialized(a: Allocation, written: Array) -> Uninitialized:
    """The error of reading a view of an allocation of which only the elements `written` have been written."""
    gaps = np.argwhere(~written)
    return Uninitialized(
        f"reads {len(gaps)} of {written.size} elements that nothing has written, first at {gaps[0].tolist()} of the "
        f"view of {a.buffer} tensor {a.name!r} {a.shape} allocated at {show_line(a.line)}; write them first "
        "(nl.ndarray leaves memory as it was)",
        source="nki/guides/nki_simulator.rst, Uninitialized Memory Detection",
    )


def elements_of(view: Array, at: Strided) -> Array:
    """A mask in bytes as one in elements: those whose every byte is true."""
    whole: Array = view if view.ndim == len(at[1]) else np.all(view, axis=-1)
    return whole


def summary(view: Array, at: Strided) -> Array | bool:
    """A mask of a view's elements as True, False or, where it is mixed, as it is."""
    whole = elements_of(view, at)
    return True if whole.all() else whole.copy() if whole.any() else False


@functools.lru_cache(4096)
def row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides, in elements, of a dense tensor."""
    strides = [1] * len(shape)
    for i in range(len(shape) - 2, -1, -1):
        strides[i] = strides[i + 1] * shape[i + 1]
    return tuple(strides)


@functools.lru_cache(4096)
def overlaps(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether two indices of a view may name one element (a zero stride, or a hand-made pattern that folds back)."""
    reach = 0
    for stride, size in sorted((abs(s), n) for s, n in zip(strides, shape, strict=True) if n > 1):
        if stride <= reach:
            return True
        reach += stride * (size - 1)
    return False
