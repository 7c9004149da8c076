"""Who decides the tolerance, and what nobody may ask for."""

import numpy as np
import pytest

from triptych.harness.judge.bounds import Bounds, bounds_in_force, requested_bounds
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Op


@pytest.mark.parametrize("budget", [1e-9, 2, None])
@pytest.mark.parametrize("given", [{"rtol": 0.0}, {"atol": 0.0}, {"rtol": 1e9, "atol": 1e9}, {}])
def test_a_budget_or_bounds_and_not_both(budget, given):
    if budget is None or not given:
        assert Bounds("op", budget=budget, **given).says_something is (budget is not None or bool(given))
    else:
        with pytest.raises(ValueError, match="the op gives a budget and rtol or atol"):
            Bounds("op", budget=budget, **given)


@pytest.mark.parametrize("name", ["rtol", "atol", "budget"])
@pytest.mark.parametrize("value", [-1e-9, float("inf"), float("nan"), -float("inf")])
def test_what_is_no_bound(name, value):
    least = "above zero" if name == "budget" else "zero or above"
    with pytest.raises(ValueError, match=f"the command line gives {name} {value}: it must be a finite number {least}"):
        Bounds("command line", **{name: value})


def test_a_budget_of_zero_allows_nothing():
    with pytest.raises(ValueError, match="the op gives budget 0: it must be a finite number above zero"):
        Bounds("op", budget=0)


@pytest.mark.parametrize("given", [{"rtol": 0.5}, {"atol": 0.5}, {"budget": 0.5}])
def test_one_word_of_the_command_line_silences_the_environment(given):
    found = requested_bounds(**given, environ={"TRIPTYCH_RTOL": "nonsense"})
    assert found == Bounds("command line", **given)


def test_what_the_environment_says():
    said = {"TRIPTYCH_RTOL": " 0.25 ", "TRIPTYCH_ATOL": "3", "TRIPTYCH_BUDGET": "  ", "TRIPTYCH": "x"}
    assert requested_bounds(environ=said) == Bounds("environment", rtol=0.25, atol=3.0)
    assert requested_bounds(environ={"TRIPTYCH_BUDGET": "4x"}) == Bounds("environment", budget=4.0)
    assert requested_bounds(environ={"TRIPTYCH_BUDGET": ""}) is None
    for name, text in (("RTOL", "4x"), ("ATOL", "many"), ("BUDGET", "x4")):
        with pytest.raises(ValueError, match=f"TRIPTYCH_{name} must be a number, got '{text}'"):
            requested_bounds(environ={f"TRIPTYCH_{name}": text})


def test_whose_bounds_are_in_force():
    def in_force(dtype, wanted=None, **tolerance):
        return bounds_in_force(
            Op("op", {"x": ("M",)}, np.exp, {}, tolerance=tolerance), Case("op", "c", {}, dtype), wanted
        )

    wanted = Bounds("command line", budget=9)
    own = {"rtol": 0.5, "bfloat16": {"atol": 0.25}, "float16": {}}
    assert in_force("float32", wanted, **own) is wanted
    assert in_force("float32", **own) == in_force("float16", **own) == Bounds("op", rtol=0.5)
    assert in_force("bfloat16", **own) == Bounds("op", atol=0.25), "instead of what holds for all"
    assert in_force("float32", bfloat16={"atol": 0.25}) == Bounds("default", budget=2.0)
    assert in_force("int32") == Bounds("dtype", rtol=0.0, atol=0.0) and in_force("int32", **own).source == "op"
