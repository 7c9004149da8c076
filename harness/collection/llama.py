"""Real sizes: the projections and the attention of Llama 3.2 1B, Llama 3.1 8B and Llama 3.1 70B.

The dimensions are those of the models' published `config.json` (hidden_size, num_attention_heads,
num_key_value_heads, head_dim, intermediate_size). The models are published in bfloat16, so these cases run in bfloat16
unless another dtype is asked for. Sequence lengths are those that Triton's interpreter bears on a CPU; the long ones
are what the models serve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

DTYPE = "bfloat16"


@dataclass(frozen=True)
class Llama:
    name: str
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    tokens: int  # rows of the projections in the short set: fewer for larger weights


MODELS = (
    Llama("llama-3.2-1b", hidden=2048, heads=32, kv_heads=8, head_dim=64, ffn=8192, tokens=64),
    Llama("llama-3.1-8b", hidden=4096, heads=32, kv_heads=8, head_dim=128, ffn=14336, tokens=32),
    Llama("llama-3.1-70b", hidden=8192, heads=64, kv_heads=8, head_dim=128, ffn=28672, tokens=16),
)
LONG = 2048


def projections(long: bool, models: Sequence[Llama] = MODELS) -> list[dict[str, Any]]:
    """x[tokens, K] @ W[K, N] of every projection; q and o share one shape, as do k and v, and gate and up."""
    cases = []
    for model in models:
        tokens = LONG if long else model.tokens
        for name, k, n in (
            ("q_o_proj", model.hidden, model.heads * model.head_dim),
            ("k_v_proj", model.hidden, model.kv_heads * model.head_dim),
            ("gate_up_proj", model.hidden, model.ffn),
            ("down_proj", model.ffn, model.hidden),
        ):
            label = f"{model.name}/{name}/s{tokens}"
            cases.append({"name": label, "dtype": DTYPE, "M": tokens, "K": k, "N": n})
    return cases


def attentions(long: bool) -> list[dict[str, Any]]:
    """Prefill (causal, as many queries as keys) and decode (one query against a filled cache)."""
    cases = []
    for model in MODELS:
        heads = {"B": 1, "H": model.heads, "Hkv": model.kv_heads, "D": model.head_dim}
        prefill, cache = (LONG, 4 * LONG) if long else (128, 256)
        for name, queries, keys in (("prefill", prefill, prefill), ("decode", 1, cache)):
            label = f"{model.name}/{name}/s{keys}"
            cases.append({"name": label, "dtype": DTYPE, **heads, "Sq": queries, "Sk": keys, "causal": True})
    return cases
