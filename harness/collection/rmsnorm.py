"""RMSNorm, forward and backward: out[M, N] = x / sqrt(mean(x^2) + eps) * gain over the columns of each row."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from triptych.harness.arrays import Array, Arrays
from triptych.harness.collection import llama
from triptych.harness.ops.case import Case
from triptych.harness.ops.errors import UninformativeCase
from triptych.harness.ops.op import BatchInvariance, Op
from triptych.harness.ops.outputs.kinds import Output
from triptych.harness.ops.regimes import HARD, around, in_regime, normal, round_inputs
from triptych.reference.rmsnorm import rmsnorm as reference
from triptych.reference.rmsnorm import rmsnorm_backward

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


def backward_flops(axes: Mapping[str, int], params: Mapping[str, Any]) -> int:
    """r takes two operations for each element, dx six, dgain three."""
    return 11 * axes["M"] * axes["N"]


def backward_bytes(axes: Mapping[str, int], params: Mapping[str, Any], itemsize: int) -> int:
    """x, dy, gain and the residual read once, dx and dgain written once."""
    return itemsize * ((3 + (axes["N"] % 2 == 0)) * axes["M"] * axes["N"] + 2 * axes["N"])


def backward_inputs(case: Case, rng: np.random.Generator) -> dict[str, Any]:
    """x in the case's regime, the others ordinary; nonfinite is the first row of dx, and one element of dgain.

    The residual is left out where N is odd.

    UninformativeCase: N is 1
    """
    m, n = case.axes["M"], case.axes["N"]
    if n == 1:
        raise UninformativeCase(case, "of one column dx is eps alone, what is left where two equal numbers cancel")
    x, gain, dy = normal(rng, m, n), normal(rng, n), normal(rng, m, n)
    if case.regime == "nonfinite":
        dy[0, 0], dy[m // 2, n // 2] = np.nan, np.inf
    else:
        x = in_regime(x, case.regime, case.dtype)
    residual = round_inputs({"residual": normal(rng, m, n)}, case.dtype)["residual"] if n % 2 == 0 else None
    return {**round_inputs({"x": x, "gain": gain, "dy": dy}, case.dtype), "residual": residual}


def rounded_once(x: Array, gain: Array, dy: Array, residual: Array | None = None, eps: float = 1e-5) -> Any:
    """Honest: everything in float32, rows one after the other in the sums of dgain."""
    wide, g, above = (a.astype(np.float32) for a in (x, gain, dy))
    r = 1 / np.sqrt(np.mean(wide * wide, axis=1, keepdims=True) + np.float32(eps))
    weighed = above * g
    dx = r * weighed - wide * (r * r * r * np.mean(weighed * wide, axis=1, keepdims=True))
    if residual is not None:
        dx = dx + residual.astype(np.float32)
    dgain = np.zeros(g.shape, np.float32)
    for row in above * wide * r:
        dgain += row
    return dx.astype(x.dtype), dgain.astype(gain.dtype)


def mean_forgotten(case: Case, inputs: Arrays, out: Array) -> tuple[Any, Any]:
    """Corruption: r g alone, as if the root mean square did not depend on x; of the first row."""
    x, gain, dy = (inputs[name].astype(np.float64) for name in ("x", "gain", "dy"))
    past = inputs["residual"][0].astype(np.float64) if "residual" in inputs else 0
    return 0, past + dy[0] * gain / np.sqrt(np.mean(x[0] ** 2) + 1e-5)


def last_row_missing(case: Case, inputs: Arrays, out: Array) -> tuple[Any, Any] | None:
    """Corruption: the last row takes no part in dgain."""
    if case.axes["M"] < 2:
        return None
    wide: dict[str, Any] = {name: a.astype(np.float64) for name, a in inputs.items()}
    return slice(None), rmsnorm_backward(**{name: a if name == "gain" else a[:-1] for name, a in wide.items()})[1]


BACKWARD = Op(
    "rmsnorm_backward",
    backward_inputs,
    rmsnorm_backward,
    {
        "smoke": [{"M": 64, "N": 96}, {"M": 200, "N": 300}],
        "edge": [
            {"M": 1, "N": 2},
            {"M": 1, "N": 4096},
            {"M": 131, "N": 7},
            {"M": 130, "N": 2053},
            *({"M": m, "N": 5} for m in around((128,))),
            *({"M": 3, "N": n} for n in around((512, 2048))),
        ],
        "adversarial": [
            {**case, "regime": regime} for regime in HARD for case in ({"M": 64, "N": 96}, {"M": 200, "N": 300})
        ],
        "model": layers(64),
        "model-long": layers(llama.LONG),
    },
    summary="dx[M, N] and dgain[N] of x[M, N], gain[N] and dy[M, N]",
    shapes={"x": ("M", "N"), "gain": ("N",), "dy": ("M", "N"), "residual": ("M", "N")},
    tiles={"M": (128,), "N": (512, 2048)},
    limits={"N": 4096},
    honest=(rounded_once,),
    outputs={
        "dx": Output(axes=("M", "N"), corruptions={"the mean forgotten": mean_forgotten}),
        "dgain": Output(axes=("N",), corruptions={"the last row missing": last_row_missing}),
    },
    flops=backward_flops,
    bytes=backward_bytes,
    nki=f"{KERNELS / 'nki' / 'rmsnorm.py'}:rmsnorm_backward",
    triton=f"{KERNELS / 'triton' / 'rmsnorm.py'}:rmsnorm_backward",
)
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
        triton=f"{KERNELS / 'triton' / 'rmsnorm.py'}:rmsnorm",
    ),
    BACKWARD,
)
