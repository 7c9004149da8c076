"""The gated MLP of a Llama block, the definition: out[M, N] = (silu(x @ wg) * (x @ wu)) @ wd.

x[M, K], wg and wu[K, F], wd[F, N]; silu(g) = g / (1 + exp(-g)), which is 0 at minus infinity. Computed and returned in
float64; NaN and infinities propagate as IEEE arithmetic says of the formula.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def gated_mlp(x: NDArray[Any], wg: NDArray[Any], wu: NDArray[Any], wd: NDArray[Any]) -> NDArray[np.float64]:
    """x[M, K], wg[K, F], wu[K, F], wd[F, N] -> out[M, N], float64."""
    for name, array, axes in (("x", x, "[M, K]"), ("wg", wg, "[K, F]"), ("wu", wu, "[K, F]"), ("wd", wd, "[F, N]")):
        if array.ndim != 2 or 0 in array.shape:
            raise ValueError(f"{name} must have 2 axes {axes}, none of size zero, got shape {array.shape}")
    if wg.shape != wu.shape or wg.shape != (x.shape[1], wd.shape[0]):
        raise ValueError(
            f"wg and wu must have shape [K, F] = ({x.shape[1]}, {wd.shape[0]}), got {wg.shape} and {wu.shape}"
        )
    x, wg, wu, wd = (array.astype(np.float64, copy=False) for array in (x, wg, wu, wd))
    with np.errstate(invalid="ignore", over="ignore"):
        out: NDArray[np.float64] = (silu(x @ wg) * (x @ wu)) @ wd
    return out


def silu(g: NDArray[np.float64]) -> NDArray[np.float64]:
    """g / (1 + exp(-g)), and 0 at minus infinity."""
    with np.errstate(invalid="ignore", over="ignore"):
        out: NDArray[np.float64] = np.where(np.isneginf(g), 0.0, g / (1 + np.exp(-g)))
    return out
