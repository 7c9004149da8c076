"""Attention with what a score may go through: a window, a cap, sinks, a mask, segments; and with its log-sum-exp.

The same kernel and definition as `attention`, an op an option, because each has inputs and mistakes of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from triptych.harness.arrays import Array, Arrays
from triptych.harness.collection import llama
from triptych.harness.collection.attentions import forward
from triptych.harness.collection.attentions.baselines import of_whole_shifts, online, plain, prescaled
from triptych.harness.collection.attentions.forward import sizes, visible_pairs
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Op
from triptych.harness.ops.outputs.kinds import Output
from triptych.harness.ops.regimes import HARD, around
from triptych.reference.attention import attention as reference

Options = dict[str, Any]


def inputs_with(extra: Callable[[Case, np.random.Generator], Options]) -> Callable[..., Options]:
    """q, k and v as `forward.inputs` draws them, and more.

    Values are finite where not every query sees every key: what a value at a weight of 0 does to a kernel that
    multiplies by it is left open by IEEE arithmetic, and honest baselines do.
    """

    def inputs(case: Case, rng: np.random.Generator) -> Options:
        found: Options = dict(forward.inputs(case, rng))
        more = extra(case, rng)
        if "window" in case.params or {"mask", "segments"} & set(more):
            found["v"] = np.where(np.isfinite(found["v"].astype(np.float32)), found["v"], found["v"].dtype.type(1))
        if more:  # a kernel gets its inputs by place, and others stand before these
            found |= {name: case.params.get(name) for name in ("causal", "window", "softcap")}
            found |= {name: None for name in ("sinks", "mask", "segments")}
        return found | more

    return inputs


def nothing(case: Case, rng: np.random.Generator) -> Options:
    return {}


def sinks(case: Case, rng: np.random.Generator) -> Options:
    """Scores of the size that trained models give them, between those of an ordinary key and more than all keys.

    Where all scores are `negative` the sinks lie among them: beside one near 0 no key would weigh anything.
    """
    drawn = rng.uniform(-2, 6, case.axes["H"])
    return {"sinks": drawn + forward.NEGATIVE if case.regime == "negative" else drawn}


def mask(case: Case, rng: np.random.Generator) -> Options:
    """A slope times the distance for each head, a quarter of the keys hidden, and all of them from one query.

    Not the latter for subnormal values, of which what is computed again loses digits, as the kernel says: its
    room for the largest values comes from the smallest.
    """
    h, sq, sk = (case.axes[axis] for axis in ("H", "Sq", "Sk"))
    distance = np.abs(np.arange(sq)[:, None] + sk - sq - np.arange(sk))
    found = -distance[None, None] * 2.0 ** -np.arange(1, h + 1)[None, :, None, None]
    hidden = rng.random((1, h, sq, sk)) < 0.25
    hidden[..., sk // 2] = False
    found[hidden] = -np.inf
    if sq > 2 and case.regime != "subnormal":
        found[:, :, sq // 3] = -np.inf
    return {"mask": found}


def segments(case: Case, rng: np.random.Generator) -> Options:
    """Sequences of about 50 tokens each, one behind the other."""
    begins = rng.random((case.axes["B"], case.axes["S"])) < 1 / 50
    return {"segments": np.cumsum(begins, axis=1).astype(np.int32)}


def packed_inputs(case: Case, rng: np.random.Generator) -> Options:
    return inputs_with(segments)(replace(case, axes=with_lengths(case.axes)), rng)


def with_lengths(axes: Mapping[str, int]) -> dict[str, int]:
    """The axes of packed sequences and, for what knows queries and keys, Sq and Sk, which are their S."""
    return {**axes, "Sq": axes["S"], "Sk": axes["S"]}


def pairs(axes: Mapping[str, int], params: Mapping[str, Any]) -> int:
    """How many (query, key) pairs of one head take part; masks and segments are not looked into."""
    window = params.get("window")
    if not window:
        return visible_pairs(axes, params)
    last = np.arange(axes["Sq"]) + axes["Sk"] - axes["Sq"]
    return int(np.clip(np.minimum(last + 1, window), 0, None).sum())


def flops_of_pairs(axes: Mapping[str, int], params: Mapping[str, Any]) -> int:
    """Two products of 2 D each for each pair."""
    return 4 * axes["B"] * axes["H"] * axes["D"] * pairs(axes, params)


def first_head(inputs: Arrays) -> dict[str, Any]:
    """The inputs of the first head of the first sequence, in float64 where they are no indices."""
    return {
        name: x[:1] if name in ("sinks", "segments") else x[:1, :1].astype(np.float64) for name, x in inputs.items()
    }


def wrong(**changed: Any) -> Callable[[Case, Arrays, Array], tuple[Any, Any] | None]:
    """A corruption: the first head as it is with other options; a function takes those of the case."""

    def corruption(case: Case, inputs: Arrays, out: Array) -> tuple[Any, Any] | None:
        options = {**case.params, **first_head(inputs)}
        options |= {name: value(options[name]) if callable(value) else value for name, value in changed.items()}
        found = reference(**{**options, "with_lse": False})
        same = np.allclose(found, out[:1, :1], rtol=0.02, atol=0.02, equal_nan=True)
        return None if same else ((slice(1), slice(1)), found)

    return corruption


TILES = {"Sq": (16, 128, 512), "Sk": (16, 128, 512), "D": (32, 64, 128)}


def cases(packed: bool = False, **options: Any) -> dict[str, list[dict[str, Any]]]:
    """Of an option; packed sequences have one axis S in the place of Sq and Sk."""
    causal = bool(options.get("causal"))

    def of(h: int, hkv: int, sq: int, sk: int, d: int, regime: str = "normal", b: int = 1) -> dict[str, Any]:
        case = sizes(h, hkv, sq, sk, d, causal, regime, b)
        return {**(of_one_length(case) if packed else case), **options}

    shapes = [
        (1, 1, 1, 1),
        (127, 128, 40, 1),
        (129, 129, 128, 2),
        (128, 513, 64, 1),
        (300, 140, 96, 2),
        (31, 67, 13, 3),
    ]
    shapes += [(37, 300, 256, 1), (3, 1154, 20, 1)]
    shapes += [(size, 33, 8, 1) for size in around(TILES["Sq"])] * (not packed)
    shapes += [(5, size, 8, 1) for size in around(TILES["Sk"])]
    shapes += [(5, 9, size, 1) for size in around(TILES["D"])]
    prefill = [[c for c in llama.attentions(long) if "prefill" in c["name"]] for long in (False, True)]
    if packed:
        prefill = [[of_one_length(case) for case in some] for some in prefill]
    return {
        "smoke": [of(4, 2, 96, 160, 64, b=2), of(2, 1, 200, 200, 128)],
        "edge": [of(h, 1, sq, sk, d) for sq, sk, d, h in shapes],
        "adversarial": [of(2, 1, 67, 150, 64, regime) for regime in HARD],
        "model": [{**case, "causal": causal, **options} for case in prefill[0]],
        "model-long": [{**case, "causal": causal, **options} for case in prefill[1]],
    }


def of_one_length(case: Mapping[str, Any]) -> dict[str, Any]:
    """The case of packed sequences that are as long as this one's keys."""
    found = {"S" if name == "Sk" else name: value for name, value in case.items() if name != "Sq"}
    return {**found, "name": case["name"].replace(f"q{case['Sq']}-k{case['Sk']}", f"s{case['Sk']}")}


def row(name: str, what: str, extra: Callable[[Case, np.random.Generator], Options] = nothing, **options: Any) -> Op:
    given: dict[str, Any] = {
        "axes": ("B", "H", "Hkv", "Sq", "Sk", "D"),
        "inputs": inputs_with(extra),
        "reference": reference,
        "honest": (online, plain, prescaled),
        "tiles": TILES,
        "limits": forward.LIMITS,
        "multiples": {"H": "Hkv"},
        "out": ("B", "H", "Sq", "D"),
        "flops": flops_of_pairs,
        "bytes": forward.bytes_moved,
        "nki": f"{forward.KERNELS / 'nki' / 'attention.py'}:attention",
        "triton": f"{forward.KERNELS / 'triton' / 'attention.py'}:attention",
    }
    if "shapes" not in options and extra is nothing:
        given["shapes"] = {"q": ("B", "H", "Sq", "D"), "k": ("B", "Hkv", "Sk", "D"), "v": ("B", "Hkv", "Sk", "D")}
    return Op(name=name, summary=f"attention {what}", **{**given, **options})


OPS = (
    row(
        "attention_window",
        "over the last `window` keys that a causal mask leaves",
        cases=cases(causal=True, window=50),
        corruptions={
            "a window one key too long": wrong(window=lambda window: window + 1),
            "a window one key too short": wrong(window=lambda window: window - 1),
            "the window missing": wrong(window=None),
        },
    ),
    row(
        "attention_softcap",
        "of scores capped as softcap * tanh(score / softcap)",
        cases=cases(softcap=5.0),
        corruptions={"the cap missing": wrong(softcap=None)},
    ),
    row(
        "attention_sinks",
        "with a score of each head that has no value: sinks[H]",
        sinks,
        cases=cases(causal=True),
        corruptions={"the sinks missing": wrong(sinks=None)},
    ),
    row(
        "attention_mask",
        "with mask[1, H, Sq, Sk] added to the scores; minus infinity hides a key",
        mask,
        cases=cases(),
        corruptions={"the mask missing": wrong(mask=None)},
    ),
    row(
        "attention_packed",
        "of segments[B, S] beside each other, each by itself",
        segments,
        axes=("B", "H", "Hkv", "S", "D"),
        inputs=packed_inputs,
        tiles={"S": TILES["Sk"], "D": TILES["D"]},
        out=("B", "H", "S", "D"),
        flops=lambda axes, params: flops_of_pairs(with_lengths(axes), params),
        bytes=lambda axes, params, itemsize: forward.bytes_moved(with_lengths(axes), params, itemsize),
        cases=cases(packed=True, causal=True),
        corruptions={"keys of other segments seen": wrong(segments=None)},
    ),
    row(
        "attention_lse",
        "and lse[B, H, Sq], the logarithm of its sum of weights",
        honest=(online, plain, prescaled, of_whole_shifts),
        cases=cases(causal=True, with_lse=True),
        outputs={"out": Output(axes=("B", "H", "Sq", "D")), "lse": Output("float32", axes=("B", "H", "Sq"))},
    ),
)
