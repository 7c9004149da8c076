"""The patterns of a failing output, each on its bound and just beyond it."""

import numpy as np
import pytest

from triptych.harness.judge.failure.patterns import candidates, diagonal_pattern, multiple, whole_pattern


def diagonal(failing):
    return diagonal_pattern(failing, "M", "N")


def test_two_columns_have_no_diagonal():
    assert diagonal(np.tri(5, 3, 2, dtype=bool).T[:, :5]) == diagonal(np.tri(5, 2, dtype=bool)) is None
    assert diagonal(np.triu(np.ones((5, 2), bool), -2)) is None
    assert diagonal(np.triu(np.ones((5, 3), bool), -1)) == "above the diagonal (N >= M - 1)"


def test_the_edge_is_where_any_matrix_fails():
    some = np.stack([np.triu(np.ones((20, 20), bool), 1)] * 9 + [np.triu(np.ones((20, 20), bool), 2)])
    assert diagonal(some) == "above the diagonal (N >= M + 1)"
    assert diagonal(some.swapaxes(1, 2)) == "below the diagonal (N <= M - 1)"


def test_nine_in_ten_are_not_dense():
    for missing, said in ((1, None), (0, "on the diagonal N = M")):
        failing = np.eye(10, dtype=bool)
        failing[range(missing), range(missing)] = False
        assert diagonal(failing) == said
    assert diagonal(np.eye(10, dtype=bool) & (np.arange(10) % 2 == 0)) is None
    side = np.triu(np.ones((5, 5), bool), 1)
    side[0, 4] = False
    assert diagonal(side) is None, "nine of ten"


def test_three_rows_are_a_side_on_either_side():
    assert diagonal(np.tril(np.ones((5, 5), bool), -2)) == "below the diagonal (N <= M - 2)"
    assert diagonal(np.tril(np.ones((4, 4), bool), -2)) is None


RNG = np.random.default_rng(0)
REFERENCE = RNG.standard_normal((10, 10))


def whole(got, reference=REFERENCE, allowed=0.0):
    names = ("M", "N", "K")[: reference.ndim]
    return whole_pattern(np.asarray(got), reference, np.full(reference.shape, allowed), names)


def test_numbers_that_are_not_finite_on_either_side_are_left_out():
    got, reference = 3 * REFERENCE, REFERENCE.copy()
    got[0, 1], got[0, 0], reference[0, 0] = np.nan, 5.0, np.nan
    assert whole(got, reference) == "every element is 3 times what it should be"
    assert whole(np.where(REFERENCE > 0, np.inf, -np.inf)) is None and whole(np.full((10, 10), np.inf)) is None
    assert whole([1.0, np.nan], np.array([5.0, 6.0])) == "every element is 0.2 times what it should be"


def test_two_elements_are_enough():
    assert whole([2.5, 2.5], np.array([1.0, 7.0])) == "every element is 2.5"
    assert whole([0.0, 0.0], np.array([1.0, 7.0])).startswith("the output is zero everywhere")
    assert whole([[1.0, 3], [2, 4]], np.array([[1.0, 2], [3, 4]])) == "the output is the reference transposed"


def test_how_near_a_candidate_is():
    turned = REFERENCE[::-1].copy()
    said = "the output is the reference reversed along M"
    assert whole(turned + 5e-4, allowed=1e-3) == said and whole(turned + 2e-3, allowed=1e-3) is None
    assert whole(turned * (1 + 0.9e-6)) == said and whole(turned * (1 + 1.1e-6)) is None
    zeros = REFERENCE.copy()
    zeros[:, 3] = 0.0
    assert whole(zeros[::-1], zeros) == said, "zeros are zeros"
    turned[4, 4] += 9
    assert whole(turned) is None, "99 of 100 are not most"


def test_candidates():
    def names(*shape):
        return [name.removeprefix("the output is ")[:28] for name, _ in candidates(np.ones(shape), ("K", "M", "N"))]

    assert names(1, 3) == [
        "the reference reversed along",
        "shifted along M: index i hol",
        "shifted along M: index i hol",
    ]
    assert len(names(2, 3)) == 6 and len(names(2)) == 3 and len(names(2, 3, 4)) == 9
    assert names(2, 2)[0] == names(1, 3, 3)[0] == "the reference transposed" and names(1, 1) == []


def test_a_factor_is_that_of_the_larger_half():
    sign = np.where(np.arange(100) % 3, 1.0, -1.0)
    assert multiple(3 * sign, sign) == "every element is 3 times what it should be"
    uneven = sign * np.where(np.arange(100) < 50, 1.0, 1e-9)
    noisy = 2 * uneven + np.where(np.arange(100) % 2, 1e-8, -1e-8)
    assert multiple(noisy, uneven) == "every element is 2 times what it should be"
    assert multiple(np.where(np.arange(100) < 50, 0.0, RNG.standard_normal(100)), uneven) is None, (
        "0 times is no factor"
    )


@pytest.mark.parametrize(
    ("others", "said"),
    [(51.0, "every element is 50 times what it should be"), (51.2, None), (49.0, "50"), (48.8, None)],
)
def test_a_factor_may_vary_by_a_fiftieth(others, said):
    reference = np.where(np.arange(100) % 3, 1.0, -1.0)
    found = multiple(np.where(np.arange(100) < 60, 50.0, others) * reference, reference)
    assert found is None if said is None else said in found


def test_99_of_100_are_not_most():
    reference = np.where(np.arange(200) % 3, 1.0, -1.0)
    for wrong, said in ((1, True), (2, False)):
        got = 2 * reference
        got[:wrong] = 77
        assert (multiple(got, reference) is not None) is said
        got = 1000.0 * reference + 7.0 * np.arange(200) + 300
        shifted = got + 100
        shifted[:wrong] = 77
        assert (multiple(shifted, got) == "every element is off by the same 100") is said


SPREAD = np.where(np.arange(100) % 2, 1.0, -1.0)  # 1


@pytest.mark.parametrize(("offset", "said"), [(0.055, True), (0.045, False), (-0.055, True)])
def test_an_offset_is_a_twentieth_of_the_spread(offset, said):
    found = multiple(SPREAD + offset, SPREAD)
    assert found == (f"every element is off by the same {offset}" if said else None)


def test_the_spread_is_around_the_median():
    assert multiple(100 + 0.1 * SPREAD + 1, 100 + 0.1 * SPREAD) == "every element is off by the same 1"
    assert multiple(100 * SPREAD + 2, 100 * SPREAD) is None


@pytest.mark.parametrize(("others", "said"), [(51.0, True), (51.2, False), (49.0, True), (48.8, False)])
def test_an_offset_may_vary_by_a_fiftieth(others, said):
    reference = 64 * SPREAD
    found = multiple(reference + np.where(np.arange(100) % 10 < 6, 50.0, others), reference)
    assert (found == "every element is off by the same 50") is said


@pytest.mark.parametrize(("off", "told"), [(1.0, False), (1.0625, True)])
def test_exactly_a_twentieth_of_the_spread_is_not_beyond_it(off, told):
    reference = np.repeat([-20.0, 0.0, 20.0], 40) + 1000
    reference[40:80] = 1000 + np.linspace(-20, 20, 40)
    assert float(np.median(np.abs(reference - np.median(reference)))) == 20.0
    assert (multiple(reference + off, reference) is not None) is told
