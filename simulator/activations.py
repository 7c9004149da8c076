"""Activation functions of the Scalar Engine, on float32 arrays.

The hardware evaluates piecewise polynomials; these are the functions that those approximate, in float32. Outside its
valid range the hardware's result is documented only for `sin`, which extrapolates a cubic (nki/api/nki.api.shared.rst).
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]  # float32 unless said otherwise
_F = np.float32
_MAX = np.finfo(np.float32).max


def relu(x: Array) -> Any:
    return np.maximum(x, _F(0))


def rsqrt(x: Array) -> Any:
    return np.reciprocal(np.sqrt(x))


def sin(x: Array) -> Any:
    """sin(x) on [-pi, pi]; outside, the cubic that continues it.

    The cubic is 0.10165 r^3 + r with r = x - pi (odd about pi), through the one point that the documentation gives:
    sin(9.0) is about 27.65.
    """
    pi = _F(np.pi)
    beyond = np.abs(x) > pi
    if not beyond.any():
        return np.sin(x)
    r = np.abs(x) - pi
    slope = _F((27.65 + (9.0 - math.pi)) / (9.0 - math.pi) ** 3)
    return np.where(beyond, np.sign(x) * (slope * r * r * r - r), np.sin(x))


def sigmoid(x: Array) -> Any:
    return np.reciprocal(_F(1) + np.exp(-x))


@functools.cache
def _erf_table() -> tuple[Array, Array]:
    """erf and its derivative at the 4,097 knots of [-6, 6]."""
    knots = np.linspace(-6.0, 6.0, 4097)
    return np.array([math.erf(k) for k in knots]), 2.0 / math.sqrt(math.pi) * np.exp(-knots * knots)


def erf(x: Array) -> Any:
    """erf(x): cubic Hermite interpolation in float64 over 4,096 intervals (error below 1e-12), rounded to float32."""
    values, slopes = _erf_table()
    step = 12.0 / 4096
    clipped = np.clip(x.astype(np.float64), -6.0, 6.0)
    at = np.minimum(np.nan_to_num((clipped + 6.0) / step), 4095).astype(np.int64)
    t = (clipped + 6.0) / step - at
    v0, v1, d0, d1 = values[at], values[at + 1], slopes[at] * step, slopes[at + 1] * step
    cubic = v0 + t * (d0 + t * (3 * (v1 - v0) - 2 * d0 - d1 + t * (2 * (v0 - v1) + d0 + d1)))
    return cubic.astype(np.float32)


def erf_dx(x: Array) -> Any:
    return _F(2 / math.sqrt(math.pi)) * np.exp(-x * x)


# These are valid on [-inf, inf], where x * 0 must be the limit 0 and not a NaN: x is kept finite on that side.


def gelu(x: Array) -> Any:
    x = np.maximum(x, -_MAX)
    return _F(0.5) * x * (_F(1) + erf(x * _F(math.sqrt(0.5))))


def gelu_dx(x: Array) -> Any:
    x = np.clip(x, -_MAX, _MAX)
    cdf = _F(0.5) * (_F(1) + erf(x * _F(math.sqrt(0.5))))
    return cdf + x * _F(1 / math.sqrt(2 * math.pi)) * np.exp(_F(-0.5) * x * x)


def gelu_apprx_tanh(x: Array) -> Any:
    x = np.maximum(x, -_MAX)
    return _F(0.5) * x * (_F(1) + np.tanh(_F(math.sqrt(2 / math.pi)) * (x + _F(0.044715) * x * x * x)))


def gelu_apprx_sigmoid(x: Array) -> Any:
    x = np.maximum(x, -_MAX)
    return x * sigmoid(_F(1.702) * x)


def gelu_apprx_sigmoid_dx(x: Array) -> Any:
    x = np.clip(x, -_MAX, _MAX)
    s = sigmoid(_F(1.702) * x)
    return s + x * s * (_F(1) - s) * _F(1.702)


def silu(x: Array) -> Any:
    x = np.maximum(x, -_MAX)
    return x * sigmoid(x)


def silu_dx(x: Array) -> Any:
    x = np.clip(x, -_MAX, _MAX)
    s = sigmoid(x)
    return s + x * s * (_F(1) - s)


def softplus(x: Array) -> Any:
    return np.logaddexp(x, _F(0))


def mish(x: Array) -> Any:
    x = np.maximum(x, -_MAX)
    return x * np.tanh(softplus(x))
