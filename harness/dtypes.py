"""NumPy's and ml_dtypes' dtypes by name, and what is known of the floating-point ones."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np


def dtype_of(name: str) -> np.dtype[Any]:
    """The NumPy dtype called `name`; ml_dtypes' names count."""
    try:
        return np.dtype(getattr(ml_dtypes, name, None) or name)
    except TypeError:
        raise ValueError(f"unknown dtype {name!r}: NumPy and ml_dtypes have no dtype of that name") from None


def finfo(dtype: np.dtype[Any]) -> Any:
    """What `np.finfo` says, for ml_dtypes' dtypes as well; ValueError if `dtype` is not a floating-point one."""
    info: Any = ml_dtypes.finfo
    return info(dtype)


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether `dtype` is a floating-point one, NumPy's or ml_dtypes'; complex ones are none."""
    try:
        finfo(dtype)
    except ValueError:
        return False
    return dtype.kind != "c"
