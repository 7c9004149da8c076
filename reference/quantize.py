"""Quantisation to float8, and products of what was quantised: the definitions.

    quantize_fp8    scale[m] = max over n of |x[m, n]| / 240,    q[m, n] = x[m, n] / scale[m]
    matmul_fp8      out[M, N] = lhs_scale[m] * rhs_scale[n] * sum_k lhsT[k, m] rhs[k, n]
    matmul_mx       out[M, N] = sum_k mx(lhsT)[k, m] mx(rhs)[k, n]

240 is the largest number of float8_e4m3 (1 sign, 4 exponent and 3 mantissa bits, with infinities). A row of zeros has
the scale 2^-100, below which none goes. Rounding q to float8 is the caller's.

mx rounds to float8_e4m3fn (to nearest even) times a power of two, which 32 numbers of a column share, as in the OCP's
microscaling formats: X = 2^(floor(log2 of the largest magnitude) - 7), with which the largest lies in [128, 256). Which
32 share one is Trainium's choice where four tiles of 128 rows of K are packed: k = 512 b + 128 j + 8 i + r for j < 4
and r < 8, with b and i the group's. All is computed and returned in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
MOST = 240.0


def quantize_fp8(x: NDArray[Any]) -> tuple[Float64, Float64]:
    """x[M, N] -> q[M, N] and scale[M], float64."""
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"x must have 2 axes [M, N], none of size zero, got shape {x.shape}")
    x = x.astype(np.float64, copy=False)
    scale: Float64 = np.maximum(np.abs(x).max(axis=1) / MOST, 2.0**-100)
    with np.errstate(invalid="ignore", over="ignore"):
        return x / scale[:, None], scale


def matmul_fp8(lhsT: NDArray[Any], rhs: NDArray[Any], lhs_scale: NDArray[Any], rhs_scale: NDArray[Any]) -> Float64:
    """lhsT[K, M], rhs[K, N], lhs_scale[M], rhs_scale[N] -> out[M, N], float64."""
    if lhsT.ndim != 2 or rhs.ndim != 2 or len(lhsT) != len(rhs) or 0 in (*lhsT.shape, *rhs.shape):
        raise ValueError(
            f"lhsT [K, M] and rhs [K, N] must share K, none of size zero, got {lhsT.shape} and {rhs.shape}"
        )
    for name, scale, size in (("lhs_scale", lhs_scale, lhsT.shape[1]), ("rhs_scale", rhs_scale, rhs.shape[1])):
        if scale.shape != (size,):
            raise ValueError(f"{name} must have shape ({size},), got {scale.shape}")
    with np.errstate(invalid="ignore", over="ignore"):
        product: Float64 = lhsT.astype(np.float64).T @ rhs.astype(np.float64)
        return product * lhs_scale.astype(np.float64)[:, None] * rhs_scale.astype(np.float64)


def matmul_mx(lhsT: NDArray[Any], rhs: NDArray[Any]) -> Float64:
    """lhsT[K, M], rhs[K, N] -> out[M, N], float64: the product of both in MXFP8."""
    if lhsT.ndim != 2 or rhs.ndim != 2 or len(lhsT) != len(rhs) or 0 in (*lhsT.shape, *rhs.shape):
        raise ValueError(
            f"lhsT [K, M] and rhs [K, N] must share K, none of size zero, got {lhsT.shape} and {rhs.shape}"
        )
    product: Float64 = mx(lhsT).T @ mx(rhs)
    return product


def mx(x: NDArray[Any]) -> Float64:
    """x[K, N] -> x in MXFP8, [K, N], float64."""
    k, n = x.shape
    padded = np.zeros((-(-k // 512) * 512, n))
    padded[:k] = x
    groups = padded.reshape(-1, 4, 16, 8, n)
    largest = np.abs(groups).max(axis=(1, 3), keepdims=True)
    scale = np.ldexp(1.0, np.maximum(np.frexp(largest)[1] - 1 - 7, -127))
    scaled = groups / scale
    unit = np.ldexp(1.0, np.maximum(np.frexp(scaled)[1] - 1, -6) - 3)  # of float8_e4m3fn at that magnitude
    rounded: Float64 = (np.rint(scaled / unit) * unit * scale).reshape(-1, n)[:k]
    return rounded
