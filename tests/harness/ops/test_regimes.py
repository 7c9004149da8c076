"""Each regime is what its name says, in every dtype, and the edge cases stand around every tile."""

from dataclasses import replace

import numpy as np
import pytest

from triptych import Op
from triptych.harness.collection import builtin
from triptych.harness.ops import regimes
from triptych.harness.ops.case import Case
from triptych.harness.ops.inputs import make_inputs
from triptych.harness.results.result import Result

OPS = builtin()


def drawn(regime, dtype="float32", shape=(64, 200)):
    x = regimes.normal(np.random.default_rng(0), *shape)
    return regimes.round_inputs({"x": regimes.in_regime(x, regime, dtype)}, dtype)["x"].astype(np.float64)


def test_one_hot_rows_hold_a_single_one():
    x = drawn("one-hot")
    assert set(np.unique(x)) == {0.0, 1.0} and (x.sum(axis=1) == 1).all()
    assert len({int(i) for i in x.argmax(axis=1)}) > 30, "in many places"


def test_constant_rows_hold_one_value_each():
    x = drawn("constant-rows")
    assert (x == x[:, :1]).all() and len(np.unique(x)) == 64


def test_sorted_rows_ascend():
    assert (np.diff(drawn("sorted"), axis=1) >= 0).all()


def test_heavy_tails_are_heavier_than_any_normal_sample():
    x = np.abs(drawn("heavy-tailed", shape=(1000, 200)))
    assert x.max() > 50 * x.std() and np.isfinite(x).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_subnormal_numbers_are_subnormal_in_the_dtype_of_the_case(dtype):
    x = np.abs(drawn("subnormal", dtype))
    smallest = float(regimes.finfo(regimes.dtype_of(dtype)).smallest_normal)
    share = ((x > 0) & (x < smallest)).mean()
    assert 0.5 < share < 0.8 and x.max() >= smallest, "on both sides of the smallest normal number"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_negative_numbers_are_below_any_usual_start_of_a_maximum(dtype):
    x = drawn("negative", dtype)
    assert x.min() > -22000 and x.max() < -18000 and len(np.unique(x)) > 15


def test_of_negative_inputs_the_others_are_positive():
    op = Op("op", {"x": ("M",), "y": ("M",)}, lambda x, y: x * y, [{"M": 500}])
    case = next(case for case in op.case_sets["adversarial"] if case.regime == "negative")
    inputs = make_inputs(op, replace(case, dtype="float32"))
    assert inputs["x"].max() < -18000 and inputs["y"].min() >= 0 and 1 < inputs["y"].max() < 5


def test_what_is_not_finite_stands_in_other_places_of_each_input():
    op = Op("op", {"x": ("M", "N"), "y": ("M", "N")}, lambda x, y: x + y, [{"M": 30, "N": 40}])
    case = next(case for case in op.case_sets["adversarial"] if case.regime == "nonfinite")
    places = []
    for draw in range(3):
        for x in make_inputs(op, replace(case, dtype="float32"), draw).values():
            assert np.isnan(x).sum() == 1 and np.isposinf(x).sum() == 1 and np.isneginf(x).sum() == 1
            places += [tuple(at) for at in np.argwhere(~np.isfinite(x))]
    assert len(set(places)) == 18


@pytest.mark.parametrize("size", [0, 1, 2, 3])
def test_few_numbers_hold_what_they_can(size):
    planted = regimes.plant(np.arange(size, dtype=np.float32))
    assert np.isnan(planted).sum() == (size > 0) and np.isinf(planted).sum() == max(0, size - 1)


def test_an_unknown_regime_lists_what_exists():
    with pytest.raises(ValueError, match="unknown regime 'weird'; there is: normal, tiny, .*nonfinite"):
        regimes.in_regime(np.zeros(3, np.float32), "weird")


# A NaN reaches all of dk, so that nothing would be compared.
LEFT_OUT = {"attention_backward": {"nonfinite"}}


@pytest.mark.parametrize("op", OPS.values(), ids=OPS)
def test_the_adversarial_set_has_every_regime_and_says_so_in_the_name(op):
    cases = op.case_sets["adversarial"]
    left_out = {"strided"} if op.triton is None and isinstance(op.inputs, dict) else LEFT_OUT.get(op.name, set())
    assert {case.regime for case in cases} == set(regimes.HARD) - left_out
    assert all(case.name.endswith(f"-{case.regime}") for case in cases)
    assert {case.regime for case in op.case_sets["smoke"]} == {"normal"}, "smoke stays quick"


@pytest.mark.parametrize("op", OPS.values(), ids=OPS)
@pytest.mark.parametrize("regime", regimes.REGIMES)
def test_every_regime_draws_inputs_that_are_its_own(op, regime):
    template = op.case_sets["smoke"][0]
    case = Case(op.name, "a", template.axes, "float32", template.params, regime)
    inputs = make_inputs(op, case)
    plain = make_inputs(op, Case(op.name, "a", template.axes, "float32", template.params))
    differs = any(inputs[name].tobytes() != plain[name].tobytes() for name in inputs)
    assert differs is (regime not in ("normal", "strided"))


@pytest.mark.parametrize("op", OPS.values(), ids=OPS)
def test_edge_cases_stand_below_at_and_above_every_tile(op):
    for axis, tiles in op.tiles.items():
        sizes = {case.axes[axis] for case in op.case_sets["edge"]}
        wanted = {size for size in regimes.around(tiles) if size <= op.limits.get(axis, size)}
        assert wanted <= sizes, f"{axis}: {sorted(wanted - sizes)} are missing"


def test_around():
    assert regimes.around((1, 4, 5)) == [1, 2, 3, 4, 5, 6]


def test_an_op_given_by_shapes_gets_every_regime():
    op = Op("op", {"x": ("M",)}, lambda x: x, [{"M": 5}, {"M": 7, "name": "seven"}])
    names = [case.name for case in op.case_sets["adversarial"]]
    assert "5-one-hot" in names and "seven-subnormal" in names and len(names) == 2 * (len(regimes.HARD) - 1)
    assert set(op.case_sets) == {"smoke", "adversarial", "adversarial-short"}


def test_an_op_that_draws_its_own_inputs_does_not():
    op = Op("op", lambda case, rng: {}, lambda: 0, [{"M": 5}])
    assert set(op.case_sets) == {"smoke"}


def test_the_regime_is_in_the_result():
    row = {
        "op": "o",
        "case": "c",
        "dtype": "float32",
        "backend": "numpy",
        "target": None,
        "evidence": "reference",
        "status": "passed",
    }
    result = Result.from_dict({**row, "regime": "sorted"})
    assert result.to_dict()["regime"] == "sorted"
    assert Result.from_dict(row).regime == "normal", "documents from before regimes were recorded"
