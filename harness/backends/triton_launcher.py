"""What both Triton backends share: how an op's launcher is found, and what Triton's language lacks."""

from __future__ import annotations

from typing import Any

from triptych.harness.backends.base import check_call, kernel_of
from triptych.harness.judge.problem import Problem
from triptych.harness.ops import loading

NO_TRITON = "Triton is not installed; it has wheels for Linux alone"
LACKS = ("float8_e4m3", "float8_e3m4", "float8_e8m0fnu", "float6_e2m3fn", "float6_e3m2fn", "float4_e2m1fn")  # dtypes


def launcher_of(problem: Problem) -> Any:
    """The op's launcher, which takes inputs, out= and params by keyword."""
    launcher, path = kernel_of(problem.op.triton, loading.load)
    check_call(launcher, path, (), (*problem.inputs, "out", *problem.case.params))
    return launcher
