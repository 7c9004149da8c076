"""How each kind of output is compared: a right and a wrong one of each, and what is said of the wrong one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest

from triptych import Codes, Exact, Float, Input, Op, Output, Points, Unordered
from triptych.harness.collection import builtin
from triptych.harness.judge import parity
from triptych.harness.judge.prepared import PreparedCase, prepare
from triptych.harness.judge.problem import Problem
from triptych.harness.judge.verdict import Verdict
from triptych.harness.ops.case import Case
from triptych.harness.ops.cases import cases_of
from triptych.harness.ops.errors import InvalidOp, UninformativeCase
from triptych.harness.ops.outputs.kinds import MalformedOutput
from triptych.harness.ops.outputs.naming import Returned
from triptych.harness.results.status import Cause, Status

X = {"x": ("M", "N")}
CASES = [{"M": 6, "N": 16}]


def prepared(reference: Callable[..., Any], inputs: Any = X, dtype: str = "float32", **declared: Any) -> PreparedCase:
    op = Op("op", inputs, reference, CASES, dtypes=(dtype,), **declared)
    return prepare(Problem.of(op, cases_of(op, ["smoke"], [dtype], {}, 0)[0]))


def judged(case: PreparedCase, returned: Any) -> Verdict:
    return case.judge(case.problem.named(returned))


def top_k(x: Any) -> tuple[Any, Any]:
    order = np.argsort(-x, axis=-1, kind="stable")[:, :4]
    return np.take_along_axis(x, order, -1), order


def few_numbers(case: Any, rng: np.random.Generator) -> dict[str, Any]:
    """Whole numbers from 0 to 4, so that many tie."""
    return {"x": rng.integers(0, 5, (case.axes["M"], case.axes["N"])).astype(np.float64)}


class Pair(NamedTuple):
    values: Any
    indices: Any


TOP_K = {"values": Output(), "indices": Points(into="x")}


def test_indices_are_compared_by_what_they_point_at() -> None:
    case = prepared(top_k, few_numbers, outputs=TOP_K)
    x = case.problem.inputs["x"]
    values, indices = top_k(x)
    assert judged(case, (values, indices.astype(np.int32))).status is Status.PASSED
    last = x.shape[1] - 1 - np.argsort(-x[:, ::-1], axis=-1, kind="stable")[:, :4]  # of equal ones the last
    assert (last != indices).any()
    assert judged(case, Pair(values, last)).status is Status.PASSED
    verdict = judged(case, {"indices": np.roll(indices, 1, axis=1), "values": values})
    assert verdict.status is Status.FAILED and (verdict.reason or "").startswith("output indices: ")
    assert verdict.output == "indices" and verdict.each["values"].status is Status.PASSED


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda i: i + 100, "24 of 24 indices are outside of x, which has 16 elements along axis -1"),
        (lambda i: 0 * i, "18 of 24 indices repeat another one of their row"),
        (lambda i: i.astype(np.float32), "points into x and is float32"),
        (lambda i: i[:, :3], "wrong shape: expected (6, 4), got (6, 3)"),
    ],
)
def test_indices_that_point_nowhere_are_an_error(change: Callable[[Any], Any], words: str) -> None:
    case = prepared(top_k, few_numbers, outputs=TOP_K)
    values, indices = top_k(case.problem.inputs["x"])
    verdict = judged(case, (values, change(indices)))
    assert verdict.status is Status.ERROR and words in (verdict.reason or ""), verdict.reason
    assert verdict.cause is Cause.MALFORMED_OUTPUT


def test_indices_without_order_and_into_an_output() -> None:
    def router(x: Any) -> Any:
        scores = np.exp(x - x.max(axis=-1, keepdims=True))
        scores = scores / scores.sum(axis=-1, keepdims=True)
        return scores, np.argsort(-scores, axis=-1)[:, :3]

    kinds = {"scores": Output(), "experts": Points(into="scores", ordered=False)}
    case = prepared(router, dtype="bfloat16", outputs=kinds)
    scores, experts = router(case.problem.inputs["x"].astype(np.float32))
    narrow = scores.astype(ml_dtypes.bfloat16)
    assert judged(case, (narrow, experts[:, ::-1])).status is Status.PASSED
    assert judged(case, (narrow, np.argsort(scores, axis=-1)[:, :3])).output == "experts"


def test_pointing_at_what_is_not_there_is_the_ops_fault() -> None:
    with pytest.raises(InvalidOp, match="points into 'y', and there is x"):
        prepared(top_k, outputs={"values": Output(), "indices": Points(into="y")})


def test_codes_may_be_a_step_off_and_no_more() -> None:
    def quantise(x: Any) -> Any:
        scale = np.abs(x).max(axis=-1, keepdims=True) / 127
        return np.rint(x / scale).astype(np.int8), scale

    case = prepared(quantise, outputs={"codes": Codes("int8"), "scale": Float("float32")}, dtype="bfloat16")
    codes, scale = quantise(case.problem.inputs["x"].astype(np.float64))
    codes[2, 3] += 1
    assert judged(case, (codes, scale.astype(np.float32))).status is Status.PASSED
    codes[2, 3] += 1
    assert "output codes: 1 of 96 elements" in (judged(case, (codes, scale.astype(np.float32))).reason or "")
    codes[2, 3] -= 2
    wrong = judged(case, (codes.astype(np.int32), scale.astype(np.float32)))
    assert "output codes: the output has a wrong dtype: expected int8, got int32" in (wrong.reason or "")
    coarse = judged(case, (codes, (1.01 * scale).astype(np.float32)))
    assert coarse.output == "scale" and coarse.status is Status.FAILED


def test_a_set_has_no_order() -> None:
    case = prepared(lambda x: np.sort(x, axis=-1), outputs={"kept": Unordered()})
    x = case.problem.inputs["x"]
    assert judged(case, x.copy()).status is Status.PASSED
    assert judged(case, {"kept": x[:, ::-1].copy()}).status is Status.PASSED
    assert judged(case, np.where(x == x[2, 3], x[2, 4], x)).status is Status.FAILED


def test_integers_and_bools_are_exact_in_whichever_dtype_they_come_unless_one_is_declared() -> None:
    def reference(x: Any) -> Any:
        return {"largest": x.argmax(axis=-1), "positive": x > 0, "sum": x.sum(axis=-1)}

    case = prepared(reference)
    right = reference(case.problem.inputs["x"])
    assert judged(case, right).status is Status.PASSED
    otherwise = {"largest": right["largest"].astype(np.uint32), "positive": right["positive"].view("u1")}
    assert judged(case, {**right, **otherwise}).status is Status.PASSED
    assert judged(case, {**right, "largest": right["largest"] ^ 1}).output == "largest"
    assert judged(case, {**right, "positive": ~right["positive"]}).output == "positive"
    strict = prepared(reference, outputs={"largest": Exact("int32")} | dict.fromkeys(("positive", "sum"), Output()))
    assert "expected int32, got int64" in (judged(strict, right).reason or "")


def test_a_single_integer_output_is_exact_too() -> None:
    case = prepared(lambda x: x.argmax(axis=-1))
    right = case.problem.inputs["x"].argmax(axis=-1)
    assert judged(case, right.astype(np.int32)).status is Status.PASSED
    assert judged(case, right.astype(np.float32)).status is Status.PASSED  # whole numbers, all of them equal
    wrong = judged(case, np.where(right == right[2], 15 - right, right))
    assert wrong.status is Status.FAILED and (wrong.reason or "").startswith("1 of 6 elements differ")


def test_a_scalar_stays_a_scalar() -> None:
    case = prepared(lambda x: (x + 1, np.float64(x.mean())))
    x = case.problem.inputs["x"]
    for mean in (x.mean(), float(x.mean()), np.asarray(x.mean())):
        assert judged(case, (x + np.float32(1), mean)).status is Status.PASSED
    assert judged(case, (x + np.float32(1), x.mean() + 1)).output == "1"
    assert "expected (), got (1,)" in str(judged(case, (x + np.float32(1), x.mean(keepdims=True)[0])).reason)


def test_an_option_leaves_an_output_out() -> None:
    def reference(x: Any, lse: bool) -> Any:
        top = x.max(axis=-1)
        return x - top[:, None], np.log(np.exp(x - top[:, None]).sum(axis=-1)) + top if lse else None

    op = Op("op", X, reference, [{"M": 6, "N": 16, "lse": True}, {"M": 6, "N": 16, "lse": False}], dtypes=("float32",))
    with_it, without = (prepare(Problem.of(op, case)) for case in cases_of(op, ["smoke"], None, {}, 0))
    y, lse = reference(with_it.problem.inputs["x"], True)
    assert judged(with_it, (y, lse)).status is Status.PASSED
    with pytest.raises(MalformedOutput, match=r"returned 1 output where the reference gives 2 outputs \(0, 1\)"):
        judged(with_it, y)
    assert "returned None instead of an array" in str(judged(with_it, (y, None)).reason)
    y, lse = reference(without.problem.inputs["x"], True)
    for returned in ((y, None), y):
        assert judged(without, returned).status is Status.PASSED
    assert "which the reference leaves out (None)" in str(judged(without, (y, lse)).reason)


def test_each_output_has_its_own_tolerance_and_teeth() -> None:
    case = prepared(lambda x: {"small": 1e-3 * x, "large": 1e3 * x})
    x = case.problem.inputs["x"]
    assert judged(case, {"small": np.float32(1e-3) * x, "large": np.float32(1e3) * x}).status is Status.PASSED
    verdict = judged(case, {"small": np.float32(1.001e-3) * x, "large": np.float32(1e3) * x})
    assert verdict.output == "small" and verdict.status is Status.FAILED
    for one in case.outputs.values():
        report = one.expected.tolerance.sensitivity
        assert report is not None and "zeros" in report.caught and not report.accepted


def test_some_outputs_may_be_zero_and_not_all() -> None:
    case = prepared(lambda x: (x, 0 * x))
    x = case.problem.inputs["x"]
    assert judged(case, (x.copy(), 0 * x)).status is Status.PASSED
    assert judged(case, (x.copy(), 0 * x + np.float32(1e-30))).output == "1"
    with pytest.raises(UninformativeCase, match="output 0: .* zero in all 96 elements"):
        prepared(lambda x: (0 * x, 0 * x))


def test_a_changed_input_has_its_own_dtype_and_the_reference_may_return_it() -> None:
    inputs = {"state": Input(("M", "N"), "float32"), "x": ("M", "N")}

    def in_place(state: Any, x: Any) -> Any:
        state *= 0.5
        state += x
        return 2 * state

    def functional(state: Any, x: Any) -> Any:
        return state + 2 * x, 0.5 * state + x

    for reference in (in_place, functional):
        case = prepared(reference, inputs, "bfloat16", mutates=("state",))
        before = case.problem.inputs["state"].tobytes()
        assert list(case.outputs) == ["", "state"]
        dtypes = {name: one.problem.dtype.name for name, one in case.outputs.items()}
        assert dtypes == {"": "bfloat16", "state": "float32"}
        assert case.problem.inputs["state"].tobytes() == before


def test_a_reference_that_neither_changes_nor_returns_an_input_is_told_so() -> None:
    with pytest.raises(InvalidOp, match="changes none of state, other and returns 1 output: let it write to them"):
        prepared(lambda state, other: state + 1, {"state": ("M", "N"), "other": ("M", "N")}, mutates=("state", "other"))


def test_declared_names_must_be_as_many() -> None:
    with pytest.raises(InvalidOp, match=r"returns 2 outputs \(0, 1\), and the op declares 1 output \(y\)"):
        prepared(lambda x: (x, x), outputs={"y": Output()})


def test_parity_is_that_of_the_output_furthest_apart() -> None:
    case = prepared(lambda x: {"a": 2 * x, "b": 3 * x})
    x = case.problem.inputs["x"]
    one, other = {"a": 2 * x, "b": 3 * x}, {"a": 2 * x, "b": np.nextafter(3 * x, np.float32(9))}
    found = parity.of_outputs(case.all_compared(one), case.all_compared(other), case)
    assert found.output == "b" and found.identical < 0.2
    assert parity.of_outputs(case.all_compared(one), case.all_compared(one), case).identical == 1.0


def test_outputs_in_outputs_have_names_with_dots() -> None:
    case = prepared(lambda x: {"grads": (2 * x, 3 * x), "loss": x.sum()})
    assert list(case.outputs) == ["grads.0", "grads.1", "loss"]
    x = case.problem.inputs["x"]
    assert judged(case, {"loss": x.sum(), "grads": [2 * x, 3 * x]}).status is Status.PASSED
    assert judged(case, {"loss": x.sum(), "grads": [2 * x, 2 * x]}).output == "grads.1"


def test_a_reference_in_pytorch_gives_several_in_float64_and_in_the_dtype_of_the_case() -> None:
    torch = pytest.importorskip("torch")

    def reference(x: Any) -> Any:
        values, indices = torch.topk(x, 4, dim=-1)
        return values, indices

    case = prepared(reference, dtype="bfloat16", outputs=TOP_K)
    x = case.problem.inputs["x"]
    order = np.argsort(-x.astype(np.float32), axis=-1)[:, :4]
    assert judged(case, (np.take_along_axis(x, order, -1), order)).status is Status.PASSED
    assert "torch" in case.outputs["values"].expected.tolerance.baselines  # type: ignore[union-attr]


def test_gradients_by_autograd_are_a_reference() -> None:
    torch = pytest.importorskip("torch")

    def reference(x: Any, dy: Any) -> Any:
        x = x.requires_grad_()
        torch.nn.functional.silu(x).backward(dy)
        return x.grad

    case = prepared(reference, {"x": ("M", "N"), "dy": ("M", "N")})
    x, dy = case.problem.inputs.values()
    s = 1 / (1 + np.exp(-x))
    assert judged(case, dy * s * (1 + x * (1 - s))).status is Status.PASSED
    assert judged(case, dy * s * (1 + x * s)).status is Status.FAILED


def test_what_a_launch_returns_beside_its_results_is_left_aside() -> None:
    """Block sizes, words, its inputs as they were, and those that it changed; not a result that nobody asked for."""
    one, two = prepared(lambda x: 2 * x), prepared(lambda x: (2 * x, 3 * x))
    x = one.problem.inputs["x"]
    for returned in ((2 * x, 64, "mean"), [x.reshape(-1), 2 * x], {"y": 2 * x, "block": 64}):
        assert judged(one, returned).status is Status.PASSED
    assert "returned 2 values instead of one array" in str(judged(one, (2 * x, 3 * x)).reason)
    assert judged(two, (2 * x, x, 3 * x, None, 4)).status is Status.PASSED
    with pytest.raises(MalformedOutput, match="returned 3 outputs"):
        judged(two, (2 * x, 3 * x, 4 * x))
    grown = prepared(in_place_sum, {"x": ("M", "N"), "y": ("M", "N")}, mutates=("x",))
    inputs = grown.problem.inputs
    changed = {"x": inputs["x"] + inputs["y"]}
    for value in (None, changed["x"], (changed["x"], inputs["y"])):
        assert judged(grown, Returned(value, changed)).status is Status.PASSED
    with pytest.raises(MalformedOutput, match="returned 1 output where the reference gives no output"):
        judged(grown, Returned(inputs["y"] * 2, changed))


def in_place_sum(x: Any, y: Any) -> None:
    x += y


def test_what_is_changed_must_be_an_input_and_may_be_left_out() -> None:
    with pytest.raises(InvalidOp, match="op op mutates 'y', which is no input; it has x"):
        prepared(lambda x: 2 * x, mutates=("y",))

    def inputs(case: Any, rng: np.random.Generator) -> dict[str, Any]:
        return {"x": rng.standard_normal((case.axes["M"], case.axes["N"])), "cache": None}

    case = prepared(lambda x, cache: 2 * x, inputs, mutates=("cache",))
    x = case.problem.inputs["x"]
    assert list(case.outputs) == [""] and case.problem.changed == []
    assert judged(case, Returned(2 * x, {})).status is Status.PASSED
    assert judged(case, Returned(3 * x, {})).status is Status.FAILED


def test_a_float_among_the_outputs_of_an_op_on_integers_is_float32() -> None:
    def statistics(x: Any) -> dict[str, Any]:
        return {"total": x.sum(axis=1).astype(np.int64), "mean": x.mean(axis=1)}

    def whole(case: Any, rng: np.random.Generator) -> dict[str, Any]:
        return {"x": rng.integers(0, 5, (case.axes["M"], case.axes["N"])).astype(np.int32)}

    problem = prepared(statistics, whole, dtype="int32").problem
    assert {name: one.case.dtype for name, one in problem.outputs.items()} == {"total": "int64", "mean": "float32"}


@pytest.mark.parametrize("heads", [1, 3])
def test_a_logarithm_near_zero_errs_as_the_sum_does_that_it_is_of(heads: int) -> None:
    """Of one key lse is the score: a kernel that takes the maximum off errs by nothing, one that does not by u."""
    op = builtin()["attention_lse"]
    axes = {"B": 1, "H": heads, "Hkv": 1, "Sq": 1, "Sk": 1, "D": 1}
    seen = {1.0: set(), 1 + 4e-6: set()}  # what the sum is off by, and what came of it
    for seed in range(8):
        case = prepare(
            Problem.of(op, Case("attention_lse", "one", axes, "float32", {"causal": True, "with_lse": True}, seed=seed))
        )
        q, k, v = (case.problem.inputs[name] for name in "qkv")
        for off, statuses in seen.items():
            lse = np.log(np.exp(q * k)[..., 0] * np.float32(off))
            statuses.add(judged(case, (np.repeat(v, heads, axis=1), lse)).status)
    assert list(seen.values()) == [{Status.PASSED}, {Status.FAILED}]
