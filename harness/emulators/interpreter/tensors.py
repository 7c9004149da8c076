"""What a launcher holds where PyTorch is not used: a NumPy array with the methods of a tensor that launchers ask."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from triptych.harness.arrays import Array
from triptych.harness.emulators.errors import EmulationError, NotEmulated
from triptych.harness.emulators.memory import Memory, described
from triptych.harness.unwritten import fill


class Lacking(NotEmulated, AttributeError):
    """A launcher asks for what only a tensor of PyTorch has."""


class Device:
    """The device that a launcher's tensors are told to be on."""

    type, index = "cuda", 0

    def __str__(self) -> str:
        return "cuda:0"


class Tensor:
    """A NumPy array with the few methods of a `torch.Tensor` that launchers use."""

    is_cuda = True
    device = Device()

    def __init__(self, memory: Memory, array: Array, address: int) -> None:
        self._memory, self._array, self._address = memory, array, address
        self.shape: tuple[int, ...] = tuple(array.shape)
        self.ndim = array.ndim
        self.dtype = array.dtype

    def __getattr__(self, name: str) -> Any:
        raise Lacking(f"the stand-in for a tensor has no {name!r}, which PyTorch's have: pip install torch")

    def data_ptr(self) -> int:
        return self._address

    def element_size(self) -> int:
        return self._array.itemsize

    def numel(self) -> int:
        return self._array.size

    def dim(self) -> int:
        return self.ndim

    def size(self, dim: int | None = None) -> int | tuple[int, ...]:
        return self.shape if dim is None else self.shape[dim]

    def stride(self, dim: int | None = None) -> int | tuple[int, ...]:
        """Strides count elements, as PyTorch's do."""
        strides = tuple(s // self._array.itemsize for s in self._array.strides)
        return strides if dim is None else strides[dim]

    def is_contiguous(self) -> bool:
        return bool(self._array.flags.c_contiguous)

    def contiguous(self) -> Tensor:
        return self if self.is_contiguous() else add_array(self._memory, "scratch", self._array.copy(), writable=True)

    def view(self, *shape: Any) -> Tensor:
        """The same memory in another shape."""
        sizes = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], Sequence) else shape
        if not self.is_contiguous() or not all(isinstance(n, int) for n in sizes):
            raise Lacking("the stand-in for a tensor views a contiguous one in another shape alone: pip install torch")
        return Tensor(self._memory, self._array.reshape(sizes), self._address)

    reshape = view

    def zero_(self) -> Tensor:
        return self.fill_(0)

    def fill_(self, value: float) -> Tensor:
        if not self._memory.region_at(self._address).writable:
            raise EmulationError("the launcher writes to an input of its op")
        self._array[...] = value
        return self

    def new_empty(self, *shape: Any, dtype: Any = None, device: Any = None) -> Tensor:
        """Scratch that is poisoned: floats are NaN until they are written."""
        sizes = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], Sequence) else shape
        scratch = np.empty(sizes, self.dtype if dtype is None else np.dtype(str(dtype).removeprefix("torch.")))
        fill(scratch.reshape(-1).view(np.uint8), scratch.dtype)
        return add_array(self._memory, "scratch", scratch, writable=True)

    def new_zeros(self, *shape: Any, dtype: Any = None, device: Any = None) -> Tensor:
        return self.new_empty(*shape, dtype=dtype).zero_()


def add_array(memory: Memory, name: str, array: Array, writable: bool) -> Tensor:
    """Give `array` a place in memory and hand out the tensor that a launcher sees."""
    if any(s < 0 or s % array.itemsize for s in array.strides):
        if writable:
            raise EmulationError(f"'{name}' is written to and must have strides that are whole, positive elements")
        array = np.ascontiguousarray(array)
    region = memory.add(name, _flat(array), writable, described(array.size, array.shape))
    return Tensor(memory, array, region.address)


def _flat(array: Array) -> Array:
    """The bytes from an array's first element to its last."""
    extent = 1 + sum((n - 1) * (s // array.itemsize) for n, s in zip(array.shape, array.strides, strict=True))
    bits = array.view(f"u{array.itemsize}")  # NumPy strides no float8_e5m2
    flat: Array = np.lib.stride_tricks.as_strided(bits, (extent if array.size else 0,), (array.itemsize,))
    return flat.view(np.uint8)


def shape_only(memory: Memory, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Tensor:
    """A contiguous tensor that can be asked for its shape, strides and address, and not be read."""
    strides = [math.prod(shape[i + 1 :]) * dtype.itemsize for i in range(len(shape))]
    bits = np.empty(1, f"u{dtype.itemsize}")
    array = np.lib.stride_tricks.as_strided(bits, shape, strides, writeable=False).view(dtype)
    region = memory.add(name, np.empty(0, np.uint8), writable=False, of=described(0, shape))
    return Tensor(memory, array, region.address)
