"""Shared memory of a program, and the tiles of global memory that TMA copies to and from it."""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any

import numpy as np

from triptych.harness.arrays import Array
from triptych.harness.emulators.errors import EmulationError, ReadOnlyError
from triptych.harness.emulators.gluon.machine import Barrier, Machine
from triptych.harness.emulators.gluon.values import Block, block, numpy_dtype
from triptych.harness.emulators.memory import Memory, hint


class Shared:
    """A descriptor of shared memory: a view of an allocation."""

    def __init__(self, machine: Machine, array: Array, dtype: Any) -> None:
        self.machine, self.array, self.dtype = machine, array, dtype
        self.type = types.SimpleNamespace(shape=list(array.shape), element_ty=dtype)

    @property
    def shape(self) -> list[int]:
        return list(self.array.shape)

    def _view(self, array: Array) -> Shared:
        return Shared(self.machine, array, self.dtype)

    def index(self, i: int) -> Shared:
        if not 0 <= i < len(self.array):
            raise EmulationError(f"index {int(i)} of shared memory that has {len(self.array)} places")
        return self._view(self.array[int(i)])

    def slice(self, start: int, length: int, dim: int = 0) -> Shared:
        if not 0 <= start <= start + length <= self.array.shape[dim]:
            raise EmulationError(f"slice {int(start)} to {int(start + length)} of {self.array.shape[dim]}")
        return self._view(self.array[(slice(None),) * dim + (slice(int(start), int(start + length)),)])

    def reshape(self, shape: Sequence[int]) -> Shared:
        array = self.array.reshape([int(n) for n in shape])
        if not np.may_share_memory(array, self.array):
            raise EmulationError(f"shared memory of shape {self.shape} has no view of shape {list(shape)}")
        return self._view(array)

    def permute(self, order: Sequence[int]) -> Shared:
        return self._view(self.array.transpose([int(n) for n in order]))

    def load(self, layout: Any = None) -> Block:
        self.machine.check(self.array, writes=False, what="a load by threads")
        return block(self.array.copy())

    def store(self, value: Any) -> None:
        self.machine.check(self.array, writes=True, what="a store by threads")
        if tuple(value.shape) != self.array.shape or value.dtype != self.array.dtype:
            raise EmulationError(
                f"a block of {value.dtype}{list(value.shape)} is stored to {self.array.dtype}{self.shape}"
            )
        self.array[...] = value
        self.machine.unfenced.append((self.machine.current, self.array))


class Barriers:
    """Shared memory that holds barriers."""

    def __init__(self, barriers: Any) -> None:
        self.barriers = barriers

    def index(self, i: int) -> Any:
        if not 0 <= i < len(self.barriers):
            raise EmulationError(f"index {int(i)} of {len(self.barriers)} barriers")
        found = self.barriers[int(i)]
        return found if isinstance(found, Barrier) else Barriers(found)


def allocated(machine: Machine, dtype: Any, shape: Sequence[int], value: Any = None) -> Shared:
    """Shared memory that holds NaN, or a value."""
    array = np.full([int(n) for n in shape], np.nan if numpy_dtype(dtype).kind in "fV" else 0, numpy_dtype(dtype))
    if value is not None:
        array[...] = value
    return Shared(machine, array, numpy_dtype(dtype))


class Descriptor:
    """A tensor in global memory, of which TMA copies blocks; what a block has beyond its ends is zero, or not written.

    base: its address in `memory`. strides: in elements.
    """

    def __init__(self, memory: Memory, name: str, base: int, described: Any) -> None:
        self.name = name
        self.dtype = numpy_dtype(str(described.base.dtype).removeprefix("torch."))
        self.shape = [int(n) for n in described.shape]
        self.block_shape = [int(n) for n in described.block_shape]
        self.layout = described.layout
        self.block_type = types.SimpleNamespace(shape=self.block_shape, element_ty=self.dtype)
        self.nbytes_per_cta = int(np.prod(self.block_shape)) * self.dtype.itemsize
        memory.call(base, name)
        self.region = memory.region_at(base)
        elements = self.region.elements(self.dtype)[(base - self.region.address) // self.dtype.itemsize :]
        extent = 1 + sum((n - 1) * s for n, s in zip(self.shape, described.strides, strict=True))
        if extent > len(elements):
            raise EmulationError(f"a descriptor of shape {self.shape} reaches beyond the end of {self.region}")
        steps = [int(s) * self.dtype.itemsize for s in described.strides]
        bits = elements.view(f"u{self.dtype.itemsize}")
        self._tensor = np.lib.stride_tricks.as_strided(bits, self.shape, steps)

    def _inside(self, at: Sequence[int]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """Of a block that begins at `at`: what of the tensor it holds, and where in the block that is."""
        if len(at) != len(self.shape):
            raise EmulationError(f"{len(at)} coordinates of {self.name}, which has {len(self.shape)} axes")
        ends = zip(at, self.block_shape, self.shape, strict=True)
        spans = [(max(int(i), 0), max(min(int(i) + n, most), 0)) for i, n, most in ends]
        tensor = tuple(slice(low, max(low, high)) for low, high in spans)
        block_ = tuple(slice(s.start - int(i), s.stop - int(i)) for s, i in zip(tensor, at, strict=True))
        return tensor, block_

    def read(self, at: Sequence[int]) -> Array:
        tensor, inside = self._inside(at)
        found = np.zeros(self.block_shape, f"u{self.dtype.itemsize}")
        if all(s.stop > s.start for s in tensor):
            found[inside] = self._tensor[tensor]
        return found.view(self.dtype)

    def write(self, at: Sequence[int], values: Array) -> None:
        if not self.region.writable:
            raise ReadOnlyError(f"the kernel writes to its input '{self.name}'{hint(self.name)}")
        tensor, inside = self._inside(at)
        if all(s.stop > s.start for s in tensor):
            self._tensor[tensor] = values.view(f"u{self.dtype.itemsize}")[inside]
