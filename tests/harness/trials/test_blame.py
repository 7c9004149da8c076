"""What is concluded of a replay in float32 and of two runs in lockstep, without running a kernel."""

from dataclasses import replace
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest

from triptych.harness.backends.base import CannotReplay, Replay
from triptych.harness.judge.prepared import Prepared, prepare
from triptych.harness.judge.problem import Problem
from triptych.harness.judge.tolerance import Expected
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Op
from triptych.harness.results.measures import Derived, Fixed
from triptych.harness.results.status import Cause, Status
from triptych.harness.running import bench
from triptych.harness.trials import attribution, divergence

REFERENCE = np.linspace(1, 2, 100)
BOUNDS = Derived(
    source="default", regime="normal", factor=2.0, baseline="b", baselines=["b"], draws=1, max_abs=0.01, rel_l2=0.005,
    floor=0.0,
)  # fmt: skip


def prepared_of(dtype="float32", tolerance=BOUNDS):
    op = Op("op", {"x": ("M",)}, lambda x: x, {})
    problem = Problem(op, Case("op", "c", {"M": 100}, dtype), {"x": REFERENCE})
    return Prepared(problem, Expected(REFERENCE, REFERENCE.astype(problem.dtype), tolerance))


def off_by(error, dtype=np.float32):
    return (REFERENCE + error).astype(dtype)


def cause(out, again, narrow, dtype="float32", fault=""):
    found = attribution.explain(prepared_of(dtype), out, Replay({"": again}, narrow, fault), again)
    return found.cause, found.text


@pytest.mark.parametrize(
    ("again", "narrow", "out", "expected", "said"),
    [
        (0.001, "bfloat16", 0.5, "rounding", "agrees with the reference when it keeps every value in float32"),
        (0.001, None, 0.5, "rounding", "on the same inputs widened to float32"),
        (0.5, None, 0.5, "logic", "widened to float32 it disagrees as well, in 100 elements by up to 0.5"),
        (0.5, "", 0.5, "logic", "holds float32 alone"),
        (0.05, "", 0.05, "unknown", "the order of a sum or a small error in the logic"),
        (0.05, "bfloat16", 0.55, "rounding", "the error falls from 0.36 to 0.033, relative L2"),
        (0.05, "bfloat16", 0.45, "logic", "without low-precision rounding (bfloat16 kept in float32) it disagrees"),
        (0.5, "bfloat16", 9.0, "logic", "disagrees as well, in 100 elements by up to 0.5"),
    ],
)
def test_what_a_replay_says(again, narrow, out, expected, said):
    found, text = cause(off_by(out), off_by(again), narrow)
    assert found == expected and said in text


@pytest.mark.parametrize(("size", "cause"), [(0.25, "logic"), (0.2500001, "rounding")])
def test_most_of_an_error_is_more_than_ten_times_the_rest(size, cause):
    after, before = (
        SimpleNamespace(
            status=Status.FAILED,
            reason="no",
            metrics=SimpleNamespace(rel_l2=l2, max_abs=0.0, mismatches=0, nonfinite=SimpleNamespace(misplaced=0)),
        )
        for l2 in (0.025, size)
    )
    assert attribution.conclude(prepared_of(), after, before, "bfloat16")[0] == cause


def test_only_float32_may_be_near_its_tolerance():
    half = ml_dtypes.bfloat16
    found, _ = cause(off_by(0.1, half), off_by(0.05, half), "", "bfloat16")
    assert found == "logic"


def test_an_emulator_that_is_wrong_is_blamed_first():
    assert cause(off_by(0.5), None, None, fault="it computes exp wrongly")[0] == "emulator"
    assert cause(off_by(0.5), off_by(0.5), "", fault="it computes exp wrongly") == (
        "emulator",
        "it computes exp wrongly",
    )


@pytest.mark.parametrize(("error", "near"), [(0.079, False), (0.057, True), (0.059, True), (0.062, False)])
def test_near_is_eight_times_both_bounds(error, near):
    """In the norm 0.005 of a reference of 1.53 on average is 0.0076 each, of which eight times are 0.061."""
    prepared = prepared_of()
    assert attribution.near(prepared.judge(off_by(error)), prepared.expected) is near


def test_one_element_may_be_eight_times_its_bound():
    prepared = prepared_of(tolerance=replaced(rel_l2=1.0))
    for error, near in ((0.079, True), (0.081, False)):
        out = off_by(0.0)
        out[0] += np.float32(error)
        assert attribution.near(prepared.judge(out), prepared.expected) is near
    out[1] = np.nan
    assert not attribution.near(prepared.judge(out), prepared.expected)
    fixed = prepared_of(tolerance=Fixed(source="op", regime="normal", rtol=0.0, atol=1e-3))
    assert not attribution.near(fixed.judge(off_by(0.002)), fixed.expected)


def replaced(**changes):
    return Derived(**{**{name: getattr(BOUNDS, name) for name in BOUNDS.__struct_fields__}, **changes})


def test_a_result_may_differ_by_the_bound_or_by_two_units():
    assert attribution.bound_of(prepared_of()) == 0.005
    fixed = Fixed(source="op", regime="normal", rtol=0.0, atol=1e-3)
    assert attribution.bound_of(prepared_of(tolerance=fixed)) == 2 * 2.0**-23
    assert attribution.bound_of(prepared_of("bfloat16", fixed)) == 2 * 2.0**-7
    assert attribution.bound_of(prepared_of("int32", fixed)) == 2 * 2.0**-23, "of integers, as of float32"


def test_what_is_not_finite_where_the_reference_is():
    expected = prepared_of().expected
    assert not attribution.has_misplaced(off_by(0.0), expected)
    out = off_by(0.0)
    out[3] = np.inf
    assert attribution.has_misplaced(out, expected)
    infinite = replace(expected, rounded=np.where(np.arange(100) == 3, np.inf, expected.rounded))
    assert not attribution.has_misplaced(out, infinite)


def test_a_kernel_that_cannot_be_replayed_says_why():
    class Away:
        def __init__(self, error):
            self.error = error

        def replay(self, *_):
            raise self.error

    found = attribution.attribute(Away(CannotReplay("no way")), prepared_of(), None, off_by(1.0))
    assert (found.cause, found.text) == ("unknown", "no way")
    found = attribution.attribute(Away(SystemExit(3)), prepared_of(), None, off_by(1.0))
    assert found.cause == "unknown" and found.text.endswith("could not be run without low-precision rounding: 3")


def test_one_element_that_disagrees_is_one():
    prepared = prepared_of()
    out = off_by(0.0)
    out[0] += 1
    assert attribution.extent(prepared.judge(out)) == ", in 1 element by up to 1"
    out[1] = np.nan
    assert "NaN or infinite unlike the reference" in attribution.extent(prepared.judge(out))


def test_an_error_that_the_norm_alone_sees_is_told_as_the_verdict_has_it():
    prepared = prepared_of(tolerance=replaced(rel_l2=1e-4))
    verdict = prepared.judge(off_by(0.005))
    assert verdict.metrics.mismatches == 0 and attribution.extent(verdict) == f": {verdict.reason}"


def test_what_cannot_be_compared_is_told_as_the_verdict_has_it():
    assert attribution.extent(prepared_of().judge(None)).startswith(": the kernel returned None")


FIRST, INFINITY, NAN = (
    divergence.Finding(SimpleNamespace(op=op, line=("f.py", 3)), i, ["a"], ["b"], difference)
    for i, (op, difference) in enumerate((("tensor_copy", 0.25), ("activation", 0.0), ("reciprocal", np.inf)), 1)
)


def located(monkeypatch, cause, found, out=None, again=None):
    """The cause and its text, where two runs in lockstep show `found`; the output is off by 0.1 unless given."""
    asked = []
    monkeypatch.setattr(divergence, "bisect", lambda play, bound: asked.append((play, bound)) or found)
    out = off_by(0.1) if out is None else out
    made = attribution.locate(prepared_of(), out, off_by(0.0) if again is None else again, "play", cause, "So.")
    assert asked == [("play", 0.005)] and made.cause == cause
    return made


def test_rounding_is_located_where_the_two_runs_part(monkeypatch):
    made = located(monkeypatch, "rounding", divergence.Divergence(3, FIRST))
    assert made.text == (
        "So. First result to differ from that run by 0.25, relative L2, where the output may be off by 0.005: "
        "nisa.tensor_copy at f.py:3 (instruction 1) makes b from a."
    )
    assert made.first_beyond_rounding.difference == 0.25 and made.first_nan is None and made.first_infinity is None
    strange = located(monkeypatch, "rounding", divergence.Divergence(3, NAN))
    assert "differ from that run in where it is NaN or infinite: nisa.reciprocal" in strange.text


def test_many_small_roundings_have_no_place(monkeypatch):
    found = divergence.Divergence(7, largest=0.004, stopped="the replay ended")
    made = located(monkeypatch, "rounding", found)
    assert made.text == (
        "So. No single instruction stands out: all 7 stay within 0.005, relative L2, of that run (the largest "
        "difference is 0.004), and their roundings add up. the replay ended."
    )
    assert located(monkeypatch, "rounding", replace(found, stopped=None)).text.endswith("their roundings add up.")
    assert made.first_beyond_rounding is None


def test_a_logic_error_is_located_only_where_rounding_costs_more_than_is_allowed_besides(monkeypatch):
    found = divergence.Divergence(3, FIRST)
    besides = located(monkeypatch, "logic", found, off_by(0.1))
    assert besides.text.startswith("So. Rounding costs more than is allowed besides. First result to differ")
    for out, again in ((off_by(0.0), off_by(0.0)), (off_by(0.5), off_by(0.5)), (off_by(0.007), off_by(0.0))):
        assert located(monkeypatch, "logic", found, out, again).text == "So.", "0.007 is within the bound of 0.0076"
    assert located(monkeypatch, "logic", divergence.Divergence(3)).text == "So."
    assert located(monkeypatch, "emulator", found).text == "So."
    assert located(monkeypatch, "emulator", divergence.Divergence(3)).text == "So."


def test_the_first_nan_and_infinity_are_told_where_the_output_has_one_amiss(monkeypatch):
    found = divergence.Divergence(3, infinity=INFINITY, nan=NAN)
    assert located(monkeypatch, "logic", found).text == "So.", "the output has none"
    out = off_by(0.0)
    out[0] = np.nan
    made = located(monkeypatch, "logic", found, out)
    assert made.text == (
        "So. First infinity: nisa.activation at f.py:3 (instruction 2) makes b from a. "
        "First NaN: nisa.reciprocal at f.py:3 (instruction 3) makes b from a."
    )
    assert (made.first_infinity.number, made.first_nan.number) == (2, 3) and made.first_nan.difference is None
    assert located(monkeypatch, "logic", divergence.Divergence(3, nan=NAN), out).first_infinity is None


@pytest.mark.parametrize(
    ("seconds", "cause", "sought"),
    [(19.9, Cause.MISMATCH, True), (20.0, Cause.MISMATCH, False), (1.0, Cause.KEPT_STATE, False)],
)
def test_a_kernel_that_took_twenty_seconds_is_not_run_again(monkeypatch, seconds, cause, sought):
    asked, settled = [], []
    found = attribution.Attribution(cause="logic", text="CUDA error")
    monkeypatch.setattr(bench, "attribute", lambda *words: asked.append(words) or found)
    result = SimpleNamespace(cause=cause, output="b", attribution=None)
    task = SimpleNamespace(target="trn2")
    ready = SimpleNamespace(prepared="prepared")
    trial = SimpleNamespace(result=result, out={"b": 1}, seconds=seconds, backend="backend", ready=ready, task=task)
    performing = bench.Bench(lambda phase: None, settled.append)
    performing.attribute(trial)
    assert asked == ([("backend", "prepared", "trn2", {"b": 1}, "b")] if sought else [])
    assert result.attribution is (found if sought else None) and settled == ([result] if sought else [])
    assert performing.unfit is sought, "after a fault of the GPU"


class Dense:
    """A backend whose kernel takes its inputs for contiguous, or is wrong by `error` on such inputs, too."""

    def __init__(self, error):
        self.error, self.ran, self.replayed = error, [], 0

    def run(self, problem, target):
        self.ran.append(problem.inputs)
        return problem.inputs["x"] + problem.inputs["y"] + np.float32(self.error)

    def replay(self, problem, target, outputs):
        self.replayed += 1
        return Replay(None, None, "it computes + wrongly")


@pytest.mark.parametrize(
    ("strided", "error", "cause"),
    [("xy", 0, "logic"), ("x", 0, "logic"), ("xy", 1, "emulator"), ("", 0, "emulator")],
)
def test_a_kernel_that_is_right_on_inputs_without_gaps_takes_them_for_contiguous(strided, error, cause):
    wide = np.arange(24, dtype=np.float32).reshape(3, 8)
    inputs = {name: wide[:, ::2] if name in strided else wide[:, :4].copy() for name in "xy"}
    op = Op("add", {"x": ("M", "N"), "y": ("M", "N")}, lambda x, y: x + y, {})
    problem = Problem(op, Case("add", "c", {"M": 3, "N": 4}, "float32"), inputs)
    backend = Dense(error)
    found = attribution.attribute(backend, prepare(problem), None, {"": np.ones((3, 4), np.float32)})
    assert found.cause == cause and len(backend.ran) == bool(strided) and backend.replayed == (cause == "emulator")
    assert all(x.flags.c_contiguous for some in backend.ran for x in some.values())
    if cause == "logic":
        assert f"it takes {' and '.join(strided)} for contiguous" in found.text
