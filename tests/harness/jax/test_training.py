"""A block of a Llama in JAX, on the simulator: it learns as the same block in jax.numpy does."""

from __future__ import annotations

from typing import Any

import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

import triptych.jax as tj  # noqa: E402

import jax_functions as theirs  # isort: skip  # noqa: E402

TOKENS, HEADS, D, HIDDEN, VOCABULARY, STEPS = 12, 2, 4, 8, 17, 3
ANGLES = np.outer(np.arange(TOKENS), 100.0 ** (-np.arange(0, D, 2) / D)).astype(np.float32)


def parameters() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    width = HEADS * D
    shapes = {"table": (VOCABULARY, width), "q": (width, width), "k": (width, D), "v": (width, D), "o": (width, width)}
    shapes |= {"gate": (width, HIDDEN), "up": (width, HIDDEN), "down": (HIDDEN, width), "head": (width, VOCABULARY)}
    made = {name: jnp.asarray(rng.standard_normal(shape) * 0.3, jnp.float32) for name, shape in shapes.items()}
    return {**made, **{name: jnp.ones(width) for name in ("first", "second", "last")}}


class Ours:
    """The functions of the block, as kernels."""

    linear, gated_mlp, cross_entropy = (
        staticmethod(tj.linear),
        staticmethod(tj.gated_mlp),
        staticmethod(tj.cross_entropy),
    )
    rms_norm, rope = staticmethod(tj.rms_norm), staticmethod(tj.rope)

    @staticmethod
    def attention(q: Any, k: Any, v: Any) -> Any:
        return tj.attention(q, k, v, causal=True)


class Theirs:
    """The same in jax.numpy."""

    linear, gated_mlp, cross_entropy = staticmethod(jnp.matmul), staticmethod(theirs.mlp), staticmethod(theirs.loss)
    attention = staticmethod(theirs.attention)

    @staticmethod
    def rms_norm(x: Any, weight: Any) -> Any:
        return x / jnp.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * weight

    @staticmethod
    def rope(x: Any, cos: Any, sin: Any) -> Any:
        return theirs.turned(x, cos, sin, interleaved=False)


def loss(of: Any, p: dict[str, Any], tokens: Any) -> Any:
    """Of the next token, of tokens[T + 1]."""

    def heads(x: Any, weight: Any) -> Any:
        return of.linear(x, weight).reshape(TOKENS, -1, D)

    x = p["table"][tokens[:-1]]
    y = of.rms_norm(x, p["first"])
    q, k = (of.rope(heads(y, p[name]), np.cos(ANGLES), np.sin(ANGLES)) for name in "qk")
    mixed = of.attention(*(x.swapaxes(0, 1)[None] for x in (q, k, heads(y, p["v"]))))
    x = x + of.linear(mixed[0].swapaxes(0, 1).reshape(TOKENS, -1), p["o"])
    x = of.gated_mlp(of.rms_norm(x, p["second"]), p["gate"], p["up"], p["down"], x)
    return of.cross_entropy(of.linear(of.rms_norm(x, p["last"]), p["head"]), tokens[1:])


def trained(of: Any) -> list[float]:
    """The losses of a few steps."""

    @jax.jit
    def step(p: dict[str, Any]) -> Any:
        value, gradients = jax.value_and_grad(lambda p: loss(of, p, tokens))(p)
        return value, jax.tree.map(lambda x, g: x - 0.5 * g, p, gradients)

    tokens = jnp.asarray(np.random.default_rng(1).integers(0, VOCABULARY, TOKENS + 1))
    p, losses = parameters(), []
    for _ in range(STEPS):
        value, p = step(p)
        losses.append(float(value))
    return losses


def test_a_block_learns_on_the_simulator_what_it_learns_in_jax() -> None:
    with tj.on_cpu("nki-sim", target="trn2"), tj.calls() as made:
        ours = trained(Ours)
    assert ours[-1] < ours[0] - 0.2
    np.testing.assert_allclose(ours, trained(Theirs), rtol=1e-5)
    ran = {operator for operator, backend in made.by_operator() if backend == "nki-sim"}
    assert made.count() == made.count(backend="nki-sim") and made.count("gated_mlp") == STEPS
    assert {"attention_backward", "rms_norm_backward", "rope", "cross_entropy_backward", "gate_backward"} <= ran
