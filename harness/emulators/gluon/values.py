"""What a Gluon kernel computes with: scalars that divide as C does, and blocks of numbers with tensors' methods."""

from __future__ import annotations

import types
from typing import Any

import ml_dtypes
import numpy as np

from triptych.harness.arrays import Array
from triptych.harness.emulators.errors import NotEmulated

LEAST, MOST = -(2**31), 2**31 - 1


class Scalar(int):
    """An integer of 32 bits of a kernel. Division and remainder round towards zero, as the compiler's do."""

    def __new__(cls, value: int) -> Scalar:
        if not LEAST <= value <= MOST:
            raise NotEmulated(f"the integer {value} is beyond 32 bits, where the emulation of Gluon ends; try a GPU")
        return super().__new__(cls, value)

    def __add__(self, other: Any) -> Any:
        return _of(int(self) + other)

    def __sub__(self, other: Any) -> Any:
        return _of(int(self) - other)

    def __rsub__(self, other: Any) -> Any:
        return _of(other - int(self))

    def __mul__(self, other: Any) -> Any:
        return _of(int(self) * other)

    def __floordiv__(self, other: Any) -> Any:
        return _of(quotient(int(self), int(other)))

    def __mod__(self, other: Any) -> Any:
        return _of(int(self) - quotient(int(self), int(other)) * int(other))

    def __neg__(self) -> Any:
        return _of(-int(self))

    __radd__, __rmul__ = __add__, __mul__


def quotient(x: int, y: int) -> int:
    """x / y towards zero."""
    return abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)


def _of(value: Any) -> Any:
    return Scalar(value) if type(value) is int else value


class Block(np.ndarray):
    """A tensor of a kernel. Layouts say where its numbers lie, which changes none of them: they are not followed."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **named: Any) -> Any:
        """As NumPy does it; a scalar takes the block's dtype, as a number of Python does."""
        plain = (int(x) if isinstance(x, Scalar) else np.asarray(x) if isinstance(x, Block) else x for x in inputs)
        found = getattr(ufunc, method)(*plain, **named)
        return block(found) if isinstance(found, np.ndarray) else found

    def to(self, dtype: Any, bitcast: bool = False) -> Block:
        return block(self.view(numpy_dtype(dtype)) if bitcast else self.astype(numpy_dtype(dtype)))

    @property
    def type(self) -> Any:
        return types.SimpleNamespace(layout=None, shape=list(self.shape), scalar=self.dtype)

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError(f"a block of shape {self.shape} is neither true nor false: reduce it, or use gl.where")
        return bool(np.asarray(self).item())


def block(values: Any) -> Block:
    return np.asarray(values).view(Block)


NAMES = {"fp16": "float16", "fp32": "float32", "fp64": "float64", "int1": "bool"}
NARROW = {"bf16": ml_dtypes.bfloat16, "fp8e4nv": ml_dtypes.float8_e4m3fn, "fp8e5": ml_dtypes.float8_e5m2}


def numpy_dtype(dtype: Any) -> np.dtype[Any]:
    """NumPy's of a dtype of Triton's."""
    if isinstance(dtype, np.dtype):
        return dtype
    name = str(dtype)
    return np.dtype(NARROW[name] if name in NARROW else NAMES.get(name, name))


def as_float32(x: Any) -> Array:
    """What a tensor core multiplies: exactly the operand's numbers."""
    return np.asarray(x).astype(np.float32)
