"""What an op's Triton kernels cost on GPUs that are not there: the launches of its cases, compiled for each target."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from triptych.harness.arrays import Arrays
from triptych.harness.backends import BACKENDS
from triptych.harness.backends.base import KernelFault, file_of
from triptych.harness.backends.configurations import offers
from triptych.harness.backends.triton_launcher import held_dtype, launcher_of
from triptych.harness.dtypes import dtype_of
from triptych.harness.emulators.compilation import CompiledKernel, Launch, compiled, launches_of
from triptych.harness.emulators.devices import DEVICES, pretend
from triptych.harness.emulators.errors import EmulationError
from triptych.harness.judge.problem import Problem
from triptych.harness.ops import loading
from triptych.harness.ops.case import Case
from triptych.harness.ops.inputs import sizes_of
from triptych.harness.ops.op import Op
from triptych.harness.ops.selection import Selection
from triptych.harness.ops.shapes import Shapes
from triptych.harness.profiling.subjects import sizes_once

MOST_SPILLED = 128  # bytes of a thread, 32 registers: a few spill in branches that are rarely taken, more cost time


@dataclass(frozen=True)
class Compilation:
    """One kernel of an op in one configuration on one target, or why there is none.

    cases: those that launch it so. launched: programs of its grid in the first of them. fault: what is wrong with it,
    one sentence; "" if nothing is. row: the first of its launcher's table that launches it; 0 where there is no table.
    """

    op: str
    dtype: str
    cases: tuple[str, ...]
    target: str
    kernel: CompiledKernel | None
    launched: int = 0
    fault: str = ""
    row: int = 0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def compilations(ops: Iterable[Op], selection: Selection, targets: Iterable[str]) -> Iterator[Compilation]:
    """Every kernel that the selected cases launch, each configuration once for each dtype and target."""
    for op in ops:
        for target in targets if op.triton is not None else ():
            found: dict[str, Compilation] = {}
            for _, case in sizes_once(op, selection):
                for one in of_case(op, case, target, every=True):
                    key = f"{case.dtype} {one.kernel} {one.fault}"
                    first = found.setdefault(key, one)
                    found[key] = replace(first, cases=tuple(dict.fromkeys([*first.cases, case.name])))
            yield from found.values()


def of_case(op: Op, case: Case, target: str, every: bool = False) -> Iterator[Compilation]:
    """Every kernel that an op's launcher launches for a case, none where the op says that it does not take it there.

    every: in each row of the launcher's table of configurations, not as it runs by itself alone.
    The last has no kernel where something fails.
    """
    one = Compilation(op.name, case.dtype, (case.name,), target, None)
    with pretend(DEVICES[target]):
        if BACKENDS["triton"].supports(op, case, None) is not None:
            return
    try:
        with launching(op, case, target) as (launcher, launches):
            settings = offers.rows_of(launcher, target)
            for number, setting in enumerate(settings if every else settings[:1]):
                one = replace(one, row=number + 1 if offers.TABLE in setting else 0)
                with offers.in_force(launcher, target, setting):
                    for launch in launches():
                        kernel = compiled(launch, target)
                        yield replace(one, kernel=kernel, launched=launch.programs, fault=fault_of(kernel))
    except (EmulationError, KernelFault) as error:
        yield replace(one, fault=str(error))
    except Exception as error:
        at = loading.at(error, file_of(op.triton))
        yield replace(one, fault=f"the launcher raised {type(error).__name__}: {error}{at}")


@contextmanager
def launching(op: Op, case: Case, target: str) -> Iterator[tuple[Any, Callable[[], list[Launch]]]]:
    """An op's launcher, and what calls it for a case on a target and gives all that it would launch there."""
    problem = shaped(op, case)
    with launcher_of(problem) as (launcher, writes):
        tensors = {name: (x.shape, x.dtype) for name, x in problem.inputs.items()}
        tensors |= {parameter: problem.memory_of(name) for parameter, name in writes.items()}
        tensors = {name: (shape, held_dtype(dtype)) for name, (shape, dtype) in tensors.items()}
        yield launcher, lambda: launches_of(launcher, tensors, target, **case.params)


def shaped(op: Op, case: Case) -> Problem:
    """A case whose inputs have shapes and dtypes and share one element; drawn where the op declares no shapes.

    So have the outputs, where the op names their axes; else the reference is evaluated when their shape is asked for.
    """
    problem = Problem.of(op, case) if op.shapes is None else Problem(op, case, stand_ins(op.shapes, op, case))
    axes = {name: output.axes for name, output in op.outputs.items() if name not in op.mutates} or {"": op.out}
    if not all(named and all(axis in case.axes for axis in named) for named in axes.values()):
        return problem
    sizes = {name: tuple([case.axes[axis] for axis in named]) for name, named in axes.items()}
    sizes |= {name: problem.inputs[name].shape for name in problem.changed}
    return replace(problem, known={name: np.broadcast_to(0.0, size) for name, size in sizes.items()})


def stand_ins(shapes: Shapes, op: Op, case: Case) -> Arrays:
    dtypes = {name: dtype_of(op.dtype_of_input(name, case)) for name in shapes}
    return {name: np.broadcast_to(np.zeros((), dtypes[name]), s) for name, s in sizes_of(shapes, case).items()}


def fault_of(kernel: CompiledKernel) -> str:
    """What keeps a kernel from running, or from running fast."""
    if misfit(kernel):
        return misfit(kernel)
    if kernel.spills_bytes > MOST_SPILLED:
        return f"{kernel.spills_bytes} bytes a thread spill from registers to memory; take smaller tiles or more warps"
    if kernel.misses_matrix_unit:
        return f"products of {', '.join(kernel.dots)} are made on ordinary units, where a matrix unit could make them"
    if kernel.one_by_one:
        return "each wgmma waits for the one before: it needs more registers, or its accumulator is read amid products"
    return ""


def misfit(kernel: CompiledKernel) -> str:
    """Why not one program fits on a processor, which Triton says at the launch alone."""
    most = DEVICES[kernel.target].shared_bytes
    if kernel.shared_bytes > most:
        return f"a program takes {kernel.shared_bytes:,} bytes of shared memory, and {most:,} are the most"
    if not kernel.occupancy.programs:
        return f"no program fits on a processor: {kernel.num_warps} warps, {kernel.registers} registers a thread"
    return ""
