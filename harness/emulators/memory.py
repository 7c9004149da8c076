"""The memory an emulated kernel sees: one region an argument, far from every other, with nothing in between.

Triton's interpreter dereferences real addresses, so that a wrong offset reads a neighbour's bytes or kills the process.
Here a pointer is a number in an address space of its own: argument i lives in the middle of slot i, 2^40 bytes wide.
An offset of up to 2^39 bytes too far, in either direction, still tells which argument it came from, and no such
pointer is ever dereferenced: a load is a `numpy.take` from the argument's own buffer. That is also ten times faster
than the interpreter's loop over addresses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from triptych.harness.arrays import Array
from triptych.harness.emulators.errors import EmulationError, OutOfBoundsError, ReadOnlyError

SLOT_BITS = 40


class Region:
    """The bytes of one argument, and where in the address space they lie."""

    def __init__(self, name: str, array: Array, address: int, writable: bool) -> None:
        self.name, self.array, self.address, self.writable = name, array, address, writable
        extent = 1 + sum((n - 1) * (s // array.itemsize) for n, s in zip(array.shape, array.strides, strict=True))
        bits = array.view(f"u{array.itemsize}")  # NumPy strides no float8_e5m2
        flat = np.lib.stride_tricks.as_strided(bits, (extent if array.size else 0,), (array.itemsize,))
        self._bytes = flat.view(np.uint8)
        self._views: dict[np.dtype[Any], Array] = {}

    def elements(self, dtype: np.dtype[Any]) -> Array:
        """The region as a flat array of `dtype`, which may differ from the argument's after a pointer cast."""
        if dtype not in self._views:
            whole = len(self._bytes) // dtype.itemsize * dtype.itemsize
            self._views[dtype] = self._bytes[:whole].view(dtype)
        return self._views[dtype]

    def __str__(self) -> str:
        return f"'{self.name}', which has {self.array.size} elements (shape {tuple(self.array.shape)})"


class Memory:
    """All regions of one run, found by address."""

    def __init__(self) -> None:
        self.regions: dict[int, Region] = {}

    def tensor(self, name: str, array: Array, writable: bool) -> Tensor:
        """Register `array` and hand out the tensor that a launcher sees."""
        if any(s < 0 or s % array.itemsize for s in array.strides):
            if writable:
                raise EmulationError(f"'{name}' is written to and must have strides that are whole, positive elements")
            array = np.ascontiguousarray(array)
        slot = len(self.regions) + 1
        address = (slot << SLOT_BITS) + (1 << (SLOT_BITS - 1))
        self.regions[slot] = Region(name, array, address, writable)
        return Tensor(self, array, address)

    def shape_only(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Tensor:
        """A contiguous tensor that can be asked for its shape, strides and address, and not be read."""
        strides = np.cumprod((1, *shape[:0:-1]))[::-1] * dtype.itemsize
        bits = np.empty(1, f"u{dtype.itemsize}")
        array = np.lib.stride_tricks.as_strided(bits, shape, tuple(strides), writeable=False).view(dtype)
        slot = len(self.regions) + 1
        self.regions[slot] = Region(name, np.empty(0, dtype), slot << SLOT_BITS, writable=False)
        return Tensor(self, array, slot << SLOT_BITS)

    def load(self, pointers: Array, mask: Array, other: Array | None, dtype: np.dtype[Any], where: str) -> Array:
        """`*pointers` where `mask` is on, else `other` (zero without one)."""
        full = bool(mask.all())
        active = pointers if full else pointers[mask]
        result = np.empty(active.shape, dtype)
        for region, lanes, index in self._resolve(active, dtype, "reads", where):
            result[lanes] = region.elements(dtype).take(index)
        if full:
            return result
        padded = np.zeros(pointers.shape, dtype) if other is None else np.array(np.broadcast_to(other, pointers.shape))
        padded[mask] = result
        return padded

    def store(self, pointers: Array, values: Array, mask: Array, dtype: np.dtype[Any], where: str) -> None:
        """`*pointers = values` where `mask` is on."""
        active = pointers[mask]
        values = np.broadcast_to(values, pointers.shape)[mask].astype(dtype, copy=False)
        for region, lanes, index in self._resolve(active, dtype, "writes", where):
            if not region.writable:
                raise ReadOnlyError(f"the kernel writes to its input '{region.name}'{where}")
            region.elements(dtype)[index] = values[lanes]

    def addresses(self, pointers: Array, mask: Array, dtype: np.dtype[Any], where: str) -> Array:
        """The real addresses behind `pointers`, checked, for what must be done in place: atomics."""
        real = np.zeros(pointers.shape, np.uint64)
        active = np.zeros(int(mask.sum()), np.uint64)
        for region, lanes, index in self._resolve(pointers[mask], dtype, "updates", where):
            if not region.writable:
                raise ReadOnlyError(f"the kernel updates its input '{region.name}'{where}")
            active[lanes] = np.uint64(region.array.ctypes.data) + index.astype(np.uint64) * np.uint64(dtype.itemsize)
        real[mask] = active
        return real

    def _resolve(self, pointers: Array, dtype: np.dtype[Any], verb: str, where: str) -> list[tuple[Region, Any, Array]]:
        """(region, lanes, element indices) of each argument that `pointers` lead into; almost always just one."""
        if not pointers.size:
            return []
        slots = sorted({int(pointers.min()) >> SLOT_BITS, int(pointers.max()) >> SLOT_BITS})
        if len(slots) == 1:
            return [self._index(slots[0], ..., pointers, dtype, verb, where)]
        each = pointers >> np.uint64(SLOT_BITS)
        return [
            self._index(int(s), lanes, pointers[lanes], dtype, verb, where)
            for s in np.unique(each)
            for lanes in [each == s]
        ]

    def _index(
        self, slot: int, lanes: Any, pointers: Array, dtype: np.dtype[Any], verb: str, where: str
    ) -> tuple[Region, Any, Array]:
        region = self.regions.get(slot)
        if region is None:
            raise OutOfBoundsError(f"the kernel {verb} through a pointer that belongs to no argument{where}")
        offset = (pointers - np.uint64(region.address)).view(np.int64)
        index = offset // dtype.itemsize if dtype.itemsize & (dtype.itemsize - 1) else offset >> _shift(dtype)
        low, high = int(index.min()), int(index.max())
        if low < 0 or high >= len(region.elements(dtype)):
            raise OutOfBoundsError(f"the kernel {verb} element {low if low < 0 else high} of {region}{where}")
        return region, lanes, index


def _shift(dtype: np.dtype[Any]) -> int:
    return int(dtype.itemsize).bit_length() - 1


class Tensor:
    """A NumPy array with the few methods of a `torch.Tensor` that launchers use."""

    def __init__(self, memory: Memory, array: Array, address: int) -> None:
        self._memory, self._array, self._address = memory, array, address
        self.shape: tuple[int, ...] = tuple(array.shape)
        self.ndim = array.ndim
        self.dtype = array.dtype

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"the interpreter's stand-in for a tensor has no {name!r}; it has shape, dtype, stride() and what else a "
            "launcher asks: compute in the kernel"
        )

    def data_ptr(self) -> int:
        return self._address

    def element_size(self) -> int:
        return self._array.itemsize

    def numel(self) -> int:
        return self._array.size

    def size(self, dim: int) -> int:
        return self.shape[dim]

    def stride(self, dim: int | None = None) -> int | tuple[int, ...]:
        """Strides count elements, as PyTorch's do."""
        strides = tuple(s // self._array.itemsize for s in self._array.strides)
        return strides if dim is None else strides[dim]

    def is_contiguous(self) -> bool:
        return bool(self._array.flags.c_contiguous)

    def new_zeros(self, shape: Sequence[int], dtype: Any = None) -> Tensor:
        """Scratch for a launcher that needs some."""
        scratch = np.zeros(tuple(shape), self.dtype if dtype is None else np.dtype(dtype))
        return self._memory.tensor("scratch", scratch, writable=True)
