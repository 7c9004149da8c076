"""The corrected interpreter, operation by operation, against NumPy on ml_dtypes arrays."""

import ml_dtypes
import numpy as np
import pytest
import triton
import triton.language as tl

from triptych.harness.emulators import interpret, selftest
from triptych.harness.emulators.triton_selftest import DTYPES, OPERATIONS, agrees

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("dtype", list(DTYPES))
@pytest.mark.parametrize("operation", list(OPERATIONS))
def test_operation(operation, dtype, seed):
    assert agrees(operation, dtype, corrected=True, seed=seed)


def test_the_correction_is_needed():
    """A Triton that needs none of it should lose it."""
    wrong = {row.operation for row in selftest() if row.dtype == "bfloat16" and not row.right_uncorrected}
    assert {"add", "multiply", "less", "sum", "dot", "cast through float32"} <= wrong


@triton.jit
def _cast(x, out, N: tl.constexpr, ROUNDING: tl.constexpr):
    at = tl.arange(0, N)
    tl.store(out + at, tl.load(x + at).to(out.dtype.element_ty, fp_downcast_rounding=ROUNDING))


def cast(x, out, rounding=None):
    _cast[(1,)](x, out, N=x.numel(), ROUNDING=rounding)


@pytest.mark.parametrize("to", [BFLOAT16, np.dtype(np.float16)])
def test_cast_from_float32_rounds_to_nearest_even(to):
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 4096, dtype=np.uint32)  # every exponent, NaN and infinities among them
    bits[:8] = [0, 1 << 31, 0x7F800000, 0xFF800000, 0x7FC00000, 0x7F7FFFFF, 0x00000001, 0x3F808000]
    x = bits.view(np.float32)
    out = np.zeros(4096, to)
    interpret(cast, {"x": x}, out)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = x.astype(to)
    assert np.array_equal(out.astype(np.float32), expected.astype(np.float32), equal_nan=True)


@pytest.mark.parametrize("to", [BFLOAT16, np.dtype(np.float16)])
def test_cast_toward_zero_never_grows(to):
    rng = np.random.default_rng(0)
    x = (rng.standard_normal(1024) * 10.0 ** rng.integers(-3, 4, 1024)).astype(np.float32)
    x[0] = 3.4e38
    out = np.zeros(1024, to)
    interpret(cast, {"x": x}, out, rounding="rtz")
    wide = out.astype(np.float64)
    assert np.all(np.abs(wide) <= np.abs(x))
    assert np.all(np.abs(wide - x)[1:] < ml_dtypes.finfo(to).eps * np.abs(x)[1:] + 1e-7)
    assert out[0] == ml_dtypes.finfo(to).max


@pytest.mark.parametrize("to", list(DTYPES.values()), ids=str)
def test_cast_up_is_exact(to):
    x = np.arange(65536, dtype=np.uint16).view(BFLOAT16)  # every number there is
    x = x[np.isfinite(x.astype(np.float32))][:32768]
    out = np.zeros(32768, to)
    interpret(cast, {"x": x}, out)
    with np.errstate(over="ignore"):
        expected = x.astype(np.float32).astype(to)
    assert np.array_equal(out.astype(np.float64), expected.astype(np.float64))


@triton.jit
def _sum(x, out, N: tl.constexpr):
    tl.store(out, tl.sum(tl.load(x + tl.arange(0, N)), 0))


def total(x, out):
    _sum[(1,)](x, out, N=x.numel())


def test_sum_rounds_at_every_step_of_a_tree():
    """256 + 1 is 256 in bfloat16: a sum of ones in bfloat16 that goes one by one would stop at 256."""
    out = np.zeros(1, BFLOAT16)
    interpret(total, {"x": np.ones(1024, BFLOAT16)}, out)
    assert out[0] == 1024
    x = np.ones(4, BFLOAT16)
    x[0] = 256
    interpret(total, {"x": x}, out)
    assert out[0] == 258  # (256 + 1) + (1 + 1), where exact is 259, and nearest 260


@triton.jit
def _dot(x, y, out, N: tl.constexpr, PRECISION: tl.constexpr):
    at = tl.arange(0, N)[:, None] * N + tl.arange(0, N)[None, :]
    c = tl.dot(tl.load(x + at), tl.load(y + at), input_precision=PRECISION)
    tl.store(out + at, c)


def dot(x, y, out, precision):
    _dot[(1,)](x, y, out, N=x.shape[0], PRECISION=precision)


def test_tf32_rounds_its_operands_and_ieee_does_not():
    x = np.eye(16, dtype=np.float32) * np.float32(1 + 2.0**-12)
    y = np.eye(16, dtype=np.float32)
    out = np.zeros((16, 16), np.float32)
    interpret(dot, {"x": x, "y": y}, out, precision="ieee")
    assert np.array_equal(out, x)
    interpret(dot, {"x": x, "y": y}, out, precision="tf32")
    assert np.array_equal(out, y)


@triton.jit
def _argmax_combine(v1, i1, v2, i2):
    first = v1 > v2
    return tl.where(first, v1, v2), tl.where(first, i1, i2)


@triton.jit
def _reduce_own(x, out, N: tl.constexpr):
    value, index = tl.reduce((tl.load(x + tl.arange(0, N)), tl.arange(0, N)), 0, _argmax_combine)
    tl.store(out, value)
    tl.store(out + 1, index.to(tl.float32))


def reduce_own(x, out):
    _reduce_own[(1,)](x, out, N=x.numel())


def test_a_reduction_with_a_kernels_own_function():
    x = np.random.default_rng(0).standard_normal(64).astype(BFLOAT16)
    x[17] = 100
    out = np.zeros(2, np.float32)
    interpret(reduce_own, {"x": x}, out)
    assert out.tolist() == [100, 17]


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2"])
def test_float8_is_cast_to_nearest_even_saturates_and_keeps_nan(name):
    """The interpreter's own casts cut subnormal numbers, wrap what overflows, and read a NaN as 480."""
    dtype = np.dtype(getattr(ml_dtypes, name))
    largest = float(ml_dtypes.finfo(dtype).max)
    x = np.array(
        [1, 1.4 * 2**-9, 2**-10, 3 * 2**-11, 464, 480, 57344, 1e6, np.inf, -np.inf, np.nan, 0, -0.0, -447, 3, 0.1],
        np.float32,
    )
    narrow = np.zeros(len(x), dtype)
    interpret(cast, {"x": x}, narrow)
    assert np.array_equal(narrow.view(np.uint8), np.clip(x, -largest, largest).astype(dtype).view(np.uint8))
    wide = np.zeros(len(x), np.float32)
    interpret(cast, {"x": narrow}, wide)
    assert np.array_equal(wide, narrow.astype(np.float32), equal_nan=True)
