"""Who computes a case: Triton's launcher and its rivals, each as a call without arguments on given tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from triptych.harness.arrays import Array
from triptych.harness.backends.triton_launcher import held_dtype, launcher_of
from triptych.harness.dtypes import dtype_of
from triptych.harness.judge.bounds import Bounds
from triptych.harness.judge.problem import Problem
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Op
from triptych.harness.ops.outputs.naming import flatten, listed, renamed
from triptych.harness.upkeep.figures.bench_gpu.drawn import Inputs, as_numbers
from triptych.harness.upkeep.figures.bench_gpu.parts import output_axes
from triptych.harness.upkeep.figures.bench_gpu.rivals import Rival, rivals

Outputs = dict[str, Any]  # tensors by name, changed inputs among them
Call = Callable[[], Outputs]
TF32_ROUNDOFF = 2.0**-11


@dataclass(frozen=True)
class Contender:
    """One implementation of a case.

    backend, target: what the row calls it.
    prepare: makes a call of tensors, which are those of `Inputs` or a copy of them.
    bounds: of its verdict, where it is no kernel of the case's precision.
    arithmetic: "tf32" or "float8", where its products are made in such.
    """

    backend: str
    target: str | None
    prepare: Callable[[dict[str, Any]], Call]
    bounds: Bounds | None = None
    arithmetic: str = ""


def contenders(op: Op, case: Case) -> list[tuple[str, str | None]]:
    """The names of those that `made` makes: backend and target."""
    return [("triton", None), *(("torch", name or None) for name in rivals(op, case))]


def made(op: Op, case: Case, inputs: Inputs) -> list[Contender]:
    """Triton's launcher first, then its rivals."""
    given = {**case.params, **inputs.constants}
    arithmetic = "float8" if op.name in ("matmul_fp8", "matmul_mx") else ""
    found = [Contender("triton", None, lambda tensors: by_triton(op, case, inputs, tensors), None, arithmetic)]
    for name, rival in rivals(op, case).items():
        is_tf32 = name == "tf32"
        bounds = Bounds("TF32", rtol=0.0, atol=8 * TF32_ROUNDOFF * math.sqrt(case.axes["K"])) if is_tf32 else None
        found.append(
            Contender("torch", name or None, by_rival(op, rival, given), bounds, "tf32" if is_tf32 else arithmetic)
        )
    return found


def by_rival(op: Op, rival: Rival, given: Mapping[str, Any]) -> Callable[[dict[str, Any]], Call]:
    def prepare(tensors: dict[str, Any]) -> Call:
        call = rival(**{**given, **tensors})
        wanted = list(output_axes(op))
        return lambda: named(op, call(), wanted) | {name: tensors[name] for name in op.mutates}

    return prepare


def by_triton(op: Op, case: Case, inputs: Inputs, tensors: dict[str, Any]) -> Call:
    """The launcher on tensors, with memory of its own for what it writes."""
    import torch

    problem = shapes_alone(op, case, inputs)
    params = problem.case.params
    device = next(iter(tensors.values())).device
    with launcher_of(problem) as (launcher, writes):
        pass
    memory = {}
    for parameter, name in writes.items():
        shape, dtype = problem.memory_of(name)
        memory[parameter] = torch.empty(shape, dtype=getattr(torch, held_dtype(dtype).name), device=device)
    written = {name: memory[parameter] for parameter, name in writes.items()}
    rest = [name for name in output_axes(op) if name not in written]
    given = {**tensors, **memory, **params}
    changed = {name: tensors[name] for name in op.mutates}

    def call() -> Outputs:
        returned = launcher(**given)
        return {**(named(op, returned, rest) if rest else {}), **written, **changed}

    return call


def shapes_alone(op: Op, case: Case, inputs: Inputs) -> Problem:
    """The problem without its numbers, for those who ask for names, shapes and dtypes."""
    arrays = {}
    for name, tensor in inputs.tensors.items():
        dtype = dtype_of(inputs.bytes_of.get(name) or str(tensor.dtype).removeprefix("torch."))
        arrays[name] = np.broadcast_to(np.zeros((), dtype), tuple(tensor.shape))
    known = {
        name: np.broadcast_to(np.zeros(()), tuple(case.axes[str(axis)] for axis in axes))
        for name, axes in output_axes(op).items()
    }
    changed = {name: np.broadcast_to(np.zeros(()), arrays[name].shape) for name in op.mutates}
    case = replace(case, params={**case.params, **inputs.constants})
    return Problem(op, case, arrays, known={**known, **changed})


def named(op: Op, returned: Any, wanted: list[str]) -> Outputs:
    """The tensors that a call returned, by the names of the outputs."""
    leaves = {} if returned is None else {name: x for name, x in flatten(returned).items() if x is not None}
    found = (
        renamed(leaves, wanted) if wanted != [""] else ({"": next(iter(leaves.values()))} if len(leaves) == 1 else None)
    )
    if found is None:
        raise ValueError(f"{op.name} gives {listed(wanted)}, and the call returned {listed(list(leaves))}")
    return found


def as_arrays(op: Op, case: Case, inputs: Inputs, outputs: Mapping[str, Any]) -> dict[str, Array]:
    """Outputs, or pieces of them, as arrays in the dtypes that the judge expects."""
    memory = shapes_alone(op, case, inputs)
    return {
        name: as_numbers(x, memory.memory_of(name)[1].name if x.element_size() == 1 else "")
        for name, x in outputs.items()
    }
