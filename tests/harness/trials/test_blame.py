"""What is concluded of a replay in float32, and what two runs in lockstep show, without running a kernel."""

from dataclasses import replace
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest

from triptych.harness.backends.base import CannotReplay, Replay
from triptych.harness.judge.prepared import Prepared
from triptych.harness.judge.problem import Problem
from triptych.harness.judge.tolerance import Expected
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Op
from triptych.harness.results.measures import Derived, Fixed
from triptych.harness.trials import attribution, divergence, integrity

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


# In lockstep


class Region:
    def __init__(self):
        self.allocation = SimpleNamespace(id=id(self))


class Tensor:
    """What an observer is handed of a tensor."""

    def __init__(self, values, kind="f", storage=None):
        self.values = np.array(values, np.float32)
        self.shape = self.values.shape
        self.dtype = SimpleNamespace(is_float=kind != "i", kind=kind, __str__=lambda: kind)
        self.storage = storage or object()
        self.region = Region()

    def f32(self):
        return self.values


def test_what_a_tensor_holds_in_words(monkeypatch):
    monkeypatch.setattr(divergence, "form", lambda tensor: f"{tensor.dtype.kind}{list(tensor.shape)}")
    assert divergence.describe(Tensor([1.0, -2.5, 3.0])) == "f[3] in [-2.5, 3]"
    assert divergence.describe(Tensor([1.0, np.nan, np.nan])) == "f[3] in [1, 1] with 2 NaN"
    assert divergence.describe(Tensor([np.nan])) == "f[1] with 1 NaN"
    assert divergence.describe(Tensor([7.0], "i")) == "i[1]", "integers have no range to lose"
    assert divergence.describe(Tensor([7.0], "x")) == "x[1]"


@pytest.mark.parametrize(
    ("a", "b", "apart"),
    [
        ([np.inf, 1.0], [1e30, 1.0], 0.0),
        ([np.inf, 3.0], [1e30, 2.0], 0.5),
        ([1e31, 3.0], [1e31, 2.0], 0.5),
        ([np.inf], [9e29], np.inf),
        ([2.0, np.nan], [1.0, np.nan], 1.0),
        ([np.nan, 1.0], [1.0, np.nan], np.inf),
        ([5.0], [0.0], np.inf),
        ([0.0], [0.0], 0.0),
    ],
)
def test_sentinels_neither_differ_nor_count(a, b, apart):
    with np.errstate(all="ignore"):
        assert divergence.distance(np.array(a, np.float32), np.array(b, np.float32)) == pytest.approx(apart)


def play_of(first, second, ops=("a", "b", "c")):
    """Plays instructions, each of which writes one value: of the run as it is, or of its replay."""

    def play(options):
        for i, op in enumerate(ops):
            values = first if options.round_low_precision else second
            if i < len(values):
                event = SimpleNamespace(op=op, line=("f.py", i), label=f"{op}!", writes=(), reads=())
                options.observe(event, [Tensor([1.0])], [Tensor([values[i]])])

    return play


@pytest.fixture
def plain(monkeypatch):
    monkeypatch.setattr(divergence, "form", lambda tensor: tensor.dtype.kind)


@pytest.mark.usefixtures("plain")
def test_the_first_beyond_the_bound_is_named_with_the_largest_before_it():
    found = divergence.bisect(play_of([1.0, 1.1, 2.0], [1.0, 1.0, 1.0]), 0.5)
    assert found.instructions == 3 and found.first.number == 3 and found.first.difference == 1.0
    assert found.largest == pytest.approx(0.1) and found.stopped is None
    within = divergence.bisect(play_of([1.0, 1.1, 1.4], [1.0, 1.0, 1.0]), 0.5)
    assert within.first is None and within.largest == pytest.approx(0.4) and within.instructions == 3


@pytest.mark.usefixtures("plain")
def test_a_replay_that_ends_early_stops_the_comparison():
    found = divergence.bisect(play_of([1.0, 1.0, 1.0], [1.0]), 0.5)
    assert found.stopped == "the replay in float32 ended at b!" and found.instructions == 3


@pytest.mark.usefixtures("plain")
def test_the_first_nan_and_infinity_come_of_operands_that_have_none():
    found = divergence.bisect(play_of([np.inf, np.nan, np.nan], [np.inf, np.nan, np.nan]), 0.5)
    assert found.infinity.number == 1 and found.nan.number == 2


def test_an_error_that_the_norm_alone_sees_is_told_as_the_verdict_has_it():
    prepared = prepared_of(tolerance=replaced(rel_l2=1e-4))
    verdict = prepared.judge(off_by(0.005))
    assert verdict.metrics.mismatches == 0 and attribution.extent(verdict) == f": {verdict.reason}"


@pytest.mark.usefixtures("plain")
def test_an_operand_that_was_overwritten_in_place_is_told_as_it_was():
    found = divergence.Divergence()
    place = object()
    before, after = Tensor([1.0], storage=place), Tensor([9.0], storage=place)
    assert divergence._operands(found, [before], [after]) == ["f (overwritten in place)"]
    found._ranges[before.region] = "f in [1, 1]"
    assert divergence._operands(found, [before, Tensor([3.0])], [after]) == ["f in [1, 1]", "f in [3, 3]"]


@pytest.mark.parametrize(
    ("module", "inside"), [("numpy", True), ("numpy.linalg", True), ("numpyx", False), ("x.numpy", False)]
)
def test_a_module_is_within_its_package(module, inside):
    assert integrity.within(module, ("math", "numpy")) is inside
