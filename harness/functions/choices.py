"""Which row of the collection serves a call, where it depends on what is asked."""

from __future__ import annotations

from collections.abc import Collection

from triptych.harness.functions.rows import rows

ATTENTIONS = {  # by what a call asks beyond q, k, v and causal
    "window": "attention_window",
    "softcap": "attention_softcap",
    "sinks": "attention_sinks",
    "mask": "attention_mask",
    "segments": "attention_packed",
}
WITHOUT_GRADIENT = ("softcap", "sinks", "mask", "segments")  # attention_backward knows none of them
MOST_K = min(rows()[name].limits["K"] for name in ("linear", "linear_transposed"))  # `matmul_mk` takes more


def attention_row(given: Collection[str]) -> str:
    """The row whose kernels take an attention with these arguments; all NKI ones are one kernel."""
    return next((row for name, row in ATTENTIONS.items() if name in given), "attention")
