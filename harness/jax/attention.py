"""Attention as a function of JAX: `attention` with all that its kernels take, and a step of decoding."""

from __future__ import annotations

from typing import Any

import jax

from triptych.harness.functions.choices import WITHOUT_GRADIENT, attention_row
from triptych.harness.functions.places import NoKernel, Place
from triptych.harness.jax.derivatives import Differentiable, Given
from triptych.harness.jax.operators import Operator

Q, KV, SUMS = "B H Sq D", "B Hkv Sk D", "B H Sq"
INPUTS = {"q": Q, "k": KV, "v": KV, "sinks": "H", "mask": "* * Sq Sk", "segments": "B Sq"}

forward = Operator("attention", attention_row, INPUTS, {"out": Q})
forward_with_lse = Operator("attention_lse", "attention_lse", {"q": Q, "k": KV, "v": KV}, {"out": Q, "lse": SUMS})
backward = Operator(
    "attention_backward",
    "attention_backward",
    {"q": Q, "k": KV, "v": KV, "out": Q, "dout": Q, "lse": SUMS},
    {"dq": Q, "dk": KV, "dv": KV},
)
decode = Operator(
    "attention_decode",
    "attention_decode",
    {
        "q": "B H T D",
        "k_new": "B Hkv T D",
        "v_new": "B Hkv T D",
        "k_cache": "B Hkv S D",
        "v_cache": "B Hkv S D",
        "lengths": "B",
    },
    {"out": "B H T D"},
    mutates=("k_cache", "v_cache"),
)


def plain(place: Place, arrays: Given, params: Given) -> jax.Array:
    (out,) = forward(place, **arrays, **params)
    return out


def with_sums(place: Place, arrays: Given, params: Given) -> tuple[jax.Array, Any]:
    lacks = [name for name in WITHOUT_GRADIENT if name in {**arrays, **params}]
    if lacks:
        raise NoKernel(
            f"attention has no backward kernel with {', '.join(lacks)}; where no gradient is wanted, put "
            "jax.lax.stop_gradient around its arrays, else compute this layer in JAX"
        )
    out, lse = forward_with_lse(place, **arrays, **params, with_lse=True)
    return out, (out, lse)


def gradient(place: Place, arrays: Given, params: Given, kept: Any, dout: jax.Array) -> Given:
    out, lse = kept
    return dict(zip("qkv", backward(place, **arrays, out=out, dout=dout, lse=lse, **params), strict=True))


function = Differentiable(plain, with_sums, gradient)


def attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    *,
    causal: bool = False,
    window: int | None = None,
    softcap: float | None = None,
    sinks: jax.Array | None = None,
    mask: jax.Array | None = None,
    segments: jax.Array | None = None,
) -> jax.Array:
    """out[B, H, Sq, D] = softmax(q k^T / sqrt(D)) v, of q[B, H, Sq, D], k and v[B, Hkv, Sk, D].

    With `causal` query i sees the keys j <= i + Sk - Sq, with `window` the last so many of these. `softcap`,
    `sinks[H]`, `mask[B or 1, H or 1, Sq, Sk]` and `segments[B, S]`, int32, are those of the reference; with one of them
    there is no gradient, and NoKernel says so where one is asked for. ValueError for shapes that do not go together.
    """
    arrays = {"q": q, "k": k, "v": v, "sinks": sinks, "mask": mask, "segments": segments}
    out: jax.Array = function(arrays, causal=causal, window=window, softcap=softcap)
    return out


def attention_decode(
    q: jax.Array, k_new: jax.Array, v_new: jax.Array, k_cache: jax.Array, v_cache: jax.Array, lengths: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """out[B, H, T, D] of T new tokens a sequence, and both caches[B, Hkv, S, D] with the tokens in them.

    The tokens are appended at lengths[B], int32. New token i of sequence b sees the first lengths[b] tokens of its
    cache and the new ones up to itself. Arrays of JAX do not change: the caches that were given stay as they were. No
    gradient.
    """
    out, k_after, v_after = decode(q=q, k_new=k_new, v_new=v_new, k_cache=k_cache, v_cache=v_cache, lengths=lengths)
    return out, k_after, v_after
