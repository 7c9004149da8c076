"""The memory an emulated kernel sees: one region an argument, far from every other, with nothing in between.

Triton's interpreter dereferences real addresses, so that a wrong offset reads a neighbour's bytes or kills the process.
Here a pointer is a number in an address space of its own: argument i lives in the middle of slot i, 2^40 bytes wide.
An offset of up to 2^39 bytes too far, in either direction, still tells which argument it came from, and no such
pointer is ever dereferenced: a load is a `numpy.take` from the argument's own buffer. That is also ten times faster
than the interpreter's loop over addresses.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from triptych.harness.arrays import Array
from triptych.harness.emulators.errors import OutOfBoundsError, ReadOnlyError

SLOT_BITS = 40


class Region:
    """The bytes of one argument, and where in the address space they lie."""

    def __init__(self, name: str, data: Array, address: int, writable: bool, of: str) -> None:
        """data: its bytes, flat; of: how a message describes it, "64 elements (shape (64,))"."""
        self.name, self.data, self.address, self.writable, self.of = name, data, address, writable, of
        self._views: dict[np.dtype[Any], Array] = {}

    def elements(self, dtype: np.dtype[Any]) -> Array:
        """The region as a flat array of `dtype`, which may differ from the argument's after a pointer cast."""
        if dtype not in self._views:
            whole = len(self.data) // dtype.itemsize * dtype.itemsize
            self._views[dtype] = self.data[:whole].view(dtype)
        return self._views[dtype]

    def __str__(self) -> str:
        return f"'{self.name}', which has {self.of}"


class Order:
    """Whether the order of a launch's programs matters: it may if one reads or writes what another one writes.

    Of what is read, the extent from the first to the last byte counts, so that the answer errs on one side.
    """

    def __init__(self) -> None:
        self.program = 0  # that runs, counted from 1
        self.matters = False
        self.written: dict[int, tuple[Region, Array]] = {}  # by address: the program that wrote each byte, 0 for none
        self._read: dict[int, list[tuple[int, int, int]]] = {}  # by address: program, first byte, byte after the last

    def reads(self, region: Region, index: Array, size: int) -> None:
        """The program reads elements of `size` bytes."""
        if region.writable:
            extent = self.program, int(index.min()) * size, (int(index.max()) + 1) * size
            self._read.setdefault(region.address, []).append(extent)

    def owners(self, region: Region) -> Array:
        """The program that wrote each byte of a region, 0 for none."""
        if region.address not in self.written:
            self.written[region.address] = region, np.zeros(len(region.data), np.int32)
        return self.written[region.address][1]

    def writes(self, region: Region, index: Array, size: int) -> None:
        """The program writes elements of `size` bytes."""
        owners = self.owners(region)
        whole = len(owners) // size * size
        elements = owners[:whole].reshape(-1, size)
        before = elements[index]
        self.matters = self.matters or bool(((before != 0) & (before != self.program)).any())
        elements[index] = self.program

    def end(self) -> None:
        """All programs have run."""
        for address in self._read.keys() & self.written.keys():
            owners = self.written[address][1]
            for program, first, end in self._read[address]:
                part = owners[first:end]
                self.matters = self.matters or bool(((part != 0) & (part != program)).any())


class Memory:
    """All regions of one run, found by address."""

    def __init__(self) -> None:
        self.regions: dict[int, Region] = {}
        self.address_of: Callable[[Any], int] = lambda tensor: int(tensor.data_ptr())
        self.order: Order | None = None  # of the launch that runs, if anybody asks
        self._slots = itertools.count(1)

    def add(self, name: str, data: Array, writable: bool, of: str) -> Region:
        """A region for these bytes, in a slot of its own."""
        slot = next(self._slots)
        address = (slot << SLOT_BITS) + (1 << (SLOT_BITS - 1))
        region = self.regions[slot] = Region(name, data, address, writable, of)
        return region

    def call(self, address: int, name: str) -> None:
        """Give a region that has no name yet that of the kernel's parameter."""
        region = self.regions.get(address >> SLOT_BITS)
        if region is not None:
            region.name = region.name or name

    def region_at(self, address: int) -> Region:
        return self.regions[address >> SLOT_BITS]

    def load(self, pointers: Array, mask: Array, other: Array | None, dtype: np.dtype[Any], where: str) -> Array:
        """`*pointers` where `mask` is on, else `other` (zero without one)."""
        full = bool(mask.all())
        active = pointers if full else pointers[mask]
        result = np.empty(active.shape, dtype)
        for region, lanes, index in self._resolve(active, dtype, "reads", where):
            if self.order is not None:
                self.order.reads(region, index, dtype.itemsize)
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
                raise ReadOnlyError(f"the kernel writes to its input '{region.name}'{where}{hint(region.name)}")
            if self.order is not None:
                self.order.writes(region, index, dtype.itemsize)
            region.elements(dtype)[index] = values[lanes]

    def addresses(self, pointers: Array, mask: Array, dtype: np.dtype[Any], where: str) -> Array:
        """The real addresses behind `pointers`, checked, for what must be done in place: atomics."""
        real = np.zeros(pointers.shape, np.uint64)
        active = np.zeros(int(mask.sum()), np.uint64)
        for region, lanes, index in self._resolve(pointers[mask], dtype, "updates", where):
            if not region.writable:
                raise ReadOnlyError(f"the kernel updates its input '{region.name}'{where}{hint(region.name)}")
            if self.order is not None:
                self.order.matters = True
            active[lanes] = np.uint64(region.data.ctypes.data) + index.astype(np.uint64) * np.uint64(dtype.itemsize)
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


def hint(name: str) -> str:
    """What to do about a write to an input."""
    return f": write to a copy of it, or declare the op with mutates=({name!r},) if it is meant to"


def described(size: int, shape: Sequence[int]) -> str:
    """How a message describes an array."""
    return f"{size} elements (shape {tuple(shape)})"
