"""Decode over a float8 cache, contiguous and in pages, and attention of many new tokens over a cache (`decode`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from ml_dtypes import float8_e4m3

from triptych.harness.arrays import Array, Arrays
from triptych.harness.collection import llama
from triptych.harness.collection.attentions import decode, forward
from triptych.harness.collection.attentions.decode import ARGUMENTS, HEADS, SCALES, first_sequence, inputs, sizes
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Corruption, Op
from triptych.harness.ops.regimes import HARD, around
from triptych.reference.attention_decode import MOST_FLOAT8
from triptych.reference.attention_decode import attention_decode as reference


def float8_inputs(case: Case, rng: np.random.Generator) -> dict[str, Array | None]:
    """Those of `inputs`, caches rounded to float8 by a scale for each key head, which some of its new tokens pass.

    A scale is a little more than the largest magnitude in the cache needs, so that no number lies just between two
    float8 ones. What is not finite stays that in a cache.
    """
    found = inputs(case, rng)
    for name in ("k", "v"):
        cache = found[f"{name}_cache"].astype(np.float64)
        largest = np.abs(np.where(np.isfinite(cache), cache, 0)).max(axis=(0, 2, 3))
        scale = np.maximum(largest / MOST_FLOAT8 * rng.uniform(1, 1.1, len(largest)), 2.0**-100).astype(np.float32)
        found[f"{name}_cache"] = (cache / scale[:, None, None]).astype(float8_e4m3)
        found[f"{name}_scale"] = scale
    return {name: found.get(name) for name in ARGUMENTS}


def scale_of_another_head(name: str) -> Corruption:
    """What a cache holds is multiplied by the scale of the next key head."""

    def corruption(case: Case, inputs: Arrays, out: Array) -> tuple[Any, Any] | None:
        if case.axes["Hkv"] == 1:
            return None
        one = first_sequence(inputs)
        one[name] = np.roll(one[name], 1)
        wrong = reference(**one)
        same = np.allclose(wrong, out[:1], rtol=0.02, atol=0.02, equal_nan=True)
        return None if same else (slice(1), wrong)

    return corruption


OF_FLOAT8 = {f"{name} of another head": scale_of_another_head(name) for name in SCALES}


def float8_bytes(axes: Mapping[str, int], params: Mapping[str, Any], itemsize: int) -> int:
    """As `bytes_moved`, and a byte for what is cached."""
    token = axes["B"] * axes["Hkv"] * axes["D"]
    new = token + axes["B"] * axes["H"] * axes["D"]
    return 2 * token * (axes["S"] + axes["T"]) + 2 * itemsize * axes["T"] * new


def too_small(case: Case, backend: str, target: str) -> str | None:
    if case.regime == "subnormal":
        return "values below 2^-100 have the smallest scale, and round to zeros"
    return None


def float8(of: Op, name: str) -> Op:
    """The op with caches in float8."""
    out = of.outputs["out"]
    return replace(
        of,
        name=name,
        summary=f"{of.summary}, in float8 with k_scale and v_scale[Hkv]",
        inputs=float8_inputs,
        dtypes=("bfloat16", "float16"),
        outputs={**of.outputs, "out": replace(out, corruptions={**out.corruptions, **OF_FLOAT8})},
        bytes=float8_bytes,
        unsupported=too_small,
    )


def chunk(b: int, h: int, hkv: int, t: int, s: int, d: int, regime: str = "normal") -> dict[str, Any]:
    return sizes(b, h, hkv, t, s, d, 0, regime)


PREFILL_TILES = {"T": (128, 512), "S": (128, 512, 1024), "D": HEADS}
PREFILL = {
    "smoke": [chunk(2, 4, 2, 96, 160, 64), chunk(2, 2, 1, 150, 310, 128)],
    "edge": [
        chunk(1, 1, 1, 1, 1, 1),
        chunk(3, 2, 2, 31, 67, 40),
        chunk(2, 1, 1, 130, 400, 256),
        chunk(1, 2, 1, 300, 300, 80),
        *[chunk(2, 1, 1, t, 530, 8) for t in around(PREFILL_TILES["T"])],
        *[chunk(2, 1, 1, 9, s, 8) for s in around(PREFILL_TILES["S"])],
        *[chunk(2, 1, 1, 5, 40, d) for d in around(HEADS)],
    ],
    "adversarial": [chunk(2, 4, 2, 67, 350, 32, regime) for regime in HARD if regime != "strided"],
    "model": [
        {**chunk(1, m.heads, m.kv_heads, 128, 512, m.head_dim), "name": f"{m.name}/t128s512", "dtype": llama.DTYPE}
        for m in llama.MODELS
    ],
    "model-long": [
        {
            **chunk(1, m.heads, m.kv_heads, 512, 4 * llama.LONG, m.head_dim),
            "name": f"{m.name}/t512s8192",
            "dtype": llama.DTYPE,
        }
        for m in llama.MODELS
    ],
}
CONTIGUOUS, PAGED = decode.OPS
OPS = (
    float8(CONTIGUOUS, "attention_decode_fp8"),
    float8(PAGED, "attention_decode_fp8_paged"),
    replace(
        CONTIGUOUS,
        name="attention_prefill",
        summary="out[B, H, T, D] = softmax(q @ k.T / sqrt(D)) @ v of many tokens over a cache that grows by them",
        tiles=PREFILL_TILES,
        limits={"D": 256},
        cases=PREFILL,
        nki=f"{forward.KERNELS / 'nki' / 'attention.py'}:attention_prefill",
        triton=f"{forward.KERNELS / 'triton' / 'attention_prefill.py'}:attention_prefill",
    ),
)
