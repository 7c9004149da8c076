"""What both Triton backends share: how an op's launcher is found, and what Triton's language lacks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from triptych.harness.arrays import Array
from triptych.harness.backends import guarded
from triptych.harness.backends.base import KernelFault, check_call, kernel_of
from triptych.harness.judge.problem import Problem
from triptych.harness.ops import loading

NO_TRITON = "Triton is not installed; it has wheels for Linux alone"
LACKS = ("float8_e4m3", "float8_e3m4", "float8_e8m0fnu", "float6_e2m3fn", "float6_e3m2fn", "float4_e2m1fn")  # dtypes


@contextmanager
def launcher_of(problem: Problem) -> Iterator[tuple[Callable[..., Any], bool]]:
    """The op's launcher, which takes inputs and params by keyword, and whether it takes out= to write to.

    One that does not returns its output. Within, imports find what those of its file do.
    """
    launcher, path = kernel_of(problem.op.triton, loading.load)
    takes_out = _takes_out(launcher)
    check_call(launcher, path, (), (*problem.inputs, *(["out"] if takes_out else []), *problem.case.params))
    with loading.at_home(path):
        yield launcher, takes_out


def output_of(returned: Any, out: Array | None) -> Array:
    """What a launcher computed: what it returned, or else the `out` that it took."""
    found = out if returned is None else returned
    if not isinstance(found, np.ndarray):
        what = "nothing, and takes no out=" if found is None else f"a {type(found).__name__}"
        raise KernelFault(f"the launcher returns {what}; it must return a tensor, or write to out=")
    guarded.check_elements(found)
    return found


def _takes_out(launcher: Any) -> bool:
    try:
        parameters = inspect.signature(launcher).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(p.name == "out" or p.kind is p.VAR_KEYWORD for p in parameters)
