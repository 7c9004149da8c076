"""Corruptions of attention, for `teeth`: what the mistakes of its kernels lead to, planted in the first head alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from ml_dtypes import bfloat16

from triptych.harness.arrays import Array, Arrays
from triptych.harness.collection.attentions.baselines import LOG2_E, in_blocks, scored
from triptych.harness.ops.case import Case
from triptych.reference.attention import attention as reference


def first_head(inputs: Arrays) -> Arrays:
    return {name: x[:1, :1].astype(np.float64) for name, x in inputs.items()}


def mask_too_far(case: Case, inputs: Arrays, out: Array) -> tuple[Any, Any] | None:
    """Each query but the last sees one key more."""
    if not case.params.get("causal") or case.axes["Sq"] == 1:
        return None
    one = first_head(inputs)
    return (slice(1), slice(1), slice(-1)), reference(one["q"][:, :, :-1], one["k"], one["v"], causal=True)


def mask_too_short(case: Case, inputs: Arrays, out: Array) -> tuple[Any, Any] | None:
    """Each query sees one key less."""
    if not case.params.get("causal") or case.axes["Sk"] == 1:
        return None
    one = first_head(inputs)
    wrong = reference(one["q"], one["k"][:, :, :-1], one["v"][:, :, :-1], causal=True)
    return (slice(1), slice(1)), wrong


def scale_missing(case: Case, inputs: Arrays, out: Array) -> tuple[Any, Any]:
    """Scores are not divided by sqrt(D)."""
    one = first_head(inputs)
    causal = bool(case.params.get("causal"))
    return (slice(1), slice(1)), reference(one["q"] * np.sqrt(case.axes["D"]), one["k"], one["v"], causal)


def other_kv_head(case: Case, inputs: Arrays, out: Array) -> tuple[Any, Any] | None:
    """The first head reads the keys and values of the second group."""
    if case.axes["Hkv"] == 1:
        return None
    k, v = (inputs[name][:1, 1:2] for name in ("k", "v"))  # which the reference widens
    return (slice(1), slice(1)), reference(inputs["q"][:1, :1], k, v, bool(case.params.get("causal")))


def bfloat16_sums(case: Case, inputs: Arrays, out: Array) -> tuple[Any, Any]:
    """The weighted sum of values is kept in bfloat16, 16 keys at a time."""
    one = {name: x.astype(np.float32) for name, x in first_head(inputs).items()}
    scores, values, visible = scored(one["q"], one["k"], one["v"], bool(case.params.get("causal")), unit=LOG2_E)
    wrong = in_blocks(scores, values, visible, 16, np.dtype(np.float32), sums=np.dtype(bfloat16))
    return (slice(1), slice(1)), wrong[0]


CORRUPTIONS = {
    "a mask one key too far": mask_too_far,
    "a mask one key too short": mask_too_short,
    "the scale missing": scale_missing,
    "the keys and values of another head": other_kv_head,
    "sums kept in bfloat16": bfloat16_sums,
}
