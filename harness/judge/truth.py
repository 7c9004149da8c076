"""What makes a reference worth comparing with.

A comparison against a reference that says nothing always passes. Therefore a reference is refused

- if every element is NaN or infinite, unless the regime plants NaNs on purpose;
- if every element is zero in the dtype of the output;
- if two evaluations of it differ;
- if it computes in less than float64.
"""

from __future__ import annotations

import numpy as np

from triptych.harness.arrays import Array
from triptych.harness.dtypes import dtype_of, is_float
from triptych.harness.judge.problem import Problem
from triptych.harness.ops.errors import InvalidOp, UninformativeCase
from triptych.harness.precision import fits


def check_informative(problem: Problem) -> None:
    """UninformativeCase if an empty kernel would pass.

    NaNs that are planted on purpose may reach every element of a small output. Integers are compared exactly, so that
    zeros tell as much as other numbers where the regime makes them, as the first of equal elements is element 0.
    """
    case, rounded = problem.case, problem.rounded
    values = rounded.astype(np.float64)
    if not np.isfinite(values).any() and case.regime != "nonfinite":
        raise UninformativeCase(
            case,
            f"the reference is NaN or infinite in all {rounded.size} elements in {case.dtype}, so that whatever "
            "returns NaN would pass; use smaller inputs, or plant fewer NaNs",
        )
    if not values.any() and (is_float(rounded.dtype) or case.regime == "normal"):
        raise UninformativeCase(
            case,
            f"the reference is zero in all {rounded.size} elements in {case.dtype}, so that a kernel that computes "
            "nothing would pass; use larger inputs",
        )


def check_repeats(problem: Problem, again: Array) -> None:
    """InvalidOp if a second evaluation of the reference differs by more than the order of float64 sums explains.

    Baselines that are derived from a random reference are as far from it as any kernel.
    """
    reference = problem.reference
    both = np.isfinite(reference) & np.isfinite(again)
    apart = float(np.linalg.norm(reference[both] - again[both]))
    if apart > 1e-9 * float(np.linalg.norm(reference[both])) or not np.array_equal(
        np.isfinite(reference), np.isfinite(again)
    ):
        raise InvalidOp(
            f"the reference of {problem.op.name} gives two results for the same inputs, and a tolerance around either "
            "would pass any kernel; take what is random, or kept from call to call, out of it"
        )


def check_precision(problem: Problem, values: Array) -> None:
    """InvalidOp if `values`, the reference of inputs with digits beyond float32, all are float32 numbers.

    Then the reference went through float32 on its way. Results that are whole numbers, or that fit 16 bits as well
    (what is quantised on purpose), say nothing about it.
    """
    finite = values[np.isfinite(values)]
    coarse = (finite == np.rint(finite)).all() or fits(finite, np.float16) or fits(finite, dtype_of("bfloat16"))
    if fits(finite, np.float32) and not coarse:
        raise InvalidOp(
            f"the reference of {problem.op.name} computes in float32: all its results of float64 inputs are float32 "
            "numbers, so its own rounding would count as truth; keep float64 from its inputs to its result"
        )
