"""Sensitivity piece by piece: whose fault an accepted mutation is, where each patch stands, and what a change is."""

from dataclasses import replace

import numpy as np
import pytest
from msgspec import structs

from triptych.harness.dtypes import dtype_of
from triptych.harness.judge import sensitivity
from triptych.harness.judge.problem import Problem
from triptych.harness.judge.tolerance import Expected
from triptych.harness.ops.case import Case
from triptych.harness.ops.errors import InvalidOp, UninformativeCase
from triptych.harness.ops.op import Op
from triptych.harness.results.measures import Derived, Fixed, SensitivityReport

FIXED = Fixed(source="op", regime="normal", rtol=0.25, atol=0.5)
DERIVED = Derived(
    source="default", regime="normal", factor=2.0, baseline="tiled", baselines=["tiled"], draws=1,
    max_abs=1.5, rel_l2=0.5, floor=0.0,
)  # fmt: skip
CLEAN = SensitivityReport(caught=["zeros"], without_effect=[], accepted=[])
LOOSE = SensitivityReport(caught=[], without_effect=[], accepted=["zeros"])


def identity(x):
    return 1.0 * x


def own(x):
    return x.copy()


def expected_of(reference, tolerance=DERIVED, dtype="float32", unit=None):
    reference = np.array(reference, np.float64)
    return Expected(reference, reference.astype(dtype_of(dtype)), tolerance, unit)


def problem_of(reference=identity, regime="normal", **options):
    op = Op("op", {"x": ("M",)}, reference, {}, **options)
    return Problem(op, Case("op", "c", {"M": 2}, "float32", regime=regime), {"x": np.ones(2, np.float32)})


@pytest.fixture
def checked(monkeypatch):
    """`check` of a problem whose mutations end as told, and with which baselines a tolerance was derived again."""
    finer = []

    def run(reports, tolerance, **options):
        reports = iter(reports)
        monkeypatch.setattr(sensitivity, "try_mutations", lambda *_: next(reports))

        def again(problem, baselines):
            finer.append(baselines.names)
            return expected_of([1, 2], structs.replace(tolerance, max_abs=0.5))

        monkeypatch.setattr(sensitivity, "expect", again)
        found = sensitivity.check(problem_of(**options), expected_of([1, 2], tolerance)).tolerance
        assert next(reports, None) is None
        return found

    run.finer = finer
    return run


def test_what_accepts_nothing_is_kept_with_its_report(checked):
    assert checked([CLEAN], DERIVED) == structs.replace(DERIVED, sensitivity=CLEAN)
    assert checked([CLEAN], FIXED) == structs.replace(FIXED, sensitivity=CLEAN) and checked.finer == []


def test_the_coarsest_baseline_is_left_out_where_it_accepts_one(checked):
    assert checked([LOOSE, CLEAN], DERIVED) == structs.replace(DERIVED, max_abs=0.5, sensitivity=CLEAN)
    assert checked.finer == [["float32", "one_by_one", "backwards"]]


BASELINE, TIGHTEN = "give the op an honest baseline that is nearer to its reference", "tighten the op's `tolerance`"


@pytest.mark.parametrize(
    ("tolerance", "options", "reports", "advice"),
    [
        (DERIVED, {}, 2, BASELINE),
        (DERIVED, {"honest": (own,)}, 1, BASELINE),
        (DERIVED, {"honest": (own,), "regime": "tiny"}, 1, BASELINE),
        (structs.replace(DERIVED, source="op"), {}, 1, TIGHTEN),
        (FIXED, {"regime": "tiny"}, 1, TIGHTEN),
        (structs.replace(FIXED, source="dtype"), {}, 1, TIGHTEN),
    ],
)
def test_an_accepted_mutation_is_the_ops_fault(checked, tolerance, options, reports, advice):
    with pytest.raises(InvalidOp, match="accepts a wrong output in float32") as raised:
        checked([LOOSE] * reports, tolerance, **options)
    assert str(raised.value).endswith(f"; {advice}") and not isinstance(raised.value, UninformativeCase)


def test_inputs_that_do_not_suit_the_reference_are_nobodys_fault(checked):
    with pytest.raises(UninformativeCase, match="zeros would pass within 2 x the error of 'tiled'"):
        checked([LOOSE, LOOSE], DERIVED, regime="tiny")


@pytest.mark.parametrize("source", ["command line", "environment"])
@pytest.mark.parametrize("tolerance", [DERIVED, FIXED])
def test_what_somebody_asks_for_is_remarked(checked, tolerance, source):
    asked = structs.replace(tolerance, source=source)
    found = checked([LOOSE], asked, regime="tiny")
    assert found == structs.replace(asked, sensitivity=LOOSE)
    assert sensitivity.remark(found).endswith(f" of the {source} would also pass zeros")
    assert sensitivity.remark(asked) is None and sensitivity.remark(structs.replace(asked, sensitivity=CLEAN)) is None


def test_words():
    assert [sensitivity.list_words(list("abc")[:n]) for n in (1, 2, 3)] == ["a", "a and b", "a, b and c"]
    assert sensitivity.bounds_in_words(FIXED) == "atol 0.5 + rtol 0.25 x |reference|"
    assert sensitivity.bounds_in_words(DERIVED) == "2 x the error of 'tiled' (max_abs 1.5)"


def patches(reference, **options):
    reference = np.array(reference, np.float64)
    options.setdefault("honest", (own,))
    options.setdefault("corruptions", {"none": lambda *_: None})
    return dict(sensitivity.mutations_of(problem_of(**options), reference))


def patched(reference, found):
    out = np.array(reference, np.float64)
    for where, values in found:
        out[where] = values
    return out.tolist()


def test_patches_of_a_matrix():
    x = np.arange(1.0, 15).reshape(2, 7)
    found = {name: patched(x, patch) for name, patch in patches(x).items()}
    low, high = x.tolist()
    assert found["the last row missing"] == [low, [0] * 7] and found["two rows swapped"] == [high, low]
    assert found["the last columns missing"] == [[*low[:6], 0], [*high[:6], 0]]
    assert found["one element doubled"] == [low, [8, 9, 10, 22, 12, 13, 14]], "the eleventh of fourteen by size"
    assert found["zeros"] == [[0] * 7] * 2 and found["the mean everywhere"] == [[7.5] * 7] * 2 and len(found) == 6


def test_patches_of_other_shapes():
    assert list(patches(7.0)) == ["zeros", "the mean everywhere", "one element doubled"]
    assert patched(7.0, patches(7.0)["one element doubled"]) == 14
    vector = {name: patched([1.0, 2, 3], patch) for name, patch in patches([1.0, 2, 3]).items()}
    assert vector["the last row missing"] == [1, 2, 0] and vector["two rows swapped"] == [3, 2, 1]
    assert vector["one element doubled"] == [1, 2, 6] and len(vector) == 5
    assert list(patches(np.ones((1, 4)))) == [
        *("zeros", "the mean everywhere", "the last columns missing", "one element doubled")
    ]
    four = patches(np.arange(24.0).reshape(2, 3, 2, 2), out=("B", "H", "M", "N"))
    ((head, values),) = four["H 0 taken from H 1"]
    assert head == (1, 0) and values.tolist() == [[16, 17], [18, 19]]
    assert four["the last row missing"] == [((1, 2, 1, slice(None)), 0.0)]
    assert not any("taken" in name for name in patches(np.ones((2, 1, 2, 2))))
    assert "slice 0 taken from slice 1" in patches(np.ones((2, 2, 2)), out=("H",))


def test_patches_of_two_columns_and_of_five_axes():
    assert "the last columns missing" in patches(np.ones((1, 2)))
    ((head, values),) = patches(np.arange(48.0).reshape(2, 2, 3, 2, 2))["slice 0 taken from slice 1"]
    assert head == (1, 1, 0) and values.tolist() == [[40, 41], [42, 43]]


def test_numbers_that_are_not_finite_are_no_mean_and_not_doubled():
    found = patches([np.nan, 2.0, 4.0, np.inf])
    assert found["the mean everywhere"] == [(..., 3.0)] and found["one element doubled"] == [((2,), 8.0)]
    assert patches([np.nan, 0.25, 0.5, np.inf])["one element doubled"] == [((2,), 1.0)]
    assert patches([np.nan, np.nan])["the mean everywhere"] == [(..., 0.0)]


def test_an_op_with_baselines_and_corruptions_needs_no_others():
    def halved(case, inputs, reference):
        return ..., reference / 2

    others = "everything a sixteenth larger"
    both = patches([1.0, 2.0], corruptions={"halved": halved, "none": lambda *_: None})
    assert others not in both and patched([1.0, 2.0], both["halved"]) == [0.5, 1.0] and "none" not in both
    assert others in patches([1.0, 2.0], honest=(), corruptions={"halved": halved})
    assert others in patches([1.0, 2.0], corruptions={})


@pytest.mark.parametrize("wrong", [lambda *_: 1 / 0, lambda *_: (..., np.ones(3)), lambda *_: (9, 0.0)])
def test_a_corruption_that_fails_is_the_ops_fault(wrong):
    with pytest.raises(InvalidOp, match="the corruption 'mine' of op fails: "):
        patches([1.0, 2.0], corruptions={"mine": wrong})


def test_pieces_of_a_million_elements():
    def pieces(shape, values=0.0, where=...):
        return list(sensitivity.chunks((where, values), shape))

    assert pieces((2**20,)) == [(..., 0.0)] and pieces(()) == [(..., 0.0)] and pieces((2, 2**19)) == [(..., 0.0)]
    assert pieces((2**20 + 1,)) == [((slice(0, 2**20),), 0.0), ((slice(2**20, 2**21),), 0.0)]
    assert [where[0].start for where, _ in pieces((5, 2**19))] == [0, 2, 4]
    assert [where[0].start for where, _ in pieces((3, 2**21))] == [0, 1, 2]
    assert pieces((5, 2**19), where=(3,)) == [((3,), 0.0)]
    values = np.broadcast_to(np.arange(5)[:, None], (5, 2**19))
    assert [part[:, 0].tolist() for _, part in pieces(values.shape, values)] == [[0, 1], [2, 3], [4]]
    assert pieces((0, 0)) == [(..., 0.0)]


def test_what_a_tolerance_accepts():
    parts = [(0, 3.75), (1, 3.0)]
    both = expected_of([3.0, 4.0, np.inf], structs.replace(DERIVED, rel_l2=0.25))
    assert sensitivity.accepts(both, parts), "what is on the bound passes, and infinities have no norm"
    tight = structs.replace(DERIVED, rel_l2=0.24)
    assert not sensitivity.accepts(replace(both, tolerance=tight), parts)
    assert sensitivity.accepts(replace(both, tolerance=tight), parts[:1])
    wide = replace(both, tolerance=DERIVED)
    assert not sensitivity.accepts(wide, [(0, 4.6)]) and sensitivity.accepts(wide, [(0, 4.5)])
    fixed = replace(both, tolerance=FIXED)
    assert sensitivity.accepts(fixed, parts) and not sensitivity.accepts(fixed, [(0, 4.3)])


def test_what_changes_a_result():
    whole = expected_of([3, 4], dtype="int32")
    assert sensitivity.changes(whole, 0, 4.0) and not sensitivity.changes(whole, 0, 3.0)
    odd = expected_of([1.0, np.nan, np.inf, 1e-3])
    for where in (1, 2):
        assert not sensitivity.changes(odd, where, 0.0), "what was not finite did not move"
    assert not sensitivity.changes(odd, 0, np.nan)
    assert not sensitivity.changes(odd, 3, 1.5e-3) and sensitivity.changes(odd, 3, 3e-3), "a thousandth of the largest"
    assert sensitivity.changes(odd, (slice(None),), np.array([1, 0, 0, 0.1])), "one element suffices"
    by_unit = replace(odd, unit=np.full(4, 2.0**-34))
    assert sensitivity.changes(by_unit, 3, 1.0e-3 + 2.0**-19) and not sensitivity.changes(by_unit, 3, 1e-3 + 2.0**-21)


def test_24_units_or_a_thousandth_of_the_largest():
    narrow = expected_of([0.0, 0.0], dtype="bfloat16", unit=np.full(2, 2.0**-10))
    assert sensitivity.changes(narrow, 0, 25 * 2.0**-10) and not sensitivity.changes(narrow, 0, 24 * 2.0**-10)
    for largest in (4.0, 0.25):
        expected = expected_of([0.0, largest])
        assert not sensitivity.changes(expected, 0, largest * 2.0**-10)
        assert sensitivity.changes(expected, 0, largest * 1.01 * 2.0**-10)


def test_one_piece_that_changes_is_a_change(monkeypatch):
    monkeypatch.setattr(sensitivity, "CHUNK", 1)
    problem = problem_of(honest=(own,), corruptions={"half": lambda *_: (..., np.array([1.0, 3.0]))})
    report = sensitivity.try_mutations(problem, expected_of([1.0, 2.0], structs.replace(FIXED, rtol=0.0, atol=1.5)))
    assert "half" in report.accepted


def test_mutations_are_sorted_by_what_comes_of_them():
    problem = problem_of(honest=(own,), corruptions={"nothing": lambda *_: (0, 1.0)})
    expected = expected_of([1.0, 2.0], structs.replace(FIXED, rtol=0.0, atol=1.5))
    report = sensitivity.try_mutations(problem, expected)
    assert report.without_effect == ["nothing"] and report.caught == [
        "zeros",
        "the last row missing",
        "one element doubled",
    ]
    assert report.accepted == ["the mean everywhere", "two rows swapped"]
