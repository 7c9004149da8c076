"""NVIDIA's library of functions, which kernels reach as `libdevice.name`, in NumPy.

Source of the names and of what they compute: NVIDIA, "libdevice User's Guide", and the table of symbols in Triton's
`language/extra/cuda/libdevice.py`, which also types arguments and result. Functions of float32 are computed in float64
and rounded once, where the library promises a few units in the last place. Sums and products that round down, up or
toward zero, Bessel functions but i0, and what else has no row here, are not emulated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from triptych.harness.arrays import Array
from triptych.harness.emulators.errors import NotEmulated

Function = Callable[..., Any]


def _each(f: Callable[[float], float], pole: float = math.nan) -> Function:
    """A function of Python's on every element; where it raises, `pole`."""

    def one(x: float) -> float:
        try:
            return f(x)
        except (ValueError, OverflowError):
            return pole if x == x else math.nan

    return np.vectorize(one, otypes=[np.float64])


_erf, _erfc = _each(math.erf), _each(math.erfc)


def _erfinv(y: Array) -> Array:
    """x with erf(x) = y: Winitzki's approximation, then Newton steps."""
    w = np.log1p(-y * y)
    t = 2 / (math.pi * 0.147) + w / 2
    x = np.sqrt(np.sqrt(t * t - w / 0.147) - t)
    for _ in range(3):
        step = ((1 - np.abs(y)) - _erfc(x)) * np.exp(x * x) * math.sqrt(math.pi) / 2
        x = np.where(np.isfinite(step), x - step, x)
    return np.where(np.abs(y) == 1, np.copysign(np.inf, y), np.copysign(x, y))


def _round_half_away(x: Array) -> Array:
    return np.copysign(np.floor(np.abs(x) + 0.5), x)


def _popcount(x: Array) -> Array:
    bits = x.view(f"u{x.itemsize}")
    ones = [(bits >> np.array(i, bits.dtype)) & np.array(1, bits.dtype) for i in range(8 * x.itemsize)]
    return np.asarray(np.sum(ones, axis=0, dtype=np.int32))


def _leading_zeros(x: Array) -> Array:
    bits = x.view(f"u{x.itemsize}")
    zeros = [(bits >> np.array(i, bits.dtype)) == 0 for i in range(8 * x.itemsize)]
    return np.asarray(np.sum(zeros, axis=0, dtype=np.int32))


def _first_set(x: Array) -> Array:
    """The place of the lowest set bit, from 1; 0 without one."""
    lowest = x & -x
    return np.where(x == 0, 0, 8 * x.itemsize - _leading_zeros(lowest))


def _high_product(a: Array, b: Array) -> Array:
    high: Array = ((a.astype(object) * b.astype(object)) >> (8 * a.itemsize)).astype(a.dtype)
    return high


FLOATS: dict[str, Function] = {  # by the symbol without its precision
    "fabs": np.abs, "acos": np.arccos, "acosh": np.arccosh, "asin": np.arcsin, "asinh": np.arcsinh, "atan": np.arctan,
    "atan2": np.arctan2, "atanh": np.arctanh, "cbrt": np.cbrt, "ceil": np.ceil, "copysign": np.copysign, "cos": np.cos,
    "cosh": np.cosh, "cospi": lambda x: np.cos(np.pi * np.fmod(x, 2)), "cyl_bessel_i0": np.i0, "erf": _erf,
    "erfc": _erfc, "erfinv": _erfinv, "exp": np.exp, "exp10": lambda x: np.power(10.0, x), "exp2": np.exp2,
    "expm1": np.expm1, "fdim": lambda x, y: np.where(x > y, x - y, np.where(x <= y, 0.0, np.nan)),
    "fdividef": np.divide, "floor": np.floor, "fma": lambda x, y, z: x * y + z, "fmod": np.fmod, "hypot": np.hypot,
    "ldexp": np.ldexp, "lgamma": _each(math.lgamma, math.inf), "log": np.log, "log10": np.log10, "log1p": np.log1p,
    "log2": np.log2, "logb": lambda x: np.floor(np.log2(np.abs(x))), "nearbyint": np.rint, "rint": np.rint,
    "norm3d": lambda a, b, c: np.sqrt(a * a + b * b + c * c),
    "norm4d": lambda a, b, c, d: np.sqrt(a * a + b * b + c * c + d * d),
    "normcdf": lambda x: _erfc(-x / math.sqrt(2)) / 2, "pow": np.power, "powi": np.power,
    "rcbrt": lambda x: 1 / np.cbrt(x), "remainder": np.vectorize(lambda x, y: _ieee_remainder(x, y), otypes=[float]),
    "rhypot": lambda x, y: 1 / np.hypot(x, y), "rnorm3d": lambda a, b, c: 1 / np.sqrt(a * a + b * b + c * c),
    "rnorm4d": lambda a, b, c, d: 1 / np.sqrt(a * a + b * b + c * c + d * d), "round": _round_half_away,
    "rsqrt": lambda x: 1 / np.sqrt(x), "saturate": lambda x: np.fmin(np.fmax(x, 0.0), 1.0), "scalbn": np.ldexp,
    "sin": np.sin, "sinh": np.sinh, "sinpi": lambda x: np.sin(np.pi * np.fmod(x, 2)), "sqrt": np.sqrt, "tan": np.tan,
    "tanh": np.tanh, "tgamma": _each(math.gamma, math.inf), "trunc": np.trunc,
    "fadd_rn": np.add, "fsub_rn": np.subtract, "fmul_rn": np.multiply, "fdiv_rn": np.divide, "dadd_rn": np.add,
    "dsub_rn": np.subtract, "dmul_rn": np.multiply, "ddiv_rn": np.divide, "frcp_rn": np.reciprocal,
    "drcp_rn": np.reciprocal, "fsqrt_rn": np.sqrt, "dsqrt_rn": np.sqrt, "frsqrt_rn": lambda x: 1 / np.sqrt(x),
    "fma_rn": lambda x, y, z: x * y + z, "fmaf_rn": lambda x, y, z: x * y + z,
}  # fmt: skip
EXACT: dict[str, Function] = {  # on the arguments as they are
    "abs": np.abs, "llabs": np.abs, "nextafter": np.nextafter, "nextafterf": np.nextafter,
    "isinff": np.isinf, "isinfd": np.isinf, "isnanf": np.isnan, "isnand": np.isnan, "finitef": np.isfinite,
    "isfinited": np.isfinite, "signbitf": np.signbit, "signbitd": np.signbit, "clz": _leading_zeros,
    "clzll": _leading_zeros, "popc": _popcount, "popcll": _popcount, "ffs": _first_set, "ffsll": _first_set,
    "mulhi": _high_product, "umulhi": _high_product, "mul64hi": _high_product, "umul64hi": _high_product,
    "hadd": lambda a, b: (a.astype(np.int64) + b) >> 1, "uhadd": lambda a, b: (a.astype(np.uint64) + b) >> np.uint64(1),
    "rhadd": lambda a, b: (a.astype(np.int64) + b + 1) >> 1,
    "urhadd": lambda a, b: (a.astype(np.uint64) + b + np.uint64(1)) >> np.uint64(1),
    "float_as_int": lambda x: x.view(np.int32), "float_as_uint": lambda x: x.view(np.uint32),
    "int_as_float": lambda x: x.view(np.float32), "uint_as_float": lambda x: x.view(np.float32),
    "double_as_longlong": lambda x: x.view(np.int64), "longlong_as_double": lambda x: x.view(np.float64),
    "llrint": np.rint, "llrintf": np.rint, "llround": _round_half_away, "llroundf": _round_half_away,
    "ilogb": lambda x: np.frexp(x)[1] - 1, "ilogbf": lambda x: np.frexp(x)[1] - 1,
}  # fmt: skip
ROUNDED = {"rn": np.rint, "rd": np.floor, "ru": np.ceil, "rz": np.trunc}  # of a float that becomes an integer
FROM_FLOAT = (
    "float2int",
    "float2uint",
    "float2ll",
    "float2ull",
    "double2int",
    "double2uint",
    "double2ll",
    "double2ull",
)
TO_FLOAT = tuple(f"{i}2{f}" for i in ("int", "uint", "ll", "ull") for f in ("float", "double"))


def _ieee_remainder(x: float, y: float) -> float:
    try:
        return math.remainder(x, y)
    except ValueError:
        return math.nan


def call(symbol: str, args: list[Array]) -> Array:
    """What `__nv_..` gives for these arguments."""
    name = symbol.removeprefix("__nv_").removeprefix("fast_")
    function = _function(name, args[0].dtype if args else np.dtype(float))
    if function is None:
        raise NotEmulated(f"libdevice's {symbol} is not emulated; try a GPU")
    found: Array = np.asarray(function(*args))
    return found


def _function(name: str, dtype: np.dtype[Any]) -> Function | None:
    conversion, _, rounding = name.rpartition("_")
    if conversion in FROM_FLOAT and rounding in ROUNDED:
        return ROUNDED[rounding]
    if conversion in TO_FLOAT and rounding == "rn":
        return lambda x: x
    if name in EXACT:
        return EXACT[name]
    wide = FLOATS.get(name) or (FLOATS.get(name.removesuffix("f")) if dtype != np.float64 else None)
    if wide is None:
        return None
    return lambda *args: wide(*(a.astype(np.float64) if a.dtype == np.float32 else a for a in args))
