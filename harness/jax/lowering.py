"""What a kernel becomes in a compiled program: on the CPU a call of Python, on a GPU launches, on Neuron a call of NKI.

JAX asks for one platform at a time, where the program is compiled; it is the platform of the arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.interpreters import mlir

from triptych.harness.functions import rows
from triptych.harness.functions.places import NoKernel, Place
from triptych.harness.functions.rows import listed, refusals, without_kernel
from triptych.harness.jax.launches import on_gpu
from triptych.harness.jax.operators import Task, primitive

GPU, NEURON = Place("triton"), Place("nki")


def by_callback(*arrays: jax.Array, task: Task) -> list[jax.Array]:
    """On the CPU: the program calls the kernel back, whenever it gets there."""
    work = task.work(arrays)
    if without_kernel([work.row], task.place):
        raise NoKernel(f"{work.row} has no kernel that {task.place.backend} would run")
    rows.check_refusal(work, task.place)  # here, because from within the program JAX tells no exception from another
    found: list[jax.Array] = jax.pure_callback(task.run, task.results(arrays), *arrays)
    return found


def by_launches(*arrays: jax.Array, task: Task) -> list[jax.Array]:
    """On a GPU: the launches of the Triton launcher, in order, are part of the program."""
    work = task.work(arrays)
    task.tell(work, GPU)
    return on_gpu(work)


def by_nki(*arrays: jax.Array, task: Task) -> list[jax.Array]:
    """On a Neuron device: nki.jit makes the kernel a part of the program that is traced.

    A kernel that appends to caches does so on the device, and hands nothing out; the same tokens are put into the
    caches that the program returns.
    """
    work = task.work(arrays)
    kernel = rows.on_device(work.row)
    task.tell(work, NEURON)
    with refusals(work.row):
        found = listed(kernel(**work.arrays, **work.params))[: len(work.outputs)]
    appended = [
        append(work.arrays[name], work.arrays[f"{name[0]}_new"], work.arrays["lengths"]) for name in work.mutates
    ]
    return [*found, *appended]


def append(cache: jax.Array, new: jax.Array, lengths: jax.Array) -> jax.Array:
    """cache[B, Hkv, S, D] with new[B, Hkv, T, D] at lengths[B]."""

    def one(cache: jax.Array, new: jax.Array, length: jax.Array) -> jax.Array:
        zero = jnp.zeros_like(length)
        return jax.lax.dynamic_update_slice(cache, new, (zero, length, zero))

    out: jax.Array = jax.vmap(one)(cache, new, lengths)
    return out


def lowered(function: Callable[..., Any]) -> Callable[..., Any]:
    """The rule of a platform on which `function` says what to do."""
    rule: Callable[..., Any] = mlir.lower_fun(function, multiple_results=True)
    return rule


def elsewhere(ctx: Any, *values: Any, task: Task) -> Sequence[Any]:
    """The rule of all platforms that have none of their own: Neuron, which JAX knows once its plugin is there."""
    platform = (ctx.platforms or ctx.module_context.platforms)[0]
    if platform != "neuron":
        raise NoKernel(
            f"triptych has kernels for JAX on cpu, cuda and neuron, and {task.operator.name} is on {platform}"
        )
    found: Sequence[Any] = lowered(by_nki)(ctx, *values, task=task)
    return found


mlir.register_lowering(primitive, lowered(by_callback), platform="cpu")
mlir.register_lowering(primitive, lowered(by_launches), platform="cuda")
mlir.register_lowering(primitive, elsewhere)
