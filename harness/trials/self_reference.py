"""Whether a kernel calls the reference that it is compared with; looked for only if asked for (`Settings.paranoid`).

A kernel whose output is the rounded reference in every bit, where honest kernels of its dtype are off in many elements,
is either better than they are or calls the reference. Running it once more and watching which functions it calls tells
which.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

import numpy as np

from triptych.harness.arrays import Array
from triptych.harness.bits import first_difference
from triptych.harness.judge.prepared import Prepared, PreparedCase
from triptych.harness.judge.yardstick.baselines import baselines_of
from triptych.harness.ops.outputs.naming import Outputs
from triptych.harness.precision import round_to

SUSPICIOUS = 20  # elements in which an honest baseline is off while the kernel is off in none


def self_comparison(prepared: PreparedCase, outputs: Outputs, run: Callable[[], Any]) -> str | None:
    """The sentence if `run`, which gave `outputs`, computes one by calling the op's own reference."""
    problem = prepared.problem
    compared = prepared.all_compared(outputs)
    if not any(suspicious(one, compared[name]) for name, one in prepared.outputs.items()):
        return None
    if not calls(problem.op.reference, run):
        return None
    return (
        f"the kernel calls the reference ({problem.op.reference.__name__}): its output is compared with itself, which "
        "says nothing; compute it in the kernel"
    )


def suspicious(prepared: Prepared, out: Array) -> bool:
    """Whether an output has every bit of the rounded reference, where a plain kernel has not."""
    problem, rounded = prepared.problem, prepared.expected.rounded
    if first_difference(out, rounded) is not None:
        return False
    with np.errstate(all="ignore"):
        plain = round_to(np.asarray(baselines_of(problem.op).functions[0](**problem.arguments)), out.dtype)
    wrong = first_difference(plain, rounded)
    return wrong is not None and wrong[0] >= SUSPICIOUS


def calls(function: Callable[..., Any], run: Callable[[], Any]) -> bool:
    """Whether `run` calls `function`, a Python one, however deep."""
    code: CodeType | None = getattr(inspect.unwrap(function), "__code__", None)
    found = False

    def watch(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal found
        found = found or frame.f_code is code

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        run()
    finally:
        sys.setprofile(before)
    return found
