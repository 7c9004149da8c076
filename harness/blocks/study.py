"""One Llama block in prefill, decode and training: does it agree with its definition, and what is predicted of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ml_dtypes import bfloat16

from triptych.harness.arrays import Array, Arrays
from triptych.harness.blocks import llama_block
from triptych.harness.blocks.callers import Eager, Predicting, Simulated, Timed
from triptych.harness.collection.llama import Llama
from triptych.reference import llama_block as definition
from triptych.reference.rope import rope_angles
from triptych.simulator import Chip

BUDGET = (
    2.0  # how many times the error of NumPy that rounds after each operation a kernel may make, as the judge has it
)
BASE = 500_000.0  # rope_theta of Llama 3's config.json


@dataclass(frozen=True)
class Sizes:
    """How many tokens: those that are compared, and those that are timed."""

    compared: int = 150  # of prefill and training
    compared_sequences: int = 3
    compared_cache: int = 200
    tokens: int = 2048  # of prefill and training
    sequences: int = 8  # of decode, each with
    cached: int = 4000  # tokens in a cache for
    cache: int = 4096


@dataclass(frozen=True)
class Agreement:
    """How far one result is from the definition, as relative L2, and how far it may be."""

    name: str
    error: float
    allowed: float

    @property
    def holds(self) -> bool:
        return self.error <= self.allowed  # not so of NaN


@dataclass(frozen=True)
class Phase:
    """What is known of one phase."""

    name: str
    what: str
    tokens: int
    agreements: Sequence[Agreement]
    calls: Sequence[Timed]
    chip: Chip

    @property
    def core_us(self) -> float:
        """On one core, the others idle."""
        return self.chip.once_us + sum(call.us for call in self.calls)

    @property
    def chip_us(self) -> float:
        """On each of all cores, which share HBM: a call takes no less time than its bytes need of the core's share."""
        share = self.chip.hbm_gb_per_s.value / self.chip.hbm_cores.value
        return self.chip.once_us + sum(max(call.us, call.hbm_bytes / share / 1e3) for call in self.calls)

    @property
    def core_rate(self) -> float:
        """Tokens a second."""
        return self.tokens / self.core_us * 1e6

    @property
    def chip_rate(self) -> float:
        return self.chip.cores_per_device.value * self.tokens / self.chip_us * 1e6

    @property
    def mfu(self) -> float:
        """All products, over the core's peak in bfloat16."""
        return sum(call.flops for call in self.calls) / self.core_us / 1e6 / self.chip.peak_bf16_tflops.value

    @property
    def gb_per_s(self) -> float:
        """Bytes read from HBM and written to it, over the time."""
        return sum(call.hbm_bytes for call in self.calls) / self.core_us / 1e3


def study(model: Llama, target: str, sizes: Sizes, seed: int, told: Callable[[str], None]) -> list[Phase]:
    """Prefill, decode and training; `told` hears what is being done."""
    from triptych.simulator import TARGETS

    chip = TARGETS[target]
    weights = drawn_weights(model, seed)
    phases = []
    for name in ("prefill", "decode", "training"):
        told(f"{name}: comparing with the definition")
        agreements = compare(name, model, weights, target, sizes, seed)
        told(f"{name}: predicting")
        calls, tokens, what = predict(name, model, weights, target, sizes)
        phases.append(Phase(name, what, tokens, agreements, calls, chip))
    return phases


def compare(name: str, model: Llama, weights: Arrays, target: str, sizes: Sizes, seed: int) -> list[Agreement]:
    """Simulated kernels and NumPy that rounds after each operation, both against the definition in float64."""
    rng = np.random.default_rng([seed, 1])
    if name == "decode":
        inputs = decode_inputs(model, rng, sizes.compared_sequences, sizes.compared_cache, None)
        right = dict(zip(("out", "k_cache", "v_cache"), definition.decode(weights=weights, **inputs), strict=True))
    else:
        inputs = sequence_inputs(model, rng, sizes.compared, name == "training")
        right = (
            definition.gradients(weights=weights, **inputs)
            if name == "training"
            else {"out": definition.prefill(weights=weights, **inputs)}
        )
    kernels, eager = (run(name, call, weights, inputs) for call in (Simulated(target), Eager()))
    return [
        Agreement(part, distance(kernels[part], right[part]), BUDGET * distance(eager[part], right[part]))
        for part in right
    ]


def run(name: str, call: llama_block.Call, weights: Arrays, inputs: Arrays) -> Arrays:
    """The results of a phase by name; caches are copied first."""
    own = {part: x.copy() for part, x in inputs.items()}
    x, cos, sin = (own.pop(part) for part in ("x", "cos", "sin"))
    if name == "training":
        return llama_block.training(call, x, weights, cos, sin, **own)
    out = getattr(llama_block, name)(call, x, weights, cos, sin, **own)
    return {"out": out, **{part: own[part] for part in ("k_cache", "v_cache") if part in own}}


def distance(found: Array, right: Array) -> float:
    """Relative L2."""
    return float(np.linalg.norm(found.astype(np.float64) - right) / np.linalg.norm(right))


def predict(name: str, model: Llama, weights: Arrays, target: str, sizes: Sizes) -> tuple[list[Timed], int, str]:
    """The calls of a phase, how many tokens it takes in, and what it does in words."""
    rng, call = np.random.default_rng(0), Predicting(target)
    if name == "decode":
        inputs = decode_inputs(model, rng, sizes.sequences, sizes.cache, sizes.cached)
        what = f"a token of each of {sizes.sequences} sequences, {sizes.cached} in a cache for {sizes.cache}"
        run(name, call, weights, inputs)
        return call.calls, sizes.sequences, what
    run(name, call, weights, sequence_inputs(model, rng, sizes.tokens, name == "training"))
    return call.calls, sizes.tokens, f"one sequence of {sizes.tokens} tokens"


def drawn_weights(model: Llama, seed: int) -> Arrays:
    """Weights in bfloat16 that keep the width of what passes, and gains around 1."""
    rng = np.random.default_rng([seed, 0])
    qkv = (model.heads + 2 * model.kv_heads) * model.head_dim
    shapes = {
        "wqkv": (model.hidden, qkv),
        "wo": (model.heads * model.head_dim, model.hidden),
        "wg": (model.hidden, model.ffn),
        "wu": (model.hidden, model.ffn),
        "wd": (model.ffn, model.hidden),
    }
    found = {name: rng.standard_normal(s, np.float32) / np.float32(s[0] ** 0.5) for name, s in shapes.items()}
    found |= {name: 1 + np.float32(0.1) * rng.standard_normal(model.hidden, np.float32) for name in ("gain1", "gain2")}
    return {name: x.astype(bfloat16) for name, x in found.items()}


def sequence_inputs(model: Llama, rng: np.random.Generator, tokens: int, with_gradient: bool) -> Arrays:
    """x[S, hidden] and the angles of the tokens 0 .. S-1, and in training what comes to the output."""
    arrays = {"x": rng.standard_normal((tokens, model.hidden), np.float32), **tables(model, np.arange(tokens))}
    if with_gradient:
        arrays["dout"] = rng.standard_normal((tokens, model.hidden), np.float32)
    return {name: x.astype(bfloat16) for name, x in arrays.items()}


def decode_inputs(model: Llama, rng: np.random.Generator, sequences: int, cache: int, cached: int | None) -> Arrays:
    """A token of each sequence and caches that are filled, up to `cached` or each up to a place of its own."""
    lengths = rng.integers(0, cache, sequences) if cached is None else np.full(sequences, cached)
    shape = (sequences, model.kv_heads, cache, model.head_dim)
    arrays: dict[str, Any] = {"x": rng.standard_normal((sequences, model.hidden), np.float32), **tables(model, lengths)}
    arrays |= {name: rng.standard_normal(shape, np.float32) for name in ("k_cache", "v_cache")}
    return {**{name: x.astype(bfloat16) for name, x in arrays.items()}, "lengths": lengths.astype(np.int32)}


def tables(model: Llama, positions: Array) -> Arrays:
    """cos and sin[S, D/2]."""
    angles = rope_angles(positions, model.head_dim, BASE)
    return {"cos": np.cos(angles), "sin": np.sin(angles)}
