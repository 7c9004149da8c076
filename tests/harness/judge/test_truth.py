"""Which references say nothing, or are none."""

import numpy as np
import pytest

from triptych.harness.judge.problem import Problem
from triptych.harness.judge.truth import check_informative, check_precision, check_repeats
from triptych.harness.ops.case import Case
from triptych.harness.ops.errors import InvalidOp, UninformativeCase
from triptych.harness.ops.op import Op

NAN, INF = np.nan, np.inf


def problem_of(values, dtype="float32", regime="normal"):
    values = np.array(values, np.float64)
    op = Op("op", {"x": ("M",)}, lambda x: values, {})
    return Problem(op, Case("op", "c", {"M": len(values)}, dtype, regime=regime), {"x": np.ones(len(values))})


@pytest.mark.parametrize(
    ("values", "dtype", "regime", "said"),
    [
        ([0, 1], "float32", "normal", None),
        ([NAN, 1], "float32", "normal", None),
        ([NAN, 0], "float32", "normal", None),  # NaN is no zero
        ([NAN, INF], "float32", "normal", "NaN or infinite in all 2 elements in float32"),
        ([1e39, -1e39], "float32", "tiny", "NaN or infinite in all 2 elements in float32"),
        ([NAN, INF], "float32", "nonfinite", None),
        ([0, 0], "float32", "normal", "zero in all 2 elements in float32"),
        ([0, 0], "float32", "nonfinite", "zero in all 2 elements in float32"),
        ([1e-50, 0], "float32", "tiny", "zero in all 2 elements in float32"),
        ([0, 0], "int32", "normal", "zero in all 2 elements in int32"),
        ([0, 0], "int32", "constant-rows", None),
        ([0, 3], "int32", "normal", None),
    ],
)
def test_a_reference_of_which_an_empty_kernel_would_pass(values, dtype, regime, said):
    problem = problem_of(values, dtype, regime)
    if said is None:
        return check_informative(problem)
    with pytest.raises(UninformativeCase, match=said):
        check_informative(problem)


@pytest.mark.parametrize(
    ("again", "repeats"),
    [
        ([3, 4, INF, NAN], True),
        ([3, 4, NAN, INF], True),  # no numbers in either
        ([3, 4 * (1 + 1.2e-9), INF, NAN], True),  # of a norm of 5, 4.8e-9
        ([3, 4 * (1 + 1.3e-9), INF, NAN], False),
        ([3, INF, INF, NAN], False),
        ([3, 4, 1, NAN], False),
        ([3, 4, INF, 1], False),
    ],
)
def test_a_second_evaluation_is_the_first(again, repeats):
    problem = problem_of([3, 4, INF, NAN])
    if repeats:
        return check_repeats(problem, np.array(again, np.float64))
    with pytest.raises(InvalidOp, match="the reference of op gives two results for the same inputs"):
        check_repeats(problem, np.array(again, np.float64))


def test_a_reference_that_is_zero_repeats_exactly():
    check_repeats(problem_of([0, 0]), np.zeros(2))
    with pytest.raises(InvalidOp):
        check_repeats(problem_of([0, 0]), np.array([0, 1e-100]))


THIRD = float(np.float32(1 / 3))


@pytest.mark.parametrize(
    ("values", "precise"),
    [
        ([THIRD, 2 * THIRD], False),
        ([THIRD, 0.5], False),  # one that 16 bits hold as well
        ([THIRD, 1.0], False),
        ([THIRD, NAN, INF], False),
        ([THIRD, 1 / 3], True),
        ([float(np.float16(1 / 3)), 0.0], True),
        ([257 / 256 * 0.5, 1.0], True),  # float16 holds it, bfloat16 does not
        ([2.0**100, 2.0**-20], True),  # bfloat16 holds it, float16 does not
        ([2.0**20 + 1, -7.0], True),  # whole numbers
        ([2.0**20 + 0.5, -7.0], False),
        ([NAN, INF], True),
    ],
)
def test_float32_on_the_way_is_seen_of_numbers_that_are_not_coarse(values, precise):
    problem = problem_of([1.0])
    if precise:
        return check_precision(problem, np.array(values))
    with pytest.raises(InvalidOp, match="the reference of op computes in float32"):
        check_precision(problem, np.array(values))
