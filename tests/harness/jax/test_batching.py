"""jax.vmap: what is folded into a kernel's own batch, and what is one call after the other."""

from __future__ import annotations

from typing import Any

import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

import triptych.jax as tj  # noqa: E402

from jax_functions import FUNCTIONS, Function  # isort: skip  # noqa: E402


def normal(*shape: int) -> Any:
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape), jnp.float32)


@pytest.mark.parametrize("one", FUNCTIONS, ids=[one.name for one in FUNCTIONS])
def test_a_batch_is_what_each_gives_alone(one: Function) -> None:
    """Of the first array alone, with gradients of all: those of the others are then sums, and no fold."""
    first, *others = one.inputs(jnp.float32)
    batch = jnp.stack([first, 0.5 * first])
    wanted = tuple(range(1 + len(others)))

    def both(x: Any) -> Any:
        return one.ours(x, *others), jax.grad(lambda *a: (one.ours(*a) ** 2).sum(), wanted)(x, *others)

    found, alone = jax.tree.leaves(jax.jit(jax.vmap(both))(batch)), jax.jit(both)
    for i in range(2):
        for x, y in zip(found, jax.tree.leaves(alone(batch[i])), strict=True):
            np.testing.assert_allclose(x[i], y, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "axes", "shapes", "kernels"),
    [
        (tj.attention, (1, 1, 1), ((2, 3, 2, 6, 4),) * 3, 1),  # the batch lies in the middle
        (lambda x, w: tj.rms_norm(x, w), (0, None), ((3, 5, 4), (4,)), 1),
        (lambda x, w: tj.rms_norm(x, w), (0, 0), ((3, 5, 4), (3, 4)), 3),  # each has a weight of its own
        (lambda x, w: tj.linear(x, w), (0, None), ((3, 5, 4), (4, 2)), 1),
        (lambda q, m: tj.attention(q, q, q, mask=m), (0, None), ((3, 2, 2, 6, 4), (1, 2, 6, 6)), 1),
        (lambda q, m: tj.attention(q, q, q, mask=m), (0, None), ((3, 2, 2, 6, 4), (2, 1, 6, 6)), 1),
        (lambda q, m: tj.attention(q, q, q, mask=m), (0, 0), ((3, 2, 2, 6, 4), (3, 2, 1, 6, 6)), 1),
        (lambda q, m: tj.attention(q, q, q, mask=m), (0, 0), ((3, 2, 2, 6, 4), (3, 1, 2, 6, 6)), 3),
    ],
)
def test_one_call_where_the_batch_can_be_folded(call: Any, axes: Any, shapes: Any, kernels: int) -> None:
    arrays = [normal(*shape) for shape in shapes]
    with tj.calls() as made:
        found = jax.vmap(call, axes)(*arrays)
    assert made.count() == kernels
    for i in range(3):
        alone = call(*(x if axis is None else jnp.take(x, i, axis) for x, axis in zip(arrays, axes, strict=True)))
        np.testing.assert_allclose(found[i], alone, rtol=1e-5, atol=1e-5)
