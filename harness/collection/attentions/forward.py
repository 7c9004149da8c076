"""Flash attention, forward: out = softmax(q @ k.T / sqrt(D)) @ v over the visible keys; grouped-query heads.

q[B, H, Sq, D], k[B, Hkv, Sk, D], v[B, Hkv, Sk, D] -> out[B, H, Sq, D]; head h reads key/value head h // (H // Hkv); a
causal mask is aligned with the bottom right corner; D <= 256.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from triptych.harness.arrays import Arrays
from triptych.harness.collection import llama
from triptych.harness.collection.attentions import mutations as wrong
from triptych.harness.collection.attentions.baselines import online, plain, prescaled
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import BatchInvariance, Op
from triptych.harness.ops.regimes import HARD, around, constant, in_regime, normal, one_hot, round_inputs
from triptych.reference.attention import attention as reference

KERNELS = Path(__file__).parents[3] / "kernels"

NEGATIVE = -12288.0  # a score that every dtype holds exactly


def inputs(case: Case, rng: np.random.Generator) -> Arrays:
    """q, k, v in the case's regime.

    `large` scores reach a hundred and more, where an exponential without its max overflows; in the last row thousands,
    where it does so in float64 too. `offset` moves k and v: the scores of a row then share a large constant, and the
    output carries 100. `negative` scores are all near NEGATIVE. `one-hot` queries meet one-hot keys: the keys of the
    query's own coordinate tie, and all others weigh next to nothing. `constant-rows` repeats one key, so that all
    weights are equal. `sorted` scores ascend along the keys: the running max moves with every block. `subnormal` is v.
    `nonfinite` plants a NaN in one query, an infinity in one key and one of each kind in one value row; in causal
    cases that row is key 0, which every query sees: what a hidden row does to a kernel that multiplies by a weight of
    0 is left open by IEEE arithmetic.
    """
    b, h, hkv, sq, sk, d = (case.axes[axis] for axis in ("B", "H", "Hkv", "Sq", "Sk", "D"))
    q, k, v = normal(rng, b, h, sq, d), normal(rng, b, hkv, sk, d), normal(rng, b, hkv, sk, d)
    regime = case.regime if 0 not in (b, h, hkv, sq, sk, d) else "normal"
    if regime == "nonfinite":
        q[0, h // 2, sq // 2, 0] = np.nan
        k[0, 0, sk // 2, d // 2] = np.inf
        v[-1, -1, 0 if case.params.get("causal") else sk // 3, [0, -1]] = np.nan, -np.inf
    elif regime == "large":
        q, v = in_regime(q, "large"), in_regime(v, "large")
        q[..., -1, :] *= 32
    elif regime == "offset":
        k, v = in_regime(k, "offset"), in_regime(v, "offset")
    elif regime == "negative":
        q, k = np.rint(4 * q) / 4, np.rint(4 * k) / 4  # so that sums beside a large product are exact in float32
        q[..., d // 2], k[..., d // 2] = 128, np.rint(NEGATIVE / 128 * d**0.5)
    elif regime == "one-hot":
        q, k = one_hot(q, axis=-1) * np.float32(8 * d**0.5), one_hot(k, axis=-1)
    elif regime == "constant-rows":
        k = constant(k, axis=-2)
    elif regime == "sorted":
        q, k = np.abs(q) * np.float32(2 / d**0.5), np.sort(k, axis=-2)  # scores of about -4 to 4
    elif regime == "subnormal":
        v = in_regime(v, "subnormal", case.dtype)
    else:
        q, k, v = (in_regime(x, regime) for x in (q, k, v))
    return round_inputs({"q": q, "k": k, "v": v}, case.dtype)


def visible_pairs(axes: Mapping[str, int], params: Mapping[str, Any]) -> int:
    """How many (query, key) pairs of one head take part."""
    queries, keys = axes["Sq"], axes["Sk"]
    if not params.get("causal"):
        return queries * keys
    seeing = min(queries, keys)  # the last `seeing` rows see keys - seeing + 1 .. keys keys
    return seeing * (2 * keys - seeing + 1) // 2


def flops(axes: Mapping[str, int], params: Mapping[str, Any]) -> int:
    """Two matrix products of 2 D each per visible pair; the softmax is not counted, as in FlashAttention's figures."""
    return 4 * axes["B"] * axes["H"] * axes["D"] * visible_pairs(axes, params)


def bytes_moved(axes: Mapping[str, int], params: Mapping[str, Any], itemsize: int) -> int:
    """q, k and v read once, out written once."""
    q = axes["B"] * axes["H"] * axes["Sq"] * axes["D"]
    k = axes["B"] * axes["Hkv"] * axes["Sk"] * axes["D"]
    return itemsize * (2 * q + 2 * k)


def torch_attention(q: Any, k: Any, v: Any, causal: bool = False) -> Any:
    """What a user would pick instead: scaled_dot_product_attention, its mask aligned as the op's.

    Its `is_causal` is aligned with the top left corner, so it serves square cases alone.
    """
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    queries, keys = q.shape[2], k.shape[2]
    if not causal or queries == keys:
        return scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)
    visible = torch.ones(queries, keys, dtype=torch.bool, device=q.device).tril(diagonal=keys - queries)
    out = scaled_dot_product_attention(q, k, v, attn_mask=visible, enable_gqa=True)
    if queries > keys:
        out[:, :, : queries - keys] = 0
    return out


def unsupported(case: Case, backend: str, target: str) -> str | None:
    if backend == "torch" and case.regime == "nonfinite" and case.dtype != "float32":
        return "PyTorch's attention gives 0 for rows that a NaN reaches in 16-bit dtypes (seen with 2.13 on a CPU)"
    masked = case.params.get("causal") and case.axes["Sq"] != case.axes["Sk"]
    if backend == "torch" and case.regime == "nonfinite" and masked:
        return "PyTorch's attention adds its mask to the scores, and an infinite score of a hidden key becomes NaN"
    return None


def unsupported_online(case: Case, backend: str, target: str) -> str | None:
    if backend in ("nki-sim", "nki") and target in ("trn1", "inf2") and case.regime == "nonfinite":
        return "the TensorE transpose of NeuronCore-v2 is documented not to preserve NaN and infinities"
    return unsupported(case, backend, target)


def sizes(
    h: int, hkv: int, sq: int, sk: int, d: int, causal: bool, regime: str = "normal", b: int = 1
) -> dict[str, Any]:
    marks = [f"b{b}"] * (b > 1) + [f"h{h}" if h == hkv else f"h{h}kv{hkv}", f"q{sq}", f"k{sk}", f"d{d}"]
    marks += ["causal"] * causal + [regime] * (regime != "normal")
    axes = {"B": b, "H": h, "Hkv": hkv, "Sq": sq, "Sk": sk, "D": d}
    return {"name": "-".join(marks), **axes, "causal": causal, "regime": regime}


LIMITS = {"D": 256}
LIMITS_ONLINE = {"D": 128}
# Where a panel starts another tile or block: of the Tensor Engine 128 queries, 128 and 512 keys, 128 numbers of a head;
# blocks of 512 queries, 256 where D > 128; online 8 x 128 queries and 1024 keys; of Triton 16 to 128 queries and keys,
# and powers of two along D.
TILES = {"Sq": (16, 64, 128, 256, 512, 1024), "Sk": (16, 64, 128, 512, 1024), "D": (16, 32, 64, 128, 256)}
SMOKE = [sizes(2, 1, 64, 64, 32, True), sizes(4, 2, 96, 160, 64, False, b=2), sizes(2, 1, 70, 1100, 128, True, b=2)]
EDGE = [
    sizes(1, 1, 1, 1, 1, False),
    sizes(1, 1, 1, 1, 1, True),
    sizes(1, 1, 1, 129, 64, True),
    sizes(3, 1, 127, 128, 40, True),
    sizes(2, 2, 128, 127, 80, True),
    sizes(1, 1, 129, 129, 128, True),
    sizes(1, 1, 128, 513, 64, False),
    sizes(1, 1, 37, 511, 80, True),
    sizes(6, 2, 31, 67, 13, False, b=2),
    sizes(1, 1, 300, 7, 64, True),
    sizes(1, 1, 300, 7, 1, False),
    sizes(2, 1, 3, 1024 + 130, 20, True),
    sizes(2, 1, 300, 140, 192, True),
    sizes(2, 2, 130, 200, 256, True),
    *[sizes(1, 1, size, 33, 8, size % 2 == 0) for size in around(TILES["Sq"])],
    *[sizes(1, 1, 3, size, 8, size % 2 == 1) for size in around(TILES["Sk"])],
    *[sizes(1, 1, 5, 9, size, False) for size in around(TILES["D"]) if size <= LIMITS["D"]],
]
ADVERSARIAL = [
    *[
        sizes(h, hkv, sq, sk, d, causal, regime)
        for regime in HARD
        for h, hkv, sq, sk, d, causal in (
            (2, 1, 64, 64, 32, True),
            (1, 1, 67, 150, 80, False),
            (2, 2, 5, 131, 128, True),
        )
    ],
    # All keys in one block that is not full: what handles non-finite values must not read past the last head either.
    sizes(6, 3, 15, 27, 10, True, "nonfinite", b=2),
    # Queries that see no key are 0, whatever the keys hold that others see.
    sizes(6, 3, 40, 16, 10, True, "nonfinite", b=3),
]

CASES = {
    "smoke": SMOKE,
    "edge": EDGE,
    "adversarial": ADVERSARIAL,
    "model": llama.attentions(long=False),
    "model-long": llama.attentions(long=True),
}


def small_heads(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [case for case in cases if case["D"] <= LIMITS_ONLINE["D"]]


def row(name: str, version: str, **options: Any) -> Op:
    equation = "out[B, H, Sq, D] = softmax(q @ k.T / sqrt(D)) @ v; q[B, H, Sq, D], k and v[B, Hkv, Sk, D]"
    common: dict[str, Any] = {
        "summary": f"{equation}; {version}",
        "axes": ("B", "H", "Hkv", "Sq", "Sk", "D"),
        "inputs": inputs,
        "shapes": {"q": ("B", "H", "Sq", "D"), "k": ("B", "Hkv", "Sk", "D"), "v": ("B", "Hkv", "Sk", "D")},
        "reference": reference,
        "honest": (online, plain, prescaled),
        "tiles": TILES,
        "out": ("B", "H", "Sq", "D"),
        # No kernel mixes sequences of a batch, nor chooses its tiles by how many there are; torch may.
        "alone": BatchInvariance(
            "B",
            {"q": 0, "k": 0, "v": 0},
            out=0,
            promised={"nki": 1, "nki-sim": 1, "triton": 1, "triton-cpu": 1},
            why="each sequence is computed by itself, in tiles that do not depend on B",
        ),
        "corruptions": wrong.CORRUPTIONS,
        "strict_nonfinite": True,  # one that a query does not see does not reach it
        "multiples": {"H": "Hkv"},
        "flops": flops,
        "bytes": bytes_moved,
        "nki": f"{KERNELS / 'nki' / name}.py:{name}",
        "torch": torch_attention,
    }
    return Op(name=name, **{**common, **options})


OPS = (
    row(
        "attention",
        "transposed scores, no maximum",
        cases=CASES,
        limits=LIMITS,
        triton=f"{KERNELS / 'triton' / 'attention.py'}:attention",
        unsupported=unsupported,
    ),
    row(
        "attention_online",
        "a running maximum, the step before, which teaches",
        cases={name: small_heads(cases) for name, cases in CASES.items()},
        limits=LIMITS_ONLINE,
        unsupported=unsupported_online,
    ),
)
