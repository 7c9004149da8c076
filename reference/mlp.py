"""The gated MLP of a Llama block, the definition: out[M, N] = (silu(x @ wg) * (x @ wu)) @ wd + residual.

x[M, K], wg and wu[K, F], wd[F, N], residual[M, N] or None; silu(g) = g / (1 + exp(-g)), which is 0 at minus infinity.
Computed and returned in float64; NaN and infinities propagate as IEEE arithmetic says of the formula.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def gated_mlp(
    x: NDArray[Any], wg: NDArray[Any], wu: NDArray[Any], wd: NDArray[Any], residual: NDArray[Any] | None = None
) -> NDArray[np.float64]:
    """x[M, K], wg[K, F], wu[K, F], wd[F, N], residual[M, N] -> out[M, N], float64."""
    for name, array, axes in (("x", x, "[M, K]"), ("wg", wg, "[K, F]"), ("wu", wu, "[K, F]"), ("wd", wd, "[F, N]")):
        if array.ndim != 2 or 0 in array.shape:
            raise ValueError(f"{name} must have 2 axes {axes}, none of size zero, got shape {array.shape}")
    if wg.shape != wu.shape or wg.shape != (x.shape[1], wd.shape[0]):
        raise ValueError(
            f"wg and wu must have shape [K, F] = ({x.shape[1]}, {wd.shape[0]}), got {wg.shape} and {wu.shape}"
        )
    if residual is not None and residual.shape != (x.shape[0], wd.shape[1]):
        raise ValueError(f"residual must have shape [M, N] = ({x.shape[0]}, {wd.shape[1]}), got {residual.shape}")
    x, wg, wu, wd = (array.astype(np.float64, copy=False) for array in (x, wg, wu, wd))
    with np.errstate(invalid="ignore", over="ignore"):
        out: NDArray[np.float64] = (silu(x @ wg) * (x @ wu)) @ wd
        return out if residual is None else out + residual.astype(np.float64)


def silu(g: NDArray[np.float64]) -> NDArray[np.float64]:
    """g / (1 + exp(-g)), and 0 at minus infinity."""
    with np.errstate(invalid="ignore", over="ignore"):
        out: NDArray[np.float64] = np.where(np.isneginf(g), 0.0, g / (1 + np.exp(-g)))
    return out


def gate_backward(
    g: NDArray[Any], u: NDArray[Any], dh: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """g, u, dh[M, F] -> h, dg, du[M, F], float64: h = silu(g) * u, and what dh is to g and to u.

    With s = 1 / (1 + exp(-g)): dg = dh u (s + silu(g) (1 - s)), du = dh silu(g).
    """
    if g.ndim != 2 or 0 in g.shape or u.shape != g.shape or dh.shape != g.shape:
        raise ValueError(f"g, u and dh must have one shape [M, F], got {g.shape}, {u.shape} and {dh.shape}")
    g, u, dh = (array.astype(np.float64, copy=False) for array in (g, u, dh))
    with np.errstate(invalid="ignore", over="ignore"):
        s = 1 / (1 + np.exp(-g))
        gated = silu(g)
        return gated * u, dh * u * (s + gated * (1 - s)), dh * gated
