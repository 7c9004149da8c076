"""A block of a Llama model, the definition: attention and gated MLP, each after a norm and beside a residual.

    n = norm(x, gain1),    q | k | v = n wqkv,    q and k turned by their tokens' angles (two halves of a head a pair)
    y = x + attention(q, k, v) wo            causal, query head h on key head h // (H // Hkv)
    out = y + (silu(m wg) * (m wu)) wd,    m = norm(y, gain2)

x is [S, hidden], a weight [in, out], wqkv [hidden, (H + 2 Hkv) D]; norm(x, gain) = x / sqrt(mean(x^2) + 1e-5) * gain.
H follows from the shapes of cos [S, D/2] and wo [H D, hidden]. All is computed and returned in float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Weights = Mapping[str, NDArray[Any]]  # "gain1", "wqkv", "wo", "gain2", "wg", "wu", "wd"
EPS = 1e-5


def prefill(x: NDArray[Any], weights: Weights, cos: NDArray[Any], sin: NDArray[Any]) -> Float64:
    """x[S, hidden] -> out[S, hidden]: the tokens of one sequence, each of which sees those up to itself."""
    return forward(_wide(x), _widened(weights), _wide(cos), _wide(sin))["out"]


def decode(
    x: NDArray[Any],
    weights: Weights,
    cos: NDArray[Any],
    sin: NDArray[Any],
    k_cache: NDArray[Any],
    v_cache: NDArray[Any],
    lengths: NDArray[Any],
) -> tuple[Float64, Float64, Float64]:
    """x[B, hidden], one new token of each sequence -> out[B, hidden] and the caches [B, Hkv, S, D] with it in them."""
    w, k_cache, v_cache = _widened(weights), _wide(k_cache).copy(), _wide(v_cache).copy()
    wide = _wide(x)
    q, k, v = _projected(wide, w, _wide(cos), _wide(sin))
    B, H, D = q.shape
    group = H // k.shape[1]
    o = np.zeros((B, H, D))
    for b in range(B):
        at = int(lengths[b])
        k_cache[b, :, at], v_cache[b, :, at] = k[b], v[b]
        for h in range(H):
            scores = k_cache[b, h // group, : at + 1] @ q[b, h] / np.sqrt(D)
            p = np.exp(scores - scores.max())
            o[b, h] = p @ v_cache[b, h // group, : at + 1] / p.sum()
    y = wide + o.reshape(B, H * D) @ w["wo"]
    return y + _mlp(_norm(y, w["gain2"]), w), k_cache, v_cache


def gradients(
    x: NDArray[Any], weights: Weights, cos: NDArray[Any], sin: NDArray[Any], dout: NDArray[Any]
) -> dict[str, Float64]:
    """What dout[S, hidden] is to x and to each weight: {"out": the forward's output, "x": .., "gain1": .., ..}."""
    w, c, s, above = _widened(weights), _wide(cos), _wide(sin), _wide(dout)
    f = forward(_wide(x), w, c, s)
    found = {"out": f["out"]}
    # the MLP
    g, u = f["m"] @ w["wg"], f["m"] @ w["wu"]
    share = 1 / (1 + np.exp(-g))
    hidden = g * share * u
    dhidden = above @ w["wd"].T
    dg, du = dhidden * u * share * (1 + g * (1 - share)), dhidden * g * share
    found |= {"wd": hidden.T @ above, "wg": f["m"].T @ dg, "wu": f["m"].T @ du}
    dm = dg @ w["wg"].T + du @ w["wu"].T
    dy, found["gain2"] = _norm_gradients(f["y"], w["gain2"], dm)
    dy = dy + above
    # attention
    q, k, v, p = f["q"], f["k"], f["v"], f["p"]
    S, H, D = q.shape
    group = H // k.shape[1]
    found["wo"] = f["o"].T @ dy
    do = (dy @ w["wo"].T).reshape(S, H, D)
    dq, dk, dv = np.zeros(q.shape), np.zeros(k.shape), np.zeros(v.shape)
    for h in range(H):
        e = h // group
        dv[:, e] += p[h].T @ do[:, h]
        dp = do[:, h] @ v[:, e].T
        ds = p[h] * (dp - (dp * p[h]).sum(axis=1, keepdims=True)) / np.sqrt(D)
        dq[:, h] = ds @ k[:, e]
        dk[:, e] += ds.T @ q[:, h]
    back = [_turned(dq, c, -s), _turned(dk, c, -s), dv]
    dqkv = np.concatenate([part.reshape(S, -1) for part in back], axis=1)
    found["wqkv"] = f["n"].T @ dqkv
    dx, found["gain1"] = _norm_gradients(f["x"], w["gain1"], dqkv @ w["wqkv"].T)
    found["x"] = dx + dy
    return found


def forward(x: Float64, w: Mapping[str, Float64], cos: Float64, sin: Float64) -> dict[str, Float64]:
    """The output and what stands on the way to it, by the names of the formulas above."""
    q, k, v = _projected(x, w, cos, sin)
    S, H, D = q.shape
    group = H // k.shape[1]
    seen = np.tril(np.ones((S, S), bool))
    p, o = np.zeros((H, S, S)), np.zeros((S, H, D))
    for h in range(H):
        scores = np.where(seen, q[:, h] @ k[:, h // group].T / np.sqrt(D), -np.inf)
        p[h] = np.exp(scores - scores.max(axis=1, keepdims=True))
        p[h] /= p[h].sum(axis=1, keepdims=True)
        o[:, h] = p[h] @ v[:, h // group]
    flat = o.reshape(S, H * D)
    y = x + flat @ w["wo"]
    m = _norm(y, w["gain2"])
    n = _norm(x, w["gain1"])
    return {"x": x, "n": n, "q": q, "k": k, "v": v, "p": p, "o": flat, "y": y, "m": m, "out": y + _mlp(m, w)}


def _projected(x: Float64, w: Mapping[str, Float64], cos: Float64, sin: Float64) -> tuple[Float64, Float64, Float64]:
    """q[S, H, D], k[S, Hkv, D] and v[S, Hkv, D] of x[S, hidden], q and k turned."""
    D = 2 * cos.shape[1]
    heads = (_norm(x, w["gain1"]) @ w["wqkv"]).reshape(len(x), -1, D)
    H = w["wo"].shape[0] // D
    H_kv = (heads.shape[1] - H) // 2
    return _turned(heads[:, :H], cos, sin), _turned(heads[:, H : H + H_kv], cos, sin), heads[:, H + H_kv :]


def _turned(x: Float64, cos: Float64, sin: Float64) -> Float64:
    """x[S, H, D] with each pair of numbers half a head apart turned by its token's angle."""
    a, b = np.split(x, 2, axis=2)
    c, s = cos[:, None], sin[:, None]
    return np.concatenate([a * c - b * s, b * c + a * s], axis=2)


def _mlp(m: Float64, w: Mapping[str, Float64]) -> Float64:
    g = m @ w["wg"]
    out: Float64 = (g / (1 + np.exp(-g)) * (m @ w["wu"])) @ w["wd"]
    return out


def _norm(x: Float64, gain: Float64) -> Float64:
    out: Float64 = x / np.sqrt(np.mean(x**2, axis=1, keepdims=True) + EPS) * gain
    return out


def _norm_gradients(x: Float64, gain: Float64, above: Float64) -> tuple[Float64, Float64]:
    """What `above` is to the x and the gain of a norm."""
    r = 1 / np.sqrt(np.mean(x**2, axis=1, keepdims=True) + EPS)
    g = above * gain
    return r * g - x * r**3 * np.mean(g * x, axis=1, keepdims=True), (above * x * r).sum(axis=0)


def _wide(x: NDArray[Any]) -> Float64:
    return x.astype(np.float64, copy=False)


def _widened(weights: Weights) -> dict[str, Float64]:
    return {name: _wide(x) for name, x in weights.items()}
