"""Float8: quantisation with a scale for each row, and products of float8 and of MXFP8 numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_dtypes import bfloat16, float8_e4m3

from triptych.harness.arrays import Array, Arrays
from triptych.harness.collection import llama
from triptych.harness.collection import matmul as product
from triptych.harness.ops.case import Case
from triptych.harness.ops.errors import UninformativeCase
from triptych.harness.ops.op import BatchInvariance, Op
from triptych.harness.ops.outputs.kinds import Output
from triptych.harness.ops.regimes import HARD, around, in_regime, normal
from triptych.harness.precision import fits
from triptych.reference.quantize import matmul_fp8, matmul_mx, mx, quantize_fp8

KERNELS = Path(__file__).parents[2] / "kernels"
FEW_PRODUCTS = 127  # of MXFP8 numbers, whose sums may have no digits beyond float32
QUANTIZE_SMOKE = [{"M": 64, "N": 96}, {"M": 200, "N": 300}]


def float8_inputs(case: Case, rng: np.random.Generator) -> Arrays:
    """What quantisation gives of two operands, the left one in the case's regime: float8 numbers and their scales.

    `subnormal` are the left one's float8 numbers, under the scales of ordinary rows.
    """
    m, k, n = (case.axes[axis] for axis in "MKN")
    regime = "normal" if case.regime == "subnormal" else case.regime
    left = in_regime(normal(rng, m, k), regime, "bfloat16").astype(np.float64)
    finite = np.where(np.isfinite(left), left, 0)
    (lhs, lhs_scale), (rhs, rhs_scale) = quantize_fp8(finite), quantize_fp8(normal(rng, n, k))
    lhs[~np.isfinite(left)] = left[~np.isfinite(left)]
    if case.regime == "subnormal":
        lhs = np.clip(np.rint(2 * left), -7, 7) * 2.0**-9  # below 2^-6 float8_e4m3 has but multiples of this
    return {
        "lhsT": np.ascontiguousarray(lhs.astype(float8_e4m3).T),
        "rhs": np.ascontiguousarray(rhs.astype(float8_e4m3).T),
        "lhs_scale": lhs_scale.astype(np.float32),
        "rhs_scale": rhs_scale.astype(np.float32),
    }


def float8_product(lhsT: Array, rhs: Array, lhs_scale: Array, rhs_scale: Array) -> Array:
    """Honest: float32 sums in tiles of 128 along K, scaled and rounded to bfloat16 once."""
    total = np.zeros((lhsT.shape[1], rhs.shape[1]), np.float32)
    for k in range(0, len(lhsT), 128):
        total += lhsT[k : k + 128].astype(np.float32).T @ rhs[k : k + 128].astype(np.float32)
    scaled: Array = total * lhs_scale[:, None] * rhs_scale
    return scaled.astype(bfloat16 if lhsT.dtype.itemsize == 1 else lhsT.dtype)  # or as wide as it is asked for


def tiles_exchanged(case: Case, inputs: Arrays, out: Array) -> tuple[Any, Any] | None:
    """Corruption: the first two tiles of K are exchanged in one operand alone, in the first row."""
    k = case.axes["K"]
    if k < 256:
        return None
    order = np.arange(k)
    order[:128], order[128:256] = np.arange(128, 256), np.arange(128)
    wide = {name: x.astype(np.float64) for name, x in inputs.items()}
    wide["rhs"], wide["lhsT"] = wide["rhs"][order], wide["lhsT"][:, :1]
    wide["lhs_scale"] = wide["lhs_scale"][:1]
    return slice(0, 1), matmul_fp8(**wide)


def mx_inputs(case: Case, rng: np.random.Generator) -> Arrays:
    """Those of matmul, with channels of different widths, as activations have them: one width for 8 neighbours in K.

    UninformativeCase: the sums of K products, of eight bits each, all fit float32, which the judge takes for a
    reference that computes in it; only of few products they do
    """
    drawn = product.inputs(case, rng)
    for name, x in drawn.items():
        width = np.repeat(np.exp2(rng.integers(-10, 1, -(-len(x) // 8))), 8)[: len(x), None]
        drawn[name] = (x.astype(np.float32) * width).astype(x.dtype)
    if case.axes["K"] < FEW_PRODUCTS:
        with np.errstate(invalid="ignore"):
            sums = matmul_mx(**drawn)
        sums = sums[np.isfinite(sums)]
        if fits(sums, np.float32) and not fits(sums, bfloat16):
            raise UninformativeCase(case, f"sums of {case.axes['K']} products of eight bits are float32 numbers")
    return drawn


def mx_product(lhsT: Array, rhs: Array) -> Array:
    """Honest: float32 sums of the rounded numbers, in tiles of 512 along K."""
    left, right = mx(lhsT).astype(np.float32), mx(rhs).astype(np.float32)
    total = np.zeros((left.shape[1], right.shape[1]), np.float32)
    for k in range(0, len(left), 512):
        total += left[k : k + 512].T @ right[k : k + 512]
    return total.astype(lhsT.dtype)


def not_rounded(case: Case, inputs: Arrays, out: Array) -> tuple[Any, Any]:
    """Corruption: the product of the operands as they were, of the first rows."""
    wide = {name: x.astype(np.float64) for name, x in inputs.items()}
    return slice(0, 128), wide["lhsT"][:, :128].T @ wide["rhs"]


def too_small(case: Case, backend: str, target: str) -> str | None:
    if case.regime == "subnormal" and case.dtype != "float16":
        return "rows whose largest magnitude is below 240 x 2^-100 have the smallest scale, and round to zeros"
    return None


def no_infinities(case: Case, backend: str, target: str) -> str | None:
    if backend.startswith("triton") and case.regime == "nonfinite":
        return "the bytes of NaN and infinities in float8_e4m3 are numbers above 240 in the float8 that GPUs multiply"
    return None


def mx_unsupported(case: Case, backend: str, target: str) -> str | None:
    if target in ("trn1", "inf2", "trn2"):
        return "MX products need NeuronCore-v4"
    if case.regime == "nonfinite":
        return "what MX makes of a NaN or an infinity is not documented"
    return None


def layers(tokens: int) -> list[dict[str, Any]]:
    """The output projection of each model; the case's dtype is that of the output."""
    return [
        {"name": f"{model.name}/o_proj/s{tokens}", "M": tokens, "K": model.hidden, "N": model.hidden}
        for model in llama.MODELS
    ]


def float8_bytes(axes: Mapping[str, int], params: Mapping[str, Any], itemsize: int) -> int:
    """Operands of one byte read once, the output written once."""
    m, k, n = (axes[axis] for axis in "MKN")
    return m * k + k * n + itemsize * m * n + 4 * (m + n)


SMOKE = [{"M": 64, "K": 128, "N": 96}, {"M": 130, "K": 600, "N": 70}]
TILES = {"M": (128, 512, 1024), "K": (128, 256, 1024), "N": (512, 1024)}
EDGE = [
    {"M": 1, "K": 1, "N": 1},
    {"M": 7, "K": 1031, "N": 11},
    {"M": 131, "K": 2311, "N": 521},
    *({"M": size, "K": 19, "N": 5} for size in around(TILES["M"])),
    *({"M": 5, "K": size, "N": 19} for size in around(TILES["K"])),
    *({"M": 19, "K": 5, "N": size} for size in around(TILES["N"])),
    {"M": 5, "K": 8200, "N": 19},
]
QUANTIZE_FP8 = Op(
    "quantize_fp8",
    {"x": ("M", "N")},
    quantize_fp8,
    {
        "smoke": QUANTIZE_SMOKE,
        "edge": [
            {"M": 1, "N": 1},
            {"M": 1, "N": 16384},
            {"M": 131, "N": 7},
            *({"M": size, "N": 5} for size in around((128,))),
        ],
        "model": [{"name": f"{m.name}/s64", "dtype": llama.DTYPE, "M": 64, "N": m.hidden} for m in llama.MODELS],
        "model-long": [
            {"name": f"{m.name}/s{llama.LONG}", "dtype": llama.DTYPE, "M": llama.LONG, "N": m.hidden}
            for m in llama.MODELS
        ],
    },
    summary="q[M, N] = x[M, N] / scale[M] in float8_e4m3, scale = max |x| / 240 of each row",
    tiles={"M": (128,)},
    limits={"N": 16384},
    outputs={"q": Output("float8_e4m3", axes=("M", "N")), "scale": Output("float32", axes=("M",))},
    alone=BatchInvariance(
        "M",
        {"x": 0},
        {"q": 0, "scale": 0},
        {"nki": 1, "nki-sim": 1},
        why="each row is scaled by itself, on a partition of its own",
    ),
    flops=lambda axes, params: 2 * axes["M"] * axes["N"],
    bytes=lambda axes, params, itemsize: (itemsize + 1) * axes["M"] * axes["N"] + 4 * axes["M"],
    nki=f"{KERNELS / 'nki' / 'quantize.py'}:quantize_fp8",
    triton=f"{KERNELS / 'triton' / 'quantize.py'}:quantize_fp8",
    unsupported=too_small,
)
MATMUL_FP8 = Op(
    "matmul_fp8",
    float8_inputs,
    matmul_fp8,
    {
        "smoke": SMOKE,
        "edge": EDGE,
        "adversarial": [{**case, "regime": regime} for regime in HARD for case in SMOKE],
        "model": layers(16),
        "model-long": layers(llama.LONG),
    },
    summary="out[M, N] = lhs_scale[M] * rhs_scale[N] * (lhsT[K, M].T @ rhs[K, N]) of float8_e4m3",
    dtypes=("bfloat16",),
    tiles=TILES,
    out=("M", "N"),
    honest=(float8_product,),
    corruptions={"tiles exchanged in one operand": tiles_exchanged},
    flops=product.flops,
    bytes=float8_bytes,
    nki=f"{KERNELS / 'nki' / 'matmul_fp8.py'}:matmul_fp8",
    triton=f"{KERNELS / 'triton' / 'matmul_fp8.py'}:matmul_fp8",
    unsupported=no_infinities,
)
# Sums of few products of four bits are float32 numbers, which the judge takes for a reference that is one of float32.
MX_SMOKE = [{"M": 64, "K": 300, "N": 96}, {"M": 130, "K": 600, "N": 70}]
MX_TILES = {"M": (128, 512, 1024), "K": (128, 512), "N": (512, 1024)}
MX_EDGE = [
    {"M": 1, "K": 521, "N": 9},
    {"M": 7, "K": 1031, "N": 11},
    {"M": 131, "K": 2311, "N": 521},
    *({"M": size, "K": 190, "N": 5} for size in around(MX_TILES["M"])),
    *({"M": 5, "K": size, "N": 19} for size in around(MX_TILES["K"])),
    *({"M": 19, "K": 150, "N": size} for size in around(MX_TILES["N"])),
    {"M": 5, "K": 8200, "N": 19},
]
MATMUL_MX = Op(
    "matmul_mx",
    mx_inputs,
    matmul_mx,
    {
        "smoke": MX_SMOKE,
        "edge": MX_EDGE,
        "adversarial": [{**case, "regime": regime} for regime in HARD for case in MX_SMOKE],
        "model": layers(16),
        "model-long": layers(llama.LONG),
    },
    summary="out[M, N] = lhsT[K, M].T @ rhs[K, N], both operands rounded to MXFP8 on their way in",
    dtypes=("bfloat16", "float16"),
    shapes={"lhsT": ("K", "M"), "rhs": ("K", "N")},
    tiles=MX_TILES,
    out=("M", "N"),
    honest=(mx_product,),
    corruptions={"operands not rounded": not_rounded},
    flops=product.flops,
    bytes=product.bytes_moved,
    nki=f"{KERNELS / 'nki' / 'matmul_mx.py'}:matmul_mx",
    triton=f"{KERNELS / 'triton' / 'matmul_mx.py'}:matmul_mx",
    unsupported=mx_unsupported,
)
OPS = (QUANTIZE_FP8, MATMUL_FP8, MATMUL_MX)
