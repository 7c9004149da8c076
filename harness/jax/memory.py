"""What a launcher holds while its launches are recorded: memory without storage, behind which stand values of JAX."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from triptych.harness.emulators.interpreter.tensors import Tensor
from triptych.harness.emulators.memory import Memory


class Values:
    """The memory of one launcher, by slots.

    held: the value of each slot that has one. writable: slots that a launch may write.
    """

    def __init__(self) -> None:
        self.held: dict[int, Any] = {}
        self.writable: set[int] = set()
        self.shapes: list[jax.ShapeDtypeStruct] = []

    def add(self, shape: Sequence[int], dtype: Any, value: Any, writable: bool) -> Abstract:
        """Memory with a value in it, or with none yet."""
        slot = len(self.shapes)
        self.shapes.append(jax.ShapeDtypeStruct(tuple(shape), np.dtype(dtype)))
        if value is not None:
            self.held[slot] = value
        if writable:
            self.writable.add(slot)
        return Abstract(self, slot, tuple(shape), np.dtype(dtype))

    def of(self, tensor: Abstract) -> Any:
        """What is in a tensor's memory."""
        shape = self.shapes[tensor.slot]
        return self.held.get(tensor.slot, jnp.zeros(shape.shape, shape.dtype))  # of a grid without programs


class Abstract(Tensor):
    """A contiguous tensor that can be asked for its shape and strides, and not be read."""

    def __init__(self, values: Values, slot: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        strides = [math.prod(shape[i + 1 :]) * dtype.itemsize for i in range(len(shape))]
        bits = np.empty(1, f"u{dtype.itemsize}")
        array = np.lib.stride_tricks.as_strided(bits, shape, strides, writeable=False).view(dtype)
        super().__init__(Memory(), array, 0)
        self.values, self.slot = values, slot

    def contiguous(self) -> Abstract:
        return self

    def data_ptr(self) -> int:
        """There is none before the program runs, as of PyTorch's tensors without storage: no descriptor can be made."""
        raise RuntimeError("a value of a program of JAX that is traced has no address")

    def view(self, *shape: Any) -> Abstract:
        """The same memory in another shape."""
        return Abstract(self.values, self.slot, self._array.reshape(sizes(shape)).shape, self.dtype)

    reshape = view

    def fill_(self, value: float) -> Abstract:
        whole = self.values.shapes[self.slot]
        self.values.held[self.slot] = jnp.full(whole.shape, value, whole.dtype)
        return self

    def new_empty(self, *shape: Any, dtype: Any = None, device: Any = None) -> Abstract:
        """Scratch."""
        named = self.dtype if dtype is None else np.dtype(str(dtype).removeprefix("torch."))
        return self.values.add(sizes(shape), named, None, writable=True)


def sizes(shape: tuple[Any, ...]) -> tuple[int, ...]:
    """Sizes that are given one by one, or as a tuple."""
    return tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], Sequence) else shape
