"""A Triton launcher inside a program of JAX: what it would launch on a GPU, launch by launch, through jax-triton.

The launcher is called on stand-ins that have shapes and no storage, and each launch is recorded in place of being made.
Two things differ between Triton's launches and those of jax-triton, and the kernel's own file is left as it is:

- A program of JAX has values, a launcher has memory. Memory that a launch may write, outputs and scratch, goes into it
  as the value that it had and comes out as another, on the same bytes.
- jax-triton hands a kernel its inputs first and its outputs last. So a kernel of few lines is written for each launch,
  which has them in this order and calls the launcher's own. Numbers stand in it as constants: shapes are constants to
  a program of JAX, and Triton's compiler sees from them what is divisible by 16.
"""

from __future__ import annotations

import linecache
from functools import cache, partial
from typing import Any

import jax
import numpy as np

from triptych.harness import emulators, extras
from triptych.harness.functions.places import NoKernel
from triptych.harness.functions.rows import Work, launcher_of, listed, refusals

# CUDA C++ Programming Guide, "Technical Specifications per Compute Capability": shared memory of a block, in KiB.
SHARED_KIB = {80: 163, 86: 99, 87: 163, 89: 99, 90: 227, 100: 227, 103: 227, 120: 99, 121: 99}
OPTIONS = (
    "num_warps",
    "num_stages",
    "num_ctas",
    "enable_fp_fusion",
)  # of jax-triton; others are hints to AMD's compiler


def on_gpu(work: Work) -> list[jax.Array]:
    """The outputs and, behind them, what changes, as values of the program that is traced."""
    triton_call = jax_triton().triton_call
    from triptych.harness.emulators.compilation import recorded
    from triptych.harness.emulators.devices import pretend
    from triptych.harness.jax.memory import Values

    launcher, wanted = launcher_of(work, "a GPU")
    values = Values()
    given = {name: values.add(x.shape, x.dtype, x, name in work.mutates) for name, x in work.arrays.items()}
    memory = {name: values.add(x.shape, x.dtype, None, True) for name, x in wanted.items()}
    device = gpu()
    with refusals(work.row), pretend(device), recorded() as launches:
        returned = launcher(**given, **memory, **work.params)
    for launch in launches:
        launched(launch, values, partial(triton_call, compute_capability=device.arch))
    found = listed(returned) if returned is not None else list(memory.values())
    return [values.of(x) for x in (*found[: len(work.outputs)], *(given[name] for name in work.mutates))]


def launched(launch: Any, values: Any, triton_call: Any) -> None:
    """One launch: the values of all memory that it may write are new behind it."""
    from triptych.harness.jax.memory import Abstract

    arguments = {name: value for name, value in launch.arguments.items() if name in launch.kernel.arg_names}
    pointers = {name: x.slot for name, x in arguments.items() if isinstance(x, Abstract)}
    slots = dict.fromkeys(pointers.values())  # memory that is handed over twice is one argument
    read = [slot for slot in slots if slot in values.held]
    written = [slot for slot in slots if slot in values.writable]
    if 0 in launch.grid:
        return
    kernel = reordered(
        launch.kernel,
        tuple(pointers.items()),
        tuple((name, literal(x)) for name, x in arguments.items() if name not in pointers),
        tuple(read),
        tuple(written),
    )
    options = {name: launch.arguments[name] for name in OPTIONS if name in launch.arguments}
    new = triton_call(
        *(values.held[slot] for slot in read),
        kernel=kernel,
        out_shape=[values.shapes[slot] for slot in written],
        grid=launch.grid,
        input_output_aliases={read.index(slot): i for i, slot in enumerate(written) if slot in read},
        **{"enable_fp_fusion": True, **options},  # Triton's default, said aloud because Triton 3.10 changes it
    )
    values.held.update(zip(written, new, strict=True))


def literal(value: Any) -> str:
    """A number, a word or None as it stands in the text of a kernel."""
    value = getattr(value, "value", value)  # of a tl.constexpr
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, (int, float, str, type(None))) or value in (float("inf"), -float("inf")):
        raise NoKernel(f"jax-triton launches with arrays, numbers and words; a kernel is given {value!r}")
    return repr(value)


@cache
def reordered(
    kernel: Any,
    pointers: tuple[tuple[str, int], ...],
    constants: tuple[tuple[str, str], ...],
    read: tuple[int, ...],
    written: tuple[int, ...],
) -> Any:
    """A kernel that takes the slots of memory that are read, then those that are written, and calls `kernel`."""
    import triton

    parameters = [f"read_{slot}" for slot in read] + [f"written_{slot}" for slot in written]
    handed = [f"{name}={'written' if slot in written else 'read'}_{slot}" for name, slot in pointers]
    handed += [f"{name}={text}" for name, text in constants]
    name = f"{kernel.__name__.strip('_')}_of_jax"
    text = f"def {name}({', '.join(parameters)}):\n    kernel({', '.join(handed)})\n"
    file = f"<{name} {hash((kernel, text)):x}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)  # where Triton reads a kernel
    scope: dict[str, Any] = {"kernel": kernel, "__name__": __name__}
    exec(compile(text, file, "exec"), scope)
    return triton.jit(scope[name])


def jax_triton() -> Any:
    """The package; NoKernel, in one sentence, where it or Triton is missing."""
    why = extras.why_not("jax_triton") or emulators.version_support()
    if why is not None:
        raise NoKernel(f"JAX launches kernels on a GPU by jax-triton, which is not to be had: {why}")
    return extras.load("jax_triton")


def gpu() -> Any:
    """What launchers ask of a GPU, of the first that JAX has here."""
    from triptych.harness.emulators.devices import DEVICES, Device

    try:
        device = jax.local_devices(backend="cuda")[0]
    except RuntimeError:
        raise NoKernel(
            "a launcher asks how many processors the GPU has, and JAX finds none here; compile where it is"
        ) from None
    arch = int(float(device.compute_capability) * 10 + 0.5)
    if arch not in SHARED_KIB:
        known = ", ".join(f"{one / 10:.1f}" for one in SHARED_KIB)
        raise NoKernel(f"compute capability {device.compute_capability} is not among those known here: {known}")
    same = DEVICES["sm_90"].processor  # which launchers do not ask for
    return Device("cuda", arch, 32, int(device.core_count), SHARED_KIB[arch] * 1024, same)
