"""Storage behind tensors: raw bytes, and which of them have been written.

Memory that nothing has written is poisoned: it has no value, and reading it is an error that names the allocation. The
written state is one integer while a tensor is empty or full, and a mask of elements only in between.
"""

from __future__ import annotations

import enum
import math
import sys
from collections.abc import Sequence
from typing import Any

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


class Pool:
    """Bytes of dropped tensors, for the next tensor of the same size: fresh pages cost more than most instructions."""

    def __init__(self) -> None:
        self._free: dict[int, list[Array]] = {}

    def take(self, nbytes: int) -> Array:
        free = self._free.get(nbytes)
        return free.pop() if free else np.empty(nbytes, np.uint8)

    def give(self, raw: Array) -> None:
        self._free.setdefault(raw.nbytes, []).append(raw)


class Storage:
    """The bytes of one allocation.

    `widened` storage keeps a low-precision dtype in float32 (the mode without rounding); its element size is then 4.
    `missing` counts the units never written; a unit is an element, or a byte once a view has another element size.
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
        "unit",
        "widened",
    )

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
        self.unit = self.itemsize
        self.mask: Array | None = None
        self.started: Array | bool = False  # PSUM: elements that a matmul has begun to accumulate into
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
        """The elements of a view as the engines see them: in float32. A low-precision view is converted once."""
        if self.np == F32 and dtype.np == F32:
            return self.array(dtype, at)
        seen = self._f32.get(at)
        if seen is None or dtype != self.allocation.dtype:
            seen = self.array(dtype, at).astype(F32)
            if dtype == self.allocation.dtype:
                self._f32[at] = seen
        return seen

    # What has been written

    def wrote(self, dtype: DType, at: Strided) -> None:
        """Note that a view was written."""
        if self._f32:
            self._f32.clear()
        if self.missing == 0:
            return
        itemsize = self.itemsize if self.widened else dtype.itemsize
        if (
            self.mask is None
            and math.prod(at[1]) * itemsize == self.raw.nbytes
            and (at[2] == self.dense or not _overlaps(at))
        ):
            self.missing = 0
            return
        if self.mask is None:
            self.unit = itemsize
            self.mask = np.zeros(self.raw.nbytes // itemsize, bool)
            self.missing = self.mask.size
        view = self._mask_view(itemsize, at)
        if _overlaps(at):
            view[...] = True
            self.missing = self.mask.size - int(np.count_nonzero(self.mask))
        else:
            self.missing -= view.size - int(np.count_nonzero(view))
            view[...] = True
        if self.missing == 0:
            self.mask = None

    def wrote_where(self, dtype: DType, at: Strided, chosen: Array) -> None:
        """Note that of a view only the elements where `chosen` is true were written."""
        if self._f32:
            self._f32.clear()
        if self.missing == 0 or not chosen.any():
            return
        itemsize = self.itemsize if self.widened else dtype.itemsize
        if self.mask is None:
            self.unit = itemsize
            self.mask = np.zeros(self.raw.nbytes // itemsize, bool)
        self._mask_view(itemsize, at)[chosen] = True
        self.missing = self.mask.size - int(np.count_nonzero(self.mask))
        if self.missing == 0:
            self.mask = None

    def check_written(self, dtype: DType, at: Strided) -> None:
        """Raise Uninitialized if any element of a view was never written."""
        if self.missing == 0:
            return
        total = math.prod(at[1])
        if self.mask is None:
            unwritten, first = total, (0,) * len(at[1])
        else:
            view = self._mask_view(self.itemsize if self.widened else dtype.itemsize, at)
            unwritten = view.size - int(np.count_nonzero(view))
            if unwritten == 0:
                return
            first = tuple(int(i) for i in np.argwhere(~view)[0])
        a = self.allocation
        raise Uninitialized(
            f"reads {unwritten} of {total} elements that nothing has written, first at {list(first)} of the view of "
            f"{a.buffer} tensor {a.name!r} {a.shape} allocated at {show_line(a.line)}; write them first (nl.ndarray "
            "leaves memory as it was)",
            source="nki/guides/nki_simulator.rst, Uninitialized Memory Detection",
        )

    def _mask_view(self, itemsize: int, at: Strided) -> Array:
        """The written-mask of a view; in bytes (one more axis) once element sizes differ."""
        assert self.mask is not None
        if itemsize != self.unit and self.unit != 1:
            self.mask = np.repeat(self.mask, self.unit)
            self.missing *= self.unit
            self.unit = 1
        offset, shape, strides = at
        if self.unit == itemsize:
            return np.ndarray(shape, bool, self.mask, offset, strides)
        return np.ndarray((*shape, itemsize), bool, self.mask, offset * itemsize, (*[s * itemsize for s in strides], 1))


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides, in elements, of a dense tensor."""
    strides = [1] * len(shape)
    for i in range(len(shape) - 2, -1, -1):
        strides[i] = strides[i + 1] * shape[i + 1]
    return tuple(strides)


def _overlaps(at: Strided) -> bool:
    """Whether two indices of a view may name one element (a zero stride, or a hand-made pattern that folds back)."""
    reach = 0
    for stride, size in sorted((abs(s), n) for s, n in zip(at[2], at[1], strict=True) if n > 1):
        if stride <= reach:
            return True
        reach += stride * (size - 1)
    return False
