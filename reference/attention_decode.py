"""Decode attention, by definition and in float64: new tokens attend to a cache and to each other, and join the cache.

    out[b, h, i, :] = sum_j w[j] v[j, :],    w = softmax(k q[b, h, i, :] / sqrt(D)),    g = h // (H // Hkv)

k and v are the first lengths[b] tokens of the cache of (b, g) and then the new tokens 0 .. i. The caches are changed in
place: new token i is then at position lengths[b] + i, and all else as it was.

With k_scale and v_scale[Hkv] the caches hold float8_e4m3 numbers, which stand for themselves times the scale of their
head. A new token becomes x / scale, clipped to 240 and rounded to the nearest (ties to even), and counts as that.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
MOST_FLOAT8 = 240.0


def attention_decode(
    q: NDArray[Any],
    k_new: NDArray[Any],
    v_new: NDArray[Any],
    k_cache: NDArray[Any],
    v_cache: NDArray[Any],
    lengths: NDArray[Any],
    page_table: NDArray[Any] | None = None,
    k_scale: NDArray[Any] | None = None,
    v_scale: NDArray[Any] | None = None,
) -> Float64:
    """out[B, H, T, D] of q[B, H, T, D], k_new and v_new[B, Hkv, T, D] and lengths[B]; the caches are appended to.

    The caches are [B, Hkv, S, D], or with page_table[B, pages of a sequence] pages [pages, Hkv, page, D]: position j of
    sequence b is in page page_table[b, j // page] at j % page. Raises ValueError where lengths[b] + T passes the
    capacity.
    """
    batch, heads, tokens, d = q.shape
    group = heads // k_new.shape[1]
    scales = [np.ones((k_new.shape[1], 1)) if s is None else s.astype(np.float64)[:, None] for s in (k_scale, v_scale)]
    if k_scale is not None:
        k_new, v_new = (float8(x / scale[:, None]) for x, scale in zip((k_new, v_new), scales, strict=True))
    out = np.zeros(q.shape)
    for b in range(batch):
        places = positions(b, int(lengths[b]) + tokens, k_cache.shape[2], page_table)
        if len(places[0]) < int(lengths[b]) + tokens or places[1].size and places[1].max() >= k_cache.shape[2]:
            raise ValueError(f"sequence {b} has {lengths[b]} tokens and {tokens} new ones, more than its cache holds")
        for cache, new in ((k_cache, k_new), (v_cache, v_new)):
            cache[places[0][-tokens:], :, places[1][-tokens:]] = new[b].swapaxes(0, 1)
        keys, values = (
            cache[places[0], :, places[1]].astype(np.float64) * scale
            for cache, scale in zip((k_cache, v_cache), scales, strict=True)
        )  # [tokens, Hkv, D]
        for h in range(heads):
            for i in range(tokens):
                seen = int(lengths[b]) + i + 1
                out[b, h, i] = attend(q[b, h, i].astype(np.float64), keys[:seen, h // group], values[:seen, h // group])
    return out


def float8(x: NDArray[Any]) -> Float64:
    """x as float8_e4m3 holds it: three bits behind the first, 2^-9 the smallest step, clipped to 240; NaN stays."""
    clipped = np.clip(x.astype(np.float64), -MOST_FLOAT8, MOST_FLOAT8)
    step = np.ldexp(1.0, np.maximum(np.frexp(clipped)[1] - 1, -6) - 3)
    rounded: Float64 = np.rint(clipped / step) * step
    return rounded


def positions(b: int, count: int, page: int, page_table: NDArray[Any] | None) -> tuple[NDArray[Any], NDArray[Any]]:
    """Where the first `count` tokens of sequence b lie: (index of dimension 0, index of dimension 2) of a cache."""
    j = np.arange(count)
    if page_table is None:
        return np.full(count, b), j
    within = j[: page_table.shape[1] * page]
    return page_table[b, within // page].astype(np.int64), within % page


def attend(q: Float64, k: Float64, v: Float64) -> Float64:
    """q[D], k[S, D], v[S, D] -> out[D]."""
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        scores = k @ q / np.sqrt(len(q))
        weights = np.exp(scores - scores.max())
        out: Float64 = weights @ v / weights.sum()
    return out
