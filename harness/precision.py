"""How fine a dtype is: spacing, distance in representable numbers, rounding. For every float dtype, and integers.

float8, float6 and float4 come in a byte and differ in bias, in whether they have infinities and in which patterns are
NaN, so that their numbers are counted in a table of all 256 patterns. The wider formats are IEEE's, or bfloat16, and
count upwards in their bits.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from triptych.harness.arrays import Array
from triptych.harness.dtypes import finfo, is_float


def roundoff(dtype: np.dtype[Any]) -> float:
    """The largest relative error of rounding to `dtype`: half a unit in the last place of 1. 0 for integers."""
    return float(finfo(dtype).eps) / 2 if is_float(dtype) else 0.0


def ulp(dtype: np.dtype[Any], value: float) -> float:
    """The distance between neighbouring numbers of `dtype` at magnitude `value`."""
    return float(spacing(dtype, np.array(value)))


def overflow(dtype: np.dtype[Any]) -> float:
    """The magnitude from which on numbers round beyond the largest of `dtype`, to an infinity or a NaN."""
    largest = float(finfo(dtype).max)
    return largest + ulp(dtype, largest) / 2


def saturates(dtype: np.dtype[Any]) -> bool:
    """Whether a cast to `dtype` makes what is too large its largest number, having neither infinities nor NaN."""
    return is_float(dtype) and bool(np.isfinite(round_to(np.array(np.inf), dtype).astype(np.float64)))


def spacing(dtype: np.dtype[Any], magnitude: Array) -> Array:
    """`ulp` at each of an array of finite magnitudes."""
    if not is_float(dtype):
        return np.ones(magnitude.shape)
    info = finfo(dtype)
    exponent = np.where(magnitude > 0, np.frexp(magnitude)[1] - 1, info.minexp)
    out: Array = np.ldexp(1.0, np.maximum(exponent, info.minexp) - info.nmant)
    return out


def ulps_apart(a: Array, b: Array) -> Array:
    """How many representable numbers lie between each a and b of one dtype, as int64; both finite."""
    apart: Array = np.abs(_ranks(a) - _ranks(b))
    return apart


def _ranks(x: Array) -> Array:
    """The place of each number in the order of its dtype; -0 and +0 share one."""
    if not is_float(x.dtype):
        return x.astype(np.int64)
    if x.dtype.itemsize == 1:
        return _table(x.dtype)[x.view(np.uint8)]
    bits = 8 * x.dtype.itemsize
    pattern = x.view(f"i{x.dtype.itemsize}").astype(np.int64)
    out: Array = np.where(pattern < 0, -(pattern & (2 ** (bits - 1) - 1)), pattern)
    return out


@cache
def _table(dtype: np.dtype[Any]) -> Array:
    """The place of each of the 256 patterns among the dtype's finite numbers."""
    values = np.arange(256, dtype=np.uint8).view(dtype).astype(np.float64)
    finite = np.isfinite(values)
    table: Array = np.searchsorted(np.unique(values[finite]), np.where(finite, values, 0)).astype(np.int64)
    return table


def round_to(x: Array, dtype: np.dtype[Any]) -> Array:
    """`x` in `dtype`, to nearest even; what is too large becomes what the dtype has for it."""
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        out: Array = x if x.dtype == dtype else x.astype(dtype)
    return out


def fits(x: Array, dtype: Any) -> bool:
    """Whether every number of `x` is one of `dtype`."""
    return bool((round_to(x, np.dtype(dtype)).astype(np.float64) == x).all())
