"""Root mean square normalisation, the definition: out[m, n] = x[m, n] / sqrt(mean over n of x[m, n]^2 + eps) * gain[n].

Each row is divided by its root mean square, and each column has its own gain; no mean is subtracted, which is what sets
it apart from a layer normalisation. Computed and returned in float64; NaN and infinities propagate as IEEE arithmetic
says of the formula.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def rmsnorm(x: NDArray[Any], gain: NDArray[Any], eps: float = 1e-5) -> NDArray[np.float64]:
    """x[M, N], gain[N] -> out[M, N], float64."""
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"x must have 2 axes [M, N], none of size zero, got shape {x.shape}")
    if gain.shape != x.shape[1:]:
        raise ValueError(f"gain must have shape [N] = {x.shape[1:]}, got {gain.shape}")
    x = x.astype(np.float64, copy=False)
    with np.errstate(invalid="ignore", over="ignore"):
        out: NDArray[np.float64] = x / np.sqrt(np.mean(x**2, axis=1, keepdims=True) + eps) * gain.astype(np.float64)
    return out


def rmsnorm_backward(
    x: NDArray[Any], gain: NDArray[Any], dy: NDArray[Any], residual: NDArray[Any] | None = None, eps: float = 1e-5
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """x[M, N], gain[N], dy[M, N] -> dx[M, N] and dgain[N], float64: what dy is to `rmsnorm`'s output.

    With r = 1 / sqrt(mean(x^2) + eps) of each row and g = dy * gain,
        dx[m, n] = r[m] g[m, n] - x[m, n] r[m]^3 mean over n of g[m, n] x[m, n]
        dgain[n] = sum over m of dy[m, n] x[m, n] r[m]
    and residual[M, N], what comes to x past the norm, is added to dx.
    """
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"x must have 2 axes [M, N], none of size zero, got shape {x.shape}")
    if gain.shape != x.shape[1:]:
        raise ValueError(f"gain must have shape [N] = {x.shape[1:]}, got {gain.shape}")
    if dy.shape != x.shape:
        raise ValueError(f"dy must have x's shape {x.shape}, got {dy.shape}")
    if residual is not None and residual.shape != x.shape:
        raise ValueError(f"residual must have x's shape {x.shape}, got {residual.shape}")
    x, gain, dy = (array.astype(np.float64, copy=False) for array in (x, gain, dy))
    with np.errstate(invalid="ignore", over="ignore"):
        r = 1 / np.sqrt(np.mean(x**2, axis=1, keepdims=True) + eps)
        g = dy * gain
        dx = r * g - x * r**3 * np.mean(g * x, axis=1, keepdims=True)
        if residual is not None:
            dx = dx + residual.astype(np.float64)
        dgain: NDArray[np.float64] = (dy * x * r).sum(axis=0)
    return dx, dgain
