"""The work that is priced: the seven projections of one transformer block, of so many rows (tokens) at once.

    q, o: x[rows, hidden] @ W[hidden, heads D]     k, v: x @ W[hidden, kv heads D]     gate, up: x @ W[hidden, ffn]
    down: x[rows, ffn] @ W[ffn, hidden]

In decode the rows are the sequences of a batch, in prefill the tokens of a prompt. Attention itself, norms and what is
between chips are not in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from triptych.harness.collection.llama import MODELS, Llama
from triptych.harness.errors import unknown

DTYPE, ITEMSIZE = "bfloat16", 2
LAYERS = {"llama-3.2-1b": 16, "llama-3.1-8b": 32, "llama-3.1-70b": 80}  # num_hidden_layers of each config.json
NAME = re.compile(r"(?P<model>[\w.-]+)/(?P<projection>\w+_proj)/s(?P<rows>\d+)")


@dataclass(frozen=True)
class Projection:
    """x[rows, K] @ W[K, N], so many times in a block."""

    name: str
    k: int
    n: int
    times: int

    def flops(self, rows: int) -> int:
        return 2 * rows * self.k * self.n

    def bytes(self, rows: int) -> int:
        """Read once: rows and weights; written once: the product."""
        return ITEMSIZE * (rows * self.k + self.k * self.n + rows * self.n)


@dataclass(frozen=True)
class Block:
    """The projections of a model's block."""

    model: str
    layers: int  # blocks of the model
    projections: tuple[Projection, ...]

    def flops(self, rows: int) -> int:
        return sum(p.times * p.flops(rows) for p in self.projections)

    def bytes(self, rows: int) -> int:
        return sum(p.times * p.bytes(rows) for p in self.projections)

    def us(self, times: Mapping[str, float]) -> float | None:
        """The time of a block from that of each projection; None unless all are there."""
        if any(p.name not in times for p in self.projections):
            return None
        return sum(p.times * times[p.name] for p in self.projections)


def llama_of(model: str) -> Llama:
    """The sizes of a model by its name; UsageError that lists them for one that is none."""
    for one in MODELS:
        if one.name == model:
            return one
    raise unknown("model", model, [one.name for one in MODELS])


def block_of(model: str) -> Block:
    """The block of a model by its name."""
    found = llama_of(model)
    inner, kv = found.heads * found.head_dim, found.kv_heads * found.head_dim
    return Block(
        model,
        LAYERS[model],
        (
            Projection("q_o_proj", found.hidden, inner, 2),
            Projection("k_v_proj", found.hidden, kv, 2),
            Projection("gate_up_proj", found.hidden, found.ffn, 2),
            Projection("down_proj", found.ffn, found.hidden, 1),
        ),
    )
