"""What a verdict says, word by word, and which number decides that it says so."""

import numpy as np
import pytest
from msgspec import structs

from triptych.harness.dtypes import dtype_of
from triptych.harness.judge import verdict
from triptych.harness.judge.comparison import compare, metrics
from triptych.harness.judge.problem import Problem
from triptych.harness.judge.tolerance import Expected
from triptych.harness.judge.verdict import disagreement, format_number, malformed, systematic_error
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Op
from triptych.harness.results.measures import Derived, Fixed

FLOAT = np.float32
FIXED = Fixed(source="op", regime="normal", rtol=0.0, atol=0.5)
DERIVED = Derived(
    source="default", regime="normal", factor=2.0, baseline="tiled", baselines=["tiled"], draws=1,
    max_abs=0.5, rel_l2=0.5, floor=0.0,
)  # fmt: skip
HONEST = "2 x the error of honest baselines such as 'tiled'"


def said(out, reference, tolerance=FIXED, dtype="float32", unit=None):
    reference = np.array(reference, np.float64)
    with np.errstate(over="ignore"):
        expected = Expected(reference, reference.astype(dtype_of(dtype)), tolerance, unit)
    found = compare(np.array(out, dtype_of(dtype)), expected)
    return disagreement(found, metrics(found))


def test_numbers_in_nine_digits_and_whole_ones_in_full():
    assert [format_number(x) for x in (1234567890123, True, 0.1234567891, 2.0)] == [
        *("1234567890123", "True", "0.123456789", "2")
    ]


def test_beyond_fixed_bounds():
    assert said([1.5, 2], [1, 2]) is None
    assert said([1.75, 2], [1, 2]) == (
        "1 of 2 elements beyond atol 0.5 + rtol 0 x |reference| of the op; worst at [0]: expected 1, got 1.75"
    )
    assert said([9], [1]).startswith("1 of 1 element beyond atol 0.5")


def test_where_nothing_is_allowed():
    exact = structs.replace(FIXED, atol=0.0)
    assert said([1, 2], [1, 2], exact) is None
    assert said([1, 3], [1, 2], exact) == (
        "1 of 2 elements differ, where the op allows no difference; worst at [1]: expected 2, got 3"
    )


def test_beyond_what_honest_kernels_are_off_by():
    assert said([1.5, 2], [1, 2], DERIVED) is None
    worst = "worst at [0]: expected 1, got 1.75"
    assert said([1.75, 2], [1, 2], DERIVED) == f"1 of 2 elements off by more than 0.5 ({HONEST}); {worst}"
    asked = structs.replace(DERIVED, source="command line", factor=3.0)
    assert said([1.75, 2], [1, 2], asked) == (
        "1 of 2 elements off by more than 0.5 (3 x the error of honest baselines such as 'tiled', a factor of the "
        f"command line); {worst}"
    )


def test_beyond_what_is_allowed_at_their_own_size():
    local = structs.replace(DERIVED, max_local=2.0)
    assert said([1.5, 2], [1, 2], local, unit=np.array([0.0625, 1.0])) == (
        "1 of 2 elements off by up to 4 times what is allowed at their own size, though by less than the largest "
        f"element may be ({HONEST}); worst at [0]: expected 1, got 1.5"
    )


def test_beyond_what_all_may_be_off_together():
    tight = structs.replace(DERIVED, rel_l2=0.125)
    assert said([3, 4.5], [3, 4], tight) is None, "0.1"
    assert said([3.5, 4.5], [3, 4], tight) == (
        f"relative L2 error 0.141 is more than 0.125 ({HONEST}), though no single element is beyond its bound; "
        "worst at [0]: expected 3, got 3.5"
    )
    assert said([3.5, 4], [3, 4], structs.replace(DERIVED, rel_l2=0.1)) is None, "what is on the bound passes"


BEYOND_RANGE = "; if float16 is meant to saturate, let the reference clip to 65504 as well"


def test_the_largest_number_in_the_place_of_an_infinity():
    assert said([65504, 1], [1e6, 1], dtype="float16") == (
        "1 of 2 elements is NaN or infinite unlike the reference, for example at [0]: expected inf, got 65504"
        + BEYOND_RANGE
    )
    assert said([-65504, 7], [-1e6, 1e6], dtype="float16").endswith(BEYOND_RANGE)
    assert said([np.nan, 1], [1, 1], dtype="float16").endswith("expected 1, got nan")
    assert said([np.nan, 65504], [1, 65504], dtype="float16").endswith("got nan"), "65504 is right"


def numbers(**changes):
    found = compare(np.ones(2, FLOAT), Expected(np.ones(2), np.ones(2, FLOAT), DERIVED))
    return structs.replace(metrics(found), **changes)


ONE_SIDE = (
    "the errors lie on one side, by 0.26 units in the last place on average beyond chance, where 0.25 is allowed, "
    "though each is within its bound: as of truncation where the reference rounds to nearest"
)
NOT_NEAREST = (
    "30% of the elements, beyond chance, are not the reference rounded to nearest, where 25% is allowed, though each "
    "is within its bound: as of intermediate values that are kept in 16 bits, or of sums that are"
)


@pytest.mark.parametrize("tolerance", [FIXED, DERIVED])
def test_errors_on_one_side(tolerance):
    bounded = structs.replace(tolerance, bias=0.25)
    assert systematic_error(numbers(bias=0.26), bounded) == ONE_SIDE
    for within in (0.25, 0.2, None):
        assert systematic_error(numbers(bias=within), bounded) is None
    assert systematic_error(numbers(bias=0.26), tolerance) is None, "no bound"


def test_elements_that_are_not_rounded_to_nearest():
    bounded = structs.replace(DERIVED, not_nearest=0.25)
    assert systematic_error(numbers(not_nearest=0.3), bounded) == NOT_NEAREST
    for within in (0.25, 0.2, None):
        assert systematic_error(numbers(not_nearest=within), bounded) is None
    assert systematic_error(numbers(not_nearest=0.3), DERIVED) is None, "no bound"
    assert systematic_error(numbers(bias=0.26, not_nearest=0.3), structs.replace(bounded, bias=0.25)) == ONE_SIDE


def test_a_systematic_error_is_said_last_and_under_every_tolerance():
    reference = np.linspace(1, 2, 202)[1:-1]
    low = np.nextafter(reference.astype(np.float16), np.float16(0))
    for tolerance in (structs.replace(FIXED, bias=0.25), structs.replace(DERIVED, bias=0.25)):
        assert said(low, reference, tolerance, "float16").startswith("the errors lie on one side, by 0.")
        assert said(reference, reference, tolerance, "float16") is None


EXPECTED = Expected(np.ones((2, 3)), np.ones((2, 3), FLOAT), FIXED)


def test_what_cannot_be_compared():
    x = np.zeros((4, 3), FLOAT)
    base = np.zeros((2, 6), FLOAT)
    assert malformed(np.ones((2, 3), FLOAT), EXPECTED, {"x": x}) is None
    assert malformed(base[:, ::2], EXPECTED, {"x": x}) is None, "strided"
    assert malformed([1], EXPECTED, {}).startswith("the kernel returned 1 values instead of one array")
    assert malformed(np.ma.ones((2, 3)), EXPECTED, {}).startswith("the kernel returned a MaskedArray instead")
    assert malformed(x[:2], EXPECTED, {"x": x}) == "the output shares memory with input x: return an array of its own"
    wide = Expected(np.ones(3), np.ones(3), FIXED)
    for own in (wide.reference, wide.rounded):
        assert malformed(own, wide, {}).startswith("the output is the reference's own array")


def test_a_verdict_has_the_largest_share_of_what_is_allowed():
    problem = Problem(Op("op", {"x": ("N",)}, lambda x: x, {}), Case("op", "c", {"N": 3}, "float32"), {})
    expected = Expected(np.ones(3), np.ones(3, FLOAT), FIXED)
    passed, failed = (verdict.judge(problem, np.array([1, 1.25, top], FLOAT), expected) for top in (1, 2))
    assert (passed.share, failed.share) == (0.5, 2.0)
    assert passed.failure is None and failed.failure is not None and failed.metrics.mismatches == 1
    assert passed.tolerance is failed.tolerance is FIXED and (passed.output, passed.each) == ("", {})
