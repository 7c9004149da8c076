"""What is prepared of a case with several outputs, and whose verdict is that of all."""

from dataclasses import replace
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest

from triptych.harness.judge import prepared as room
from triptych.harness.judge.bounds import Bounds
from triptych.harness.judge.prepared import Prepared, PreparedCase, expected_of, prepare
from triptych.harness.judge.problem import Problem
from triptych.harness.judge.tolerance import Expected
from triptych.harness.ops.case import Case
from triptych.harness.ops.errors import InvalidOp, UninformativeCase
from triptych.harness.ops.op import Op
from triptych.harness.ops.outputs.kinds import Codes, Exact, Float, MalformedOutput, Output, Points, Unordered
from triptych.harness.results.measures import Fixed
from triptych.harness.results.status import Cause, Status

FLOAT = np.float32
X = np.arange(1, 13, dtype=FLOAT).reshape(3, 4)
FIXED = Fixed(source="op", regime="normal", rtol=0.0, atol=0.5)


def problem_of(reference, dtype="float32", inputs=None, **declared):
    op = Op("op", {"x": ("M", "N")}, reference, {}, **declared)
    return Problem(op, Case("op", "c", {"M": 3, "N": 4}, dtype), inputs or {"x": X})


def prepared_of(problem):
    """Every output within a half, without a look at its sensitivity."""
    return PreparedCase(
        problem,
        {name: Prepared(one, Expected(one.reference, one.rounded, FIXED)) for name, one in problem.outputs.items()},
    )


def three(x):
    return {"a": x, "b": 2 * x, "c": 3 * x}


def judged(a=0.0, b=0.0, c=0.0):
    """The verdict of outputs that are off by so much; None: not returned."""
    out = {
        name: None if off is None else (x + off).astype(FLOAT)
        for (name, x), off in zip(three(X).items(), (a, b, c), strict=True)
    }
    return prepared_of(problem_of(three)).judge(out)


@pytest.mark.parametrize(
    ("off", "status", "output"),
    [
        ((0.0, 0.25, 0.125), Status.PASSED, "b"),
        ((0.0, 0.0, 0.0), Status.PASSED, "a"),
        ((0.125, 1.0, 2.0), Status.FAILED, "c"),
        ((0.125, 2.0, 1.0), Status.FAILED, "b"),
        ((1.0, 0.0, 0.0), Status.FAILED, "a"),
        ((9.0, 0.0, None), Status.ERROR, "c"),
        ((None, 9.0, None), Status.ERROR, "a"),
    ],
)
def test_the_worst_verdict_is_that_of_all(off, status, output):
    found = judged(*off)
    assert (found.status, found.output) == (status, output) and list(found.each) == ["a", "b", "c"]
    assert found.reason is None if status is Status.PASSED else found.reason.startswith(f"output {output}: ")
    assert found.each[output].status is status and found.share == found.each[output].share


def test_an_input_that_is_changed_is_called_so():
    problem = problem_of(lambda x, y: (x, x + y), inputs={"x": X, "y": X}, mutates=("y",))
    right = {name: x.astype(FLOAT) for name, x in problem.evaluated.items()}
    wrong = prepared_of(problem).judge({**right, "y": right["y"] + 1})
    assert wrong.output == "y" and wrong.reason.startswith("input y after the call: ")


def test_the_only_output_has_no_name_in_its_verdict():
    case = prepared_of(problem_of(lambda x: x))
    assert case.first is case.outputs[""] and case.judge({"": X.copy()}).each == {}
    wrong = case.judge({"": X + 1})
    assert wrong.output == "" and wrong.reason.startswith("12 of 12 elements")


def test_what_the_reference_leaves_out_a_kernel_may_not_return():
    case = prepared_of(problem_of(lambda x: (x, None)))
    assert case.judge({"0": X.copy(), "1": None}).status is Status.PASSED
    found = case.judge({"0": X.copy(), "1": X.copy()})
    assert (found.status, found.cause, found.output) == (Status.ERROR, Cause.MALFORMED_OUTPUT, "1")
    assert found.reason == "output 1: the kernel returns output 1, which the reference leaves out (None)"
    alone = prepared_of(problem_of(lambda x: x))
    assert alone.judge({"": X.copy(), "more": None}).each == {}


def test_a_number_of_the_host_is_compared_with_a_scalar():
    case = prepared_of(problem_of(lambda x: x.sum()))
    for total in (78, 78.25, np.float64(78), np.int64(78), np.bool_(True)):
        assert case.compared("", total).dtype == FLOAT and case.compared("", total).shape == ()
    assert case.judge({"": 78.25}).status is Status.PASSED and case.judge({"": 79}).status is Status.FAILED
    assert case.compared("", "78") == "78", "which the verdict calls by its name"
    whole = prepared_of(problem_of(lambda x: x))
    assert isinstance(whole.compared("", 3.0), float), "which is no array of 12"
    full = X.astype(np.float64)
    assert case.compared("", full) is full, "which is no number"


def test_what_has_no_place_in_the_comparison_is_left_to_the_verdict():
    case = prepared_of(problem_of(lambda x: x, outputs={"y": Float("float32")}))
    for value in (None, "text", X[:2], [1.0], np.ma.array(X), X.astype(np.float64)[None]):
        assert case.compared("y", value) is value


def test_a_declared_dtype_must_be_met_and_another_may_be_held():
    declared = prepared_of(problem_of(lambda x: x.astype(int), outputs={"n": Exact("int16")}))
    assert declared.compared("n", X.astype(np.int16)).dtype == np.int16
    with pytest.raises(MalformedOutput, match="the output has a wrong dtype: expected int16, got int32"):
        declared.compared("n", X.astype(np.int32))
    free = prepared_of(problem_of(lambda x: x.astype(int)))
    assert free.compared("", X.astype(np.int16)).dtype == np.int64
    wrong = declared.judge({"n": X.astype(np.int32)})
    assert wrong.cause is Cause.MALFORMED_OUTPUT and wrong.tolerance == FIXED


def test_in_the_dtype_of_the_case_nothing_is_held():
    """An op on integers: its reference's numbers are the case's, and a kernel's must be, too."""
    case = prepared_of(problem_of(lambda x: x.astype(np.int64), "int32", {"x": X.astype(np.int32)}))
    other = X.astype(np.int64)
    assert case.compared("", other) is other
    assert "expected int32, got int64" in case.judge({"": other}).reason


def test_what_indices_point_at_is_compared_in_the_dtype_of_what_they_point_into():
    indices = np.array([[3, 1], [0, 2], [1, 0]])
    inputs = {"x": X.astype(ml_dtypes.bfloat16)}
    case = prepared_of(problem_of(lambda x: indices, "bfloat16", inputs, outputs={"at": Points(into="x")}))
    seen = case.compared("at", indices.astype(np.int32))
    assert seen.dtype == ml_dtypes.bfloat16 and seen.tolist() == [[4, 2], [5, 7], [10, 9]]
    with pytest.raises(MalformedOutput, match="repeat another one"):
        case.compared("at", 0 * indices)


def test_a_set_is_sorted_and_all_outputs_are_compared():
    case = prepared_of(problem_of(lambda x: {"kept": x[:, ::-1], "x": x}, outputs={"kept": Unordered(), "x": Output()}))
    found = case.all_compared({"kept": X[:, ::-1].copy(), "x": X, "more": None})
    assert list(found) == ["kept", "x"] and all(one.tolist() == X.tolist() for one in found.values())


def zeros(x):
    return {"zero": 0 * x, "x": x}


def test_some_outputs_may_be_zero_which_then_are_so_exactly():
    found = prepare(problem_of(zeros))
    tolerance = found.outputs["zero"].expected.tolerance
    assert (tolerance.source, tolerance.rtol, tolerance.atol, tolerance.regime) == ("dtype", 0.0, 0.0, "normal")
    assert found.judge({"zero": 0 * X, "x": X.copy()}).status is Status.PASSED
    assert found.judge({"zero": 0 * X + FLOAT(1e-30), "x": X.copy()}).output == "zero"


def test_integers_may_all_be_zero_where_the_regime_makes_them_so():
    problem = problem_of(lambda x: 0 * x, "int32", {"x": X.astype(np.int32)})
    ties = replace(problem, case=replace(problem.case, regime="constant-rows"))
    assert prepare(ties).first.expected.tolerance.source == "dtype"


def test_not_all_may_be():
    with pytest.raises(UninformativeCase, match="output a: .* the reference is zero in all 12 elements"):
        prepare(problem_of(lambda x: {"a": 0 * x, "b": 0 * x}))
    with pytest.raises(UninformativeCase, match="^the case says nothing: the reference is zero in all 12 elements"):
        prepare(problem_of(lambda x: 0 * x))


def test_an_output_that_says_nothing_else_or_is_none_is_refused():
    with pytest.raises(UninformativeCase, match="output b: .* the reference is NaN or infinite in all"):
        prepare(problem_of(lambda x: {"a": x, "b": x * np.nan}))
    with pytest.raises(InvalidOp, match="the reference has no elements"):
        prepare(problem_of(lambda x: {"a": x, "b": x[:0]}))


def test_inputs_that_do_not_suit_one_output_are_told_though_it_is_zero_here_and_there(monkeypatch):
    problem = problem_of(lambda x: {"a": x, "b": x - 1})

    def unsuitable(one, kind, wanted):
        raise UninformativeCase(one.case, "words")

    monkeypatch.setattr(room, "expected_of", unsuitable)
    with pytest.raises(UninformativeCase, match="output a: .*words"):
        prepare(problem)
    monkeypatch.setattr(room, "expected_of", lambda one, *rest: "fine" if one.rounded.all() else unsuitable(one, *rest))
    with pytest.raises(UninformativeCase, match="output b: .*words"):
        prepare(problem)


@pytest.mark.parametrize(
    ("kind", "asked"),
    [
        (Output(), True),
        (Float(), True),
        (Unordered(), True),
        (Exact(), False),
        (Codes(), False),
        (Points(into="x"), False),
    ],
)
def test_the_bounds_that_somebody_asks_for_are_not_for_what_is_compared_exactly(monkeypatch, kind, asked):
    monkeypatch.setattr(room, "expect", lambda problem, wanted: (problem, wanted))
    monkeypatch.setattr(room, "sensitivity", SimpleNamespace(check=lambda problem, expected: expected))
    wanted = Bounds("command line", atol=1.0)
    assert expected_of("problem", kind, wanted) == ("problem", wanted if asked else None)
