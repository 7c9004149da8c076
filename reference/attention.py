"""Scaled dot-product attention, the definition: out = softmax(q @ k.T / sqrt(D)) @ v over the keys each row sees.

Shapes: q[B, H, Sq, D], k[B, Hkv, Sk, D], v[B, Hkv, Sk, D] -> out[B, H, Sq, D], in float64.

- Grouped queries: head h reads key/value head h // (H // Hkv); H is a multiple of Hkv.
- Causal: the mask is aligned with the bottom right corner, so that query row i sees keys 0 .. i + Sk - Sq, as in
  FlashAttention since 2.1. The last query sees every key.
- A row that sees no key (only when causal and Sq > Sk) is 0.

Keys that a row does not see take no part in it: a NaN there does not reach the row. Among the keys that it does see,
NaN and infinities propagate as IEEE arithmetic says of the formula in `attend`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


def attention(q: NDArray[Any], k: NDArray[Any], v: NDArray[Any], causal: bool = False) -> Float64:
    """q[B, H, Sq, D], k[B, Hkv, Sk, D], v[B, Hkv, Sk, D] -> out[B, H, Sq, D], float64."""
    check(q, k, v)
    batch, heads, queries, _ = q.shape
    keys, group = k.shape[2], heads // k.shape[1]
    q, k, v = (x.astype(np.float64, copy=False) for x in (q, k, v))
    out = np.zeros(q.shape)
    for b in range(batch):
        for h in range(heads):
            head_k, head_v = k[b, h // group], v[b, h // group]
            if not causal:
                out[b, h] = attend(q[b, h], head_k, head_v)
                continue
            for row in range(queries):
                seen = row + keys - queries + 1
                if seen > 0:
                    out[b, h, row] = attend(q[b, h, row : row + 1], head_k[:seen], head_v[:seen])[0]
    return out


def attend(q: Float64, k: Float64, v: Float64) -> Float64:
    """q[R, D], k[S, D], v[S, D] -> out[R, D]: every row sees every key given here."""
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        scores = q @ k.T / np.sqrt(q.shape[1])
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        out: Float64 = weights @ v / weights.sum(axis=1, keepdims=True)
    return out


def check(q: NDArray[Any], k: NDArray[Any], v: NDArray[Any]) -> None:
    """Raise ValueError with one sentence unless the three shapes go together."""
    for name, array, axes in (("q", q, "[B, H, Sq, D]"), ("k", k, "[B, Hkv, Sk, D]"), ("v", v, "[B, Hkv, Sk, D]")):
        if array.ndim != 4:
            raise ValueError(f"{name} must have 4 axes {axes}, got {array.ndim}: shape {array.shape}")
        if 0 in array.shape:
            raise ValueError(f"{name} {axes} must have no axis of size zero, got shape {array.shape}")
    if k.shape != v.shape:
        raise ValueError(f"k and v [B, Hkv, Sk, D] must have the same shape, got {k.shape} and {v.shape}")
    if q.shape[0] != k.shape[0] or q.shape[3] != k.shape[3]:
        raise ValueError(f"q [B, H, Sq, D] and k [B, Hkv, Sk, D] must have the same B and D, got {q.shape}, {k.shape}")
    if q.shape[1] % k.shape[1]:
        raise ValueError(f"H of q must be a multiple of Hkv of k, got H = {q.shape[1]} and Hkv = {k.shape[1]}")
