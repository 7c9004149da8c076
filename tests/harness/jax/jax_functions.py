"""Each function of triptych.jax on small inputs, beside the same in plain jax.numpy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import triptych.jax as tj

LABELS = jnp.asarray([3, -100, 7, 2])
ANGLES = np.linspace(0, 3, 12).reshape(3, 4)


@dataclass(frozen=True)
class Function:
    """A function of triptych.jax, what jax.numpy has for it, and the shapes of its arrays."""

    name: str
    ours: Callable[..., Any]
    theirs: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]

    def inputs(self, dtype: Any) -> list[Any]:
        rng = np.random.default_rng(0)
        return [jnp.asarray(rng.standard_normal(shape)).astype(dtype) for shape in self.shapes]


def attention(q: Any, k: Any, v: Any, window: int = 1000, softcap: float | None = None) -> Any:
    """Causal, with heads that share keys."""
    k, v = (jnp.repeat(x, q.shape[1] // k.shape[1], axis=1) for x in (k, v))
    scores = jnp.einsum("bhqd,bhkd->bhqk", q, k, precision="highest") / np.sqrt(q.shape[-1])
    scores = scores if softcap is None else softcap * jnp.tanh(scores / softcap)
    distance = np.arange(q.shape[2])[:, None] - np.arange(k.shape[2])
    scores = jnp.where((distance >= 0) & (distance < window), scores, -jnp.inf)
    return jnp.einsum("bhqk,bhkd->bhqd", jax.nn.softmax(scores), v, precision="highest")


def turned(x: Any, cos: Any, sin: Any, interleaved: bool) -> Any:
    """The rotation pair by pair."""
    first, second = (x[..., ::2], x[..., 1::2]) if interleaved else jnp.split(x, 2, -1)
    cos, sin = cos[:, None], sin[:, None]
    out = [first * cos - second * sin, second * cos + first * sin]
    return jnp.stack(out, -1).reshape(x.shape) if interleaved else jnp.concatenate(out, -1)


def loss(logits: Any, labels: Any) -> Any:
    each = jax.nn.logsumexp(logits, -1) - jnp.take_along_axis(logits, jnp.maximum(labels, 0)[..., None], -1)[..., 0]
    return jnp.where(labels >= 0, each, 0).sum() / (labels >= 0).sum()


def mlp(x: Any, gate: Any, up: Any, down: Any, residual: Any) -> Any:
    return (jax.nn.silu(x @ gate) * (x @ up)) @ down + residual


HEADS = ((1, 4, 5, 4), (1, 2, 5, 4), (1, 2, 5, 4))
FUNCTIONS = (
    Function("attention", lambda q, k, v: tj.attention(q, k, v, causal=True), attention, HEADS),
    Function(
        "attention of a window",
        lambda q, k, v: tj.attention(q, k, v, causal=True, window=2),
        lambda q, k, v: attention(q, k, v, window=2),
        HEADS,
    ),
    Function("matmul", tj.matmul, jnp.matmul, ((2, 3, 5), (5, 4))),
    Function("matmul of batches", tj.matmul, jnp.matmul, ((2, 2, 3, 5), (2, 2, 5, 4))),
    Function("linear", tj.linear, lambda x, w, b: x @ w + b, ((2, 3, 5), (5, 4), (4,))),
    Function("gated_mlp", tj.gated_mlp, mlp, ((3, 4), (4, 6), (4, 6), (6, 4), (3, 4))),
    Function(
        "rms_norm",
        lambda x, w: tj.rms_norm(x, w, 1e-3),
        lambda x, w: x / jnp.sqrt((x * x).mean(-1, keepdims=True) + 1e-3) * w,
        ((2, 3, 4), (4,)),
    ),
    *(
        Function(
            f"rope, interleaved={interleaved}",
            lambda x, c, s, i=interleaved: tj.rope(x, c, s, interleaved=i),
            lambda x, c, s, i=interleaved: turned(x, c, s, i),
            ((3, 2, 8), (3, 4), (3, 4)),
        )
        for interleaved in (False, True)
    ),
    Function("cross_entropy", lambda x: tj.cross_entropy(x, LABELS), lambda x: loss(x, LABELS), ((4, 9),)),
)
