"""Attention backward: dq, dk and dv from q, k, v, out, dout and the saved log-sum-exp.

q, out, dout[B, H, Sq, D], k, v[B, Hkv, Sk, D], lse[B, H, Sq] -> dq[B, H, Sq, D], dk, dv[B, Hkv, Sk, D]; causal, with a
window, grouped heads. out and lse are the forward definition's, out rounded to the dtype and lse to float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from triptych.harness.arrays import Array, Arrays
from triptych.harness.collection import llama
from triptych.harness.collection.attentions import forward
from triptych.harness.collection.attentions.variants import pairs
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Op
from triptych.harness.ops.outputs.kinds import Output
from triptych.harness.ops.regimes import HARD, around, in_regime, normal, round_inputs
from triptych.reference.attention import attention
from triptych.reference.attention_backward import attention_backward as reference


def inputs(case: Case, rng: np.random.Generator) -> Arrays:
    """q, k and v as `forward.inputs` draws them, dout too, and what the forward pass saves.

    `tiny` is not for dout, which is large there: the gradients are too small for float16 otherwise.
    """
    found = forward.inputs(case, rng)
    regime = {"tiny": "large", "large": "large", "heavy-tailed": "heavy-tailed"}.get(case.regime, "normal")
    dout = in_regime(normal(rng, *found["q"].shape), regime)
    if case.regime == "tiny":
        dout *= 30
    found["dout"] = round_inputs({"dout": dout}, case.dtype)["dout"]
    options: dict[str, Any] = {name: case.params.get(name) for name in ("causal", "window")}
    out, lse = attention(found["q"], found["k"], found["v"], with_lse=True, **options)
    found["out"] = round_inputs({"out": out}, case.dtype)["out"]
    return {name: found[name] for name in ("q", "k", "v", "out", "dout")} | {"lse": lse.astype(np.float32)}


def by_rows(
    q: Array,
    k: Array,
    v: Array,
    out: Array,
    dout: Array,
    lse: Array,
    causal: bool = False,
    window: int | None = None,
    rows: int = 64,
    backwards: bool = False,
    rounds_first: bool = False,
) -> Any:
    """Honest: `rows` queries at a time; s and dp in float32, p and ds rounded to the dtype for their products."""
    dtype, group = q.dtype, q.shape[1] // k.shape[1]
    sums = [np.zeros(x.shape, np.float32) for x in (q, k, v)]
    scale = np.float32(1 / np.sqrt(q.shape[-1]))
    shift = k.shape[2] - q.shape[2] if causal else k.shape[2]
    j = np.arange(k.shape[2])
    begins = list(range(0, q.shape[2], rows))
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        for b, h in np.ndindex(*q.shape[:2]):
            key, value = (x[b, h // group].astype(np.float32) for x in (k, v))
            for i0 in reversed(begins) if backwards else begins:
                i = np.arange(i0, min(i0 + rows, q.shape[2]))
                query, o, do = (x[b, h, i].astype(np.float32) for x in (q, out, dout))
                sees = (j <= i[:, None] + shift) & (j > i[:, None] + shift - (window or 2**40))
                s = query @ key.T * scale
                p = np.where(sees, np.exp(np.where(sees, s - lse[b, h, i][:, None], -np.inf)), np.float32(0))
                p = p.astype(dtype).astype(np.float32) if rounds_first else p
                ds = p * (do @ value.T - np.sum(o * do, axis=1, keepdims=True))
                p, ds = (np.where(sees, x, 0).astype(dtype).astype(np.float32) for x in (p, ds))
                sums[0][b, h, i] = ds @ key * scale
                sums[1][b, h // group] += ds.T @ query * scale
                sums[2][b, h // group] += p.T @ do
    return sums[0].astype(dtype), sums[1].astype(dtype), sums[2].astype(dtype)


def from_below(**arguments: Any) -> Any:
    """Honest: as `by_rows`, 16 queries at a time and from the last; ds is made of p as it was rounded for dv."""
    return by_rows(**arguments, rows=16, backwards=True, rounds_first=True)


HONEST = (by_rows, from_below)


def delta_missing(case: Case, inputs: Arrays, out: Array) -> tuple[Any, Any]:
    """ds = p * dp: the softmax's normalisation is taken for a constant."""
    given: dict[str, Any] = {**inputs, "out": np.zeros_like(inputs["out"]), **case.params}
    return ..., reference(**given)[0]


def first_head_alone(which: int) -> Any:
    """dk or dv of the first head of each group, where those of all are summed."""

    def corruption(case: Case, inputs: Arrays, out: Array) -> tuple[Any, Any] | None:
        group = case.axes["H"] // case.axes["Hkv"]
        if group == 1:
            return None
        first: dict[str, Any] = {name: x if name in ("k", "v") else x[:, ::group] for name, x in inputs.items()}
        return ..., reference(**first, **case.params)[which]

    return corruption


def mask_too_far(which: int) -> Any:
    """Each query but the last sees one key more."""

    def corruption(case: Case, inputs: Arrays, out: Array) -> tuple[Any, Any] | None:
        if not case.params.get("causal") or case.axes["Sq"] < 2 or case.axes["Sk"] < 2:
            return None
        less: dict[str, Any] = {name: x if name in ("k", "v") else x[:, :, :-1] for name, x in inputs.items()}
        found = reference(**less, **case.params)[which]
        return (slice(None), slice(None), slice(0, -1) if which == 0 else slice(None)), found

    return corruption


def flops(axes: Mapping[str, int], params: Mapping[str, Any]) -> int:
    """Five products of 2 D each for each pair of a query and a key that it sees."""
    return 10 * axes["B"] * axes["H"] * axes["D"] * pairs(axes, params)


def bytes_moved(axes: Mapping[str, int], params: Mapping[str, Any], itemsize: int) -> int:
    """q, k, v, out, dout and lse read once, dq, dk and dv written once."""
    rows = axes["B"] * axes["H"] * axes["Sq"]
    return itemsize * axes["D"] * (4 * rows + 4 * axes["B"] * axes["Hkv"] * axes["Sk"]) + 4 * rows


def sizes(
    h: int, hkv: int, sq: int, sk: int, d: int, window: int = 0, causal: bool = True, regime: str = "normal", b: int = 1
) -> dict[str, Any]:
    found = forward.sizes(h, hkv, sq, sk, d, causal, regime, b)
    return {**found, "name": f"{found['name']}-window{window}", "window": window} if window else found


TILES = {"Sq": (16, 128, 512), "Sk": (16, 128, 512), "D": (32, 64, 128)}
EDGE = [
    sizes(1, 1, 2, 3, 1),
    sizes(2, 1, 127, 128, 40, causal=False),
    sizes(2, 2, 128, 129, 64),
    sizes(1, 1, 129, 513, 128),
    sizes(3, 1, 300, 140, 96),
    sizes(1, 1, 140, 260, 256),
    sizes(2, 1, 70, 67, 13, window=9),
    sizes(1, 1, 513, 600, 32, window=128),
    sizes(6, 2, 31, 67, 20, b=2, causal=False),
    *[sizes(1, 1, size, 33, 8, causal=size % 2 == 0) for size in around(TILES["Sq"])],
    *[sizes(1, 1, 5, size, 8, causal=False) for size in around(TILES["Sk"])],
    *[sizes(1, 1, 5, 9, size, causal=False) for size in around(TILES["D"])],
]
# One NaN reaches all of dk, whatever a kernel does: there is no case of the regime "nonfinite".
ADVERSARIAL = [
    sizes(2, 1, sq, sk, 48, causal=causal, regime=regime)
    for regime in HARD
    for sq, sk, causal in ((67, 150, True), (64, 64, False))
    if regime != "nonfinite"
]
MODEL = [case for case in llama.attentions(long=False) if "prefill" in case["name"]]
LONG = [case for case in llama.attentions(long=True) if "prefill" in case["name"]]

QUERY, KEY = ("B", "H", "Sq", "D"), ("B", "Hkv", "Sk", "D")
OPS = (
    Op(
        name="attention_backward",
        summary="dq, dk, dv of attention from q, k, v, out, dout[B, H, Sq, D] and lse[B, H, Sq]",
        axes=("B", "H", "Hkv", "Sq", "Sk", "D"),
        inputs=inputs,
        reference=reference,
        honest=HONEST,
        tiles=TILES,
        limits=forward.LIMITS,
        multiples={"H": "Hkv"},
        outputs={
            "dq": Output(
                axes=QUERY,
                corruptions={"the term delta missing": delta_missing, "a mask one key too far": mask_too_far(0)},
            ),
            "dk": Output(axes=KEY, corruptions={"a head of a group": first_head_alone(1)}),
            "dv": Output(axes=KEY, corruptions={"a head of a group": first_head_alone(2)}),
        },
        cases={
            "smoke": [sizes(4, 2, 96, 160, 64, b=2), sizes(2, 1, 200, 200, 128, causal=False)],
            "edge": EDGE,
            "adversarial": ADVERSARIAL,
            "model": MODEL,
            "model-long": LONG,
        },
        flops=flops,
        bytes=bytes_moved,
        nki=f"{forward.KERNELS / 'nki' / 'attention_backward.py'}:attention_backward",
        triton=f"{forward.KERNELS / 'triton' / 'attention_backward.py'}:attention_backward",
    ),
)
