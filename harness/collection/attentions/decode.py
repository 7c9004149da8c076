"""Decode attention: T new tokens of each sequence over its cache and each other, appended to the cache in place.

q[B, H, T, D], k_new, v_new[B, Hkv, T, D], lengths[B] -> out[B, H, T, D]; caches [B, Hkv, S, D], or pages of P tokens,
[pages, Hkv, P, D], with page_table[B, S / P]. Sequences of a batch have different lengths; the first fills its cache.
With k_scale and v_scale[Hkv] the caches are float8_e4m3 (`decode_variants`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from ml_dtypes import float8_e4m3

from triptych.harness.arrays import Array, Arrays
from triptych.harness.collection import llama
from triptych.harness.collection.attentions import forward
from triptych.harness.collection.attentions.baselines import online, plain, prescaled
from triptych.harness.ops.case import Case
from triptych.harness.ops.errors import RefusedInputs
from triptych.harness.ops.op import BatchInvariance, Op
from triptych.harness.ops.outputs.kinds import Exact, Output
from triptych.harness.ops.regimes import HARD, around
from triptych.reference.attention_decode import MOST_FLOAT8
from triptych.reference.attention_decode import attention_decode as reference

CACHES = ("k_cache", "v_cache")
SCALES = ("k_scale", "v_scale")
ARGUMENTS = ("q", "k_new", "v_new", *CACHES, "lengths", "page_table", *SCALES)  # in the kernel's order
SIZES, HEADS = (16, 128, 512), (32, 64, 128)  # of a cache and of a head, where the kernel starts another tile


def inputs(case: Case, rng: np.random.Generator) -> Arrays:
    """Queries, keys and values in the case's regime, as `forward.inputs` draws them, as a cache and what is new.

    What lies behind a sequence's tokens in its cache is as old tokens are. The table of a paged cache names its pages
    in no order, and two pages are in use by nobody.

    RefusedInputs: the cache has no room for the new tokens, S < T
    """
    b, h, hkv, t, s, d = (case.axes[axis] for axis in ("B", "H", "Hkv", "T", "S", "D"))
    if s < t:
        raise RefusedInputs(f"a cache of S = {s} places has no room for T = {t} new tokens: give S of at least T")
    axes = {"B": b, "H": h, "Hkv": hkv, "Sq": t, "Sk": s, "D": d}
    drawn = forward.inputs(replace(case, axes=axes, params={"causal": True}), rng)
    lengths = np.concatenate([[s - t], rng.integers(0, s - t + 1, b - 1)]).astype(np.int32)
    found = {"q": drawn["q"]}
    for name in ("k", "v"):
        found[f"{name}_new"] = np.stack([drawn[name][n, :, i : i + t] for n, i in enumerate(lengths)])
    for name in ("k", "v"):
        cache = drawn[name]
        for n, i in enumerate(lengths):
            cache[n, :, i : i + t] *= -1
        found[f"{name}_cache"] = cache
    found["lengths"] = lengths
    if "P" in case.axes:
        page = case.axes["P"]
        table = rng.permutation(b * (s // page) + 2)[: b * (s // page)].reshape(b, s // page).astype(np.int32)
        for name in CACHES:
            pages = np.zeros((b * (s // page) + 2, hkv, page, d), drawn["k"].dtype)
            pages[table] = found[name].reshape(b, hkv, s // page, page, d).swapaxes(1, 2)
            found[name] = pages
        found["page_table"] = table
    return found


def quantized(x: Array, scale: Array) -> Array:
    """x[.., Hkv, T, D] / scale[Hkv] in float8, clipped, by float32 arithmetic."""
    divided = x.astype(np.float32) / scale[:, None, None]
    return np.clip(divided, -MOST_FLOAT8, MOST_FLOAT8).astype(float8_e4m3)


def like(attention: Callable[..., Any]) -> Callable[..., Array]:
    """An honest attention of causal cases as one that decodes: each sequence by itself, its tokens laid out."""

    def decode(
        q: Array,
        k_new: Array,
        v_new: Array,
        k_cache: Array,
        v_cache: Array,
        lengths: Array,
        page_table: Array | None = None,
        k_scale: Array | None = None,
        v_scale: Array | None = None,
    ) -> Array:
        out = np.zeros_like(q)
        if k_scale is not None and v_scale is not None:
            k_new, v_new = quantized(k_new, k_scale), quantized(v_new, v_scale)
        for b, (length, tokens) in enumerate(zip(lengths, [q.shape[2]] * len(q), strict=True)):
            whole = []
            for cache, new, scale in ((k_cache, k_new, k_scale), (v_cache, v_new, v_scale)):
                j = np.arange(length + tokens)
                where = np.full_like(j, b) if page_table is None else page_table[b, j // cache.shape[2]]
                j = j if page_table is None else j % cache.shape[2]
                cache[where[length:], :, j[length:]] = new[b].swapaxes(0, 1)
                seen = cache[where, :, j].swapaxes(0, 1)[None]
                whole.append(seen if scale is None else seen.astype(np.float32) * scale[:, None, None])
            out[b] = attention(q[b : b + 1], *whole, causal=True)[0]
        return out

    decode.__name__ = attention.__name__
    return decode


def first_sequence(inputs: Arrays) -> dict[str, Any]:
    """The inputs of the first sequence, in float64 where they are no indices, and caches of their own."""
    paged = "page_table" in inputs
    found: dict[str, Any] = {}
    for name, x in inputs.items():
        part = x if (paged and name in CACHES) or name in SCALES else x[:1]
        found[name] = part.copy() if part.dtype.kind in "iu" else part.astype(np.float64)
    return found


def a_key_less(case: Case, inputs: Arrays, out: Array) -> tuple[Any, Any] | None:
    """The last token of the cache is not seen."""
    one = first_sequence(inputs)
    if one["lengths"][0] == 0:
        return None
    one["lengths"] -= 1
    return slice(1), reference(**one)


def no_new_token(case: Case, inputs: Arrays, out: Array) -> tuple[Any, Any] | None:
    """The tokens see what their places in the cache held before."""
    one = first_sequence(inputs)
    paged = "page_table" in one
    for i in range(case.axes["T"]):
        j = one["lengths"][0] + i
        for name in ("k", "v"):
            cache = one[f"{name}_cache"]
            where, at = (one["page_table"][0, j // case.axes["P"]], j % case.axes["P"]) if paged else (0, j)
            one[f"{name}_new"][0, :, i] = cache[where, :, at] * one.get(f"{name}_scale", np.ones(1))[:, None]
    wrong = reference(**one)
    return None if np.array_equal(wrong, out[:1], equal_nan=True) else (slice(1), wrong)


def scale_missing(case: Case, inputs: Arrays, out: Array) -> tuple[Any, Any]:
    """Scores are not divided by sqrt(D)."""
    one = first_sequence(inputs)
    one["q"] *= np.sqrt(case.axes["D"])
    return slice(1), reference(**one)


CORRUPTIONS = {
    "the last token of the cache missing": a_key_less,
    "the new tokens not there yet": no_new_token,
    "the scale missing": scale_missing,
}


def flops(axes: Mapping[str, int], params: Mapping[str, Any]) -> int:
    """Two products of 2 D each for each query and each place of the cache."""
    return 4 * axes["B"] * axes["H"] * axes["T"] * axes["S"] * axes["D"]


def bytes_moved(axes: Mapping[str, int], params: Mapping[str, Any], itemsize: int) -> int:
    """Caches, q and new tokens read once, out and new tokens written once."""
    token = axes["B"] * axes["Hkv"] * axes["D"]
    return itemsize * (
        2 * token * axes["S"] + 4 * token * axes["T"] + 2 * axes["B"] * axes["H"] * axes["T"] * axes["D"]
    )


def sizes(b: int, h: int, hkv: int, t: int, s: int, d: int, page: int, regime: str = "normal") -> dict[str, Any]:
    marks = [f"b{b}", f"h{h}kv{hkv}", f"t{t}", f"s{s}", f"d{d}"] + [f"page{page}"] * (page > 0)
    axes = {"B": b, "H": h, "Hkv": hkv, "T": t, "S": s, "D": d} | ({"P": page} if page else {})
    return {"name": "-".join(marks + [regime] * (regime != "normal")), **axes, "regime": regime}


def cases(paged: bool) -> dict[str, list[dict[str, Any]]]:
    """Of contiguous caches, or of pages of 16 tokens, 7 and 64."""

    def of(b: int, h: int, hkv: int, t: int, s: int, d: int, page: int = 16, regime: str = "normal") -> dict[str, Any]:
        return sizes(b, h, hkv, t, -(-s // page) * page if paged else s, d, page if paged else 0, regime)

    edge = [of(1, 1, 1, 1, s, 8) for s in (1, 2, *around(SIZES))]
    edge += [of(2, 2, 1, t, 140, 40, 7) for t in (2, 3, 8)]
    edge += [of(2, 2, 1, 1, 200, d, 64) for d in (1, *around(HEADS), 96, 256)]
    edge += [of(1, 128, 1, 1, 150, 16), of(5, 8, 8, 2, 97, 16, 7), of(1, 1, 1, 1, 2048 + 130, 128)]
    model = [
        {**of(2, m.heads, m.kv_heads, 1, 512, m.head_dim), "name": f"{m.name}/s512", "dtype": llama.DTYPE}
        for m in llama.MODELS
    ]
    long = [
        {**of(4, m.heads, m.kv_heads, 1, 4 * llama.LONG, m.head_dim), "name": f"{m.name}/s8192", "dtype": llama.DTYPE}
        for m in llama.MODELS
    ]
    return {
        "smoke": [of(2, 4, 2, 1, 96, 64), of(3, 4, 1, 4, 300, 128)],
        "edge": list({case["name"]: case for case in edge}.values()),  # caches of 1 and of 15 tokens are one page each
        "adversarial": [of(2, 4, 2, 2, 144, 32, regime=regime) for regime in HARD],
        "model": model,
        "model-long": long,
    }


def row(name: str, paged: bool) -> Op:
    each = {"q": 0, "k_new": 0, "v_new": 0, "k_cache": 0, "v_cache": 0, "lengths": 0}
    return Op(
        name=name,
        summary="out[B, H, T, D] = softmax(q @ k.T / sqrt(D)) @ v over a cache that grows by T tokens"
        + (", in pages" if paged else ""),
        axes=("B", "H", "Hkv", "T", "S", "D", *(["P"] if paged else [])),
        inputs=inputs,
        reference=reference,
        honest=tuple(like(attention) for attention in (online, plain, prescaled)),
        tiles={"D": HEADS} if paged else {"S": SIZES, "D": HEADS},
        mutates=CACHES,
        outputs={
            "out": Output(axes=("B", "H", "T", "D"), corruptions=CORRUPTIONS),
            "k_cache": Exact(),
            "v_cache": Exact(),
        },
        alone=None
        if paged
        else BatchInvariance(
            "B",
            each,
            out={"out": 0, "k_cache": 0, "v_cache": 0},
            promised={"nki": 1},
            why="each sequence is computed by itself, in chunks that do not depend on B; in the simulator NumPy's "
            "product of a few columns depends on where in a tile they lie",
        ),
        multiples={"H": "Hkv"} | ({"S": "P"} if paged else {}),
        limits={"D": 256, "T": 8},
        cases=cases(paged),
        flops=flops,
        bytes=bytes_moved,
        nki=f"{forward.KERNELS / 'nki' / 'attention_decode.py'}:attention_decode",
        triton=f"{forward.KERNELS / 'triton' / 'attention_decode.py'}:attention_decode",
    )


OPS = (row("attention_decode", paged=False), row("attention_decode_paged", paged=True))
