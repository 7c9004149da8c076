"""What an op is called with: inputs of their own dtype and range, numbers, what is left out, regimes of generators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from triptych import Input, Op
from triptych.harness.judge.problem import Problem
from triptych.harness.ops.cases import cases_of
from triptych.harness.ops.inputs import make_inputs

SIZES = [{"M": 8, "N": 30, "V": 11}]
MIXED = {
    "x": ("M", "N"),
    "table": Input(("V", "N"), "float32"),
    "rows": Input(("M",), "int32", high="V"),
    "weights": Input(("N", 4), "int8"),
    "mask": Input(("M", "N"), "bool"),
    "scales": Input((4,), "float32", low=0.5, high=2),
    "lengths": Input(("M",), "int64", low=1, high=5),
    "narrow": Input(("M", "N"), "float8_e4m3fn"),
}


def problem(inputs: Any, dtype: str = "bfloat16", regime: str = "normal", **declared: Any) -> Problem:
    op = Op("op", inputs, lambda **all: all["x"], SIZES, **declared)
    names = {case.regime: case for case in cases_of(op, [*op.case_sets], [dtype], {}, 0)}
    return Problem.of(op, names[regime])


def test_each_input_has_its_own_dtype_and_range() -> None:
    inputs = problem(MIXED).inputs
    assert {name: x.dtype.name for name, x in inputs.items()} == {
        "x": "bfloat16",
        "table": "float32",
        "rows": "int32",
        "weights": "int8",
        "mask": "bool",
        "scales": "float32",
        "lengths": "int64",
        "narrow": "float8_e4m3fn",
    }
    assert inputs["rows"].shape == (8,) and inputs["rows"].min() >= 0 and inputs["rows"].max() < 11
    assert inputs["weights"].min() < -100 and inputs["weights"].max() > 100 and inputs["mask"].any()
    assert inputs["scales"].min() >= 0.5 and inputs["scales"].max() <= 2
    assert inputs["lengths"].min() >= 1 and inputs["lengths"].max() < 5


def test_regimes_move_the_floats_that_have_no_range_and_nothing_else() -> None:
    normal, tiny = problem(MIXED).inputs, problem(MIXED, regime="tiny").inputs
    for name, factor in {"x": 1e-3, "table": 1e-3, "narrow": 1e-3, "scales": 1.0, "weights": 1.0}.items():
        sizes = [float(np.abs(some[name].astype(np.float64)).mean()) for some in (normal, tiny)]
        assert sizes[1] == pytest.approx(factor * sizes[0], rel=0.7), name


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        (Input(("M",), "int32"), "an input of dtype int32 needs `high`"),
        (Input(("M",), "int32", high="Q"), "bounded by axis 'Q', which case 8x30x11 does not have"),
        (("Q",), "input y has axis 'Q'"),
    ],
)
def test_an_input_that_cannot_be_drawn_says_what_it_needs(declared: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        problem({"x": ("M", "N"), "y": declared})


def jagged(case: Any, rng: np.random.Generator) -> dict[str, Any]:
    """Offsets that are valid together, beside values that may be anything."""
    cuts = np.sort(rng.integers(0, case.axes["M"], 3)).astype(np.int32)
    return {"x": rng.standard_normal((case.axes["M"], case.axes["N"])), "offsets": cuts, "eps": 0.5, "bias": None}


def test_a_generator_keeps_its_adversarial_sets_and_what_is_valid_stays_so() -> None:
    op = Op("op", jagged, lambda x, offsets, eps, bias: x, SIZES)
    regimes = [case.regime for case in op.case_sets["adversarial"]]
    assert len(regimes) == 10 and {"tiny", "sorted", "nonfinite"} <= set(regimes)
    tiny, large = (problem(jagged, "float32", regime).inputs for regime in ("tiny", "large"))
    assert np.abs(tiny["x"]).max() < 0.01 and np.abs(large["x"]).max() > 30
    assert (np.diff(tiny["offsets"]) >= 0).all() and tiny["offsets"].dtype == np.int32
    values = problem(jagged, "float32", "sorted").inputs["x"]
    assert (np.diff(values, axis=-1) >= 0).all()


def test_a_generator_that_asks_for_the_regime_draws_it_itself() -> None:
    def inputs(case: Any, rng: np.random.Generator) -> dict[str, Any]:
        return {"x": rng.standard_normal((8, 30)) * (7.0 if case.regime == "tiny" else 1.0)}

    assert np.abs(problem(inputs, "float32", "tiny").inputs["x"]).max() > 7


@pytest.mark.parametrize("cases", [{"smoke": SIZES, "adversarial": []}, None])
def test_there_are_no_regimes_for_who_wants_none_or_has_no_floats(cases: Any) -> None:
    def inputs(case: Any, rng: np.random.Generator) -> dict[str, Any]:
        return {"x": rng.standard_normal((8, 30)).astype(np.float64 if cases else np.float32)}

    op = Op("op", inputs, lambda x: x, cases or SIZES)
    assert not op.case_sets.get("adversarial", ())


def test_numbers_and_what_is_left_out_are_handed_over_in_their_place() -> None:
    drawn = problem(
        lambda case, rng: {"q": np.ones((2, 3)), "bias": None, "x": np.ones((2, 3)), "eps": np.float32(0.5)}
    )
    assert list(drawn.inputs) == ["q", "x"] and drawn.case.params == {"bias": None, "eps": 0.5}
    positional, named = drawn.positional(drawn.inputs)
    assert positional[1] is None and positional[2] is drawn.inputs["x"] and positional[3] == 0.5 and named == {}
    assert type(drawn.case.params["eps"]) is float


def test_an_array_without_axes_stays_one() -> None:
    found: dict[str, Callable[..., Any]] = {"float64": np.float64, "float32": np.float32}
    for name, kind in found.items():
        inputs = make_inputs(
            Op("op", lambda case, rng, kind=kind: {"x": np.asarray(kind(2.0))}, lambda x: x, SIZES),
            cases_of(Op("op", {"x": ("M",)}, lambda x: x, SIZES), ["smoke"], ["bfloat16"], {}, 0)[0],
        )
        assert inputs["x"].shape == () and inputs["x"].dtype.name == {"float64": "bfloat16"}.get(name, name)
