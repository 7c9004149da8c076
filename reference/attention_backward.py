"""Attention backward, by definition and in float64: the gradients of sum(dout * attention(q, k, v)).

    s = q k^T / sqrt(D), p = exp(s - lse) over the keys that a query sees, delta[i] = sum_d dout[i, d] out[i, d]
    dv = p^T dout,    ds = p * (dout v^T - delta),    dq = ds k / sqrt(D),    dk = ds^T q / sqrt(D)

Query i sees the keys j <= i + Sk - Sq with `causal`, and of these the last `window`; without, all. dk and dv are summed
over the H // Hkv heads that share a key head. out and lse, log sum_j exp(s[i, j]), are what the forward pass saved.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


def attention_backward(
    q: NDArray[Any],
    k: NDArray[Any],
    v: NDArray[Any],
    out: NDArray[Any],
    dout: NDArray[Any],
    lse: NDArray[Any],
    causal: bool = False,
    window: int | None = None,
) -> tuple[Float64, Float64, Float64]:
    """(dq[B, H, Sq, D], dk[B, Hkv, Sk, D], dv[B, Hkv, Sk, D]) of q, out, dout[B, H, Sq, D], k, v[B, Hkv, Sk, D]."""
    batch, heads, queries, d = q.shape
    keys, group = k.shape[2], heads // k.shape[1]
    dq, dk, dv = np.zeros(q.shape), np.zeros(k.shape), np.zeros(v.shape)
    for b in range(batch):
        for h in range(heads):
            query, o, do, saved = (x[b, h].astype(np.float64) for x in (q, out, dout, lse))
            key, value = k[b, h // group].astype(np.float64), v[b, h // group].astype(np.float64)
            for i0 in range(0, queries, 128):  # of the rows that see some of the same keys
                rows = slice(i0, min(i0 + 128, queries))
                begin, end = 0, keys
                if causal:
                    end = min(keys, rows.stop + keys - queries)
                    begin = max(0, rows.start + keys - queries - (window or keys + queries) + 1)
                if end <= begin:
                    continue
                i = np.arange(rows.start, rows.stop)[:, None] + keys - queries
                j = np.arange(begin, end)[None, :]
                sees = np.ones((len(i), end - begin), bool)
                if causal:
                    sees = (j <= i) & (j > i - (window or keys + queries))
                seen = slice(begin, end)
                of_q, of_k, of_v = _gradients(query[rows], o[rows], do[rows], saved[rows], key[seen], value[seen], sees)
                dq[b, h, rows] = of_q
                dk[b, h // group, seen] += of_k
                dv[b, h // group, seen] += of_v
    return dq, dk, dv


def _gradients(
    q: Float64, out: Float64, dout: Float64, lse: Float64, k: Float64, v: Float64, sees: NDArray[np.bool_]
) -> tuple[Float64, Float64, Float64]:
    """Of q, out, dout[R, D], lse[R], k, v[S, D] and sees[R, S]: what they add to dq[R, D], dk[S, D] and dv[S, D]."""
    scale = 1 / np.sqrt(q.shape[1])
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        p = np.where(sees, np.exp(np.where(sees, q @ k.T * scale - lse[:, None], -np.inf)), 0)
        delta = np.sum(dout * out, axis=1, keepdims=True)
        ds = np.where(sees, p * (dout @ v.T - delta), 0) * scale
        return ds @ k, ds.T @ q, p.T @ dout
