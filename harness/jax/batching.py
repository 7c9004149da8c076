"""jax.vmap of a kernel: the batch is folded into the kernel's own leading axis, or the kernel is called once for each.

Folding asks nothing of a kernel whose outputs all run along the leading axis of its inputs: sequences of attention,
rows of a norm or of a product with one matrix. Where a gradient is a sum over rows, or a weight has a batch of its own,
the kernel runs once for each element, one after the other, as in jax.lax.map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.interpreters import batching

from triptych.harness.jax.operators import Task, primitive


def batch(arrays: Sequence[Any], dims: Sequence[int | None], task: Task) -> tuple[list[jax.Array], list[int]]:
    """The outputs of a batch of calls, with the batch in front."""
    moved = [x if dim is None else jnp.moveaxis(x, dim, 0) for x, dim in zip(arrays, dims, strict=True)]
    batched = [dim is not None for dim in dims]
    size = next(x.shape[0] for x, is_batched in zip(moved, batched, strict=True) if is_batched)
    shapes = [x.shape[is_batched:] for x, is_batched in zip(moved, batched, strict=True)]
    led = leads(task, shapes)
    if led is not None and not any(is_batched and not one for is_batched, one in zip(batched, led, strict=True)):
        found = folded(moved, batched, led, size, task)
    else:
        found = one_by_one(moved, batched, task)
    return found, [0] * len(found)


def leads(task: Task, shapes: Sequence[tuple[int, ...]]) -> list[bool] | None:
    """Whether a batch can be folded into each input; None where it can into none.

    An axis of any size is the leading one, unless its size is 1: then the array is the same for all.
    """
    axis = task.operator.signature.folded(task.names)
    if axis is None:
        return None
    firsts = [task.operator.signature.inputs[name].split()[0] for name in task.names]
    return [first == axis or (first == "*" and shape[0] != 1) for first, shape in zip(firsts, shapes, strict=True)]


def folded(arrays: Sequence[Any], batched: Sequence[bool], led: Sequence[bool], size: int, task: Task) -> list[Any]:
    """One call, whose leading axis is `size` times as long."""
    long = []
    for x, is_batched, is_led in zip(arrays, batched, led, strict=True):
        if is_led and not is_batched:
            x = jnp.broadcast_to(x, (size, *x.shape))
        long.append(x.reshape(-1, *x.shape[2:]) if is_led else x)
    return [x.reshape(size, -1, *x.shape[1:]) for x in primitive.bind(*long, task=task)]


def one_by_one(arrays: Sequence[Any], batched: Sequence[bool], task: Task) -> list[Any]:
    """A call for each element of the batch."""

    def once(some: list[Any]) -> list[Any]:
        rest = iter(some)
        each = [next(rest) if is_batched else x for x, is_batched in zip(arrays, batched, strict=True)]
        found: list[Any] = primitive.bind(*each, task=task)
        return found

    found: list[Any] = jax.lax.map(once, [x for x, is_batched in zip(arrays, batched, strict=True) if is_batched])
    return found


batching.primitive_batchers[primitive] = batch
