"""Activation functions of the Scalar Engine, on float32 arrays.

The hardware evaluates piecewise polynomials whose error is not documented; these are the functions that those
approximate, within 4 units in the last place of float32 (tests/simulator/test_activations.py holds the bound of each).
Where float32 would cancel, or an exponent would magnify a rounding, the steps in between are float64. Outside its valid
range the hardware's result is documented only for `sin`, which extrapolates a cubic (nki/api/nki.api.shared.rst).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.polynomial import Chebyshev, Polynomial
from numpy.typing import NDArray

Array = NDArray[Any]  # float32 unless said otherwise
_F = np.float32
_D = np.float64
_MAX = np.finfo(np.float32).max
_FAR = 1e4  # beyond, every function below is its limit in float32, and x * 0 must be 0 and not inf * 0


def relu(x: Array) -> Any:
    return np.maximum(x, _F(0))


def rsqrt(x: Array) -> Any:
    return np.reciprocal(np.sqrt(x))


def sin(x: Array) -> Any:
    """sin(x) on [-pi, pi]; outside, the cubic (|x| - pi)^3 / 6 - (|x| - pi) with x's sign.

    The documentation says that a cubic is extrapolated, and that sin(9.0) is about 27.65: so is the Taylor cubic at pi.
    """
    beyond = np.abs(x) > _F(np.pi)
    far, found = x[beyond], np.sin(x)
    r = np.abs(far) - _F(np.pi)
    found[beyond] = np.sign(far) * (r * r * r / _F(6) - r)
    return found


def sigmoid(x: Array) -> Any:
    return np.reciprocal(_F(1) + np.exp(-x))


def silu(x: Array) -> Any:
    x = np.maximum(x, -_MAX)
    return x * sigmoid(x)


def softplus(x: Array) -> Any:
    """log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|))."""
    return np.maximum(x, _F(0)) + np.log1p(np.exp(-np.abs(x)))


def mish(x: Array) -> Any:
    x = np.maximum(x, -_MAX)
    return x * np.tanh(softplus(x))


_BLOCK = 8192  # elements at a time: fresh temporaries of a whole tile in float64 cost more in pages than in arithmetic


def _in_float64(f: Callable[[Array], Any]) -> Callable[[Array], Any]:
    """f, of float64, with its argument not below where f is its limit in float32; rounded once."""

    @functools.wraps(f)
    def rounded(x: Array) -> Any:
        flat = np.reshape(x, -1)
        out = np.empty(flat.shape, _F)
        for start in range(0, flat.size, _BLOCK):
            part = slice(start, start + _BLOCK)
            out[part] = f(np.maximum(flat[part], -_F(_FAR)).astype(_D))
        return out.reshape(np.shape(x))

    return rounded


@functools.cache
def _fitted(f: Callable[[float], float], low: float, high: float, degree: int) -> tuple[float, ...]:
    """The coefficients, highest first, of the polynomial that interpolates f at the Chebyshev points of [low, high]."""
    interpolant = Chebyshev.interpolate(np.vectorize(f, otypes=[float]), degree, [low, high])
    return tuple(interpolant.convert(kind=Polynomial).coef[::-1].tolist())


def _horner(coefficients: tuple[float, ...], u: Array) -> Array:
    total = np.full_like(u, coefficients[0])
    for c in coefficients[1:]:
        total *= u
        total += c
    return total


_CENTRE = 2.5  # of the variable u = (z - 2.5) / (z + 2.5), in which the next function is nearly a polynomial
_LAST = 11.0  # exp(-z^2) is 0 in float32 from here on


def _scaled_erfc(u: float) -> float:
    """(1 + 2z) exp(z^2) erfc(z), between 1 and 1.3 for all z >= 0: 1 at 0, and 2 / sqrt(pi) far out."""
    z = _CENTRE * (1 + u) / (1 - u)
    return (1 + 2 * z) * math.exp(z * z) * math.erfc(z)


def _normal_tail(x: Array) -> Array:
    """Phi(-|x|) = erfc(|x| / sqrt(2)) / 2 in float64, for |x| up to 15; its relative error is below 1e-11."""
    z = np.minimum(np.abs(x) * math.sqrt(0.5), _LAST)
    fitted = _fitted(_scaled_erfc, -1.0, (_LAST - _CENTRE) / (_LAST + _CENTRE), 14)
    tail = _horner(fitted, (z - _CENTRE) / (z + _CENTRE))
    tail *= np.exp(-z * z)
    tail /= 2 + 4 * z
    return tail


@_in_float64
def gelu(x: Array) -> Any:
    """x Phi(x) = max(x, 0) - |x| Phi(-|x|)."""
    return np.maximum(x, 0) - np.minimum(np.abs(x), _FAR) * _normal_tail(x)


@_in_float64
def gelu_dx(x: Array) -> Any:
    """Phi(x) + x phi(x)."""
    near = np.minimum(x, _FAR)
    cdf = np.where(np.signbit(x), 0.0, 1.0) - np.copysign(_normal_tail(x), x)
    return cdf + near * (np.exp(-0.5 * near * near) / math.sqrt(2 * math.pi))


@_in_float64
def gelu_apprx_tanh(x: Array) -> Any:
    """x (1 + tanh(y)) / 2 = x / (1 + exp(-2y)) with y = sqrt(2 / pi) (x + 0.044715 x^3)."""
    return x / (1 + np.exp((-2 * math.sqrt(2 / math.pi)) * (x + 0.044715 * x * x * x)))


@_in_float64
def gelu_apprx_sigmoid(x: Array) -> Any:
    return x / (1 + np.exp(-1.702 * x))


@_in_float64
def gelu_apprx_sigmoid_dx(x: Array) -> Any:
    return _swish_dx(x, 1.702)


@_in_float64
def silu_dx(x: Array) -> Any:
    return _swish_dx(x, 1.0)


def _swish_dx(x: Array, slope: float) -> Any:
    """The derivative of x s(x), s = sigmoid(slope x):  s (1 + slope x (1 - s))."""
    x = slope * np.minimum(x, _FAR)
    s = 1 / (1 + np.exp(-x))
    return s * (1 + x * (1 - s))


def _erf_ratio(square: float) -> float:
    """erf(z) / z as a function of z^2 > 0."""
    z = math.sqrt(square)
    return math.erf(z) / z


@_in_float64
def erf(x: Array) -> Any:
    """x P(x^2) up to 4, where erf is 1 in float32."""
    near = np.clip(x, -4.0, 4.0)
    return near * _horner(_fitted(_erf_ratio, 0.0, 16.0, 22), near * near)


@_in_float64
def erf_dx(x: Array) -> Any:
    return (2 / math.sqrt(math.pi)) * np.exp(-x * x)
