"""RMSNorm, forward: out[M, N] = x / sqrt(mean(x^2) + eps) * gain over the columns of each row."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from triptych.harness.collection import llama
from triptych.harness.ops.op import BatchInvariance, Op
from triptych.harness.ops.regimes import around
from triptych.reference.rmsnorm import rmsnorm as reference

KERNELS = Path(__file__).parents[2] / "kernels"
TILES = {"M": (128,), "N": (64, 512)}


def flops(axes: Mapping[str, int], params: Mapping[str, Any]) -> int:
    """A square, a sum and two products for each element."""
    return 4 * axes["M"] * axes["N"]


def bytes_moved(axes: Mapping[str, int], params: Mapping[str, Any], itemsize: int) -> int:
    """x and gain read once, the output written once."""
    return itemsize * (2 * axes["M"] * axes["N"] + axes["N"])


def layers(rows: int) -> list[dict[str, Any]]:
    """The norm before a layer of each model, for so many tokens."""
    return [
        {"name": f"{model.name}/s{rows}", "dtype": llama.DTYPE, "M": rows, "N": model.hidden} for model in llama.MODELS
    ]


OPS = (
    Op(
        "rmsnorm",
        {"x": ("M", "N"), "gain": ("N",)},
        reference,
        {
            "smoke": [{"M": 64, "N": 96}, {"M": 200, "N": 3000}],
            "edge": [
                {"M": 1, "N": 1},
                {"M": 1, "N": 8192},
                {"M": 131, "N": 7},
                *({"M": m, "N": 5} for m in around(TILES["M"])),
                *({"M": 3, "N": n} for n in around(TILES["N"])),
            ],
            "model": layers(64),
            "model-long": layers(llama.LONG),
        },
        summary="out[M, N] = x[M, N] / sqrt(mean(x^2) + eps) * gain[N]",
        tiles=TILES,
        limits={"N": 8192},
        out=("M", "N"),
        alone=BatchInvariance(
            "M",
            {"x": 0},
            out=0,
            promised={"nki": 1, "nki-sim": 1},
            why="each row is normalised by itself, on a partition of its own",
        ),
        flops=flops,
        bytes=bytes_moved,
        nki=f"{KERNELS / 'nki' / 'rmsnorm.py'}:rmsnorm",
    ),
)
