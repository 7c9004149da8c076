"""What a planted number reaches, in formulas of a few elements whose answer can be read off."""

import numpy as np
import pytest

from triptych.harness.judge import nonfinite
from triptych.harness.judge.nonfinite import changed, leeway, places, rows_through
from triptych.harness.judge.problem import Problem
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Op

NAN, INF = np.nan, np.inf


def problem_of(reference, dtype="float32", regime="nonfinite", strict=False, **inputs):
    op = Op("op", {name: ("M",) for name in inputs}, reference, {}, strict_nonfinite=strict)
    given = {name: np.array(x, np.float32 if np.array(x).dtype.kind == "f" else None) for name, x in inputs.items()}
    return Problem(op, Case("op", "c", {"M": 1}, dtype, regime=regime), given)


def found(reference, *planted):
    """The reference as it is taken, and where it may be a NaN."""
    leeway_of = leeway(problem_of(reference, x=list(planted)))
    return leeway_of.reference.tolist(), leeway_of.may_be_nan.tolist()


def same(a, b):
    return np.array_equal(a, b, equal_nan=True)


def test_where_numbers_are_planted():
    inputs = {"x": np.array([[1, NAN], [-INF, 2]], np.float32), "i": np.array([1, 2]), "y": np.array([INF])}
    assert list(places(inputs)) == [("x", (0, 1)), ("x", (1, 0)), ("y", (0,))]


@pytest.mark.parametrize(
    ("place", "shape", "rows"),
    [
        ((0,), (5,), [[(1,), (4,)]]),
        ((4,), (5,), [[(0,), (3,)]]),
        ((2,), (6,), [[(0,), (1,), (3,), (5,)]]),
        ((0,), (1,), []),
        ((1, 2), (3, 4), [[(0, 2), (2, 2)], [(1, 0), (1, 1), (1, 3)]]),
        ((0, 1), (1, 2), [[(0, 0)]]),
    ],
)
def test_neighbours_in_every_row_through_a_place(place, shape, rows):
    assert list(rows_through(place, shape)) == rows


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: np.array([x[0], x[1], x[2]]), [True, False, True]),
        (lambda x: np.array([max(x[0], 0), min(x[2], 0), 7.0]), [True, True, False]),
        (lambda x: np.array([np.sqrt(x[0]), x[1], 0 * x[2]]), [True, False, False]),
    ],
)
def test_an_element_changes_with_a_number_that_is_larger_or_smaller_or_leads_to_a_nan(function, expected):
    problem, ordinary = problem_of(function, x=[0.5, 0.5, 0.5]), {"x": np.full(3, 0.5)}
    with np.errstate(all="ignore"):
        assert changed(problem, ordinary, function(ordinary["x"]), "x", [(0,), (2,)]).tolist() == expected
    assert ordinary["x"].tolist() == [0.5] * 3


def test_a_change_is_more_than_a_millionth_of_a_millionth_of_the_largest():
    for factor, told in ((0.9e-15, False), (1.1e-15, True)):
        problem = problem_of(lambda x, factor=factor: np.array([factor * (x[0] - 0.5), 1.0]), x=[0.5, 1])
        there = changed(problem, {"x": np.array([0.5, 1.0])}, np.array([0.0, 1.0]), "x", [(0,)])
        assert there.tolist() == [told, False], "by 1e3 at most"


def test_a_nan_reaches_what_is_summed_up_behind_it_and_may_reach_what_is_before():
    reference, may_be = found(lambda x: np.cumsum(x), 1, NAN, 2, 3)
    assert same(reference, [1, NAN, NAN, NAN]) and may_be == [True, False, False, False]


def test_what_is_not_summed_up_has_no_beside():
    reference, may_be = found(lambda x: 2 * x, 1, NAN, 2, 3)
    assert same(reference, [2, NAN, 4, 6]) and may_be == [False] * 4


def test_a_nan_times_zero_may_be_there_and_need_not():
    reference, may_be = found(lambda x: np.array([[0.0, 1, 1], [1, 1, 1]]) @ x, NAN, 2, 3)
    assert same(reference, [5, NAN]) and may_be == [True, False]


def test_an_infinity_beside_a_nan_that_counts_for_nothing_stays():
    reference, may_be = found(lambda x: np.array([x[0] + 0 * x[1], x[1]]), INF, NAN)
    assert same(reference, [INF, NAN]) and may_be == [True, False]
    reference, may_be = found(lambda x: np.array([x[0] + 0 * x[1], x[0] + x[1], 1.0]), INF, -INF)
    assert same(reference, [INF, NAN, 1]) and may_be == [True, False, False]


def test_an_infinity_may_be_a_nan():
    assert found(lambda x: np.array([x[0] + x[1], 2.0]), INF, 1) == ([INF, 2.0], [True, False])
    assert found(lambda x: np.array([x[0] + x[1], x[1]]), INF, 1) == ([INF, 1.0], [True, True]), "beside it"


def test_each_element_is_settled_by_what_reaches_it():
    def reference(x):
        return np.array([x[0] + 0 * x[1], 0 * x[0] + x[1], x[0] + x[1] + 0 * x[2], x[2]])

    taken, may_be = found(reference, NAN, INF, -INF)
    assert same(taken, [NAN, INF, NAN, -INF]) and may_be == [True, True, False, True]


def test_a_reference_without_a_number_where_all_are_ordinary_leaves_infinities_open_alone():
    reference, may_be = found(lambda x: np.array([0 * x[0], x[0], np.nan]), INF)
    assert same(reference, [NAN, INF, NAN]) and may_be == [False, True, False]


def times_zero(x):
    return np.array([0 * x[0] + x[-1], x[0]])


@pytest.mark.parametrize(("name", "exactly"), [("LARGEST", 4 + 2), ("MOST_PLACES", 1)])
def test_cases_that_are_too_large_leave_infinities_open_alone(monkeypatch, name, exactly):
    problem = problem_of(times_zero, x=[INF, 1, 1, 3])
    monkeypatch.setattr(nonfinite, name, exactly)
    assert same(leeway(problem).reference, [3, INF]) and leeway(problem).may_be_nan.tolist() == [True, True]
    monkeypatch.setattr(nonfinite, name, exactly - 1)
    assert same(leeway(problem).reference, [NAN, INF]) and leeway(problem).may_be_nan.tolist() == [False, True]


def test_so_many_are_worth_it():
    assert nonfinite.LARGEST == 2**18 and nonfinite.MOST_PLACES == 32


def test_nothing_is_open_in_other_regimes_of_integers_or_where_an_op_promises_more():
    assert leeway(problem_of(times_zero, x=[INF, 3])) is not None
    assert leeway(problem_of(times_zero, x=[INF, 3], regime="normal")) is None
    assert leeway(problem_of(times_zero, x=[INF, 3], strict=True)) is None
    assert leeway(problem_of(times_zero, x=[INF, 3], dtype="int32")) is None


def test_indices_are_no_numbers_to_replace():
    problem = problem_of(lambda x, i: x[i] + 0 * x[0], x=[NAN, 2, 3], i=[2, 1])
    taken = leeway(problem)
    assert taken.reference.tolist() == [3, 2] and taken.may_be_nan.tolist() == [True, True]
