"""Guards against a comparison of the reference with itself.

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

from triptych.harness.arrays import Array, Arrays
from triptych.harness.judge.baselines import baselines_of
from triptych.harness.judge.tolerance import Expected
from triptych.harness.judge.truth import evaluated
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Op
from triptych.harness.precision import round_to
from triptych.harness.trials.invariance import differing

SUSPICIOUS = 20  # elements in which an honest baseline is off while the kernel is off in none


def self_comparison(
    op: Op, case: Case, inputs: Arrays, out: Array, expected: Expected, run: Callable[[], Any]
) -> str | None:
    """The sentence if `run`, which gave `out`, computes it by calling the op's own reference."""
    if differing(out, expected.rounded) is not None:
        return None
    with np.errstate(all="ignore"):
        honest = round_to(np.asarray(baselines_of(op).functions[0](**inputs, **case.params)), out.dtype)
    wrong = differing(honest, expected.rounded)
    if wrong is None or wrong[0] < SUSPICIOUS or not calls(op.reference, run):
        return None
    return (
        f"the kernel calls the reference ({op.reference.__name__}): its output is compared with itself, which says "
        "nothing; compute it in the kernel"
    )


def calls(function: Callable[..., Any], run: Callable[[], Any]) -> bool:
    """Whether `run` calls `function`, a Python one, however deep; the harness itself may, for the output's shape."""
    code: CodeType | None = getattr(inspect.unwrap(function), "__code__", None)
    found = False

    def watch(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal found
        if event == "call" and frame.f_code is code:
            caller = frame.f_back
            found = found or caller is None or caller.f_code is not evaluated.__code__

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        run()
    finally:
        sys.setprofile(before)
    return found
