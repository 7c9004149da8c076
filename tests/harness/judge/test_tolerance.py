"""Where a tolerance comes from, what its three bounds see, and the references that would let anything pass."""

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

from triptych.harness.collection import builtin
from triptych.harness.dtypes import dtype_of
from triptych.harness.judge import tolerance
from triptych.harness.judge.bounds import Bounds, requested_bounds
from triptych.harness.judge.local_units import local_unit
from triptych.harness.judge.problem import Problem
from triptych.harness.judge.verdict import judge
from triptych.harness.ops.case import Case
from triptych.harness.ops.errors import InvalidOp
from triptych.harness.ops.inputs import make_inputs
from triptych.harness.ops.op import Op
from triptych.harness.ops.regimes import in_regime
from triptych.harness.results.measures import Derived
from triptych.harness.results.status import Status

MATMUL = builtin()["matmul"]
CASE = Case("matmul", "9x40x7", {"M": 9, "K": 40, "N": 7}, "bfloat16")


def with_tolerance(declared):
    op = Op("mine", MATMUL.inputs, MATMUL.reference, {}, honest=MATMUL.honest, tolerance=declared)
    return lambda dtype="bfloat16", wanted=None: (
        tolerance.expect(Problem.of(op, replace(CASE, dtype=dtype)), wanted).tolerance
    )


def test_the_order_is_command_line_environment_op_dtype_default():
    environ = {"TRIPTYCH_BUDGET": "5x"}
    command = requested_bounds(rtol=0.5, environ=environ)
    environment = requested_bounds(environ=environ)
    assert requested_bounds(environ={}) is None
    plain, declared = with_tolerance({}), with_tolerance({"budget": 3, "bfloat16": {"atol": 0.25}})
    found = [declared(wanted=command), declared(wanted=environment), declared(), declared("float32"), plain()]
    assert [t.source for t in found] == ["command line", "environment", "op", "op", "default"]
    assert (found[0].rtol, found[0].atol) == (0.5, 0.0)
    assert [getattr(t, "factor", None) for t in found] == [None, 5, None, 3, 2] and found[2].atol == 0.25


def test_a_budget_scales_all_three_bounds():
    declared = with_tolerance({})
    two, six = (declared("float32", Bounds("command line", budget=budget)) for budget in (2, 6))
    assert [getattr(six, key) / getattr(two, key) for key in ("max_abs", "rel_l2", "max_local")] == pytest.approx(
        [3, 3, 3]
    )


@pytest.mark.parametrize(
    "declared", [{"rtoll": 1}, {"bfloat16": {"factor": 2}}, {"budget": 2, "atol": 1}, {"budget": 0}, {"rtol": -1.0}]
)
def test_an_op_whose_tolerance_makes_no_sense_is_an_error(declared):
    with pytest.raises(ValueError, match="takes rtol, atol, budget|give one or the other|finite number"):
        with_tolerance(declared)()


def test_integers_are_compared_exactly_by_the_rule_of_their_dtype():
    op = Op("count", lambda case, rng: {"x": rng.integers(0, 9, 50)}, lambda x: 2 * x, {})
    case = Case("count", "50", {}, "int64")
    inputs = make_inputs(op, case)
    right = judge(Problem(op, case, inputs), 2 * inputs["x"])
    assert right.status is Status.PASSED and right.tolerance.source == "dtype"
    wrong = judge(Problem(op, case, inputs), 2 * inputs["x"] + (np.arange(50) == 3))
    assert wrong.status is Status.FAILED and "1 of 50 elements differ" in wrong.reason
    assert wrong.metrics.max_ulp == 1


@pytest.mark.parametrize("narrow", ["bfloat16", "float8_e4m3fn"])
def test_inputs_of_a_narrower_dtype_do_not_loosen_the_tolerance_of_the_output(narrow):
    """They need no rounding of their own: an output in float32 that went through bfloat16 is wrong."""

    def inputs(case, rng):
        return {"x": rng.standard_normal((40, 30)).astype(dtype_of(narrow)), "s": np.float32(rng.random((40, 30)))}

    op, case = Op("scaled", inputs, lambda x, s: x * s, {}), Case("scaled", "c", {}, "float32")
    given = make_inputs(op, case)
    out = given["x"].astype(np.float32) * given["s"]
    assert judge(Problem(op, case, given), out).status is Status.PASSED
    coarse = out.astype(dtype_of("bfloat16")).astype(np.float32)
    assert judge(Problem(op, case, given), coarse).status is Status.FAILED


def test_the_last_of_equal_elements_is_not_the_first():
    """In constant rows every right index is 0: it judges, where normal numbers that all lead to 0 do not."""

    def inputs(case, rng):
        return {"x": in_regime(rng.standard_normal((9, 30)).astype(np.float32), case.regime)}

    op, case = Op("argmax", inputs, lambda x: x.argmax(axis=1), {}), Case("argmax", "c", {}, "int32")
    ties = replace(case, regime="constant-rows")
    given = make_inputs(op, ties)
    assert judge(Problem(op, ties, given), np.zeros(9, np.int32)).status is Status.PASSED
    wrong = judge(Problem(op, ties, given), np.full(9, 29, np.int32))
    assert wrong.status is Status.FAILED and wrong.reason.startswith("9 of 9 elements differ")
    nothing = judge(Problem(replace(op, reference=lambda x: 0 * x.argmax(axis=1)), case, given), np.zeros(9, np.int32))
    assert nothing.status is Status.ERROR and "zero in all 9 elements" in nothing.reason


def outlier(rows=8):
    """A matmul with one row a million times larger than the others, as activations with an outlier are."""
    case = replace(CASE, axes={"M": rows, "K": 64, "N": 32}, dtype="float32")
    inputs = make_inputs(MATMUL, case)
    inputs["lhsT"][:, 0] *= 1e6
    return case, inputs, (inputs["lhsT"].T @ inputs["rhs"]).astype(np.float32)


def test_a_small_row_beside_a_large_one_is_seen():
    case, inputs, out = outlier()
    assert judge(Problem(MATMUL, case, inputs), out).status is Status.PASSED
    out[5] *= np.float32(1.01)
    expected = tolerance.expect(Problem(MATMUL, case, inputs))
    assert np.abs(out - expected.reference).max() < expected.tolerance.max_abs  # the largest element's bound is blind
    verdict = judge(Problem(MATMUL, case, inputs), out, expected=expected)
    assert verdict.status is Status.FAILED and "allowed at their own size" in verdict.reason
    assert verdict.metrics.worst_index[0] == 5


def test_cancellation_is_forgiven_as_far_as_rounding_explains_it():
    """The unit is that of the terms, not of the sum that is left."""
    op = Op("difference", {"x": ("M",), "y": ("M",)}, lambda x, y: x - y, {}, honest=(lambda x, y: x - y,))
    case = Case("difference", "m", {"M": 64}, "float32")
    x = np.linspace(1, 2, 64, dtype=np.float32)
    inputs = {"x": x, "y": x + np.float32(1e-5)}
    unit = local_unit(Problem(op, case, inputs))
    assert unit.shape == (64,) and unit.min() > 2**-25 and unit.max() < 2**-21


def expected_of(reference, dtype="float32", honest=(), regime="normal"):
    op = Op("mine", {"x": ("M",)}, reference, {}, honest=honest)
    case = Case("mine", "m", {"M": 40}, dtype, regime=regime)
    return tolerance.expect(Problem.of(op, case))


def through_float32(x):
    return (x.astype(np.float32) * np.float32(1.1)).astype(np.float64)


def square(x):
    return x * x


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        (lambda x: x.astype(np.float32), "the reference returns float32: it must compute in float64"),
        (through_float32, "computes in float32: all its results"),
        (
            lambda x: x * np.nan,
            "NaN or infinite in all 40 elements in float32, so that whatever returns NaN would pass",
        ),
        (lambda x: x * 0, "zero in all 40 elements in float32, so that a kernel"),
        (lambda x: x * 1e-50, "zero in all 40 elements in float32"),
    ],
)
def test_a_reference_that_says_nothing_is_refused(reference, said):
    with pytest.raises(InvalidOp, match=said):
        expected_of(reference)


def test_a_baseline_that_is_the_reference_is_refused():
    with pytest.raises(InvalidOp, match="is its reference, whose error is 0 by definition; give one that computes in"):
        expected_of(square, honest=(square,))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "reference",
    [
        lambda x: 1.0 * x,
        lambda x: np.sign(x),
        lambda x: np.rint(5000 * x),
        lambda x: x.astype(ml_dtypes.bfloat16).astype(float),
    ],
)
def test_references_whose_results_are_coarse_by_nature_are_not(reference, dtype):
    assert isinstance(expected_of(reference, dtype).tolerance, Derived)


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2", "float8_e4m3", "bfloat16", "float16"])
def test_every_float_dtype_has_a_tolerance_and_all_metrics(dtype):
    case = replace(CASE, dtype=dtype)
    inputs = make_inputs(MATMUL, case)
    right = MATMUL.honest[0](**inputs)
    verdict = judge(Problem(MATMUL, case, inputs), right)
    assert verdict.status is Status.PASSED
    m = verdict.metrics
    assert m.max_ulp <= 1 and m.max_abs_ulp <= 1 and 0.99 < m.cosine <= 1 + 1e-12 and m.rel_l2 < 0.2
    wrong = right.copy()
    wrong[8] = dtype_of(dtype).type(0)
    assert judge(Problem(MATMUL, case, inputs), wrong).status is Status.FAILED


def test_nonfinite_positions_are_counted_and_listed():
    case = replace(CASE, dtype="float32", regime="nonfinite")
    inputs = make_inputs(MATMUL, case)
    with np.errstate(invalid="ignore"):
        out = inputs["lhsT"].T @ inputs["rhs"]
    found = judge(Problem(MATMUL, case, inputs), out).metrics.nonfinite
    assert found.expected == found.got and found.expected.nan >= 7 and found.misplaced == 0
    out[2, 3] = np.nan
    found = judge(Problem(MATMUL, case, inputs), out).metrics.nonfinite
    assert found.misplaced == 1 and found.at == [[2, 3]] and found.got.nan == found.expected.nan + 1


def test_a_baseline_in_a_narrower_dtype_is_no_yardstick():
    """Else a kernel that computes float32 in float16 would pass."""

    def half(lhsT, rhs):
        return (lhsT.astype(np.float16).T @ rhs.astype(np.float16)).astype(np.float32)

    op = replace(builtin()["matmul"], honest=(half,))
    case = Case("matmul", "a", {"M": 30, "K": 60, "N": 40}, "float32")
    with pytest.raises(InvalidOp, match="'half' and the reference of matmul disagree.*or computes in a narrower dtype"):
        tolerance.expect(Problem.of(op, case))
