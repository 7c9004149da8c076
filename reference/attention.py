"""Scaled dot-product attention, the definition: out = softmax(q @ k.T / sqrt(D)) @ v over the keys each row sees.

Shapes: q[B, H, Sq, D], k[B, Hkv, Sk, D], v[B, Hkv, Sk, D] -> out[B, H, Sq, D], in float64.

- Grouped queries: head h reads key/value head h // (H // Hkv); H is a multiple of Hkv.
- Causal: the mask is aligned with the bottom right corner, so that query row i sees keys 0 .. i + Sk - Sq, as in
  FlashAttention since 2.1. The last query sees every key. With `window`, a row sees the last `window` of these only.
- `softcap`: scores s become softcap * tanh(s / softcap), as in Gemma 2.
- `mask` [B or 1, H or 1, Sq, Sk] is added to the scores, after the cap; where it is minus infinity, the row does not
see
  the key.
- `segments` [B, S], for packed sequences, S = Sq = Sk: a row sees keys of its own segment only.
- `sinks` [H]: a score of each head that joins the softmax and has no value, as in StreamingLLM and gpt-oss.
- A row that sees no key is 0.

Keys that a row does not see take no part in it: a NaN there does not reach the row. Among the keys that it does see,
NaN and infinities propagate as IEEE arithmetic says of the formula in `attend`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


def attention(
    q: NDArray[Any],
    k: NDArray[Any],
    v: NDArray[Any],
    causal: bool = False,
    window: int | None = None,
    softcap: float | None = None,
    sinks: NDArray[Any] | None = None,
    mask: NDArray[Any] | None = None,
    segments: NDArray[Any] | None = None,
    with_lse: bool = False,
) -> Any:
    """q[B, H, Sq, D], k[B, Hkv, Sk, D], v[B, Hkv, Sk, D] -> out[B, H, Sq, D], float64.

    With `with_lse` (out, lse[B, H, Sq]): the logarithm of the sum of exp(score), -inf where a row sees no key.
    """
    check(q, k, v)
    check_segments(q, k, segments)
    if window is not None and (not causal or window < 1):
        raise ValueError(f"a window of one or more keys goes with causal, got {window}")
    batch, heads, queries, _ = q.shape
    keys, group = k.shape[2], heads // k.shape[1]
    q, k, v = (x.astype(np.float64, copy=False) for x in (q, k, v))
    out, lse = np.zeros(q.shape), np.full(q.shape[:3], -np.inf)
    for b in range(batch):
        for h in range(heads):
            head_k, head_v = k[b, h // group], v[b, h // group]
            sink = None if sinks is None else float(sinks[h])
            lse[b, h] = -np.inf if sink is None else sink
            if not causal and mask is None and segments is None:
                out[b, h], lse[b, h] = attend(q[b, h], head_k, head_v, softcap, sink)
                continue
            for row in range(queries):
                last = row + keys - queries if causal else keys - 1
                first = 0 if window is None else max(0, last - window + 1)
                seen: Any = slice(first, max(first, last + 1))
                added = None if mask is None else mask[b % len(mask), h % mask.shape[1], row, seen].astype(np.float64)
                if added is not None or segments is not None:
                    is_seen = np.ones(seen.stop - first, bool) if added is None else ~np.isneginf(added)
                    if segments is not None:
                        is_seen &= segments[b, seen] == segments[b, row]
                    seen = first + np.flatnonzero(is_seen)
                    added = None if added is None else added[is_seen]
                if len(head_k[seen]):
                    found = attend(q[b, h, row : row + 1], head_k[seen], head_v[seen], softcap, sink, added)
                    out[b, h, row], lse[b, h, row] = found[0][0], found[1][0]
    return (out, lse) if with_lse else out


def attend(
    q: Float64,
    k: Float64,
    v: Float64,
    softcap: float | None = None,
    sink: float | None = None,
    added: Float64 | None = None,
) -> tuple[Float64, Float64]:
    """q[R, D], k[S, D], v[S, D] -> out[R, D], lse[R]: every row sees every key; added[S] joins the scores."""
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        scores = q @ k.T / np.sqrt(q.shape[1])
        if softcap is not None:
            scores = softcap * np.tanh(scores / softcap)
        if added is not None:
            scores = scores + added
        top = scores.max(axis=1, keepdims=True)
        if sink is not None:
            top = np.maximum(top, sink)
        weights = np.exp(scores - top)
        total = weights.sum(axis=1, keepdims=True)
        if sink is not None:
            total = total + np.exp(sink - top)
        out: Float64 = weights @ v / total
        lse: Float64 = (top + np.log(total))[:, 0]
    return out, lse


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


def check_segments(q: NDArray[Any], k: NDArray[Any], segments: NDArray[Any] | None) -> None:
    """Raise ValueError with one sentence unless segments, if there are any, give each query and each key a number."""
    if segments is None or segments.shape == (q.shape[0], q.shape[2]) == (k.shape[0], k.shape[2]):
        return
    raise ValueError(
        f"segments must be [B, S] with S = Sq = Sk, got {segments.shape} beside q [B, H, Sq, D] {q.shape} and "
        f"k [B, Hkv, Sk, D] {k.shape}; sequences that are packed have as many queries as keys"
    )
