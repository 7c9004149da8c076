"""Triton's interpreter without low-precision rounding: what tells a kernel's logic from its rounding.

Values of float16, bfloat16 and float8 are held in float32 from where they are loaded to where they are stored, and
float32 operands of `tl.dot` keep their digits, whatever `input_precision` lets the hardware drop.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime.interpreter import TensorHandle

from triptych.harness.arrays import Array
from triptych.harness.emulators.correction import FLOAT8, CorrectedBuilder
from triptych.harness.emulators.correction import np_dtype as stored_dtype
from triptych.harness.emulators.errors import NotEmulated


def is_narrow(dtype: Any) -> bool:
    """Whether values of a Triton dtype are floats of fewer than 32 bits."""
    return bool(dtype.scalar.is_floating() and dtype.scalar.primitive_bitwidth < 32)


def held_dtype(dtype: Any) -> np.dtype[Any]:
    """The NumPy dtype that holds values of a Triton dtype: float32 for narrower floats."""
    return np.dtype(np.float32) if is_narrow(dtype) else stored_dtype(dtype)


class WideBuilder(CorrectedBuilder):
    """The interpreter with every float in float32 at least, but in memory."""

    np_dtype = staticmethod(held_dtype)
    holds_wide = True

    def memory_dtype(self, dtype: Any) -> np.dtype[Any]:
        if dtype == tl.float8e4b15:
            raise NotEmulated("float8e4b15 has no counterpart in NumPy")
        return FLOAT8.get(dtype) or stored_dtype(dtype)

    def create_masked_load(self, ptrs: Any, mask: Any, other: Any, *policy: Any, **named: Any) -> Any:
        loaded = super().create_masked_load(ptrs, mask, other, *policy, **named)
        return TensorHandle(loaded.data.astype(held_dtype(loaded.dtype), copy=False), loaded.dtype)

    def create_fp_to_fp(self, src: Any, dst_type: Any, rounding_mode: Any) -> Any:
        return self.cast_impl(src, dst_type)

    def create_bitcast(self, src: Any, dst_type: Any) -> Any:
        """The bits are those that memory would hold: of a narrow float, rounded."""
        if not (is_narrow(src.dtype) or is_narrow(dst_type)):
            return super().create_bitcast(src, dst_type)
        stored = src.data.astype(self.memory_dtype(src.dtype.scalar))
        read = stored.view(self.memory_dtype(dst_type.scalar))
        return TensorHandle(read.astype(held_dtype(dst_type)), dst_type.scalar)

    def create_dot(self, a: Any, b: Any, d: Any, input_precision: Any, max_num_imprecise_acc: Any) -> Any:
        if not a.dtype.scalar.is_floating():
            return super().create_dot(a, b, d, input_precision, max_num_imprecise_acc)
        return TensorHandle(np.matmul(a.data, b.data) + d.data, d.dtype.scalar)

    def numbers(self, x: Any) -> Array:
        held: Array = x.data
        return held

    def _in_place(self, ptr: Any, mask: Any) -> Any:
        if held_dtype(ptr.get_element_ty()) != self.memory_dtype(ptr.get_element_ty()):
            raise NotEmulated(f"atomics round in memory{self.where}")
        return super()._in_place(ptr, mask)

    def get_fp16(self, value: float) -> Any:
        return TensorHandle(np.array([value], np.float32), tl.float16)
