"""Further runs of kernels with several outputs or inputs, and of a part of a batch: what is handed over and told."""

from dataclasses import replace

import numpy as np
import pytest

from triptych.harness.backends.base import Backend
from triptych.harness.judge.prepared import Prepared, PreparedCase
from triptych.harness.judge.problem import Problem
from triptych.harness.judge.tolerance import Expected
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import BatchInvariance, Op
from triptych.harness.ops.outputs.kinds import Output, Points
from triptych.harness.results.measures import Derived
from triptych.harness.results.status import Evidence
from triptych.harness.trials import invariance, self_reference
from triptych.harness.trials.invariance import Repeater
from triptych.harness.trials.other_inputs import refilled

FLOAT = np.float32
BOUNDS = Derived(
    source="default", regime="normal", factor=2.0, baseline="b", baselines=["b"], draws=1, max_abs=1e-5, rel_l2=1e-6,
    floor=0.0,
)  # fmt: skip


class Plain(Backend):
    name, panel, evidence = "plain", "torch", Evidence.HOST
    again = None  # what a second run on the same inputs gives

    def missing(self):
        return None

    def run(self, problem, target):
        raise AssertionError("the test runs it")

    def time(self, *_):
        raise AssertionError("not timed")


class Loose(Plain):
    promises_bits = False


def two(x, w):
    return {"a": 2.0 * x, "b": x * w}


def prepared_of(reference=two, inputs=None, **options):
    op = Op("op", {"x": ("M", "N"), "w": ("N",)}, reference, [{"M": 12, "N": 8}], **options)
    problem = Problem.of(op, Case("op", "c", {"M": 12, "N": 8}, "float32"))
    return PreparedCase(
        problem,
        {name: Prepared(one, Expected(one.reference, one.rounded, BOUNDS)) for name, one in problem.outputs.items()},
    )


def exact(x, w):
    return {"a": x * FLOAT(2), "b": x * w}


def repeated(kernel=exact, again=None, backend=None, **options):
    """The further runs of a kernel, and the problems that it ran on."""
    prepared = prepared_of(**options)
    ran = []

    def run(problem):
        ran.append(problem)
        return prepared.problem.named(kernel(**problem.inputs))

    out = run(prepared.problem)
    found = Repeater(prepared).repeat(backend or Plain(), out, run, again or run, 0.0, True)
    return found, ran


def spoiled(name, call, change):
    """A kernel of which one output is changed in one call."""
    calls = []

    def kernel(x, w):
        calls.append(1)
        out = exact(x, w)
        if len(calls) == call:
            out[name] = change(out[name])
        return out

    return kernel


def off(x):
    x = x.copy()
    x[3, 4] += 1
    return x


def test_an_honest_kernel_of_two_outputs():
    found, ran = repeated()
    assert found.fault is None and found.broken is None and found.found.runs.identical and len(ran) == 3


@pytest.mark.parametrize("name", ["a", "b"])
def test_the_output_that_does_not_repeat_its_bits_is_named(name):
    found, _ = repeated(spoiled(name, 3, off))
    assert (
        f"two runs on the same inputs differ in 1 of 96 elements of output {name}, the first at [3, 4]" in found.broken
    )
    assert not found.found.runs.identical and found.found.runs.promised


def test_a_backend_may_promise_no_bits():
    found, ran = repeated(spoiled("a", 3, off), backend=Loose())
    assert found.broken is None and not found.found.runs.identical and not found.found.runs.promised and len(ran) == 3


@pytest.mark.parametrize("name", ["a", "b"])
def test_the_output_that_is_wrong_on_other_inputs_is_named(name):
    found, ran = repeated(spoiled(name, 2, off))
    assert found.broken.startswith(
        "right on its first inputs, wrong on others of the same shapes and regime (relative L2"
    )
    assert f"of output {name}): it keeps something" in found.broken and len(ran) == 2 and found.fault is None


@pytest.mark.parametrize("name", ["a", "b"])
def test_the_output_that_is_kept_is_named(name):
    kept = []

    def kernel(x, w):
        out = exact(x, w)
        kept.append(out[name])
        return {**out, name: kept[0].copy()}

    found, ran = repeated(kernel)
    assert f"the kernel returned the result of output {name} of its first call for other inputs" in found.fault
    assert len(ran) == 2 and found.broken is None


@pytest.mark.parametrize("name", ["a", "b"])
def test_the_output_that_has_another_shape_is_named(name):
    found, _ = repeated(spoiled(name, 2, lambda x: x[:, :3].copy()))
    assert found.fault == f"a second call returns float32[12, 3] of output {name} for inputs of the same shapes"
    found, _ = repeated(spoiled(name, 2, lambda x: x.astype(np.float64)))
    assert "returns float64[12, 8]" in found.fault
    found, _ = repeated(spoiled(name, 2, lambda x: None))
    assert f"returns None[] of output {name}" in found.fault


def test_other_inputs_may_lead_to_the_same_result():
    found, _ = repeated(lambda x, w: np.ones((12, 8), FLOAT), reference=lambda x, w: np.ones(x.shape) + 0 * x)
    assert found.fault is None and found.broken is None


@pytest.mark.parametrize(("limit", "told"), [(12 * 8 + 8, True), (12 * 8 + 7, False)])
def test_a_second_result_of_many_elements_is_not_worth_its_reference(monkeypatch, limit, told):
    monkeypatch.setattr(invariance, "LOCAL_LIMIT", limit)
    found, ran = repeated(spoiled("a", 2, off))
    assert (found.broken is not None) is told and len(ran) == (2 if told else 3)


def test_a_result_that_is_kept_costs_no_reference_to_see(monkeypatch):
    monkeypatch.setattr(invariance, "LOCAL_LIMIT", 1)
    first = exact(*prepared_of().problem.inputs.values())
    found, _ = repeated(lambda x, w: {name: x.copy() for name, x in first.items()})
    assert "the result of output a of its first call for other inputs" in found.fault


def test_indices_that_point_outside_on_other_inputs_are_wrong():
    def top(x, w):
        return {"a": 2.0 * x, "at": np.argsort(-x, axis=1)[:, :2]}

    calls = []

    def kernel(x, w):
        calls.append(1)
        out = top(x, w)
        return {"a": FLOAT(out["a"]), "at": out["at"] + 9 * (len(calls) == 2)}

    found, _ = repeated(kernel, reference=top, outputs={"a": Output(), "at": Points(into="x")})
    assert "indices are outside of x" in found.broken and "of output at): it keeps" in found.broken


PROMISE = BatchInvariance("M", {"x": 0}, out={"a": 0, "b": 0}, promised={"plain": 3}, why="rows are apart")


def test_a_part_is_handed_over_as_a_smaller_problem():
    found, ran = repeated(alone=PROMISE)
    whole, part = ran[0], ran[-1]
    assert len(ran) == 4 and part.case.axes == {"M": 3, "N": 8} and whole.case.axes["M"] == 12
    assert np.array_equal(part.inputs["x"], whole.inputs["x"][6:9]) and part.inputs["x"].flags.c_contiguous
    assert part.inputs["w"] is whole.inputs["w"], "which has no batch"
    assert {name: x.shape for name, x in part.evaluated.items()} == {"a": (3, 8), "b": (3, 8)}
    assert np.array_equal(part.evaluated["b"], whole.evaluated["b"][6:9])
    assert found.found.alone.part == "M = 6-8" and found.found.alone.identical and found.broken is None


def test_a_part_along_the_last_axis():
    promise = BatchInvariance("N", {"x": 1, "w": 0}, out=1, promised={"plain": 2}, why="columns are apart")
    found, ran = repeated(alone=promise)
    part = ran[-1]
    assert np.array_equal(part.inputs["x"], ran[0].inputs["x"][:, 4:6]) and part.inputs["w"].shape == (2,)
    assert found.found.alone.identical and found.found.alone.axis == "N"


@pytest.mark.parametrize("name", ["a", "b"])
def test_an_output_whose_part_has_other_bits_is_named(name):
    found, _ = repeated(spoiled(name, 4, lambda x: x + FLOAT(1)), alone=PROMISE)
    assert found.broken.startswith(
        f"M = 6-8 of output {name} computed alone differs from the same within a batch of 12, in 24 of 24 elements, "
        "the first at [0, 0]: "
    )
    assert not found.found.alone.identical and found.found.alone.promised
    unpromised = replace(PROMISE, promised={"other": 3})
    found, ran = repeated(spoiled(name, 4, lambda x: x + FLOAT(1)), alone=unpromised)
    assert found.broken is None and ran[-1].case.axes["M"] == 1 and found.found.alone.part == "M = 6"
    assert not found.found.alone.identical and not found.found.alone.promised


def test_an_output_without_the_batch_is_not_compared():
    def with_sum(x, w):
        return {"a": 2.0 * x, "sum": w.sum()}

    found, ran = repeated(
        lambda x, w: {"a": x * FLOAT(2), "sum": np.asarray(w.sum())},
        reference=with_sum,
        alone=replace(PROMISE, out={"a": 0}),
    )
    assert found.found.alone.identical and ran[-1].evaluated["sum"].shape == ()


@pytest.mark.parametrize("out", [0, {"0": 0, "1": 0}])
def test_an_output_that_is_left_out_has_no_part(out):
    found, ran = repeated(
        lambda x, w: (x * FLOAT(2), None), reference=lambda x, w: (2.0 * x, None), alone=replace(PROMISE, out=0)
    )
    assert found.found.alone.identical and ran[-1].evaluated["1"] is None


def test_a_batch_of_one_tile_has_no_part():
    found, ran = repeated(alone=replace(PROMISE, promised={"plain": 12}))
    assert found.found.alone is None and len(ran) == 3


def test_a_kernel_that_need_not_repeat_its_bits_may_still_have_a_part():
    found, _ = repeated(spoiled("a", 3, off), alone=PROMISE, repeatable=False)
    assert found.broken is None and not found.found.runs.identical and found.found.alone.identical


def with_inputs(problem, **inputs):
    return replace(problem, inputs={**problem.inputs, **inputs})


def test_inputs_are_filled_with_other_numbers_and_emptied_again():
    problem = prepared_of().problem
    x, before = problem.inputs["x"], problem.inputs["x"].copy()
    second = with_inputs(problem, x=np.full(before.shape, 2.0, FLOAT))
    with refilled(problem, second) as filled:
        assert filled.inputs["x"] is x and np.array_equal(x, second.inputs["x"])
    assert np.array_equal(x, before)
    with pytest.raises(KeyError), refilled(problem, second):
        raise KeyError
    assert np.array_equal(x, before), "whatever happens"


def test_where_other_numbers_do_not_fit_they_are_handed_over_themselves():
    problem = prepared_of().problem
    before = problem.inputs["x"].copy()
    longer = with_inputs(problem, x=np.zeros(5, FLOAT))
    with refilled(problem, longer) as filled:
        assert filled is longer and np.array_equal(problem.inputs["x"], before)
    locked = with_inputs(problem, x=problem.inputs["x"].copy())
    locked.inputs["x"].flags.writeable = False
    other = with_inputs(problem, x=np.zeros(before.shape, FLOAT))
    with refilled(locked, other) as filled:
        assert filled is other and np.array_equal(locked.inputs["x"], before)


def test_a_nan_where_one_may_be_is_no_error_and_an_infinity_is():
    reference = np.array([1.0, 2.0, 4.0])
    expected = Expected(reference, reference.astype(FLOAT), BOUNDS, may_be_nan=np.array([True, False, True]))
    assert invariance.coarse_error(np.array([np.nan, 2, 4], FLOAT), expected) == 0.0
    assert invariance.coarse_error(np.array([np.nan, 2, 6], FLOAT), expected) == pytest.approx(2 / 20**0.5)
    assert invariance.coarse_error(np.array([np.inf, 2, 4], FLOAT), expected) == np.inf
    assert invariance.coarse_error(np.array([1, np.nan, 4], FLOAT), expected) == np.inf


def test_one_output_that_is_the_references_is_suspicious():
    def honest(x, w):
        return {"a": 2 * x, "b": x * w + FLOAT(1e-3)}

    prepared = prepared_of(outputs={"a": Output(), "b": Output()}, honest=(honest,))
    problem = prepared.problem
    out = {name: one.rounded for name, one in problem.outputs.items()}
    found = self_reference.self_comparison(prepared, out, lambda: two(**problem.inputs))
    assert "the kernel calls the reference (two)" in found
