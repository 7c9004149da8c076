"""Cells against a truth value for each byte."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.simulator.dtypes import dtype_of
from triptych.simulator.memory.extents import Extents, _merged, best_width, pieces
from triptych.simulator.memory.layout import Layout, reach

KINDS = [dtype_of(name) for name in ("uint8", "uint16", "uint32")]


@st.composite
def views(draw, nbytes):
    """A view that stays within so many bytes."""
    dtype = draw(st.sampled_from(KINDS))
    count = nbytes // dtype.itemsize
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
    strides = tuple(draw(st.sampled_from([-3, -1, 0, 1, 2, 3, 4, 6, 8, 12, 24])) for _ in shape)
    low, high = reach(shape, strides)
    if high - low >= count:
        return Layout(draw(st.integers(0, count - 1)), (1,), (1,), dtype)
    return Layout(draw(st.integers(-low, count - 1 - high)), shape, strides, dtype)


def strided(state, view):
    offset, shape, strides, dtype = view
    itemsize = dtype.itemsize
    return np.ndarray((*shape, itemsize), bool, state, offset * itemsize, (*[s * itemsize for s in strides], 1))


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_cells_know_what_a_mask_of_bytes_knows(data):
    height, width = data.draw(st.integers(1, 6)), data.draw(st.sampled_from([4, 8, 24, 32]))
    full = data.draw(st.booleans())
    extents, mask = Extents(height, width, full), np.full(height * width, full)
    for _ in range(data.draw(st.integers(1, 8))):
        view, value = data.draw(views(mask.size)), data.draw(st.booleans())
        strided(mask, view)[...] = value
        extents.mark(pieces(view, width), value)
        assert all(a < b for piece in pieces(view, width) for runs in piece for a, b in runs), "none is empty"
        asked = data.draw(views(mask.size))
        there, found = strided(mask, asked), extents.state(pieces(asked, width))
        assert found is (True if there.all() else None if there.any() else False)
        offset, shape, strides, dtype = asked
        itemsize = dtype.itemsize
        elements = extents.elements(offset * itemsize, shape, tuple(s * itemsize for s in strides), itemsize)
        np.testing.assert_array_equal(np.broadcast_to(elements, shape), there.all(axis=-1))
        assert extents.missing == mask.size - np.count_nonzero(mask)
        assert mask.all() or extents.first_gap() == np.argmin(mask)


def test_a_tensor_of_gigabytes_takes_as_many_cells_as_it_is_written_in_tiles():
    extents = Extents(1 << 17, 1 << 17)
    for row in range(0, 1 << 17, 1 << 12):
        for column in range(0, 1 << 17, 1 << 14):
            tile = Layout((row << 16) + column // 2, (1 << 12, 1 << 13), (1 << 16, 1), dtype_of("bfloat16"))
            extents.mark(pieces(tile, extents.width))
    assert extents.missing == 0 and extents.state([(((0, 1 << 17),), ((0, 1 << 17),))]) is True
    assert math.prod(map(len, (extents._rows, extents._columns))) <= 33 * 9


def test_the_first_gap_is_the_first_byte_that_is_not_marked():
    extents, marked = Extents(3, 8), np.zeros(24, bool)
    for first, end in ((0, 3), (8, 16), (5, 8), (3, 4), (4, 5), (16, 20), (22, 24)):
        extents.mark(pieces(Layout(first, (end - first,), (1,), KINDS[0]), 8))
        marked[first:end] = True
        assert extents.first_gap() == np.argmin(marked)


def test_lines_that_touch_are_one_and_those_within_others_are_part_of_them():
    assert _merged([(60, 61), (31, 32), (0, 30), (24, 54), (61, 70), (72, 73)]) == ((0, 54), (60, 70), (72, 73))


def test_rows_are_as_wide_as_makes_a_view_the_fewest_pieces():
    f32 = KINDS[2]
    tile, line = Layout(0, (2, 4), (24, 1), f32), Layout(3, (8,), (1,), f32)
    assert best_width((4, 24), 4, [tile]) == 96
    assert best_width((4, 6), 4, [line]) == 24  # never one element
    assert best_width((24,), 4, [line]) == 4
    assert best_width((2, 3, 8), 4, [Layout(0, (2, 3, 4), (24, 8, 1), f32)]) == 32
    assert best_width((2, 3, 8), 4, [Layout(0, (2, 16), (24, 1), f32)]) == 96
    assert best_width((2, 3, 8), 4, [Layout(0, (2, 16), (24, 1), f32), Layout(0, (5, 2), (8, 1), f32)]) == 32
