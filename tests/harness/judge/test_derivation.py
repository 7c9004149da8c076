"""How a tolerance follows from the errors of baselines, number by number; and what a comparison counts."""

import numpy as np
import pytest

from triptych.harness.dtypes import dtype_of
from triptych.harness.judge import tolerance
from triptych.harness.judge.bounds import Bounds
from triptych.harness.judge.comparison import compare, metrics
from triptych.harness.judge.problem import Problem
from triptych.harness.judge.tolerance import Expected, derive, expect
from triptych.harness.judge.yardstick import bias
from triptych.harness.judge.yardstick.baseline_errors import BaselineError
from triptych.harness.judge.yardstick.baselines import Baselines
from triptych.harness.judge.yardstick.bias import Systematic
from triptych.harness.ops.case import Case
from triptych.harness.ops.errors import UninformativeCase
from triptych.harness.ops.op import Op
from triptych.harness.results.measures import Derived, Fixed

DEFAULT = Bounds("default", budget=2.0)
FIXED = Fixed(source="op", regime="normal", rtol=0.0, atol=0.5)


def problem_of(size, dtype="bfloat16", value=4.0, reference=lambda x: 1 * x):
    op = Op("op", lambda case, rng: {"x": np.full(size, value)}, reference, {})
    return Problem.of(op, Case("op", "c", {}, dtype))


@pytest.fixture
def derived(monkeypatch):
    """A tolerance from given errors, and the units in which each evaluation of the baselines was measured."""
    units = []

    def run(problem, errors, unit, bounds=DEFAULT):
        def given(one, baselines, unit):
            units.append(unit is not None)
            return list(errors)

        monkeypatch.setattr(tolerance, "errors_of", given)
        monkeypatch.setattr(tolerance, "check_agreement", lambda *_: units.append("agreement"))
        return derive(problem, unit, bounds, Baselines((len,), from_reference=False))

    run.units = units
    return run


def error(name="b", max_abs=0.0, l2=0.0, max_local=0.0, common=None):
    return BaselineError(name, max_abs, l2, max_local, common)


def test_the_worst_of_every_measure_counts(derived):
    errors = [
        error("a", 0.25, 50.0, 1.0, Systematic(0.25, 9.0, 0.125, 9.0)),
        error("b", 0.5, 10.0, 3.0, Systematic(0.125, 9.0, 0.375, 9.0)),
        error("c"),
    ]
    found = derived(problem_of(16384), errors, np.ones(16384))
    assert (found.baseline, found.baselines, found.draws, found.factor) == ("b", ["len"], 1, 2.0)
    assert (found.max_abs, found.rel_l2, found.max_local) == (1.0, 100 / 512, 12.0)
    assert (found.bias, found.not_nearest, found.floor) == (0.5, 0.75, 2.0**-5)
    six = derived(problem_of(16384), errors, np.ones(16384), Bounds("op", budget=6.0))
    assert (six.max_abs, six.max_local, six.bias, six.source, six.factor) == (3.0, 36.0, 1.5, "op", 6.0)


def test_the_least_that_is_allowed(derived):
    found = derived(problem_of(16384), [error(common=Systematic(0.0, 0.0, 0.0, 0.0))], np.ones(16384))
    assert (found.max_abs, found.rel_l2, found.max_local) == (2.0**-5, 2.0**-8, 4.0)
    assert (found.bias, found.not_nearest) == (bias.LEAST_BIAS, bias.LEAST_SHARE) == (0.125, 0.1)
    few = derived(problem_of(1), [error()], np.ones(1))
    assert few.rel_l2 == 2.0**-5 / 4 and few.bias is None and few.not_nearest is None
    small = derived(problem_of(1, value=0.25), [error()], None)
    assert small.floor == 2.0**-9 and small.max_local is None
    assert derived(problem_of(16384, value=0.0), [error()], None).rel_l2 == 0.0


@pytest.mark.parametrize("unit", [True, False])
def test_eight_draws_are_measured_in_units(derived, unit):
    found = derived(problem_of(512), [error()], np.ones(512) if unit else None)
    assert found.draws == 32
    assert derived.units == (["agreement"] + [True] * 8 + [False] * 24 if unit else [False] * 32)


@pytest.mark.parametrize(
    ("size", "dtype", "calls"), [(2**18, "float32", 7), (2**18 + 1, "float32", 1), (2**14, "bfloat16", 1)]
)
def test_float32_is_nudged_six_times(derived, size, dtype, calls):
    derived(problem_of(size, dtype), [error()], np.ones(size))
    assert derived.units == ["agreement"] + [True] * calls


def off(x):
    return x


def test_bounds_that_somebody_asks_for():
    problem = problem_of(40)
    for given in ({"rtol": 0.25}, {"atol": 0.5}, {"rtol": 0.25, "atol": 0.5}):
        found = expect(problem, Bounds("command line", **given)).tolerance
        asked = {"rtol": 0.0, "atol": 0.0, **given}
        assert found == Fixed(source="command line", regime="normal", **asked), "and no bias of floats"
    assert expect(problem, baselines=Baselines((off,), False)).tolerance.baselines == ["off"]
    with pytest.raises(UninformativeCase):
        expect(problem_of(40, value=0.0), Bounds("command line", atol=0.5))


def test_integers_that_may_differ_may_not_all_differ_to_one_side():
    whole = problem_of(40, "int32", value=4)
    assert expect(whole, Bounds("op", atol=1.0)).tolerance.bias == bias.LEAST_BIAS
    assert expect(whole, Bounds("op", atol=0.0)).tolerance.bias is None is expect(whole).tolerance.bias


USUAL = {"source": "default", "regime": "normal", "factor": 2.0, "baseline": "b", "baselines": ["b"], "draws": 1}
DERIVED = Derived(**USUAL, max_abs=3.0, rel_l2=1e9, floor=0.0)


def expected_of(reference, made=FIXED, dtype="float32", **more):
    reference = np.array(reference, np.float64)
    with np.errstate(over="ignore"):
        return Expected(reference, reference.astype(dtype_of(dtype)), made, **more)


def test_what_is_allowed():
    relative = Fixed(source="op", regime="normal", rtol=0.25, atol=0.5)
    assert expected_of([-4, np.inf, np.nan], relative).allowed().tolist() == [1.5, 0.5, 0.5]
    local = Derived(**USUAL, max_abs=3.0, rel_l2=1e9, floor=0.0, max_local=2.0)
    assert expected_of([1, 2], local).allowed().tolist() == [3, 3]
    assert expected_of([1, 2], DERIVED, unit=np.array([1.0, 9])).allowed().tolist() == [3, 3]
    assert expected_of([1, 2], local, unit=np.array([1.0, 9])).allowed().tolist() == [2, 3]


def compared(out, expected):
    return compare(np.array(out, expected.rounded.dtype), expected)


def test_a_nan_where_one_may_be():
    expected = expected_of([1, 1, 1, 1], may_be_nan=np.array([True, False, True, True]))
    found = compared([np.nan, np.nan, np.inf, 1], expected)
    assert found.strange.tolist() == [False, True, True, False] and found.beyond.tolist() == found.strange.tolist()
    assert compared([np.nan, 1, 1, 9], expected).beyond.tolist() == [False, False, False, True]


def test_integers_that_float64_does_not_tell_apart():
    wide = np.array([2**53 + 1, 2**53, 7])
    expected = Expected(wide.astype(np.float64), wide, Fixed(source="dtype", regime="normal", rtol=0.0, atol=0.0))
    assert compare(wide.copy(), expected).error.tolist() == [0, 0, 0]
    found = compare(np.array([2**53, 2**53, 9]), expected)
    assert found.error.tolist() == [1, 0, 2] and found.share.tolist() == [np.inf, 0, np.inf]


def test_what_rounds_to_an_infinity_is_none_unlike_the_reference():
    expected = expected_of([65519.0, 65521.0, 1.0], Fixed(source="op", regime="normal", rtol=0.0, atol=1.0), "float16")
    assert not compared([np.inf, 65504, 1], expected).beyond.any()
    assert compared([np.inf, 65504, np.inf], expected).beyond.tolist() == [False, False, True]
    nan8 = expected_of([463.0, 463.0, 2.0], Fixed(source="op", regime="normal", rtol=0.0, atol=4.0), "float8_e4m3fn")
    assert compared([np.nan, 448, np.nan], nan8).strange.tolist() == [False, False, True]


def test_numbers_that_sum_up_a_comparison():
    found = metrics(compared([0.75, 4, np.nan], expected_of([0.5, 4, np.nan], unit=np.array([0.125, 1, 1]))))
    assert (found.max_abs, found.max_rel, found.max_local) == (0.25, 0.5, 2.0)
    assert found.rel_l2 == pytest.approx(0.25 / 16.25**0.5) and found.cosine == pytest.approx(1, abs=1e-2)
    assert found.nonfinite.misplaced == 0 and found.bias is None and found.not_nearest is None
    exact = metrics(compared([0.5, 4], expected_of([0.5, 4])))
    assert (exact.max_ulp, exact.max_abs_ulp, exact.max_local, exact.cosine) == (0, 0.0, None, pytest.approx(1))
    nothing = metrics(compared([0, 0], expected_of([1, 2])))
    assert (nothing.cosine, nothing.rel_l2) == (0.0, 1.0)
    many = metrics(compared([np.nan] * 10, expected_of([1] * 10))).nonfinite
    assert many.misplaced == 10 and many.at == [[i] for i in range(8)]


def test_whole_numbers_are_shown_whole():
    of = {dtype: metrics(compared([3, 5], expected_of([3, 4], dtype=dtype))) for dtype in ("int32", "float32")}
    assert {dtype: (type(m.expected), type(m.got)) for dtype, m in of.items()} == {
        "int32": (int, int), "float32": (float, float),
    }  # fmt: skip
    assert (of["int32"].expected, of["int32"].got, of["int32"].worst_index) == (4, 5, [1])


def test_what_errors_have_in_common_counts_beyond_chance():
    reference = np.linspace(1, 2, 402)[1:-1]
    low = np.nextafter(reference.astype(np.float16), np.float16(0))
    expected = expected_of(reference, dtype="float16")
    common, found = bias.systematic(low, reference, expected.rounded), metrics(compare(low, expected))
    assert 0 < common.chance < common.bias and found.bias == common.bias - common.chance
    assert 0 < common.share_chance < common.share == 1 and found.not_nearest == 1 - common.share_chance
    right = metrics(compare(expected.rounded.copy(), expected))
    assert right.bias == 0.0 and right.not_nearest == 0.0
