"""The picture of a failing output, mark by mark, and the diagnosis where several would do."""

import numpy as np
import pytest

from triptych.harness.judge.comparison import compare
from triptych.harness.judge.failure import description, maps
from triptych.harness.judge.tolerance import Expected
from triptych.harness.results.measures import Fixed

EXACT = Fixed(source="op", regime="normal", rtol=0.0, atol=1.0)


def flags(shape, *where):
    out = np.zeros(shape, bool)
    for index in where:
        out[index] = True
    return out


def drawn(beyond, place, tiles=(), strange=None):
    names = ["B", "H", "M", "N"][-beyond.ndim :]
    strange = flags(beyond.shape) if strange is None else strange
    return maps.draw(beyond, strange, place, names, list(tiles) or [()] * beyond.ndim)


def test_every_mark_of_a_matrix():
    found = drawn(flags((2, 3), (0, 1), (1, 2)), (0, 1), strange=flags((2, 3), (1, 2)))
    assert found.lines == ["0  .#.", "1  ..x"] and found.of == "M down, N across"
    assert (found.rows, found.columns, found.row_tile, found.column_tile) == (1, 1, 0, 0)


def test_blocks_of_a_larger_one():
    found = drawn(flags((33, 65), (slice(0, 4), slice(0, 2)), (32, 64), (4, 0)), (0, 0))
    assert (found.rows, found.columns) == (4, 2) and len(found.lines) == 9 and len(found.lines[0]) == 2 + 2 + 33
    assert [found.lines[i][:6] for i in (0, 1, 2)] == [" 0  #.", " 4  o.", " 8  .."]
    assert found.lines[8] == "32  " + "." * 32 + "#"


def test_lines_lie_between_tiles():
    found = drawn(flags((8, 12), (0, 0)), (0, 0), [(4,), (4,)])
    assert (found.row_tile, found.column_tile) == (4, 4)
    assert found.lines[0] == "0  #...|....|...." and found.lines[4] == "   ----+----+----"
    assert found.lines[5] == "4  ....|....|...." and len(found.lines) == 9


def test_the_matrix_with_the_worst_element_is_shown():
    beyond = flags((2, 3, 2, 2), (1, 2, 0, 0), (0, 0))
    found = drawn(beyond, (1, 2, 0, 0))
    assert found.lines == ["0  #.", "1  .."] and found.of == "M down, N across at B = 1, H = 2"


def test_a_vector_is_one_row():
    found = drawn(flags((12,), (5,)), (5,), [(4,)])
    assert found.lines == ["0  ....|.#..|...."] and found.of == "N across" and found.column_tile == 4


@pytest.mark.parametrize(
    ("tiles", "step", "size", "tile"),
    [
        ((4,), 1, 5, 4),
        ((3,), 1, 12, 0),
        ((4,), 1, 4, 0),
        ((4,), 1, 24, 4),
        ((4,), 1, 25, 0),
        ((8, 4), 1, 24, 4),
        ((6,), 4, 24, 0),
    ],
)
def test_a_grid_has_few_lines_and_marks_between_them(tiles, step, size, tile):
    assert maps.grid(tiles, step, size) == tile


def compared(out, reference):
    reference = np.array(reference, np.float64)
    return compare(np.array(out, np.float32), Expected(reference, reference.astype(np.float32), EXACT))


def test_the_histogram_counts_shares_of_what_is_allowed():
    errors = [0, 0.2, 0.25, 0.5, 0.75, 1, 1.5, 2, 9, 10, 99, 100, 1e6, np.nan]
    found = description.histogram(compared(errors, [0] * 14))
    assert found.counts == [2, 1, 3, 1, 2, 2, 2] and found.nonfinite == 1
    assert found.edges == [0, 0.25, 0.5, 1, 2, 10, 100, np.inf]


def diagnosed(out, reference):
    return description.describe(compared(out, reference)).diagnosis


REFERENCE = 100 * np.random.default_rng(0).standard_normal((20, 20))


def test_what_is_said_of_how_many_fail():
    assert diagnosed(REFERENCE + 0.5, REFERENCE).startswith("no element is beyond its bound: the error is spread")
    assert diagnosed([9.0], [1.0]) == diagnosed([[9.0]], [[1.0]]) == "the only element is wrong"
    one = REFERENCE.copy()
    one[3, 4] += 9
    assert diagnosed(one, REFERENCE) == "one element alone is wrong"
    noise = np.random.default_rng(1).uniform(5, 9, REFERENCE.shape) * np.where(REFERENCE > 0, 1, -1)
    assert diagnosed(REFERENCE + noise, REFERENCE) == (
        "every element is wrong, and the output is no simple change of the reference"
    )
    some = np.where(np.random.default_rng(2).random((20, 20)) < 0.3, REFERENCE + 9, REFERENCE)
    some[0, 0], some[1, :] = REFERENCE[0, 0], REFERENCE[1, :]
    wrong = np.abs(some - REFERENCE) > 1
    rows, columns = (int(wrong.any(axis=axis).sum()) for axis in (1, 0))
    assert diagnosed(some, REFERENCE) == (
        f"scattered ({rows} of 20 along axis 0, {columns} of 20 along axis 1): no pattern of tiles, rows, columns or "
        "diagonals"
    )


def test_a_box_says_how_much_of_it_fails():
    box = REFERENCE.copy()
    box[3:6, 7] += 9
    assert diagnosed(box, REFERENCE) == "all failures are in rows 3-5; column 7: every element there"
    box = REFERENCE.copy()
    box[:, 4:9] += 9
    box[2, 5] = REFERENCE[2, 5]
    assert diagnosed(box, REFERENCE) == "all failures are in columns 4-8: all but 1 elements there"
    box[2:4, 4:6] = REFERENCE[2:4, 4:6]
    assert diagnosed(box, REFERENCE) == "all failures are in columns 4-8: 96 % of the elements there"
    vector = np.arange(10.0)
    assert (
        diagnosed(vector + 9 * (vector > 7), vector)
        == "all failures are in elements 8-9, up to the end: every element there"
    )


def test_the_worst_element_and_what_it_may_be_off():
    box = REFERENCE.copy()
    box[3, 7] += 9
    worst = description.describe(compared(box, REFERENCE)).worst
    assert (worst.index, worst.axes, worst.allowed) == ([3, 7], {"axis 0": 3, "axis 1": 7}, 1.0)
    assert worst.error == pytest.approx(9, abs=1e-4) and worst.got == np.float32(box[3, 7])
    assert worst.expected == np.float32(REFERENCE[3, 7])


def test_where_only_the_norm_is_too_large_most_of_it_is_shown():
    """Elements of more than half of the largest share."""
    expected = Expected(np.ones((4, 4)), np.ones((4, 4), np.float32), EXACT)
    out = np.ones((4, 4), np.float32)
    out[0, 0], out[1, 1], out[2, 2], out[3, 3] = 1.8, 1.45, 1.4, 1.35
    picture = description.describe(compare(out, expected)).map
    assert [line.split()[-1] for line in picture.lines] == ["#...", ".#..", "....", "...."]


def test_several_slices_are_told_as_such_and_one_by_its_number():
    names = ["B", "M", "N"]
    one, two = flags((4, 5, 6), 2), flags((4, 5, 6), slice(1, 3))
    assert description.region(None, one, names)[0] == "all failures are in B = 2 only (of 4): every element there"
    assert description.region(None, two, names)[0] == "all failures are in indices 1-2 of B: every element there"


def test_where_every_axis_fails_throughout_there_is_no_box():
    assert description.region(None, np.eye(4, dtype=bool), ["M", "N"]) is None
