"""The constants of further runs, each with a case on either side of it, and who calls whom."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from triptych.harness.backends.base import Backend
from triptych.harness.judge.prepared import Prepared, PreparedCase
from triptych.harness.judge.problem import Problem
from triptych.harness.judge.tolerance import Expected
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import BatchInvariance, Op
from triptych.harness.results.measures import Derived, Fixed
from triptych.harness.results.status import Evidence
from triptych.harness.trials import invariance, self_reference
from triptych.harness.trials.invariance import Repeater

FLOAT = np.float32


def expected_of(reference, rel_l2=1e-6, max_abs=1e-6):
    bounds = Derived(
        source="default", regime="normal", factor=2.0, baseline="b", baselines=["b"], draws=1,
        max_abs=max_abs, rel_l2=rel_l2, floor=0.0,
    )  # fmt: skip
    return Expected(reference, reference.astype(FLOAT), bounds)


def alone(problem, expected):
    """A case with one output."""
    return PreparedCase(problem, {"": Prepared(problem, expected)})


def double(x):
    return 2.0 * x


def problem_of(x, **options):
    op = Op("double", lambda case, rng: {"x": rng.standard_normal(x.shape)}, double, {}, **options)
    return Problem(op, Case("double", "c", {"M": len(x)}, "float32"), {"x": x})


REFERENCE = np.linspace(1, 2, 400).reshape(20, 20)


def wrong_by(times, first=0.0, **bounds):
    """What is said of a second result that is off by a share of itself, where the first was by another."""
    expected = expected_of(REFERENCE, **bounds)
    before, now = ((REFERENCE * (1 + off)).astype(FLOAT) for off in (first, times))
    return invariance.coarsely_wrong(before, expected, now, expected)


@pytest.mark.parametrize(
    ("off", "first", "rel_l2"),
    [(0.01, 0.0, 1e-6), (0.032, 0.004, 1e-6), (0.064, 0.0, 1e-3)],
)
def test_a_second_result_is_wrong_beyond_a_hundredth_the_bound_and_the_first_error(off, first, rel_l2):
    bounds = {"rel_l2": rel_l2, "max_abs": 1e3}
    assert wrong_by(0.97 * off, first, **bounds) is None
    assert wrong_by(1.03 * off, first, **bounds).startswith("relative L2 error")


def test_a_second_result_that_is_not_finite_is_wrong():
    expected = expected_of(REFERENCE)
    now = REFERENCE.astype(FLOAT)
    now[3, 3] = np.inf
    first = REFERENCE.astype(FLOAT)
    assert invariance.coarsely_wrong(first, expected, now, expected) == "not finite where the reference is"


@pytest.mark.parametrize(
    ("off", "max_abs", "told"),
    [(0.049, 1e-3, False), (0.052, 1e-3, True), (0.052, 0.0085, False), (0.052, 0.0060, True)],
)
def test_one_element_is_wrong_beyond_a_twentieth_of_itself_and_eight_bounds(off, max_abs, told):
    expected = expected_of(REFERENCE, rel_l2=1.0, max_abs=max_abs)
    now = REFERENCE.copy()
    now[0, 0] *= 1 + off  # which is 1
    found = invariance.coarsely_wrong(REFERENCE.astype(FLOAT), expected, now.astype(FLOAT), expected)
    assert (found is not None) is told
    assert not told or "1 of 400 elements, the first at [0, 0]: expected 1, got 1.05" in found


@pytest.mark.parametrize(("off", "told"), [(1.0, False), (1.001, True)])
def test_exactly_a_twentieth_of_itself_is_not_beyond_it(off, told):
    reference = np.full(400, 1000.0)
    reference[7] = 20.0
    expected = expected_of(reference)
    now = reference.copy()
    now[7] += off
    found = invariance.coarsely_wrong(reference.astype(FLOAT), expected, now.astype(FLOAT), expected)
    assert (found is not None) is told


def test_a_second_reference_that_is_larger_has_larger_bounds():
    assert invariance.larger(np.array([8.0, np.inf]), np.array([-2.0, 1.0])) == 4.0
    assert invariance.larger(np.array([8.0]), np.zeros(1)) == 1.0, "of nothing, nothing is larger"


def test_the_relative_error_of_nothing_is_none():
    assert invariance.coarse_error(np.zeros(3, FLOAT), expected_of(np.zeros(3))) == 0.0
    assert invariance.coarse_error(np.ones(3, FLOAT), expected_of(np.full(3, 2.0))) == 0.5
    with np.errstate(over="ignore"):
        assert invariance.coarse_error(np.ones(2, FLOAT), expected_of(np.array([1e300, 1.0]))) == 0.0


class Plain(Backend):
    name, panel, evidence = "plain", "torch", Evidence.HOST

    def missing(self):
        return None

    def run(self, problem, target):
        raise AssertionError("the test runs it")

    def time(self, *_):
        raise AssertionError("not timed")


def repeated(kernel, x=None, again=None, seconds=0.0, though_slow=True, **options):
    x = np.random.default_rng(0).standard_normal((12, 8)).astype(FLOAT) if x is None else x
    problem = problem_of(x, **options)
    prepared = alone(problem, expected_of(problem.reference, max_abs=1e-5))
    ran = []

    def run(problem):
        ran.append(problem)
        return {"": kernel(**problem.inputs)}

    out = run(problem)
    found = Repeater(prepared).repeat(Plain(), out, run, again or run, seconds, though_slow)
    return found, len(ran)


def twice(x):
    return x * FLOAT(2)


def test_an_honest_kernel_repeats_on_other_inputs_and_on_these():
    found, ran = repeated(twice)
    assert found.fault is None and found.broken is None and ran == 3
    assert found.found.other_inputs and found.found.runs.identical and found.found.runs.promised


def test_other_inputs_are_drawn_and_their_reference_is_evaluated_once_for_all_kernels():
    drawn, evaluated = [], []

    def draw(case, rng):
        drawn.append(case)
        return {"x": rng.standard_normal((12, 8)).astype(FLOAT)}

    def reference(x):
        evaluated.append(x)
        return 2.0 * x

    problem = Problem.of(Op("double", draw, reference, {}), Case("double", "c", {}, "float32"))
    repeater = Repeater(alone(problem, expected_of(problem.reference, max_abs=1e-5)))

    for kernel in (twice, lambda x: x + x):

        def run(problem, kernel=kernel):
            shape, dtype = problem.memory_of("")
            return {"": kernel(**problem.inputs).astype(dtype).reshape(shape)}

        found = repeater.repeat(Plain(), run(problem), run, run, 0.0)
        assert found.found.other_inputs and not found.fault and not found.broken
    assert len(drawn) == 2 and len(evaluated) == 2, "the first and the second inputs"


def second_results(kernel, monkeypatch, limit=107):
    """How a kernel on 108 elements is repeated where `limit` are not large: how often inputs were drawn, the fault."""
    monkeypatch.setattr(invariance, "LOCAL_LIMIT", limit)
    drawn = []

    def draw(case, rng):
        drawn.append(rng)
        return {"x": rng.standard_normal((12, 8)).astype(FLOAT), "n": np.arange(12)}

    op = Op("double", draw, lambda x, n: 2.0 * x, {})
    problem = Problem.of(op, Case("double", "c", {}, "float32"))
    prepared = alone(problem, expected_of(problem.reference, max_abs=1e-5))
    run = lambda problem: {"": kernel(**problem.inputs)}  # noqa: E731
    found = Repeater(prepared).repeat(Plain(), run(problem), run, run, 0.0)
    return len(drawn), found.fault


def test_large_inputs_are_moved_and_drawn_anew_only_where_that_says_nothing(monkeypatch):
    assert second_results(lambda x, n: twice(x), monkeypatch) == (1, None)
    assert second_results(lambda x, n: twice(x), monkeypatch, limit=108) == (2, None)
    buffer = np.empty((12, 8), FLOAT)
    drawn, fault = second_results(lambda x, n: np.multiply(x, 2, out=buffer), monkeypatch)
    assert drawn == 1 and "a buffer that its next call overwrites" in fault
    kept = []

    def cached(x, n):
        kept.append(twice(x))
        return kept[0].copy()

    drawn, fault = second_results(cached, monkeypatch)
    assert drawn == 2 and "returned the result of its first call for other inputs" in fault
    first = []

    def picky(x, n):
        assert (n == np.arange(12)).all(), "what is no float stays"
        first.append(x[0, 0])
        if x[0, 1] == first[0]:
            raise ValueError("no such numbers")
        return twice(x)

    assert second_results(picky, monkeypatch) == (2, None), "what refuses moved numbers gets others"


def test_the_inputs_are_what_they_were_when_all_runs_are_over():
    x = np.random.default_rng(0).standard_normal((12, 8)).astype(FLOAT)
    before = x.copy()
    repeated(twice, x)
    assert np.array_equal(x, before)


@pytest.mark.parametrize(("seconds", "though_slow", "ran"), [(2.0, False, 3), (2.1, False, 1), (2.1, True, 3)])
def test_what_takes_over_two_seconds_runs_once_more_in_one_case(seconds, though_slow, ran):
    found, count = repeated(twice, seconds=seconds, though_slow=though_slow)
    assert count == ran and bool(found.found.skipped) is (ran == 1)


def test_a_kernel_that_is_still_slow_runs_on_other_inputs_alone(monkeypatch):
    clock = iter([0.0, 2.5])
    monkeypatch.setattr(invariance, "perf_counter", lambda: next(clock))
    found, ran = repeated(twice, seconds=3.0)
    assert (
        found.found.other_inputs
        and ran == 2
        and "again on other inputs alone" in found.found.skipped
        and found.found.runs is None
    )


@pytest.mark.parametrize(("seconds", "second"), [(3.0, 2.0), (2.0, 9.0)])
def test_one_that_was_slow_once_runs_on_these_too(monkeypatch, seconds, second):
    clock = iter([1.0, 1.0 + second])
    monkeypatch.setattr(invariance, "perf_counter", lambda: next(clock))
    found, ran = repeated(twice, seconds=seconds)
    assert ran == 3 and found.found.skipped is None and found.found.runs.identical


def test_one_output_buffer_for_all_calls_is_told():
    kept = np.empty((12, 8), FLOAT)

    def kernel(x):
        np.multiply(x, 2, out=kept)
        return kept

    found, ran = repeated(kernel)
    assert "a buffer that its next call overwrites" in found.fault and ran == 2 and found.broken is None


def test_a_view_of_one_buffer_is_told_though_it_does_not_overlap():
    """Its first call gives an array of its own, the later ones that array with other numbers."""
    first = []

    def kernel(x):
        out = twice(x)
        first.append(out)
        if len(first) == 2:
            first[0][...] = out
        return out

    assert "a buffer that its next call overwrites" in repeated(kernel)[0].fault


def test_halves_of_one_buffer_in_turns_are_told():
    """The second call leaves the first result as it was, and the third does not."""
    kept, calls = np.empty((12, 16), FLOAT), []

    def kernel(x):
        calls.append(1)
        out = kept[:, len(calls) % 2 :: 2]
        np.multiply(x, 2, out=out)
        return out

    assert "a buffer that its next call overwrites" in repeated(kernel)[0].fault


def test_the_result_of_the_first_call_for_other_inputs_is_told():
    first = []

    def kernel(x):
        first.append(twice(x))
        return first[0].copy()

    assert "the result of its first call for other inputs" in repeated(kernel)[0].fault


def test_another_shape_or_dtype_in_a_second_call_is_told():
    for change in (lambda out: out.astype(np.float64), lambda out: out[:, :4].copy()):
        calls = []

        def kernel(x, change=change, calls=calls):
            calls.append(1)
            return change(twice(x)) if len(calls) == 2 else twice(x)

        assert repeated(kernel)[0].fault.startswith("a second call returns float")


def test_two_runs_that_differ_in_a_nan_are_two_results():
    def again(problem):
        out = twice(**problem.inputs)
        out[2, 3] = np.nan
        return {"": out}

    found, _ = repeated(twice, again=again)
    assert "differ in 1 of 96 elements, the first at [2, 3]" in found.broken and "then nan" in found.broken
    found, _ = repeated(twice, again=again, repeatable=False)
    assert found.broken is None and not found.found.runs.identical and not found.found.runs.promised


@pytest.mark.parametrize(
    ("together", "part"), [(1, slice(6, 7)), (5, slice(5, 10)), (8, slice(0, 8)), (11, slice(0, 11)), (12, None)]
)
def test_a_part_from_the_middle_of_the_batch_runs_alone(together, part):
    seen = []

    def kernel(x):
        seen.append(x)
        return twice(x)

    promise = BatchInvariance("M", {"x": 0}, out=0, promised={"plain": together}, why="it does")
    found, ran = repeated(kernel, alone=promise, axes=("M",))
    assert ran == (3 if part is None else 4)
    if part is None:
        assert found.found.alone is None
        return
    assert len(seen[-1]) == part.stop - part.start and np.array_equal(seen[-1], seen[0][part])
    last = f"-{part.stop - 1}" if together > 1 else ""
    assert found.found.alone.part == f"M = {part.start}{last}" and found.found.alone.identical


def test_a_call_of_the_reference_is_seen_however_deep():
    assert self_reference.calls(double, lambda: double(np.ones(3)))
    assert self_reference.calls(double, lambda: [double(x) for x in (1, 2)])
    assert not self_reference.calls(double, lambda: twice(np.ones(3, FLOAT)))
    assert not self_reference.calls(np.exp, lambda: np.exp(1.0)), "a function of C has no code to watch"


def test_the_profiler_that_was_there_is_there_again():
    def profiler(*_):
        return None

    before = sys.getprofile()
    sys.setprofile(profiler)
    try:
        self_reference.calls(double, lambda: double(1.0))
        assert sys.getprofile() is profiler
        with pytest.raises(ZeroDivisionError):
            self_reference.calls(double, lambda: 1 / 0)
        assert sys.getprofile() is profiler
    finally:
        sys.setprofile(before)


@pytest.mark.parametrize(("off", "suspicious"), [(19, False), (20, True)])
def test_a_result_of_the_reference_is_suspicious_where_honest_ones_are_off_in_twenty_elements(off, suspicious):
    x = np.random.default_rng(0).standard_normal(50)

    def honest(x):
        out = double(x)
        out[:off] += 1
        return out

    problem = problem_of(x, honest=(honest,))
    prepared = alone(problem, expected_of(problem.reference))
    rounded = prepared.first.expected.rounded
    found = self_reference.self_comparison(prepared, {"": rounded}, lambda: double(x))
    assert (found is not None) is suspicious
    assert not suspicious or "calls the reference (double)" in found
    assert self_reference.self_comparison(prepared, {"": rounded}, lambda: twice(x)) is None, "it is not called"
    other = rounded.copy()
    other[0] += 1
    assert self_reference.self_comparison(prepared, {"": other}, lambda: double(x)) is None, (
        "the bits are not the reference's"
    )


def test_fixed_bounds_take_part_in_further_runs():
    fixed = Fixed(source="op", regime="normal", rtol=0.0, atol=1.0)
    expected = replace(expected_of(REFERENCE), tolerance=fixed)
    first = REFERENCE.astype(FLOAT)
    assert invariance.coarsely_wrong(first, expected, (REFERENCE * 1.009).astype(FLOAT), expected) is None
    assert invariance.coarsely_wrong(first, expected, (REFERENCE * 1.011).astype(FLOAT), expected) is not None
