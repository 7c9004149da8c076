"""What both Triton backends share: how an op's launcher is found, and what Triton's language lacks.

A launcher takes inputs and params by keyword. It returns its outputs, or writes them to memory that it is handed: `out`
if there is one output, else a parameter of the output's name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from triptych.harness.arrays import Array
from triptych.harness.backends import guarded
from triptych.harness.backends.base import KernelFault, check_call, kernel_of
from triptych.harness.judge.problem import Problem
from triptych.harness.ops import loading
from triptych.harness.ops.outputs.naming import flatten, listed, renamed

NO_TRITON = "Triton is not installed; it has wheels for Linux alone"
# Dtypes of one byte that neither Triton nor PyTorch has; a launcher gets an input or output of such as uint8.
LACKS = ("float8_e4m3", "float8_e3m4", "float8_e8m0fnu", "float6_e2m3fn", "float6_e3m2fn", "float4_e2m1fn")


@contextmanager
def launcher_of(problem: Problem) -> Iterator[tuple[Callable[..., Any], Mapping[str, str]]]:
    """The op's launcher, and by the name of each parameter that it writes an output to the name of that output.

    Within, imports find what those of its file do.
    """
    launcher, path = kernel_of(problem.op.triton, loading.load)
    writes = written_to(launcher, problem)
    check_call(launcher, path, (), (*problem.inputs, *writes, *problem.case.params))
    with loading.at_home(path):
        yield launcher, writes


def written_to(launcher: Any, problem: Problem) -> dict[str, str]:
    """Which outputs a launcher wants memory for, by the names of its parameters."""
    returned = [name for name in problem.outputs if name not in problem.op.mutates]
    try:
        parameters = inspect.signature(launcher).parameters.values()
    except (TypeError, ValueError):
        return {"out": returned[0]} if len(returned) == 1 else {}
    takes = {p.name for p in parameters} - problem.arguments.keys()
    if len(returned) == 1 and ("out" in takes or any(p.kind is p.VAR_KEYWORD for p in parameters)):
        return {"out": returned[0]}
    found = {name: name for name in returned if name in takes}
    if "out" in takes - found.keys():
        raise KernelFault(
            f"the launcher takes out=, and {problem.op.name} gives {listed(list(problem.evaluated))}: let it return "
            "them, or take a parameter of each one's name"
        )
    return found


def held_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which a launcher gets numbers of `dtype`: bytes, of those that Triton lacks."""
    return np.dtype(np.uint8) if dtype.name in LACKS else dtype


def as_held(x: Array) -> Array:
    """An array in memory as a launcher gets it."""
    return x.view(held_dtype(x.dtype))


def output_of(returned: Any, writes: Mapping[str, str], written: Mapping[str, Array], problem: Problem) -> Any:
    """What a launcher computed: what it returned, or else the memory that it was handed.

    written: the memory by the name of the parameter.
    """
    wanted = [name for name in problem.outputs if name not in problem.op.mutates]
    found = returned
    if returned is None and wanted:
        by_name = {writes[parameter]: x for parameter, x in written.items()}
        found = by_name.get("") if wanted == [""] else by_name
    elif writes and len(flatten(returned)) + len(writes) == len(wanted):  # the rest
        rest = [name for name in wanted if name not in writes.values()]
        found = {**(renamed(flatten(returned), rest) or {}), **{writes[p]: x for p, x in written.items()}}
    leaves = [] if found is None else list(flatten(found).values())
    arrays = [x for x in leaves if isinstance(x, np.ndarray)]
    if wanted and not arrays:
        what = f"a {type(leaves[0]).__name__}" if leaves else "nothing, and takes no out="
        raise KernelFault(f"the launcher returns {what}; it must return a tensor, or write to out=")
    for x in arrays:
        guarded.check_elements(x)
    return found
