"""The judge: is an output as near to the reference as an honest kernel of the same dtype would be?

`tolerance` says how far off is too far, `comparison` how far off an output is; here are the verdict and its sentence.
NaN, +inf and -inf must be at the positions where the reference, rounded to the output dtype, has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from triptych.harness.arrays import Arrays
from triptych.harness.dtypes import finfo, is_float
from triptych.harness.judge.comparison import Comparison, compare, metrics
from triptych.harness.judge.failure import description
from triptych.harness.judge.problem import Problem
from triptych.harness.judge.tolerance import Expected, expect
from triptych.harness.ops.errors import InvalidOp
from triptych.harness.results.findings import Failure
from triptych.harness.results.measures import Fixed, Metrics, Tolerance
from triptych.harness.results.status import Cause, Status


@dataclass(frozen=True)
class Verdict:
    status: Status
    reason: str | None
    cause: Cause | None = None
    metrics: Metrics | None = None
    tolerance: Tolerance | None = None
    failure: Failure | None = None
    share: float = 0.0  # of what is allowed, the largest of an element
    output: str = ""  # of several, the one that it is about
    each: Mapping[str, Verdict] = field(default_factory=dict)  # of several, all


def judge(problem: Problem, out: Any, expected: Expected | None = None) -> Verdict:
    """The verdict on `out`, which a kernel computed from the inputs of a problem with one output.

    expected: where there is none, it is derived; a verdict also says if it cannot be.
    """
    if expected is None:
        try:
            expected = expect(problem)
        except InvalidOp as error:
            return Verdict(Status.ERROR, str(error), error.cause)
    wrong = malformed(out, expected, problem.inputs)
    if wrong:
        return Verdict(Status.ERROR, wrong, Cause.MALFORMED_OUTPUT, tolerance=expected.tolerance)
    comparison = compare(out, expected)
    numbers, share = metrics(comparison), float(comparison.share.max(initial=0.0))
    reason = disagreement(comparison, numbers)
    if reason is None:
        return Verdict(Status.PASSED, None, None, numbers, expected.tolerance, share=share)
    failure = description.describe(comparison, problem.op)
    return Verdict(Status.FAILED, reason, Cause.MISMATCH, numbers, expected.tolerance, failure, share)


def malformed(out: Any, expected: Expected, inputs: Arrays) -> str | None:
    """Why `out` cannot be compared at all, or None."""
    if out is None:
        return "the kernel returned None instead of an array: return its output"
    if type(out) is not np.ndarray:  # a masked array, say, compares as it likes
        what = f"{len(out)} values" if isinstance(out, (tuple, list)) else f"a {type(out).__name__}"
        return f"the kernel returned {what} instead of one array: an op has one output, which it must return alone"
    if out.shape != expected.reference.shape:
        return f"the output has a wrong shape: expected {expected.reference.shape}, got {out.shape}"
    if out.dtype != expected.rounded.dtype:
        return f"the output has a wrong dtype: expected {expected.rounded.dtype}, got {out.dtype}"
    if np.may_share_memory(out, expected.reference) or np.may_share_memory(out, expected.rounded):
        return "the output is the reference's own array: comparing it would say nothing; return an array of its own"
    for name, x in inputs.items():
        if np.may_share_memory(out, x):
            return f"the output shares memory with input {name}: return an array of its own"
    return None


def saturation_hint(c: Comparison) -> str:
    """What to do where a kernel returns the largest number of its dtype and the reference overflows."""
    got, dtype = c.out.astype(np.float64)[c.strange], c.out.dtype
    if not is_float(dtype) or not (np.abs(got) == float(finfo(dtype).max)).any():
        return ""
    largest = f"{float(finfo(dtype).max):g}"
    return f"; if {dtype} is meant to saturate, let the reference clip to {largest} as well"


def disagreement(c: Comparison, numbers: Metrics) -> str | None:
    """One sentence on how the output disagrees, or None if it does not."""
    tolerance, size = c.expected.tolerance, c.share.size
    worst = f"at {numbers.worst_index}: expected {format_number(numbers.expected)}, got {format_number(numbers.got)}"
    count = f"{numbers.mismatches} of {size} element{'s' * (size > 1)}"
    strange = numbers.nonfinite.misplaced
    if strange:
        are = "element is" if size == 1 else "elements is" if strange == 1 else "elements are"
        return (
            f"{strange} of {size} {are} NaN or infinite unlike the reference, for example {worst}{saturation_hint(c)}"
        )
    source = f"of the {tolerance.source}"
    if isinstance(tolerance, Fixed) and tolerance.exact:
        exactly = f"{count} differ, where the {tolerance.source} allows no difference; worst {worst}"
        return exactly if numbers.mismatches else None
    if isinstance(tolerance, Fixed):
        bound = f"atol {tolerance.atol:.3g} + rtol {tolerance.rtol:.3g} x |reference| {source}"
        return f"{count} beyond {bound}; worst {worst}" if numbers.mismatches else systematic_error(numbers, tolerance)
    honest = f"{tolerance.factor:g} x the error of honest baselines such as '{tolerance.baseline}'"
    if tolerance.source != "default":
        honest += f", a factor {source}"
    if numbers.mismatches:
        over = int(np.count_nonzero(c.error > tolerance.max_abs))
        if over:
            return f"{count} off by more than {tolerance.max_abs:.3g} ({honest}); worst {worst}"
        times = c.share.max()
        return (
            f"{count} off by up to {times:.3g} times what is allowed at their own size, though by less than the "
            f"largest element may be ({honest}); worst {worst}"
        )
    if numbers.rel_l2 > tolerance.rel_l2:
        over_l2 = f"relative L2 error {numbers.rel_l2:.3g} is more than {tolerance.rel_l2:.3g} ({honest})"
        return f"{over_l2}, though no single element is beyond its bound; worst {worst}"
    return systematic_error(numbers, tolerance)


def systematic_error(numbers: Metrics, tolerance: Tolerance) -> str | None:
    """One sentence on errors that are too small to see one by one, and have too much in common."""
    if tolerance.bias is not None and numbers.bias is not None and numbers.bias > tolerance.bias:
        return (
            f"the errors lie on one side, by {numbers.bias:.2g} units in the last place on average beyond chance, "
            f"where {tolerance.bias:.2g} is allowed, though each is within its bound: as of truncation where the "
            "reference rounds to nearest"
        )
    if isinstance(tolerance, Fixed) or tolerance.not_nearest is None or numbers.not_nearest is None:
        return None
    if numbers.not_nearest > tolerance.not_nearest:
        return (
            f"{numbers.not_nearest:.0%} of the elements, beyond chance, are not the reference rounded to nearest, "
            f"where {tolerance.not_nearest:.0%} is allowed, though each is within its bound: as of intermediate "
            "values that are kept in 16 bits, or of sums that are"
        )
    return None


def format_number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.9g}"
