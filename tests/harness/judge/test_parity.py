"""How far two outputs are apart, as a share of what both tolerances allow."""

import numpy as np
import pytest

from triptych.harness.judge.parity import Pair, difference
from triptych.harness.judge.tolerance import Expected
from triptych.harness.results.measures import Derived, Fixed, Parity


def expected_of(reference, rel_l2=None, bound=0.5):
    reference = np.array(reference, np.float64)
    if rel_l2 is None:
        made = Fixed(source="op", regime="normal", rtol=0.0, atol=bound)
    else:
        made = Derived(
            source="default", regime="normal", factor=2.0, baseline="b", baselines=["b"], draws=1,
            max_abs=bound, rel_l2=rel_l2, floor=0.0,
        )  # fmt: skip
    return Expected(reference, reference.astype(np.float32), made)


A, B = np.array([3.0, 4.0], np.float32), np.array([3.0, 3.5], np.float32)


def test_the_largest_difference_is_held_against_both_tolerances():
    found = difference(A, B, expected_of([3.0, 4.0]))
    assert (found.share, found.max_abs, found.identical, found.strange) == (0.5, 0.5, 0.5, 0)


@pytest.mark.parametrize(("rel_l2", "share"), [(1.0, 0.5), (0.02, 2.5)])
def test_so_is_the_norm(rel_l2, share):
    assert difference(A, B, expected_of([3.0, 4.0], rel_l2)).share == pytest.approx(share)


def test_nothing_is_allowed_of_what_must_be_equal():
    exact = expected_of([3.0, 4.0], bound=0.0)
    assert difference(A, A, exact).share == 0.0 and difference(A, B, exact).share == np.inf
    for rel_l2 in (0.0, 0.5):
        none = expected_of([0.0, 0.0], rel_l2=rel_l2)
        assert difference(A, A, none).share == 0.0 and difference(A, B, none).share == np.inf


def test_a_nan_in_one_alone_is_infinitely_far():
    nan = np.array([np.nan, 4.0], np.float32)
    found = difference(nan, A, expected_of([3.0, 4.0]))
    assert (found.share, found.strange, found.max_abs) == (np.inf, 1, 0.0)
    assert difference(nan, nan, expected_of([3.0, 4.0])).share == 0.0


def parity(share, identical=0.0):
    return Parity(share=share, max_abs=0.0, identical=identical, strange=0)


def test_of_all_cases_the_worst_counts():
    pair = Pair()
    for name, found in (("a", parity(0.0, 1.0)), ("b", parity(0.3)), ("c", parity(0.2)), ("d", parity(0.3))):
        pair.add(found, name)
    assert (pair.cases, pair.equal, pair.share, pair.at) == (4, 1, 0.3, "b")
    pair.add(parity(float("nan")), "e")
    assert pair.at == "e", "what is no number is worse than any"
