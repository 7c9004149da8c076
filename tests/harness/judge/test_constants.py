"""The numbers that decide a verdict, each with a case on either side of it."""

from dataclasses import replace

import numpy as np
import pytest

from triptych.harness.bits import first_difference
from triptych.harness.dtypes import dtype_of
from triptych.harness.judge import local_units, mutations, sensitivity, tolerance, verdict
from triptych.harness.judge.comparison import at_the_edge, compare, metrics, worst_place
from triptych.harness.judge.problem import Problem
from triptych.harness.judge.tolerance import Expected
from triptych.harness.judge.yardstick import baseline_errors
from triptych.harness.judge.yardstick.baselines import Baselines
from triptych.harness.ops.case import Case
from triptych.harness.ops.errors import InvalidOp
from triptych.harness.ops.op import Op
from triptych.harness.results.measures import Derived, Fixed

OFF = np.float32(2.0**-15)


def identity(x):
    return 1.0 * x


def problem_of(size, dtype="float32", honest=(), reference=identity, shape=("M",), **options):
    op = Op("op", lambda case, rng: {"x": rng.uniform(1, 2, (size,) if len(shape) == 1 else size)}, reference, {})
    op = replace(op, honest=honest, shapes={"x": shape}, **options)
    return Problem.of(op, Case("op", "c", {"M": 1}, dtype))


class Off:
    """A baseline that is off by OFF in every element, and counts its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        return x + OFF.astype(x.dtype)


def test_the_three_bounds_are_twice_and_four_times_the_baselines_error():
    problem = problem_of(16384, honest=(Off(),))
    derived = tolerance.expect(problem).tolerance
    unit = local_units.local_unit(problem)
    norm = np.linalg.norm(problem.reference)
    assert derived.max_abs == pytest.approx(2 * OFF, rel=0.02)
    assert derived.rel_l2 == pytest.approx(2 * OFF * 128 / norm, rel=0.02)
    assert derived.max_local == pytest.approx(4 * (OFF / unit).max(), rel=0.02)


@pytest.mark.parametrize(("size", "draws"), [(511, 32), (512, 32), (1024, 16), (16383, 2), (16384, 1)])
def test_small_outputs_draw_their_baselines_again(size, draws):
    assert tolerance.expect(problem_of(size, "bfloat16", (Off(),))).tolerance.draws == draws


@pytest.mark.parametrize(
    ("size", "dtype", "calls"), [(2**14, "float32", 8), (2**14, "bfloat16", 2), (2**18, "float32", 8)]
)
def test_float32_baselines_run_six_times_more_on_nudged_inputs(size, dtype, calls):
    """Once on the inputs, once in float32 to see whether they agree with the reference."""
    baseline = Off()
    tolerance.expect(problem_of(size, dtype, (baseline,)))
    assert baseline.calls == calls


def test_very_many_elements_need_no_nudge():
    baseline = Off()
    tolerance.expect(problem_of(2**18 + 1, "float32", (baseline,)))
    assert baseline.calls == 2


def test_a_nudge_is_one_unit_in_the_last_place_at_most():
    x = np.ones(10000, np.float32)
    nudged = {float(v) for v in baseline_errors.nudge({"x": x}, 0)["x"]}
    assert nudged == {1 - 2.0**-23, 1 - 2.0**-24, 1.0, 1 + 2.0**-23}
    half = np.ones(3, np.float16)
    assert baseline_errors.nudge({"x": half}, 0)["x"] is half


def expected_of(reference, dtype="float32", unit=None, **bounds):
    reference = np.array(reference, np.float64)
    given = {"source": "default", "regime": "normal"}
    if "atol" in bounds:
        made = Fixed(**given, **{"rtol": 0.0, **bounds})
    else:
        usual = {"factor": 2.0, "baseline": "b", "baselines": ["b"], "draws": 1, "floor": 0.0}
        made = Derived(**given, **{**usual, "max_abs": 1e9, "rel_l2": 1e9, **bounds})
    with np.errstate(over="ignore"):
        return Expected(reference, reference.astype(dtype_of(dtype)), made, unit)


def test_what_lies_on_the_bound_passes():
    expected = expected_of([-2.0], atol=0.25, rtol=0.5)
    on, beyond = np.array([-3.25], np.float32), np.array([-3.2500005], np.float32)
    assert not compare(on, expected).beyond.any() and compare(beyond, expected).beyond.any()


def test_the_smaller_of_both_bounds_holds_for_each_element():
    expected = expected_of([1.0, 1.0], unit=np.array([0.1, 10.0]), max_abs=3.0, max_local=2.0)
    assert expected.allowed().tolist() == [0.2, 3.0]


LARGEST16, EDGE16 = 65504.0, 65520.0


@pytest.mark.parametrize(
    ("got", "reference", "allowed", "right"),
    [
        (np.inf, 65519.0, 1.0, True),
        (np.inf, EDGE16 - 7.9, 1.0, True),
        (np.inf, EDGE16 - 8.0, 1.0, False),
        (np.inf, EDGE16 - 80.0, 100.0, True),
        (np.inf, EDGE16 - 90.0, 100.0, False),
        (-np.inf, 65519.0, 1.0, False),
        (-np.inf, -65519.0, 1.0, True),
        (np.nan, 65519.0, 1.0, False),
        (LARGEST16, 65521.0, 1.0, True),
        (LARGEST16, LARGEST16 + 23.9, 1.0, True),
        (LARGEST16, LARGEST16 + 24.0, 1.0, False),
        (LARGEST16, LARGEST16 + 99.0, 100.0, True),
        (LARGEST16, LARGEST16 + 101.0, 100.0, False),
        (LARGEST16, np.inf, 1e9, False),
        (-LARGEST16, 65521.0, 1.0, False),
        (np.nan, 65521.0, 1e9, False),
    ],
)
def test_rounding_decides_at_the_largest_number_and_nowhere_else(got, reference, allowed, right):
    finite = np.isfinite(np.array([reference]).astype(np.float16)) if abs(reference) < EDGE16 else np.array([False])
    one = np.array([got]), np.array([reference])
    assert at_the_edge(*one, finite, np.dtype(np.float16), np.array([allowed])).tolist() == [right]


def test_the_worst_place_is_a_nan_before_all_else():
    expected = expected_of([1.0, 1.0, 1.0], atol=0.0)
    assert worst_place(compare(np.array([np.nan, 9.0, 1.0], np.float32), expected)) == (0,)
    assert worst_place(compare(np.array([2.0, 9.0, 1.0], np.float32), expected)) == (1,), "where no share is finite"
    assert worst_place(compare(np.array([1.0, 1.1, 1.5], np.float32), expected_of([1.0] * 3, atol=1.0))) == (2,)


def test_metrics_of_nothing_but_zeros():
    exact, off = (
        metrics(compare(np.array(out, np.float32), expected_of([0.0, 0.0], atol=1.0))) for out in ([0, 0], [0, 1])
    )
    assert (exact.rel_l2, exact.cosine, exact.max_rel) == (0.0, 1.0, 0.0)
    assert (off.rel_l2, off.cosine) == (np.inf, 0.0)


def test_bits_differ_where_one_of_two_is_a_nan():
    nan = np.float32(np.nan)
    assert first_difference(np.array([1, nan]), np.array([1, 2.0])) == (1, [1])
    assert first_difference(np.array([1, 2.0]), np.array([1, nan])) == (1, [1])
    assert first_difference(np.array([1, nan]), np.array([1, nan])) is None
    assert first_difference(np.array([1.0, 2, 3, 4]), np.array([1.0, 0, 3, 0])) == (2, [1])
    assert first_difference(np.zeros(3), np.zeros(4)) == (4, [0])
    assert first_difference(np.zeros(3), np.zeros(3, np.float32)) == (3, [0])


@pytest.mark.parametrize(("dtype", "least"), [("float32", 2.0**-10), ("bfloat16", 24 * 2.0**-8)])
@pytest.mark.parametrize("unit", [None, 0.25])
def test_a_mutation_moves_an_element_by_24_units_and_a_thousandth_of_its_size(dtype, least, unit):
    """Without local units, of the largest element."""
    u = {"float32": 2.0**-24, "bfloat16": 2.0**-8}[dtype]
    expected = expected_of([4.0, 1.0], dtype, None if unit is None else np.array([1.0, unit * u]))
    scale = 4.0 if unit is None else unit
    below, above = (sensitivity.changes(expected, 1, 1.0 + scale * least * times) for times in (0.9, 1.4))
    assert (below, above) == (False, True)


def test_a_mutation_that_the_norm_alone_sees_is_caught():
    parts = [(0, 1.5)]
    wide, narrow = (expected_of([1.0, 1.0, 1.0, 1.0], max_abs=1.0, rel_l2=bound) for bound in (0.26, 0.24))
    assert sensitivity.accepts(wide, parts) and not sensitivity.accepts(narrow, parts)
    assert not sensitivity.accepts(replace(wide, tolerance=expected_of([1.0], max_abs=0.4).tolerance), parts)


def scaled(x, scale=2.0, causal=True):
    return x * scale * (1 if causal else 3)


def wrong_outputs(problem):
    return dict(mutations.of_any_op(problem, problem.reference))


def test_wrong_outputs_of_any_op():
    problem = problem_of((2, 3), reference=scaled, shape=("M", "N"))
    problem = replace(problem, case=replace(problem.case, params={"scale": 2.0, "causal": True}))
    found = wrong_outputs(problem)
    assert np.array_equal(found["everything a sixteenth larger"], problem.reference * 1.0625)
    assert np.array_equal(found["scale missing"], problem.reference / 2)
    assert np.array_equal(found["causal=False"], problem.reference * 3)
    assert found["x without its last M"][1].tolist() == [0, 0, 0] and found["x without its last M"][0].all()
    assert found["x without its last N"][:, 2].tolist() == [0, 0] and found["x without its last N"][:, :2].all()


def test_an_axis_without_a_name_is_called_by_its_number():
    problem = problem_of((2, 3), reference=lambda x, y: x + y, shape=("M", "N"))
    both = problem.on({"x": problem.inputs["x"], "y": problem.inputs["x"]})
    found = [name for name in wrong_outputs(both) if "without its last" in name]
    assert found == [f"{name} without its last {axis}" for name, axis in (
        ("x", "M"), ("x", "N"), ("y", "index of axis 0"), ("y", "index of axis 1"),
    )]  # fmt: skip


def test_no_more_than_six_axes_are_cut():
    problem = problem_of((2,) * 8, shape=tuple("ABCDEFGH"))
    assert sum("without its last" in name for name in wrong_outputs(problem)) == 6


def test_large_outputs_are_spared_the_evaluations(monkeypatch):
    problem = problem_of(40)
    monkeypatch.setattr(mutations, "LARGEST", 80)
    assert len(wrong_outputs(problem)) > 1
    monkeypatch.setattr(mutations, "LARGEST", 79)
    assert list(wrong_outputs(problem)) == ["everything a sixteenth larger"]


def test_small_errors_count_unless_one_more_rounding_of_16_bits_makes_them():
    found = {
        (regime, dtype): mutations.small_errors_count(Case("op", "c", {}, dtype, regime=regime))
        for regime in ("normal", "tiny")
        for dtype in ("float32", "bfloat16")
    }
    assert [key for key, counts in found.items() if not counts] == [("tiny", "bfloat16")]


@pytest.mark.parametrize(("size", "draws"), [(255, 16), (256, 4)])
def test_units_take_more_draws_of_few_elements(size, draws):
    calls = []

    def counted(x):
        calls.append(1)
        return 1.0 * x

    problem = problem_of(size, reference=counted)
    assert problem.reference.size == size and len(calls) == 1
    local_units.local_unit(problem)
    assert len(calls) == 1 + 1 + draws, "and one that must repeat the first"


def test_the_least_units():
    """Half a unit in the last place, and of small elements what a sum may lose beside the largest."""
    problem = problem_of(300, reference=lambda x: np.where(np.arange(300) == 7, 1e-20, 1.0) + 0 * x)
    unit = local_units.local_unit(problem)
    assert unit[0] == 2.0**-24 and unit[7] == 2.0**-48


def test_the_unit_of_one_element_is_what_moves_it():
    """Beside one that a rounding moves far, smoothing over rows and columns makes others none the finer or coarser."""

    def reference(x):
        out = np.ones(x.shape)
        out[3, 4] = 1000 * (x[3, 4] - 1.0)
        out[5, 1] = 1 + (x[5, 1] - 1.0) / 1000
        return out

    unit = local_units.local_unit(problem_of((20, 20), reference=reference, shape=("M", "N")))
    assert unit[3, 4] > 500 * 2.0**-24 and unit[5, 1] < 1e-2 * unit[3, 4]


def test_a_unit_is_what_one_rounding_of_variance_one_moves():
    problem = problem_of(20000, reference=lambda x: 1.0 + 1000 * (x - 1) / x)
    unit = local_units.local_unit(problem.on({"x": np.ones(20000, np.float32)}))
    assert unit.min() == pytest.approx(1000 * 2.0**-24, rel=0.03), "what all elements have in common at least"


def test_large_cases_have_no_units(monkeypatch):
    problem = problem_of(40)
    monkeypatch.setattr(local_units, "LOCAL_LIMIT", 40)
    assert local_units.local_unit(problem) is not None
    monkeypatch.setattr(local_units, "LOCAL_LIMIT", 39)
    assert local_units.local_unit(problem) is None
    assert local_units.local_unit(problem_of(4, "float64")) is None


@pytest.mark.parametrize(("off", "agrees"), [(0.9e-4, True), (1.2e-4, False)])
def test_baselines_agree_with_the_reference_to_four_digits(off, agrees):
    problem = problem_of(400, honest=())
    baselines = Baselines((lambda x: x * np.float32(1 + off),), from_reference=False)
    if agrees:
        baseline_errors.check_agreement(problem, baselines)
    else:
        with pytest.raises(InvalidOp, match="disagree"):
            baseline_errors.check_agreement(problem, baselines)


def test_a_far_element_alone_is_no_disagreement():
    """A result that jumps may be far off in one element, and one that is ill-conditioned in all, by few units."""

    def jump(x):
        out = x.copy()
        out[0] += np.float32(1e-3)
        return out

    problem = problem_of(40000)
    baseline_errors.check_agreement(problem, Baselines((jump,), from_reference=False))


def test_what_rounding_alone_makes_infinite_counts_as_what_it_was():
    out, reference = (
        np.array([65530.0, 70000.0, np.inf, -np.inf, 1.0]),
        np.array([65500.0, 65500.0, 65500.0, 65500.0, 1.0]),
    )
    found = baseline_errors.before_overflow(out, reference, np.dtype(np.float16))
    assert found.tolist() == [65530.0, 70000.0, EDGE16, -np.inf, 1.0]
    assert baseline_errors.before_overflow(np.array([np.inf]), np.array([3e4]), np.dtype(np.float16))[0] == np.inf


def test_elements_that_are_not_finite_have_no_part_in_metrics():
    found = metrics(
        compare(np.array([np.nan, 2.0**-10], np.float32), expected_of([5.0, 2.0**-10 + 2.0**-33], atol=1.0))
    )
    assert found.max_abs == 2.0**-33 and found.max_abs_ulp == 1.0 and found.nonfinite.misplaced == 1


def test_each_matrix_is_smoothed_by_itself():
    rows, columns = np.random.default_rng(0).uniform(1, 2, (2, 2, 5))
    variance = rows[:, :, None] * columns[:, None, :]
    variance[1] *= 100
    assert np.allclose(local_units.smooth(variance), variance)
    assert local_units.smooth(np.array([1.0, 3.0])).tolist() == [2.0, 2.0]
    assert local_units.smooth(np.zeros((2, 3))).tolist() == [[0.0] * 3] * 2
    for extreme in (2.0**700, 2.0**-700):
        assert np.allclose(local_units.smooth(extreme * variance) / extreme, variance), "nor lost by its size"


@pytest.mark.parametrize(
    ("size", "strange", "said"),
    [(1, 1, "1 of 1 element is NaN"), (3, 1, "1 of 3 elements is NaN"), (3, 2, "2 of 3 elements are NaN")],
)
def test_one_element_is_and_two_are(size, strange, said):
    out = np.ones(size, np.float32)
    out[:strange] = np.nan
    found = compare(out, expected_of(np.ones(size), atol=1.0))
    assert verdict.disagreement(found, metrics(found)).startswith(said)
