"""Linear layers with what surrounds them, the definitions.

    linear            out[M, N] = activation(scale * (x[M, K] @ w[K, N]) + bias[N]) + residual[M, N]
    rmsnorm_linear    out[M, N] = (x[M, K] / sqrt(mean over K of x^2 + eps) * gain[K]) @ w[K, N]
    linear_transposed out[M, N] = x[M, K] @ w[N, K].T + residual[M, N]

Activations: silu(y) = y / (1 + exp(-y)); gelu(y) = y (1 + erf(y / sqrt(2))) / 2; relu(y) = max(y, 0). Of minus infinity
each is 0. Computed and returned in float64; NaN and infinities propagate as IEEE arithmetic says of the formulas.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


def linear(
    x: NDArray[Any],
    w: NDArray[Any],
    bias: NDArray[Any] | None = None,
    residual: NDArray[Any] | None = None,
    activation: str | None = None,
    scale: float = 1.0,
) -> Float64:
    """x[M, K], w[K, N], bias[N], residual[M, N] -> out[M, N], float64."""
    check(x, w)
    M, N = x.shape[0], w.shape[1]
    if bias is not None and bias.shape != (N,):
        raise ValueError(f"bias must have shape [N] = ({N},), got {bias.shape}")
    if residual is not None and residual.shape != (M, N):
        raise ValueError(f"residual must have shape [M, N] = ({M}, {N}), got {residual.shape}")
    if activation not in (None, *ACTIVATIONS):
        raise ValueError(f"activation must be None, {', '.join(map(repr, ACTIVATIONS))}, got {activation!r}")
    with np.errstate(invalid="ignore", over="ignore"):
        y: Float64 = scale * (x.astype(np.float64) @ w.astype(np.float64))
        if bias is not None:
            y = y + bias.astype(np.float64)
        if activation is not None:
            y = np.where(np.isneginf(y), 0.0, ACTIVATIONS[activation](y))
        return y if residual is None else y + residual.astype(np.float64)


def rmsnorm_linear(x: NDArray[Any], gain: NDArray[Any], w: NDArray[Any], eps: float = 1e-5) -> Float64:
    """x[M, K], gain[K], w[K, N] -> out[M, N], float64."""
    check(x, w)
    if gain.shape != x.shape[1:]:
        raise ValueError(f"gain must have shape [K] = {x.shape[1:]}, got {gain.shape}")
    x = x.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        normed = x / np.sqrt(np.mean(x**2, axis=1, keepdims=True) + eps) * gain.astype(np.float64)
        out: Float64 = normed @ w.astype(np.float64)
    return out


def linear_transposed(x: NDArray[Any], w: NDArray[Any], residual: NDArray[Any] | None = None) -> Float64:
    """x[M, K], w[N, K], residual[M, N] -> out[M, N], float64."""
    if w.ndim != 2:
        raise ValueError(f"w must have 2 axes [N, K], got shape {w.shape}")
    return linear(x, w.T, None, residual)


def check(x: NDArray[Any], w: NDArray[Any]) -> None:
    """Raise ValueError with one sentence unless x[M, K] and w[K, N] go together."""
    for name, array, axes in (("x", x, "[M, K]"), ("w", w, "[K, N]")):
        if array.ndim != 2 or 0 in array.shape:
            raise ValueError(f"{name} must have 2 axes {axes}, none of size zero, got shape {array.shape}")
    if x.shape[1] != w.shape[0]:
        raise ValueError(f"x [M, K] and w [K, N] must have the same K, got {x.shape[1]} and {w.shape[0]}")


def silu(y: Float64) -> Float64:
    out: Float64 = y / (1 + np.exp(-y))
    return out


def gelu(y: Float64) -> Float64:
    out: Float64 = y * (1 + np.vectorize(math.erf, otypes=[float])(y / math.sqrt(2))) / 2
    return out


def relu(y: Float64) -> Float64:
    return np.maximum(y, 0.0)


ACTIVATIONS: dict[str, Callable[[Float64], Float64]] = {"silu": silu, "gelu": gelu, "relu": relu}
