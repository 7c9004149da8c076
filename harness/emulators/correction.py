"""Triton's interpreter with bfloat16 made right: everything that is replaced is replaced here.

The interpreter holds a bfloat16 as the uint16 of its bits and hands those to NumPy, so `+` adds bit patterns. It
converts from float32 by truncation. The correction is one idea: hold bfloat16 values as `ml_dtypes.bfloat16`, whose
NumPy loops compute in float32 and round to nearest even, as the hardware does. What does not follow from that alone:

* a cast between floats is `astype`, which rounds to nearest even; toward zero is made from it;
* `dot` multiplies float32 copies and accumulates in float32, as tensor cores do; float32 operands are rounded to
  TF32's 10 mantissa bits where the kernel lets them (`input_precision="tf32"`, Triton's default on NVIDIA);
* `reduce` combines halves with halves, rounding at each step, as a warp's shuffles do, and by the kernel's own combine
  function: so the NaN rules of `argmax` are the kernel's and not those of `numpy.nanargmax`.

float16 takes the same paths. float8 values stay bytes: casts and `dot` decode them, where the interpreter takes a NaN
for a number, cuts what is subnormal and wraps what overflows; what is too large becomes the largest number, as in
PTX's `cvt.satfinite`, the only cast to float8 there is. The interpreter's `InterpreterBuilder` is subclassed, never
edited.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import triton.language as tl
from triton._C.libtriton import ir
from triton.runtime import interpreter
from triton.runtime.interpreter import TensorHandle

from triptych.harness.arrays import Array
from triptych.harness.dtypes import finfo
from triptych.harness.emulators.errors import NotEmulated, OrderError
from triptych.harness.emulators.interpreter import libdevice
from triptych.harness.emulators.interpreter.launches import Launches
from triptych.harness.emulators.memory import Memory

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
HALVES = (BFLOAT16, np.dtype(np.float16))
FLOAT8 = {
    tl.float8e5: np.dtype(ml_dtypes.float8_e5m2),
    tl.float8e4nv: np.dtype(ml_dtypes.float8_e4m3fn),
    tl.float8e4b8: np.dtype(ml_dtypes.float8_e4m3fnuz),
    tl.float8e5b16: np.dtype(ml_dtypes.float8_e5m2fnuz),
}
_uncorrected_np_dtype = interpreter._get_np_dtype
_held: dict[str, np.dtype[Any]] = {"bf16": BFLOAT16}  # by the name of a Triton dtype; asked for with every value


def np_dtype(dtype: Any) -> np.dtype[Any]:
    """The NumPy dtype that holds values of a Triton dtype, a block of them or one."""
    scalar = dtype.scalar
    held = _held.get(scalar.name)
    if held is None:
        held = _held[scalar.name] = _uncorrected_np_dtype(scalar)
    return held


class CheckedBuilder(interpreter.InterpreterBuilder):  # type: ignore[misc]  # Triton is untyped
    """The interpreter as Triton ships it, on a `Memory` instead of raw addresses."""

    np_dtype: Callable[[Any], np.dtype[Any]] = staticmethod(_uncorrected_np_dtype)
    holds_wide = False  # whether values may be wider than their Triton dtype
    widest = 1  # elements of the largest load or store so far

    def __init__(self, memory: Memory, backwards: bool = False, launches: Launches | None = None) -> None:
        """launches: of the run that this one is, or of the one that this one is again, if it runs backwards."""
        super().__init__()
        self.memory, self.backwards, self.launches = memory, backwards, launches

    def set_grid_idx(self, *place: int) -> None:
        """The programs of a launch come in ascending order; a GPU promises none."""
        if self.backwards:
            place = tuple(n - 1 - i for n, i in zip(self.grid_dim, place, strict=True))
        super().set_grid_idx(*place)

    def memory_dtype(self, dtype: Any) -> np.dtype[Any]:
        """The NumPy dtype of an argument's elements."""
        return self.np_dtype(dtype)

    @property
    def where(self) -> str:
        return f" in program {self.grid_idx}"

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("create_"):
            raise AttributeError(name)
        raise NotEmulated(f"Triton's interpreter has no {name.removeprefix('create_')}; try a GPU")

    def create_inline_asm(self, *args: Any) -> Any:
        raise NotEmulated("inline assembly is not emulated; try a GPU")

    def create_extern_elementwise(
        self, library: str, path: str, symbol: str, args: list[Any], result: Any, pure: bool
    ) -> Any:
        data = libdevice.call(symbol, [a.data for a in args])
        return TensorHandle(data.astype(self.np_dtype(result), copy=False), result.scalar)

    def create_masked_load(self, ptrs: Any, mask: Any, other: Any, *policy: Any, **named: Any) -> Any:
        dtype = ptrs.get_element_ty()
        self.widest = max(self.widest, ptrs.data.size)
        padding = None if other is None else other.data
        data = self.memory.load(ptrs.data, np.asarray(mask.data, bool), padding, self.memory_dtype(dtype), self.where)
        return TensorHandle(data, dtype)

    def create_masked_store(self, ptrs: Any, value: Any, mask: Any, *policy: Any, **named: Any) -> None:
        dtype = self.memory_dtype(ptrs.get_element_ty())
        self.widest = max(self.widest, ptrs.data.size)
        self.memory.store(ptrs.data, value.data, np.asarray(mask.data, bool), dtype, self.where)

    def create_atomic_rmw(self, op: Any, ptr: Any, val: Any, mask: Any, sem: Any, scope: Any) -> Any:
        on = np.asarray(mask.data, bool)
        if self.memory_dtype(ptr.get_element_ty()) in HALVES:
            return TensorHandle(self._half_add(ptr, val, on), val.dtype.scalar)
        return super().create_atomic_rmw(op, self._in_place(ptr, on), val, mask, sem, scope)

    def create_atomic_cas(self, ptr: Any, cmp: Any, val: Any, sem: Any, scope: Any) -> Any:
        everywhere = np.ones(ptr.data.shape, bool)
        return super().create_atomic_cas(self._in_place(ptr, everywhere), cmp, val, sem, scope)

    def _half_add(self, ptr: Any, val: Any, mask: Array) -> Array:
        """An addition of 16-bit floats, which take no other operation: lane by lane, rounded each time."""
        self._in_place(ptr, mask)
        dtype = self.memory_dtype(ptr.get_element_ty())
        values = np.broadcast_to(val.data, ptr.data.shape)
        before = np.zeros(ptr.data.shape, dtype)
        for lane in zip(*np.nonzero(mask), strict=True):
            at, on = ptr.data[lane].reshape(1), np.ones(1, bool)
            before[lane] = old = self.memory.load(at, on, None, dtype, self.where)[0]
            new = np.asarray(old + values[lane].astype(dtype)).reshape(1)
            self.memory.store(at, new, on, dtype, self.where)
        return before

    def _in_place(self, ptr: Any, mask: Array) -> Any:
        if self.backwards:
            raise OrderError("programs with atomic operations are not run in reverse order")
        dtype = self.memory_dtype(ptr.get_element_ty())
        return TensorHandle(self.memory.addresses(ptr.data, mask, dtype, self.where), ptr.dtype)


class CorrectedBuilder(CheckedBuilder):
    """The interpreter with bfloat16 and float16 computed as hardware does."""

    np_dtype = staticmethod(np_dtype)

    def cast_impl(self, src: Any, dst_type: Any) -> Any:
        return TensorHandle(src.data.astype(self.np_dtype(dst_type)), dst_type.scalar)

    def get_bf16(self, value: float) -> Any:
        """A constant, which Triton 3.6's interpreter does not make."""
        return TensorHandle(np.array([value], BFLOAT16), tl.bfloat16)

    def create_fp_to_fp(self, src: Any, dst_type: Any, rounding_mode: Any) -> Any:
        if dst_type.scalar in FLOAT8 and rounding_mode != ir.ROUNDING_MODE.RTZ:
            return TensorHandle(encode(decode(src), FLOAT8[dst_type.scalar]), dst_type.scalar)
        if src.dtype.scalar in FLOAT8 and not dst_type.scalar.is_fp8():
            return TensorHandle(decode(src).astype(self.np_dtype(dst_type)), dst_type.scalar)
        if src.dtype.scalar.is_fp8() or dst_type.scalar.is_fp8():
            return super().create_fp_to_fp(src, dst_type, rounding_mode)
        nearest = self.cast_impl(src, dst_type)
        if rounding_mode == ir.ROUNDING_MODE.RTZ:
            # One step toward zero is one less in the bits, and turns an overflow's infinity into the largest number.
            away = np.abs(nearest.data.astype(np.float64)) > np.abs(src.data.astype(np.float64))
            nearest.data.view(f"u{nearest.data.itemsize}")[away] -= 1
        return nearest

    def create_minnumf(self, lhs: Any, rhs: Any) -> Any:
        return self.binary_op(lhs, rhs, np.fmin)  # up to Triton 3.7 the interpreter lets a NaN win

    def create_maxnumf(self, lhs: Any, rhs: Any) -> Any:
        return self.binary_op(lhs, rhs, np.fmax)

    def create_fma(self, x: Any, y: Any, z: Any) -> Any:
        if z.data.dtype not in HALVES:
            return super().create_fma(x, y, z)
        exact = x.data.astype(np.float64) * y.data.astype(np.float64) + z.data.astype(np.float64)
        return TensorHandle(exact.astype(z.data.dtype), z.dtype.scalar)

    def create_dot(self, a: Any, b: Any, d: Any, input_precision: Any, max_num_imprecise_acc: Any) -> Any:
        other = any(x.dtype.scalar.is_fp8() and x.dtype.scalar not in FLOAT8 for x in (a, b))
        if not a.dtype.scalar.is_floating() or other or a.data.dtype == np.float64:
            return super().create_dot(a, b, d, input_precision, max_num_imprecise_acc)
        operands = [decode(x).astype(np.float32) for x in (a, b)]
        if input_precision == ir.INPUT_PRECISION.TF32 and a.data.dtype == np.float32:
            operands = [round_to_tf32(x) for x in operands]
        product = np.matmul(operands[0], operands[1])
        product += d.data
        return TensorHandle(product.astype(d.data.dtype, copy=False), d.dtype.scalar)

    def create_dot_scaled(
        self, a: Any, a_scale: Any, a_format: Any, b: Any, b_scale: Any, b_format: Any, *rest: Any
    ) -> Any:
        """The product of operands times their scales, summed in float32; `rest` ends with the accumulator."""
        d = rest[-1]
        operands = [self._scaled(a, a_scale, a_format), self._scaled(b, b_scale, b_format, turned=True)]
        product = np.matmul(operands[0], operands[1])
        product += d.data
        return TensorHandle(product.astype(d.data.dtype, copy=False), d.dtype.scalar)

    def numbers(self, x: Any) -> Array:
        """What a handle of floats holds, in float32."""
        found: Array = decode(x).astype(np.float32)
        return found

    def _scaled(self, x: Any, scale: Any, form: Any, turned: bool = False) -> Array:
        """A dot_scaled operand [M, K] in float32, or [K, N] if `turned`; scale[M or N, groups] is its e8m0 bytes."""
        if form == ir.ScaleDotElemTypeTY.E2M1:
            raise NotEmulated("tl.dot_scaled of e2m1 is not emulated; try a GPU")
        numbers = self.numbers(x)
        if scale is None:
            return numbers
        numbers = numbers.swapaxes(-1, -2) if turned else numbers
        powers = np.where(scale.data == 0xFF, np.nan, np.ldexp(1.0, scale.data.astype(np.int32) - 127))
        each = np.repeat(powers, numbers.shape[-1] // scale.data.shape[-1], axis=-1)
        scaled: Array = (numbers * each).astype(np.float32)
        return scaled.swapaxes(-1, -2) if turned else scaled


def decode(x: Any) -> Array:
    """The numbers of a handle: of float8, what its bytes stand for."""
    data: Array = x.data.view(FLOAT8[x.dtype.scalar]).astype(np.float32) if x.dtype.scalar in FLOAT8 else x.data
    return data


def encode(x: Array, dtype: np.dtype[Any]) -> Array:
    """The bytes of `x` in a float8 dtype: to nearest even, what is too large as the largest number."""
    largest = float(finfo(dtype).max)
    return np.clip(x.astype(np.float32), -largest, largest).astype(dtype).view(np.uint8)


def round_to_tf32(x: Array) -> Array:
    """float32 values rounded to nearest even at 10 mantissa bits; NaN and infinities stay."""
    bits = x.view(np.uint32)
    rounded = (bits + np.uint32(0x0FFF) + (bits >> np.uint32(13) & np.uint32(1))) & np.uint32(0xFFFFE000)
    return np.where(np.isfinite(x), rounded, bits).view(np.float32)


class CorrectedReduce(interpreter.ReduceOps):  # type: ignore[misc]  # Triton is untyped
    """`tl.reduce` along an axis as a tree: the first half of the axis combined with the second, until one is left."""

    def apply_impl(self, input: Any) -> Any:
        # tl.max and tl.min of floats ignore NaN unless nothing else is there; in any order, so at once.
        if self.combine_fn is tl.standard._elementwise_max:
            return self._whole(input[0], np.fmax)
        if self.combine_fn is tl.standard._elementwise_min:
            return self._whole(input[0], np.fmin)
        axis = 0 if self.axis is None else self.axis % len(input[0].shape)
        parts = [x.handle.data.reshape(-1) if self.axis is None else x.handle.data for x in input]
        while (size := parts[0].shape[axis]) > 1:
            first, second = slice(0, size // 2), slice(size // 2, 2 * (size // 2))
            lhs, rhs = ([p[(slice(None),) * axis + (half,)] for p in parts] for half in (first, second))
            parts = self._combine(input, lhs, rhs)
        return tuple(self._result(p, x, axis) for p, x in zip(parts, input, strict=True))

    def _whole(self, x: Any, ufunc: np.ufunc) -> Any:
        return self.to_tensor(ufunc.reduce(x.handle.data, axis=self.axis, keepdims=self.keep_dims), x.dtype)

    def _combine(self, input: Any, lhs: list[Array], rhs: list[Array]) -> list[Array]:
        if self.combine_fn is tl.standard._sum_combine:
            return [lhs[0] + rhs[0]]
        return combined(self.combine_fn, input, lhs, rhs)

    def _result(self, data: Array, x: Any, axis: int) -> Any:
        if not self.keep_dims:
            data = np.squeeze(data, axis)
        elif self.axis is None:
            data = data.reshape([1] * len(x.shape))
        return self.to_tensor(data, x.dtype)


class CorrectedScan(interpreter.ScanOps):  # type: ignore[misc]
    """`tl.associative_scan` with a kernel's own function: along the axis, all rows at once."""

    def generic_scan(self, input: Any) -> Any:
        axis = self.axis % len(input[0].shape)
        parts = [np.moveaxis(x.handle.data, axis, 0) for x in input]
        rows = [[p[:1] for p in parts]]
        for i in range(1, len(parts[0])):
            rows.append(combined(self.combine_fn, input, rows[-1], [p[i : i + 1] for p in parts]))
        whole = [np.moveaxis(np.concatenate(column), 0, axis) for column in zip(*rows, strict=True)]
        return [self.to_tensor(np.ascontiguousarray(w), x.dtype) for w, x in zip(whole, input, strict=True)]


def combined(function: Any, input: Any, lhs: list[Array], rhs: list[Array]) -> list[Array]:
    """`function`, a kernel's, of two parts of the `input` of a reduction or a scan."""
    tensors = [
        tl.core.tensor(TensorHandle(data, x.dtype.scalar), tl.block_type(x.dtype, list(data.shape)))
        for side in (lhs, rhs)
        for data, x in zip(side, input, strict=True)
    ]
    found = function(*tensors)
    return [t.handle.data for t in (found if isinstance(found, tuple) else (found,))]
