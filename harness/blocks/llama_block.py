"""A Llama block out of kernels: which is called on what, in prefill, decode and training.

`call(name, *arrays, **params)` is whoever computes (`callers`): the same three functions run on simulated kernels, on
NumPy, and without data for a prediction. Activations are [tokens, width] and weights [in, out]; only attention wants
all tokens of a head beside each other, and `heads_first` gives it that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from triptych.harness.arrays import Array, Arrays

Call = Callable[..., Any]
Weights = Mapping[str, Array]  # "gain1", "wqkv", "wo", "gain2", "wg", "wu", "wd", as of the reference


def prefill(call: Call, x: Array, w: Weights, cos: Array, sin: Array) -> Array:
    """x[S, hidden], the tokens of one sequence -> out[S, hidden]."""
    heads = in_heads(call("rmsnorm_linear", x, w["gain1"], w["wqkv"]), cos)
    q, k, v = turned(call, heads, w, cos, sin)
    o = call("attention", *(call("heads_first", part)[None] for part in (q, k, v)), causal=True)
    y = call("linear", flat(call("heads_first", o[0])), w["wo"], None, x)
    out: Array = call("gated_mlp", call("rmsnorm", y, w["gain2"]), w["wg"], w["wu"], w["wd"], y)
    return out


def decode(
    call: Call, x: Array, w: Weights, cos: Array, sin: Array, k_cache: Array, v_cache: Array, lengths: Array
) -> Array:
    """x[B, hidden], one new token of each sequence -> out[B, hidden]; the caches [B, Hkv, S, D] take it in."""
    heads = in_heads(call("rmsnorm_linear", x, w["gain1"], w["wqkv"]), cos)
    q, k, v = (part[:, :, None] for part in turned(call, heads, w, cos, sin))
    o = call("attention_decode", q, k, v, k_cache, v_cache, lengths)
    y = call("linear", o.reshape(len(x), -1), w["wo"], None, x)
    out: Array = call("gated_mlp", call("rmsnorm", y, w["gain2"]), w["wg"], w["wu"], w["wd"], y)
    return out


def training(call: Call, x: Array, w: Weights, cos: Array, sin: Array, dout: Array) -> Arrays:
    """Forward and backward: {"out": out[S, hidden], "x": what dout is to x, "wqkv": what it is to that weight, ..}."""
    n = call("rmsnorm", x, w["gain1"])
    heads = in_heads(call("linear", n, w["wqkv"]), cos)
    qkv = [call("heads_first", part)[None] for part in turned(call, heads, w, cos, sin)]
    attended, lse = call("attention", *qkv, causal=True, with_lse=True)
    o = flat(call("heads_first", attended[0]))
    y = call("linear", o, w["wo"], None, x)
    m = call("rmsnorm", y, w["gain2"])
    g, u = call("linear", m, w["wg"]), call("linear", m, w["wu"])
    found = {"out": call("gated_mlp", m, w["wg"], w["wu"], w["wd"], y)}

    hidden, dg, du = call("gate_backward", g, u, call("linear_transposed", dout, w["wd"]))
    found |= {"wd": call("matmul", hidden, dout), "wg": call("matmul", m, dg), "wu": call("matmul", m, du)}
    dm = call("linear_transposed", du, w["wu"], call("linear_transposed", dg, w["wg"]))
    dy, found["gain2"] = call("rmsnorm_backward", y, w["gain2"], dm, dout)

    found["wo"] = call("matmul", o, dy)
    do = call("heads_first", in_heads(call("linear_transposed", dy, w["wo"]), cos))[None]
    dq, dk, dv = call("attention_backward", *qkv, attended, do, lse, causal=True)
    back = [call("heads_first", part[0]) for part in (dq, dk, dv)]
    dqkv = np.concatenate(
        [flat(call("rope", back[0], cos, -sin)), flat(call("rope", back[1], cos, -sin)), flat(back[2])], 1
    )
    found["wqkv"] = call("matmul", n, dqkv)
    dn = call("linear_transposed", dqkv, w["wqkv"])
    found["x"], found["gain1"] = call("rmsnorm_backward", x, w["gain1"], dn, dy)
    return found


def in_heads(x: Array, cos: Array) -> Array:
    """x[S, heads D] -> [S, heads, D]."""
    return x.reshape(len(x), -1, 2 * cos.shape[1])


def flat(x: Array) -> Array:
    """x[S, heads, D] -> [S, heads D]."""
    return x.reshape(len(x), -1)


def turned(call: Call, heads: Array, w: Weights, cos: Array, sin: Array) -> tuple[Array, Array, Array]:
    """q[S, H, D], k[S, Hkv, D] and v[S, Hkv, D] of the projection's heads, q and k turned by their tokens' angles."""
    query_heads = w["wo"].shape[0] // heads.shape[2]
    kv_heads = (heads.shape[1] - query_heads) // 2
    qk = call("rope", heads[:, : query_heads + kv_heads], cos, sin)
    return qk[:, :query_heads], qk[:, query_heads:], heads[:, query_heads + kv_heads :]
