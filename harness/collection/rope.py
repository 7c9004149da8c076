"""Rotary position embedding, each pair of a head's numbers turned by the angle of its token; and heads put first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from triptych.harness.arrays import Arrays
from triptych.harness.collection import llama
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import BatchInvariance, Op
from triptych.harness.ops.regimes import HARD, around, in_regime, normal, round_inputs
from triptych.reference.rope import heads_first, rope_angles
from triptych.reference.rope import rope as reference

KERNELS = Path(__file__).parents[2] / "kernels"
TILES = {"S": (128,)}
BASE = 500_000.0  # rope_theta of Llama 3's config.json


def inputs(case: Case, rng: np.random.Generator) -> Arrays:
    """x[S, H, D] in the case's regime; cos and sin of angles at which a model stands, for tokens anywhere in 8192."""
    s, h, d = (case.axes[axis] for axis in "SHD")
    angles = rope_angles(rng.integers(0, 8192, s), d, BASE)
    x = in_regime(normal(rng, s, h, d), case.regime, case.dtype)
    return round_inputs({"x": x, "cos": np.cos(angles), "sin": np.sin(angles)}, case.dtype)


def sine_of_the_token_before(case: Case, inputs: Arrays, out: Any) -> tuple[Any, Any] | None:
    """Corruption: the last token is turned by the angles of the one before it."""
    if case.axes["S"] < 2:
        return None
    before: dict[str, Any] = {name: table[-2:-1] for name, table in inputs.items() if name != "x"}
    return slice(-1, None), reference(inputs["x"][-1:], **before, **case.params)


def flops(axes: Mapping[str, int], params: Mapping[str, Any]) -> int:
    """Two products and a sum for each element."""
    return 3 * axes["S"] * axes["H"] * axes["D"]


def bytes_moved(axes: Mapping[str, int], params: Mapping[str, Any], itemsize: int) -> int:
    """x, cos and sin read once, the output written once."""
    return itemsize * axes["S"] * (2 * axes["H"] * axes["D"] + axes["D"])


def layers(tokens: int) -> list[dict[str, Any]]:
    """Query and key heads of each model together."""
    return [
        {
            "name": f"{model.name}/s{tokens}",
            "dtype": llama.DTYPE,
            "S": tokens,
            "H": model.heads + model.kv_heads,
            "D": model.head_dim,
        }
        for model in llama.MODELS
    ]


SMOKE = [{"S": 33, "H": 3, "D": 64}, {"S": 200, "H": 5, "D": 32}, {"S": 65, "H": 4, "D": 128, "interleaved": True}]
OPS = (
    Op(
        "rope",
        inputs,
        reference,
        {
            "smoke": SMOKE,
            "edge": [
                {"S": 1, "H": 1, "D": 2},
                {"S": 1, "H": 1, "D": 2, "interleaved": True},
                {"S": 7, "H": 3, "D": 512},
                {"S": 131, "H": 1, "D": 34, "interleaved": True},
                *({"S": size, "H": 2, "D": 6} for size in around(TILES["S"])),
                *({"S": 5, "H": size, "D": 64} for size in (7, 8, 9, 15, 16, 17)),
                *({"S": 5, "H": 3, "D": size} for size in (30, 62, 66, 126, 130)),
            ],
            "adversarial": [{**case, "regime": regime} for regime in HARD for case in SMOKE],
            "model": layers(64),
            "model-long": layers(llama.LONG),
        },
        summary="out[S, H, D] = x turned in pairs by the angles of cos[S, D/2] and sin[S, D/2]",
        tiles=TILES,
        limits={"D": 512},
        out=("S", "H", "D"),
        corruptions={"the angles of the token before": sine_of_the_token_before},
        alone=BatchInvariance(
            "S",
            {"x": 0, "cos": 0, "sin": 0},
            out=0,
            promised={"nki": 1, "nki-sim": 1},
            why="each token is turned by itself, on a partition of its own",
        ),
        flops=flops,
        bytes=bytes_moved,
        nki=f"{KERNELS / 'nki' / 'rope.py'}:rope",
        triton=f"{KERNELS / 'triton' / 'rope.py'}:rope",
    ),
    Op(
        "heads_first",
        {"x": ("S", "H", "D")},
        heads_first,
        {
            "smoke": [{"S": 33, "H": 3, "D": 64}],
            "edge": [
                {"S": 1, "H": 1, "D": 1},
                {"S": 131, "H": 7, "D": 5},
                *({"S": s, "H": 2, "D": 3} for s in around((512,))),
            ],
            "model": [{**case, "H": case["H"] // 5 * 4} for case in layers(64)[:1]],
            "model-long": [{**case, "H": case["H"] // 5 * 4} for case in layers(llama.LONG)[:1]],
        },
        summary="out[H, S, D] = x[S, H, D]: all tokens of a head beside each other",
        tiles={"S": (512,)},
        out=("H", "S", "D"),
        flops=lambda axes, params: 0,
        bytes=lambda axes, params, itemsize: 2 * itemsize * axes["S"] * axes["H"] * axes["D"],
        nki=f"{KERNELS / 'nki' / 'heads_first.py'}:heads_first",
        triton=f"{KERNELS / 'triton' / 'heads_first.py'}:heads_first",
    ),
)
