"""Rotary position embedding, the definition: each pair of a head's numbers is turned by the angle of its token.

    out[s, h, a] = x[s, h, a] * cos[s, i] - x[s, h, b] * sin[s, i]
    out[s, h, b] = x[s, h, b] * cos[s, i] + x[s, h, a] * sin[s, i]        i = 0 .. D/2 - 1

The pair is (a, b) = (i, i + D/2), the two halves of a head, as in Llama's published checkpoints for `transformers` and
in GPT-NeoX; interleaved, it is (2 i, 2 i + 1), as in Meta's own and GPT-J. cos and sin are given for each token, so
that packed sequences and any scaling of the angles are the caller's. Computed and returned in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def rope(x: NDArray[Any], cos: NDArray[Any], sin: NDArray[Any], interleaved: bool = False) -> NDArray[np.float64]:
    """x[S, H, D], cos[S, D/2], sin[S, D/2] -> out[S, H, D], float64."""
    if x.ndim != 3 or 0 in x.shape or x.shape[2] % 2:
        raise ValueError(f"x must have 3 axes [S, H, D], D even and none of size zero, got shape {x.shape}")
    half = (x.shape[0], x.shape[2] // 2)
    for name, table in (("cos", cos), ("sin", sin)):
        if table.shape != half:
            raise ValueError(f"{name} must have shape [S, D/2] = {half}, got {table.shape}")
    x, c, s = x.astype(np.float64, copy=False), cos.astype(np.float64)[:, None], sin.astype(np.float64)[:, None]
    first = slice(0, None, 2) if interleaved else slice(0, half[1])
    second = slice(1, None, 2) if interleaved else slice(half[1], None)
    out = np.empty(x.shape)
    with np.errstate(invalid="ignore", over="ignore"):
        out[..., first] = x[..., first] * c - x[..., second] * s
        out[..., second] = x[..., second] * c + x[..., first] * s
    return out


def rope_angles(positions: NDArray[Any], dim: int, base: float = 10000.0) -> NDArray[np.float64]:
    """positions[S] -> angles[S, D/2] = position * base^(-2 i / D), whose cosine and sine `rope` takes; float64."""
    angles: NDArray[np.float64] = np.outer(positions.astype(np.float64), base ** (-np.arange(0, dim, 2) / dim))
    return angles


def heads_first(x: NDArray[Any]) -> NDArray[np.float64]:
    """x[S, H, D] -> out[H, S, D], float64: the same numbers, all tokens of a head beside each other."""
    if x.ndim != 3 or 0 in x.shape:
        raise ValueError(f"x must have 3 axes [S, H, D], none of size zero, got shape {x.shape}")
    return np.ascontiguousarray(x.astype(np.float64).transpose(1, 0, 2))
