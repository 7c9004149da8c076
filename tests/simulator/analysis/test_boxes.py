"""Boxes by hand: views of other dtypes, of few bytes, reversed, and across the rows of HBM."""

import pytest

from triptych.simulator.analysis.boxes import Box, box_of, meet, reach, within
from triptych.simulator.dtypes import TABLE
from triptych.simulator.trace import Allocation, Region


def region(buffer, whole, kind, offset, shape, strides, dtype=None, address=None):
    allocation = Allocation(0, "t", buffer, whole, TABLE[kind], ("k.py", 1), address)
    return Region(allocation, offset, shape, strides, TABLE[dtype or kind])


@pytest.mark.parametrize(
    ("view", "box"),
    [
        # rows of 8 bfloat16 are 16 bytes, whatever they are seen as
        (region("sbuf", (6, 8), "bfloat16", 3 * 8 + 2, (2, 4), (8, 1)), Box(1, 3, 4, 4, 12)),
        (region("sbuf", (6, 8), "bfloat16", 3 * 16 + 2, (2, 4), (16, 1), "uint8"), Box(1, 3, 4, 2, 6)),
        (region("sbuf", (6, 8), "bfloat16", 3 * 4 + 2, (2, 2), (4, 1), "float32"), Box(1, 3, 4, 8, 16)),
        # two bytes, and two of them the other way round
        (region("sbuf", (6, 8), "uint8", 8, (1, 2), (8, 1)), Box(1, 1, 1, 0, 2)),
        (region("sbuf", (6, 8), "uint8", 9, (1, 2), (8, -1)), Box(1, 1, 1, 0, 2)),
        (region("psum", (6, 8), "float32", 8, (2, 2), (8, 3)), Box(1, 1, 2, 0, 16)),
        (region("sbuf", (6, 8), "uint8", 8, (2, 2), (8, 1), None, (32, 100)), Box(1, 33, 34, 100, 102)),
        # in HBM: rows of 32 bytes; a tile of them, all of them, some that run over a row's end
        (region("private_hbm", (6, 8), "float32", 8 + 2, (3, 4), (8, 1)), Box(32, 1, 3, 8, 24)),
        (region("private_hbm", (6, 8), "float32", 8, (3, 8), (8, 1)), Box(0, 0, 0, 32, 128)),
        (region("private_hbm", (6, 8), "float32", 8 + 2, (1, 4), (8, 1)), Box(0, 0, 0, 40, 56)),  # of one row
        (region("private_hbm", (6, 8), "float32", 6, (2, 4), (8, 1)), Box(0, 0, 0, 24, 72)),
        (region("private_hbm", (8,), "float32", 7, (4,), (-1,)), Box(0, 0, 0, 16, 32)),
        (region("private_hbm", (8, 8), "float32", 0, (1, 3, 2), (8, 8, 1)), Box(32, 0, 2, 0, 8)),
        (region("private_hbm", (8, 8), "float32", 5, (3,), (0,)), Box(0, 0, 0, 20, 24)),  # one element again and again
        (region("private_hbm", (8, 8), "float32", 56, (3, 2), (-8, 1)), Box(32, 5, 7, 0, 8)),
        (region("private_hbm", (8, 8), "float32", 0, (2, 3), (8, 16)), Box(64, 0, 2, 0, 36)),  # the longer stride last
        # two dimensions with one stride: the elements at 0, 8, 16, 24, 32
        (region("private_hbm", (8, 8), "float32", 0, (3, 3), (8, 8)), Box(0, 0, 0, 0, 132)),
    ],
)
def test_the_box_of_a_view(view, box):
    assert box_of(view) == box


@pytest.mark.parametrize(
    ("a", "b", "meets"),
    [
        (Box(32, 1, 3, 8, 24), Box(32, 3, 5, 23, 30), True),
        (Box(32, 1, 3, 8, 24), Box(32, 3, 5, 24, 30), False),
        (Box(32, 1, 3, 8, 24), Box(32, 4, 5, 8, 24), False),
        # a range of bytes and rows of 32: within one row, and over several, of which all between its ends count
        (Box(0, 0, 0, 34, 40), Box(32, 1, 1, 8, 24), False),
        (Box(0, 0, 0, 34, 41), Box(32, 1, 1, 8, 24), True),
        (Box(0, 0, 0, 10, 70), Box(32, 1, 1, 0, 4), True),
        (Box(0, 0, 0, 10, 70), Box(32, 1, 1, 0, 1), True),
        (Box(0, 0, 0, 10, 64), Box(32, 2, 2, 0, 4), False),
        (Box(0, 0, 0, 10, 65), Box(32, 2, 2, 0, 4), True),
        # rows of two lengths count as the bytes between their ends
        (Box(32, 1, 1, 0, 8), Box(16, 2, 2, 0, 4), True),
        (Box(32, 1, 1, 0, 8), Box(16, 3, 3, 0, 4), False),
        (Box(32, 1, 1, 8, 16), Box(16, 2, 2, 4, 8), False),  # 40 to 48, and 36 to 40
        (Box(32, 1, 1, 8, 16), Box(16, 2, 2, 4, 9), True),
    ],
)
def test_boxes_meet(a, b, meets):
    assert meet(a, b) == meet(b, a) == meets


def test_within_and_reach():
    outer = Box(32, 1, 3, 8, 24)
    assert within(outer, outer) and within(Box(32, 2, 2, 9, 24), outer)
    for other in (Box(32, 0, 3, 8, 24), Box(32, 1, 4, 8, 24), Box(32, 1, 3, 7, 24), Box(32, 1, 3, 8, 25)):
        assert not within(other, outer)
    assert not within(Box(16, 2, 2, 9, 10), outer)
    assert reach(outer) == (32 + 8, 3 * 32 + 24) and reach(Box(1, 3, 4, 2, 6)) == (2, 6)
    assert reach(Box(0, 0, 0, 24, 72)) == (24, 72) and reach(Box(2, 1, 3, 0, 1)) == (2, 7)
