"""Which wrong outputs are made of a reference, and of which problems none are."""

from dataclasses import replace

import numpy as np
import pytest

from triptych.harness.judge import mutations
from triptych.harness.judge.problem import Problem
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Op

FLOAT = np.float32
X = np.arange(1, 7, dtype=FLOAT).reshape(2, 3)
COARSE, LARGER = "sums kept in bfloat16", "everything a sixteenth larger"


def found(reference, inputs=None, dtype="float32", regime="normal", params=None, **options):
    op = Op("op", options.pop("shapes", lambda case, rng: {}), reference, {}, **options)
    case = Case("op", "c", {}, dtype, params or {}, regime=regime)
    problem = Problem(op, case, {"x": X} if inputs is None else inputs)
    return list(mutations.of_any_op(problem, problem.reference))


def names(*args, **options):
    return [name for name, _ in found(*args, **options)]


AXES = ["x without its last index of axis 0", "x without its last index of axis 1"]


def test_every_kind_of_param():
    given = {"scale": 1.25, "one": 1.0, "causal": False, "count": 3, "none": None}
    wrong = dict(found(lambda x, **params: x * params["scale"] + params["causal"], params=given))
    assert list(wrong) == [LARGER, *AXES, "scale missing", "causal=True", COARSE]
    assert wrong["scale missing"].tolist() == X.tolist()
    assert wrong["causal=True"].tolist() == (X * 1.25 + 1).tolist()


def test_what_the_reference_refuses_or_gives_another_shape_is_left_out():
    def picky(x, keep):
        if not x[:, -1].all():
            raise ValueError("there are zeros in the last column")
        return x if keep else x.sum()

    assert names(picky, params={"keep": True}) == [LARGER, COARSE]


def test_an_axis_of_one_is_not_cut():
    assert names(lambda x: x, {"x": X[:1]}) == [LARGER, AXES[1], COARSE]
    assert names(lambda x, y: x, {"x": X[:1], "y": X[0]}, shapes={"x": ("M", "N"), "y": ("N",)}) == [
        *(LARGER, "x without its last N", "y without its last N", COARSE)
    ]


def test_inputs_that_are_no_floats():
    i = np.arange(6).reshape(2, 3)
    assert names(lambda i: i + 0, {"i": i}) == [LARGER], "nothing is rounded, and no sum is coarse"
    assert names(lambda x, i: x + i, {"x": X, "i": i}) == [LARGER, *AXES, COARSE]


def test_what_a_rounding_of_the_inputs_explains_is_not_wrong():
    assert names(lambda x: x, dtype="bfloat16", regime="tiny") == AXES
    assert names(lambda x: x, dtype="bfloat16") == [LARGER, *AXES, COARSE]


def test_coarse_sums_are_numpys_alone():
    torch = pytest.importorskip("torch")
    assert names(lambda x: torch.sqrt(x)) == [LARGER, *AXES]


@pytest.mark.parametrize(("more", "worth"), [(0, True), (1, False)])
def test_up_to_a_quarter_of_a_million_elements_are_worth_it(more, worth):
    op = Op("op", lambda case, rng: {}, lambda x: x, {})
    problem = Problem(op, Case("op", "c", {}, "float32"), {"x": np.ones(2**17 + more, FLOAT)})
    assert (len(list(mutations.of_any_op(problem, problem.reference))) > 1) is worth


def test_the_inputs_stay_as_they_are():
    problem = Problem(Op("op", lambda case, rng: {}, lambda x: x, {}), Case("op", "c", {}, "float32"), {"x": X})
    problem = replace(problem, inputs={"x": X.astype(np.float64)})
    list(mutations.of_any_op(problem, problem.reference))
    assert np.array_equal(problem.inputs["x"], X)
