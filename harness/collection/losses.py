"""Softmax with cross-entropy over a vocabulary, forward and backward."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from triptych.harness.arrays import Array, Arrays
from triptych.harness.collection import llama
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import BatchInvariance, Op
from triptych.harness.ops.outputs.kinds import Output
from triptych.harness.ops.regimes import HARD, around, in_regime, normal, round_inputs
from triptych.reference.cross_entropy import cross_entropy, cross_entropy_backward

KERNELS = Path(__file__).parents[2] / "kernels"
VOCABULARY = 128_256  # of Llama 3's config.json
TILES = {"M": (128,), "V": (2048, 4096)}
SMOKE = [{"M": 7, "V": 300}, {"M": 130, "V": 131}]
EDGE = [
    {"M": 1, "V": 1},
    {"M": 3, "V": 8209},
    *({"M": size, "V": 5} for size in around(TILES["M"])),
    *({"M": 3, "V": size} for size in around(TILES["V"])),
]
WHY = "each row stands on a partition of its own"


def inputs(case: Case, rng: np.random.Generator) -> Arrays:
    """logits[M, V] in the case's regime and labels[M], one of eight negative, which counts for nothing."""
    m, v = case.axes["M"], case.axes["V"]
    logits = in_regime(normal(rng, m, v), case.regime, case.dtype)
    labels = rng.integers(0, v, m).astype(np.int32)
    if case.regime != "nonfinite":  # where every row counts, so that what is planted shows
        labels[1:][rng.random(m - 1) < 0.125] = -100
    return {**round_inputs({"logits": logits}, case.dtype), "labels": labels}


def backward_inputs(case: Case, rng: np.random.Generator) -> Arrays:
    """Those of the forward, the lse that it gives in float32, and dloss as a mean over the tokens has it, and wider."""
    forward = inputs(case, rng)
    wide = {name: x.astype(np.float64) if name == "logits" else x for name, x in forward.items()}
    _, lse = cross_entropy(**wide)
    dloss = rng.standard_normal(len(lse)).astype(np.float32)
    return {**forward, "lse": lse.astype(np.float32), "dloss": dloss}


def label_of_the_row_before(case: Case, inputs: Arrays, out: Array) -> tuple[Any, Any] | None:
    """Corruption: each row takes the label of the row before it."""
    if case.axes["M"] < 2:
        return None
    shifted = {**inputs, "labels": np.roll(inputs["labels"], 1)}
    wrong = cross_entropy(**{n: x.astype(np.float64) if n == "logits" else x for n, x in shifted.items()})[0]
    return slice(None), wrong


def label_forgotten(case: Case, inputs: Arrays, out: Array) -> tuple[Any, Any] | None:
    """Corruption: the softmax alone, without the label's one, in the first row."""
    label = inputs["labels"][0]
    return (0, label), out[0, label] + inputs["dloss"][0]


def layers(tokens: int) -> list[dict[str, Any]]:
    return [{"name": f"llama-3/s{tokens}", "dtype": llama.DTYPE, "M": tokens, "V": VOCABULARY}]


def forward_bytes(axes: Mapping[str, int], params: Mapping[str, Any], itemsize: int) -> int:
    """logits and labels read once, loss and lse written once."""
    return itemsize * axes["M"] * axes["V"] + 12 * axes["M"]


def backward_bytes(axes: Mapping[str, int], params: Mapping[str, Any], itemsize: int) -> int:
    """logits, labels, lse and dloss read once, dlogits written once."""
    return 2 * itemsize * axes["M"] * axes["V"] + 12 * axes["M"]


def row(name: str, **more: Any) -> Op:
    return Op(
        name=name,
        cases={
            "smoke": SMOKE,
            "edge": EDGE,
            "adversarial": [{**case, "regime": regime} for regime in HARD for case in SMOKE],
            "model": layers(4),
            "model-long": layers(128),
        },
        axes=("M", "V"),
        tiles=TILES,
        flops=lambda axes, params: 4 * axes["M"] * axes["V"],
        nki=f"{KERNELS / 'nki' / 'cross_entropy.py'}:{name}",
        triton=f"{KERNELS / 'triton' / 'cross_entropy.py'}:{name}",
        **more,
    )


OPS = (
    row(
        "cross_entropy",
        inputs=inputs,
        reference=cross_entropy,
        summary="loss[M] and lse[M] of logits[M, V] and labels[M]",
        outputs={
            "loss": Output(
                "float32", axes=("M",), corruptions={"the label of the row before": label_of_the_row_before}
            ),
            "lse": Output("float32", axes=("M",)),
        },
        alone=BatchInvariance(
            "M", {"logits": 0, "labels": 0}, {"loss": 0, "lse": 0}, {"nki": 1, "nki-sim": 1}, why=WHY
        ),
        bytes=forward_bytes,
    ),
    row(
        "cross_entropy_backward",
        inputs=backward_inputs,
        reference=cross_entropy_backward,
        summary="dlogits[M, V] = (exp(logits - lse) - [column = label]) * dloss",
        out=("M", "V"),
        corruptions={"the label forgotten": label_forgotten},
        alone=BatchInvariance(
            "M", {"logits": 0, "labels": 0, "lse": 0, "dloss": 0}, 0, {"nki": 1, "nki-sim": 1}, why=WHY
        ),
        bytes=backward_bytes,
    ),
)
