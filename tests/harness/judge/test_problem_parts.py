"""What a problem hands to kernels, what it expects of each output, and what it refuses of a reference."""

import dataclasses

import ml_dtypes
import numpy as np
import pytest

from triptych.harness.judge import bounds, comparison, nonfinite, prepared, tolerance, verdict
from triptych.harness.judge.problem import Problem, widen
from triptych.harness.judge.yardstick import baseline_errors, baselines, bias
from triptych.harness.ops.case import Case
from triptych.harness.ops.errors import InvalidOp
from triptych.harness.ops.op import Op
from triptych.harness.ops.outputs.kinds import Exact, Float, Output, Points, Unordered

FLOAT = np.float32
X, BF16 = np.arange(12, dtype=FLOAT).reshape(3, 4), ml_dtypes.bfloat16
INDICES = np.array([[3, 1], [0, 2], [1, 0]])


def problem_of(reference, dtype="float32", inputs=None, order=(), params=None, **declared):
    op = Op("op", {"x": ("M", "N")}, reference, {}, **declared)
    return Problem(op, Case("op", "c", {"M": 3, "N": 4}, dtype, params or {}), inputs or {"x": X}, order=order)


@pytest.mark.parametrize(
    ("record", "by_value"),
    [
        *((record, False) for record in (Problem, prepared.Prepared, prepared.PreparedCase)),
        *((record, True) for record in (comparison.Comparison, tolerance.Expected, verdict.Verdict, bounds.Bounds)),
        *((record, True) for record in (nonfinite.Leeway, baselines.Baselines, baseline_errors.BaselineError)),
        (bias.Systematic, True),
    ],
)
def test_what_was_found_is_not_changed_afterwards(record, by_value):
    settings = record.__dataclass_params__
    assert settings.frozen and settings.eq is by_value


def test_a_problem_is_itself_alone():
    problem = problem_of(lambda x: x)
    assert problem != dataclasses.replace(problem) and problem in {problem}
    with pytest.raises(dataclasses.FrozenInstanceError):
        problem.op = None


def test_numbers_that_are_drawn_join_the_params():
    op = Op("op", lambda case, rng: {"x": X, "scale": 0.5, "mask": None}, lambda x, **_: x, {})
    problem = Problem.of(op, Case("op", "c", {}, "float32", {"causal": True}))
    assert problem.case.params == {"causal": True, "scale": 0.5, "mask": None}
    assert problem.arguments.keys() == {"x", "causal", "scale", "mask"}
    args, params = problem.positional({"x": X})
    assert args[0] is X and args[1:] == [0.5, None] and params == {"causal": True}


def test_kernels_get_inputs_in_their_order_or_as_they_come():
    a, b = X, X + 1
    for order, expected in ((("b", "a"), [b, a]), ((), [a, b])):
        problem = problem_of(lambda a, b: a, inputs={"a": a, "b": b}, order=order, params={"n": 1})
        args, params = problem.positional(problem.inputs)
        assert all(x is y for x, y in zip(args, expected, strict=True)) and params == {"n": 1}
    assert problem.case.params == {"n": 1}, "which stay as they are"


def test_what_a_kernel_changes_is_a_copy_that_can_be_restored():
    state = X.copy()
    problem = problem_of(lambda x, state: x, inputs={"x": X, "state": state}, mutates=("state", "absent"))
    own = problem.own_inputs()
    assert own["x"] is X and own["state"] is not state and np.array_equal(own["state"], state)
    assert problem.changed == ["state"]
    own["state"][...] = 7
    problem.restoring(own)()
    assert np.array_equal(own["state"], state) and np.array_equal(state, X)


@pytest.mark.parametrize("returned", [{}, (None, None)])
def test_a_reference_that_returns_no_output(returned):
    with pytest.raises(InvalidOp, match="the reference of op returns no output: there is nothing to compare"):
        _ = problem_of(lambda x: returned).evaluated


def test_one_of_two_outputs_may_be_left_out():
    problem = problem_of(lambda x: (2 * x, None))
    assert list(problem.evaluated) == ["0", "1"] and list(problem.outputs) == ["0"]
    assert problem.outputs["0"].reference.tolist() == (2 * X).tolist()
    assert problem.answer("1") is None and problem.answer("0").tolist() == (2 * X).tolist()
    with pytest.raises(InvalidOp, match=r"op gives 2 outputs \(0, 1\): ask for those of `outputs`"):
        _ = problem.reference


def test_the_only_output_is_the_problem_itself():
    problem = problem_of(lambda x: 2 * x)
    assert problem.outputs == {"": problem}
    nothing = problem_of(lambda x: None)
    assert nothing.outputs == {"": nothing}, "which says so when its reference is asked for"
    indices = problem_of(lambda x: x.argmax(axis=1))
    assert indices.outputs[""] is not indices and indices.outputs[""].dtype == np.int64


def test_answers_are_rounded_to_what_a_kernel_returns_and_indices_stay():
    def reference(x):
        return np.take_along_axis(x, INDICES, 1) / 3, INDICES

    problem = problem_of(reference, "bfloat16", outputs={"values": Output(), "at": Points(into="x")})
    assert problem.answer("values").dtype == BF16
    assert problem.answer("at").dtype == np.int64 and problem.answer("at").tolist() == INDICES.tolist()
    assert problem.answer("values") is not problem.outputs["values"].rounded


KINDS = {
    "same": Output(),
    "count": Output(),
    "flag": Output(),
    "wide": Float("float64"),
    "in_x": Points(into="x"),
    "in_wide": Points(into="wide", ordered=False),
    "kept": Unordered(),
    "exact": Exact("int16"),
}


def several(x):
    return {
        "same": x,
        "count": x.astype(np.int64),
        "flag": x > 1,
        "wide": x / 3,
        "in_x": INDICES,
        "in_wide": INDICES,
        "kept": x[:, ::-1],
        "exact": x.astype(np.int64),
    }


def test_each_output_has_a_dtype_of_its_own():
    problem = problem_of(several, "bfloat16", {"x": X.astype(np.float16)}, outputs=KINDS)
    dtypes = {name: one.dtype.name for name, one in problem.outputs.items()}
    assert dtypes == {
        **{"same": "bfloat16", "count": "int64", "flag": "bool", "wide": "float64", "kept": "bfloat16"},
        **{"in_x": "float16", "in_wide": "float64", "exact": "int16"},
    }


def test_the_memory_that_a_kernel_writes_each_output_to():
    problem = problem_of(several, "bfloat16", {"x": X.astype(np.float16)}, outputs=KINDS)
    memory = {name: problem.memory_of(name) for name in KINDS}
    assert memory["same"] == ((3, 4), BF16) and memory["wide"] == ((3, 4), np.float64)
    assert memory["in_x"] == ((3, 2), np.int64), "where it is as large as the indices are"
    assert memory["exact"] == ((3, 4), np.int16) and memory["count"] == ((3, 4), np.int64)


def test_what_is_pointed_at_in_an_input_is_exact_and_in_an_output_is_not():
    outputs = problem_of(several, outputs=KINDS).outputs
    assert outputs["in_x"].op.tolerance == {"rtol": 0.0, "atol": 0.0} and not outputs["in_wide"].op.tolerance
    assert outputs["in_x"].reference.tolist() == [[3, 1], [4, 6], [9, 8]]
    assert np.allclose(outputs["in_wide"].reference, np.sort(outputs["in_x"].reference) / 3, rtol=1e-15)
    assert outputs["kept"].reference.tolist() == X.tolist() and not outputs["same"].op.tolerance


def test_integers_among_the_outputs_of_an_op_on_integers():
    whole = {"x": np.arange(12).reshape(3, 4)}
    several = problem_of(lambda x: {"n": x.astype(np.int8), "mean": x / 4}, "int32", whole).outputs
    assert {name: one.dtype.name for name, one in several.items()} == {"n": "int8", "mean": "float32"}
    for reference in (lambda x: x.astype(np.int64), lambda x: x / 4.0):
        alone = problem_of(reference, "int32", whole)
        assert alone.outputs[""].dtype == np.int32, "of one output the case says it"


def test_an_input_that_is_changed_keeps_its_dtype():
    def grow(x, total):
        return x, total + x.sum()

    inputs = {"x": X.astype(BF16), "total": np.ones(1, FLOAT)}
    outputs = problem_of(grow, "bfloat16", inputs, mutates=("total",)).outputs
    assert outputs["total"].dtype == FLOAT and outputs["total"].reference.tolist() == [67.0]


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("text", "the reference of op returned a str: it must return one array"),
        ((1, 2), "the reference of op returned 2 values: it must return one array"),
        (np.zeros((0, 3)), r"the reference has no elements \(shape \(0, 3\)\): there is nothing to compare"),
        (np.ones(3, FLOAT), "the reference returns float32: it must compute in float64"),
    ],
)
def test_what_is_no_reference(returned, said):
    with pytest.raises(InvalidOp, match=said):
        problem_of(lambda x: x).checked(returned)


def test_what_is_a_reference():
    problem = problem_of(lambda x: x)
    for returned in (np.ones(1), np.float64(1), 1, 1.0, np.ones(1, np.int32)):
        found = problem.checked(returned)
        assert found.dtype == np.float64 and found.reshape(-1).tolist() == [1.0]


def test_a_dtype_that_saturates_makes_its_reference_do_so():
    returned = np.array([900.0, -900.0, 1.0])
    assert problem_of(lambda x: x, "float4_e2m1fn").checked(returned).tolist() == [6.0, -6.0, 1.0]
    assert problem_of(lambda x: x, "float8_e5m2").checked(returned).tolist() == returned.tolist()


def test_other_inputs_have_another_reference_unless_it_is_known():
    problem = problem_of(lambda x: 2 * x)
    assert problem.on({"x": X + 1}).reference.tolist() == (2 * X + 2).tolist()
    assert problem.on({"x": X + 1}, np.float64(X)).reference.tolist() == X.tolist()


def test_an_answer_may_be_beyond_its_dtype():
    assert problem_of(lambda x: 1e6 * np.ones(1), "float16").answer("").tolist() == [np.inf]


def test_indices_of_a_dtype_of_their_own():
    problem = problem_of(several, outputs={**KINDS, "in_x": Points("int32", into="x")})
    assert problem.memory_of("in_x") == ((3, 2), np.int32) and problem.answer("in_x").dtype == np.int32
    lost = problem_of(several, outputs={**KINDS, "in_x": Points(into="y")})
    with pytest.raises(InvalidOp, match="output in_x of op points into 'y', and there is x, same, count"):
        _ = lost.outputs


def test_indices_and_masks_are_not_widened():
    found = widen({"x": X.astype(BF16), "i": INDICES, "mask": INDICES > 1})
    assert found["x"].dtype == np.float64 and found["i"] is INDICES and found["mask"].dtype == bool


def test_finite_is_what_stays_so_in_the_dtype_of_the_output():
    problem = problem_of(lambda x: np.array([1.0, 1e39, np.inf, np.nan]))
    assert problem.finite.tolist() == [True, False, False, False]


@pytest.mark.parametrize(
    ("value", "dtype", "held"),
    [
        (np.array([1, 2], np.int32), np.int64, np.int64),
        (np.array([1.0, 2.0], FLOAT), np.int64, np.int64),
        (np.array([1, 0], np.uint8), np.bool_, np.bool_),
        (np.array([1.5, 2.0], FLOAT), np.int64, FLOAT),
        (np.array([2, 0], np.uint8), np.bool_, np.uint8),
        (np.array([1, 2], np.int32), FLOAT, np.int32),
        (np.array([1, 2], np.complex64), np.int64, np.complex64),
    ],
)
def test_whole_numbers_are_held_in_the_dtype_of_the_reference(value, dtype, held):
    found = prepared.held(value, np.dtype(dtype))
    assert found.dtype == held and found.tolist() == value.astype(held).tolist()
    assert prepared.held(value, value.dtype) is value
