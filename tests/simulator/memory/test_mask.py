"""A mask of units knows of every byte what a truth value for each byte would, whatever views are marked and asked."""

from __future__ import annotations

import numpy as np
import pytest

from triptych.simulator.memory.mask import Mask, keep, put_back, side_by_side

BYTES = 4 * 48


def view_of(rng):
    """A random strided view of BYTES bytes, in bytes: offset, shape, steps, size; steps may be negative or zero."""
    size = int(rng.choice([1, 2, 4, 8]))
    while True:
        shape = tuple(int(n) for n in rng.integers(1, 5, rng.integers(1, 4)))
        steps = tuple(size * int(s) for s in rng.integers(-4, 13, len(shape)))
        low = sum(min(0, s * (n - 1)) for s, n in zip(steps, shape, strict=True))
        high = sum(max(0, s * (n - 1)) for s, n in zip(steps, shape, strict=True)) + size
        room = (BYTES - (high - low)) // size
        if room >= 0:
            return size * int(rng.integers(0, room + 1)) - low, shape, steps, size


def bytes_of(model, offset, shape, steps, size):
    """The bytes of a view of a model with a truth value each, with one more axis for those of an element."""
    return np.ndarray((*shape, size), bool, model, offset, (*steps, 1))


def folds_back(offset, shape, steps, size):
    """Whether two indices of a view name one byte."""
    every = np.ndarray((*shape, size), np.int64, np.arange(BYTES), 8 * offset, (*[8 * s for s in steps], 8))
    return len(np.unique(every)) < every.size


@pytest.mark.parametrize("seed", range(60))
def test_marks_are_those_of_a_truth_value_for_each_byte(seed):
    rng = np.random.default_rng(seed)
    mask, model = Mask(BYTES, bool(seed % 2)), np.full(BYTES, bool(seed % 2))
    for _ in range(25):
        view, value = view_of(rng), bool(rng.integers(2))
        kind = rng.integers(3)
        if kind == 0:
            mask.runs(*view)[...] = value
            bytes_of(model, *view)[...] = value
        elif kind == 1 and not folds_back(*view):
            chosen = rng.integers(0, 2, view[1]).astype(bool)
            mask.units(*view)[chosen] = value
            bytes_of(model, *view)[chosen] = value
        else:
            rows = rng.integers(0, view[1][0], 3)
            mask.rows(*view)[rows] = value
            bytes_of(model, *view)[rows] = value
        assert mask.unmarked == BYTES - np.count_nonzero(model)
        asked = view_of(rng)
        expected = bytes_of(model, *asked).all(axis=-1)
        got = mask.at(*asked)
        assert np.array_equal(np.broadcast_to(got, expected.shape), expected)
        assert isinstance(got, np.ndarray) == (expected.any() and not expected.all())


@pytest.mark.parametrize("seed", range(20))
def test_a_view_that_is_put_back_is_as_it_was_and_leaves_the_rest(seed):
    rng = np.random.default_rng(seed)
    mask = Mask(BYTES, False)
    for _ in range(6):
        marked, view = view_of(rng), view_of(rng)
        mask.runs(*marked)[...] = True
        before = np.repeat(mask.bits, mask.unit)
        kept = keep(mask, view)
        mask.units(*view)[...] = rng.random(mask.units(*view).shape) < 0.5
        mask.runs(*view_of(rng))  # splits it, perhaps
        assert put_back(kept, view) is mask
        assert np.array_equal(np.repeat(mask.bits, mask.unit), before)
    assert [put_back(keep(value, view), view) for value in (None, True, False)] == [None, True, False]


def test_units_are_as_large_as_the_views_allow():
    rows = Mask(128 * 4096, False)
    rows.runs(0, (128, 512), (4096, 4), 4)[...] = True  # half of each row
    assert rows.unit == 2048 and rows.bits.size == 256
    rows.runs(0, (128, 1), (4096, 4), 4)[...] = True
    assert rows.unit == 4


def test_a_view_between_two_units_splits_them():
    mask = Mask(64, False)
    mask.runs(0, (4,), (4,), 4)[...] = True
    assert mask.unit == 16 and mask.unmarked == 48
    mask.runs(8, (4,), (4,), 4)[...] = True
    assert mask.unit == 8 and mask.unmarked == 40 and mask.at(0, (6,), (4,), 4) is True
    assert mask.at(24, (4,), (4,), 4) is False


def test_what_lies_side_by_side_is_one_element():
    assert side_by_side((4, 2, 8), (64, 32, 4), 4, False) == ((), (), 256)
    assert side_by_side((4, 2, 8), (65, 32, 4), 4, False) == ((4,), (65,), 64)
    assert side_by_side((4, 3, 1), (64, 0, 4), 4, False) == ((4,), (64,), 4)
    assert side_by_side((4, 3, 1), (64, 0, 4), 4, True) == ((4, 3), (64, 0), 4)
