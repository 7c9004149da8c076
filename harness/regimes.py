"""How inputs are drawn: the regimes, and the dtypes by name.

Standard normal numbers alone do not reach every bug: a missing max-subtraction in a softmax shows only where scores are
large, a wrong epsilon only where values are tiny, lost digits only where a large offset cancels.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from triptych.harness.records import Array, Arrays

REGIMES = ("normal", "tiny", "large", "offset", "nonfinite")


def dtype_of(name: str) -> np.dtype[Any]:
    """The NumPy dtype called `name`; ml_dtypes' names count."""
    try:
        return np.dtype(getattr(ml_dtypes, name, None) or name)
    except TypeError:
        raise ValueError(f"unknown dtype {name!r}: NumPy and ml_dtypes have no dtype of that name") from None


def normal(rng: np.random.Generator, *shape: int) -> Array:
    """Standard normal numbers in float32: as fine as any dtype judged here, and half the memory of float64."""
    return rng.standard_normal(shape, dtype=np.float32)


def in_regime(x: Array, regime: str) -> Array:
    """Standard normal `x` moved into `regime`; `nonfinite` plants one NaN and two infinities."""
    if regime == "normal":
        return x
    if regime == "tiny":
        return x * np.float32(1e-3)
    if regime == "large":
        return x * np.float32(30)
    if regime == "offset":
        return x + np.float32(100)
    if regime == "nonfinite":
        x = x.copy()
        flat = x.reshape(-1)
        flat[[0, flat.size // 2, flat.size - 1]] = np.nan, np.inf, -np.inf
        return x
    raise ValueError(f"unknown regime {regime!r}; there is: {', '.join(REGIMES)}")


def rounded(arrays: Arrays, dtype: str) -> Arrays:
    """`arrays` as contiguous arrays of the case's dtype; what is not float32 or float64 (indices, masks) stays."""
    with np.errstate(over="ignore", invalid="ignore"):
        return {
            name: np.ascontiguousarray(x.astype(dtype_of(dtype)) if x.dtype in (np.float32, np.float64) else x)
            for name, x in arrays.items()
        }


def finfo(dtype: np.dtype[Any]) -> Any:
    """What `np.finfo` says, for ml_dtypes' dtypes as well; ValueError if `dtype` is not a floating-point one."""
    info: Any = ml_dtypes.finfo
    return info(dtype)


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether `dtype` is a floating-point one, NumPy's or ml_dtypes'."""
    try:
        finfo(dtype)
    except ValueError:
        return False
    return True
