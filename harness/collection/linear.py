"""Linear layers of a Llama block with what surrounds them: epilogues, the norm before one, and the gated MLP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from triptych.harness.arrays import Array, Arrays
from triptych.harness.collection import llama
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Corruption, Op
from triptych.harness.ops.outputs.kinds import Output
from triptych.harness.ops.regimes import HARD, around, in_regime, normal, round_inputs
from triptych.reference import linear as reference
from triptych.reference import mlp

KERNELS = Path(__file__).parents[2] / "kernels"
FLOAT16_RMS, FLOAT16_MOST = 20, 300  # of activations in float16: g * u of a gated MLP stays below 65504


def activations(case: Case, rng: np.random.Generator, *shape: int) -> Array:
    """Activations in the case's regime; in float16 at most as wide as their products bear."""
    x = in_regime(normal(rng, *shape), case.regime, case.dtype)
    if case.dtype == "float16" and case.regime != "nonfinite":
        rms = np.sqrt(np.mean(np.square(x, dtype=np.float64)))
        x = x * np.float32(min(1, FLOAT16_RMS / rms, FLOAT16_MOST / np.abs(x).max()))
    return x


def weights(rng: np.random.Generator, rows: int, columns: int) -> Array:
    """A layer's weights[rows, columns]: normal, of a width that keeps the deviation of its inputs."""
    return normal(rng, rows, columns) / np.float32(rows**0.5)


def mlp_inputs(case: Case, rng: np.random.Generator) -> dict[str, Any]:
    """x in the case's regime; subnormal is wd alone, because h is a product of two numbers as small as x.

    The residual is left out where N is odd.
    """
    m, k, f, n = (case.axes[axis] for axis in "MKFN")
    is_subnormal = case.regime == "subnormal"
    x = activations(replace(case, regime="normal") if is_subnormal else case, rng, m, k)
    arrays = {"x": x, "wg": weights(rng, k, f), "wu": weights(rng, k, f), "wd": weights(rng, f, n)}
    if is_subnormal:
        arrays["wd"] = in_regime(arrays["wd"], "subnormal", case.dtype)
    return {**round_inputs(arrays, case.dtype), "residual": residual_of(case, rng, m, n) if n % 2 == 0 else None}


def residual_of(case: Case, rng: np.random.Generator, m: int, n: int) -> Array:
    """A residual as wide as the output that it is added to, in the case's dtype."""
    ordinary = replace(case, regime="normal") if case.regime == "nonfinite" else case
    return round_inputs({"residual": activations(ordinary, rng, m, n)}, case.dtype)["residual"]


def mlp_fused(x: Array, wg: Array, wu: Array, wd: Array, residual: Array | None = None) -> Array:
    """Honest: everything in float32 but h, which is rounded to the inputs' dtype to be multiplied."""
    g, u = _product(x, wg), _product(x, wu)
    h = (g / (1 + np.exp(-g)) * u).astype(x.dtype)
    return _added(_product(h, wd), residual).astype(x.dtype)


def mlp_eager(x: Array, wg: Array, wu: Array, wd: Array, residual: Array | None = None) -> Array:
    """Honest: g, u and silu(g) are rounded too, as one operation after the other would."""
    g, u = _product(x, wg).astype(x.dtype), _product(x, wu).astype(x.dtype)
    wide = g.astype(np.float32)
    gated = (wide / (1 + np.exp(-wide))).astype(x.dtype)
    h = (gated.astype(np.float32) * u.astype(np.float32)).astype(x.dtype)
    return _added(_product(h, wd).astype(x.dtype).astype(np.float32), residual).astype(x.dtype)


def _added(product: Array, residual: Array | None) -> Array:
    return product if residual is None else product + residual.astype(np.float32)


def _product(a: Array, b: Array) -> Array:
    product: Array = a.astype(np.float32) @ b.astype(np.float32)
    return product


def mlp_flops(axes: Mapping[str, int], params: Mapping[str, Any]) -> int:
    """A multiplication and an addition for each element of the three weights and each token."""
    return 2 * axes["M"] * axes["F"] * (2 * axes["K"] + axes["N"])


def mlp_bytes(axes: Mapping[str, int], params: Mapping[str, Any], itemsize: int) -> int:
    """x, the weights and the residual read once, the output written once."""
    m, k, f, n = (axes[axis] for axis in "MKFN")
    return itemsize * (m * (k + n + (n if n % 2 == 0 else 0)) + f * (2 * k + n))


def last_f_missing(case: Case, inputs: Arrays, out: Array) -> tuple[Any, Any]:
    """Corruption: the last tile along F, which may be ragged, is forgotten; of the first rows."""
    kept = (case.axes["F"] - 1) // 128 * 128
    rows = slice(0, 128)
    wide = {name: x.astype(np.float64) for name, x in inputs.items()}
    wide["wd"][kept:] = 0
    wide |= {name: wide[name][rows] for name in ("x", "residual") if name in wide}
    return rows, mlp.gated_mlp(**wide)


def no_gate(case: Case, inputs: Arrays, out: Array) -> tuple[Any, Any]:
    """Corruption: the sigmoid is left out of the first row, so that g * u goes on instead of silu(g) * u."""
    x, wg, wu, wd = (inputs[name].astype(np.float64) for name in ("x", "wg", "wu", "wd"))
    past = inputs["residual"][:1].astype(np.float64) if "residual" in inputs else 0
    return slice(0, 1), ((x[:1] @ wg) * (x[:1] @ wu)) @ wd + past


def mlp_layers(tokens: int, models: tuple[llama.Llama, ...] = llama.MODELS) -> list[dict[str, Any]]:
    return [
        {
            "name": f"{model.name}/{'decode' if tokens <= 128 else 'prefill'}/s{tokens}",
            "dtype": llama.DTYPE,
            "M": tokens,
            "K": model.hidden,
            "F": model.ffn,
            "N": model.hidden,
        }
        for model in models
    ]


MLP_TILES = {"M": (128,), "K": (128, 512), "F": (128, 512, 1024), "N": (512, 1024, 2048)}
MLP_SMOKE = [{"M": 7, "K": 64, "F": 200, "N": 96}, {"M": 150, "K": 96, "F": 300, "N": 65}]
GATED_MLP = Op(
    "gated_mlp",
    mlp_inputs,
    mlp.gated_mlp,
    {
        "smoke": MLP_SMOKE,
        "edge": [
            {"M": 1, "K": 1, "F": 1, "N": 1},
            {"M": 129, "K": 1, "F": 1, "N": 1},
            {"M": 7, "K": 13, "F": 11, "N": 5},
            {"M": 64, "K": 131, "F": 1031, "N": 521},
            {"M": 521, "K": 131, "F": 523, "N": 37},
            {"M": 1031, "K": 17, "F": 131, "N": 7},
            {"M": 139, "K": 7, "F": 1031, "N": 1031},
            *({"M": size, "K": 9, "F": 140, "N": 33} for size in around(MLP_TILES["M"])),
            *({"M": 5, "K": size, "F": 9, "N": 33} for size in around(MLP_TILES["K"])),
            *({"M": 5, "K": 9, "F": size, "N": 33} for size in around(MLP_TILES["F"])),
            *({"M": 5, "K": 9, "F": 33, "N": size} for size in around(MLP_TILES["N"])),
        ],
        "adversarial": [{**case, "regime": regime} for regime in HARD for case in MLP_SMOKE],
        "model": mlp_layers(1, llama.MODELS[:1]),
        "model-long": [*mlp_layers(1), *mlp_layers(64), *mlp_layers(llama.LONG)],
    },
    summary="out[M, N] = (silu(x[M, K] @ wg[K, F]) * (x @ wu[K, F])) @ wd[F, N]",
    shapes={"x": ("M", "K"), "wg": ("K", "F"), "wu": ("K", "F"), "wd": ("F", "N"), "residual": ("M", "N")},
    tiles=MLP_TILES,
    limits={"K": 8192},
    out=("M", "N"),
    honest=(mlp_fused, mlp_eager),
    corruptions={"the last tile of F missing": last_f_missing, "no sigmoid": no_gate},
    flops=mlp_flops,
    bytes=mlp_bytes,
    nki=f"{KERNELS / 'nki' / 'mlp.py'}:gated_mlp",
    triton=f"{KERNELS / 'triton' / 'mlp.py'}:gated_mlp",
    torch=lambda x, wg, wu, wd, residual: (silu_of(x @ wg) * (x @ wu)) @ wd + (0 if residual is None else residual),
)


def silu_of(g: Any) -> Any:
    """torch's own."""
    import torch

    return torch.nn.functional.silu(g)


def linear_inputs(case: Case, rng: np.random.Generator) -> dict[str, Any]:
    """x and residual in the case's regime, bias ordinary; bias is left out where N is odd, residual where M is."""
    m, k, n = (case.axes[axis] for axis in "MKN")
    arrays = round_inputs({"x": activations(case, rng, m, k), "w": weights(rng, k, n)}, case.dtype)
    bias = round_inputs({"bias": normal(rng, n)}, case.dtype)["bias"] if n % 2 == 0 else None
    return {**arrays, "bias": bias, "residual": residual_of(case, rng, m, n) if m % 2 == 0 else None}


def transposed_inputs(case: Case, rng: np.random.Generator) -> dict[str, Any]:
    """x in the case's regime; the residual is left out where M is odd."""
    m, k, n = (case.axes[axis] for axis in "MKN")
    arrays = {"x": activations(case, rng, m, k), "w": np.ascontiguousarray(weights(rng, k, n).T)}
    residual = residual_of(case, rng, m, n) if m % 2 == 0 else None
    return {**round_inputs(arrays, case.dtype), "residual": residual}


def gate_inputs(case: Case, rng: np.random.Generator) -> Arrays:
    """g in the case's regime, and ordinary where it is not finite, which only u is then; u and dh ordinary.

    `negative` gates are near -10, where 1 - 1 / (1 + exp(g)) has lost its digits; near -20000 all results are zero.
    """
    m, f = case.axes["M"], case.axes["F"]
    g, u, dh = activations(case, rng, m, f), normal(rng, m, f), normal(rng, m, f)
    if case.regime == "nonfinite":
        g, u = normal(rng, m, f), g
    elif case.regime == "negative":
        g = normal(rng, m, f) - np.float32(10)
    return round_inputs({"g": g, "u": u, "dh": dh}, case.dtype)


def norm_inputs(case: Case, rng: np.random.Generator) -> Arrays:
    """x in the case's regime; gains around 1, as trained ones are."""
    m, k, n = (case.axes[axis] for axis in "MKN")
    x, gain = activations(case, rng, m, k), 1 + np.float32(0.3) * normal(rng, k)
    return round_inputs({"x": x, "gain": gain, "w": weights(rng, k, n)}, case.dtype)


def norm_after(x: Array, gain: Array, w: Array, eps: float = 1e-5) -> Array:
    """Honest: x times gain rounded to the inputs' dtype, and the norm applied to the float32 sums."""
    wide = x.astype(np.float32)
    root = np.sqrt(np.mean(wide * wide, axis=1, keepdims=True) + np.float32(eps))
    normed: Array = _product((wide * gain.astype(np.float32)).astype(x.dtype), w) / root
    return normed.astype(x.dtype)


def norm_before(x: Array, gain: Array, w: Array, eps: float = 1e-5) -> Array:
    """Honest: the normalised x rounded to the inputs' dtype, as one operation after the other would."""
    wide = x.astype(np.float32)
    root = np.sqrt(np.mean(wide * wide, axis=1, keepdims=True) + np.float32(eps))
    return _product((wide / root * gain.astype(np.float32)).astype(x.dtype), w).astype(x.dtype)


def last_k_missing(definition: Callable[..., Array], of: str = "x") -> Corruption:
    """Corruption: the last tile along K, which may be ragged, is forgotten in the product; of the first rows."""

    def corruption(case: Case, inputs: Arrays, out: Array) -> tuple[Any, Any]:
        kept = (case.axes["K"] - 1) // 128 * 128
        rows = slice(0, 128)
        wide = {name: x.astype(np.float64) for name, x in inputs.items()}
        wide[of][(slice(None), slice(kept, None)) if of == "x" else slice(kept, None)] = 0
        wide |= {name: wide[name][rows] for name in ("x", "residual") if name in wide}
        return rows, definition(**wide, **case.params)

    return corruption


def linear_layers(tokens: int) -> list[dict[str, Any]]:
    """The output projection of each model, with the residual that it is added to."""
    return [
        {
            "name": f"{model.name}/o_proj/s{tokens}",
            "dtype": llama.DTYPE,
            "M": tokens,
            "K": model.heads * model.head_dim,
            "N": model.hidden,
        }
        for model in llama.MODELS
    ]


def norm_layers(tokens: int) -> list[dict[str, Any]]:
    """The projection to queries, keys and values of each model, with the norm before it."""
    return [
        {
            "name": f"{model.name}/qkv_proj/s{tokens}",
            "dtype": llama.DTYPE,
            "M": tokens,
            "K": model.hidden,
            "N": (model.heads + 2 * model.kv_heads) * model.head_dim,
        }
        for model in llama.MODELS
    ]


TILES = {"M": (128, 512, 1024), "K": (128, 512), "N": (512, 1024, 2048)}
EDGE = [
    {"M": 1, "K": 1, "N": 1},
    {"M": 1, "K": 131, "N": 2053},
    {"M": 257, "K": 521, "N": 131},
    {"M": 1031, "K": 3, "N": 1031},
    *({"M": size, "K": 19, "N": 5} for size in around(TILES["M"])),
    *({"M": 5, "K": size, "N": 19} for size in around(TILES["K"])),
    *({"M": 19, "K": 5, "N": size} for size in around(TILES["N"])),
    {"M": 19, "K": 8192, "N": 5},
]
SMOKE = [{"M": 7, "K": 128, "N": 96}, {"M": 200, "K": 300, "N": 150}]
EPILOGUES: list[dict[str, Any]] = [{"activation": name, "scale": 0.5} for name in (None, "silu", "gelu", "relu")]
LINEAR_SMOKE = [{**case, **epilogue} for case in SMOKE for epilogue in EPILOGUES]


def layer_bytes(axes: Mapping[str, int], params: Mapping[str, Any], itemsize: int) -> int:
    """x and w read once, the output written once; bias, gain and residual come on top."""
    m, k, n = (axes[axis] for axis in "MKN")
    return itemsize * (m * k + k * n + m * n)


LINEAR = Op(
    "linear",
    linear_inputs,
    reference.linear,
    {
        "smoke": LINEAR_SMOKE,
        "edge": EDGE,
        "adversarial": [{**case, "regime": regime} for regime in HARD for case in LINEAR_SMOKE],
        "model": linear_layers(64),
        "model-long": [*linear_layers(1), *linear_layers(llama.LONG)],
    },
    summary="out[M, N] = activation(scale * (x[M, K] @ w[K, N]) + bias[N]) + residual[M, N]",
    shapes={"x": ("M", "K"), "w": ("K", "N"), "bias": ("N",), "residual": ("M", "N")},
    tiles=TILES,
    limits={"K": 16384},
    out=("M", "N"),
    corruptions={"the last tile of K missing": last_k_missing(reference.linear)},
    flops=lambda axes, params: 2 * axes["M"] * axes["K"] * axes["N"],
    bytes=lambda axes, params, itemsize: layer_bytes(axes, params, itemsize) + itemsize * (axes["M"] + 1) * axes["N"],
    nki=f"{KERNELS / 'nki' / 'linear.py'}:linear",
    triton=f"{KERNELS / 'triton' / 'linear.py'}:linear",
    strict_nonfinite=True,  # an infinity reaches a relu that +-1000 times the same small weight would not move
)
RMSNORM_LINEAR = Op(
    "rmsnorm_linear",
    norm_inputs,
    reference.rmsnorm_linear,
    {
        "smoke": SMOKE,
        "edge": EDGE,
        "adversarial": [{**case, "regime": regime} for regime in HARD for case in SMOKE],
        "model": norm_layers(64),
        "model-long": [*norm_layers(1), *norm_layers(llama.LONG)],
    },
    summary="out[M, N] = (x[M, K] / sqrt(mean(x^2) + eps) * gain[K]) @ w[K, N]",
    shapes={"x": ("M", "K"), "gain": ("K",), "w": ("K", "N")},
    tiles=TILES,
    limits={"K": 8192},
    out=("M", "N"),
    honest=(norm_after, norm_before),
    corruptions={"the last tile of K missing": last_k_missing(reference.rmsnorm_linear, of="w")},
    flops=lambda axes, params: 2 * axes["M"] * axes["K"] * axes["N"] + 4 * axes["M"] * axes["K"],
    bytes=layer_bytes,
    nki=f"{KERNELS / 'nki' / 'linear.py'}:rmsnorm_linear",
    triton=f"{KERNELS / 'triton' / 'linear.py'}:rmsnorm_linear",
)
LINEAR_TRANSPOSED = Op(
    "linear_transposed",
    transposed_inputs,
    reference.linear_transposed,
    {
        "smoke": SMOKE,
        "edge": EDGE,
        "adversarial": [{**case, "regime": regime} for regime in HARD for case in SMOKE],
        "model": linear_layers(64),
        "model-long": linear_layers(llama.LONG),
    },
    summary="out[M, N] = x[M, K] @ w[N, K].T + residual[M, N]",
    shapes={"x": ("M", "K"), "w": ("N", "K"), "residual": ("M", "N")},
    tiles=TILES,
    limits={"K": 16384},
    out=("M", "N"),
    corruptions={"the last tile of K missing": last_k_missing(reference.linear_transposed)},
    flops=lambda axes, params: 2 * axes["M"] * axes["K"] * axes["N"],
    bytes=layer_bytes,
    nki=f"{KERNELS / 'nki' / 'linear.py'}:linear_transposed",
    triton=f"{KERNELS / 'triton' / 'linear.py'}:linear_transposed",
)
GATE_SMOKE = [{"M": 7, "F": 96}, {"M": 200, "F": 300}]
GATE_BACKWARD = Op(
    "gate_backward",
    gate_inputs,
    mlp.gate_backward,
    {
        "smoke": GATE_SMOKE,
        "edge": [
            {"M": 1, "F": 1},
            {"M": 131, "F": 7},
            {"M": 3, "F": 5003},
            *({"M": size, "F": 5} for size in around((128,))),
            *({"M": 3, "F": size} for size in around((1024, 4096))),
        ],
        "adversarial": [{**case, "regime": regime} for regime in HARD for case in GATE_SMOKE],
        "model": [{"name": f"{m.name}/s16", "dtype": llama.DTYPE, "M": 16, "F": m.ffn} for m in llama.MODELS],
        "model-long": [
            {"name": f"{m.name}/s{llama.LONG}", "dtype": llama.DTYPE, "M": llama.LONG, "F": m.ffn} for m in llama.MODELS
        ],
    },
    summary="h[M, F] = silu(g) * u, and what dh[M, F] is to g and to u",
    shapes={"g": ("M", "F"), "u": ("M", "F"), "dh": ("M", "F")},
    tiles={"M": (128,), "F": (1024, 4096)},
    outputs={name: Output(axes=("M", "F")) for name in ("h", "dg", "du")},
    flops=lambda axes, params: 10 * axes["M"] * axes["F"],
    bytes=lambda axes, params, itemsize: 6 * itemsize * axes["M"] * axes["F"],
    nki=f"{KERNELS / 'nki' / 'gate_backward.py'}:gate_backward",
    triton=f"{KERNELS / 'triton' / 'gate_backward.py'}:gate_backward",
)
OPS = (LINEAR, RMSNORM_LINEAR, LINEAR_TRANSPOSED, GATED_MLP, GATE_BACKWARD)
