"""Where failures lie, in words: each pattern at its smallest, and what is just not one."""

import numpy as np
import pytest

from triptych.harness.judge.failure import maps, patterns
from triptych.harness.judge.failure.patterns import axis_pattern, diagonal_pattern, multiple, whole_pattern


def flags(size, *where):
    failing = np.zeros(size, bool)
    failing[list(where)] = True
    return failing


@pytest.mark.parametrize(
    ("size", "where", "tiles", "said"),
    [
        (4, range(4), (), None),
        (9, [3], (), "row 3 of M"),
        (9, [8], (), "row 8 of M, the last"),
        (9, [3, 4], (), "rows 3-4 of M"),
        (9, [7, 8], (), "rows 7-8 of M, up to the end"),
        (9, range(8), (), "rows 0-7 of M, all but the last"),
        (9, range(1, 9), (), "rows 1-8 of M, all but the first"),
        (9, range(8, 9), (4,), "row 8 of M, the last"),
        (10, [8, 9], (4,), "rows 8-9 of M, the last tile of 4"),
        (12, range(4, 8), (4,), "rows 4-7 of M, a whole tile of 4"),
        (12, range(8, 12), (4,), "rows 8-11 of M, the last tile of 4"),
        (12, range(4, 7), (4,), "rows 4-6 of M"),
        (12, range(5, 9), (4,), "rows 5-8 of M"),
        (16, range(8, 16), (4, 8), "rows 8-15 of M, the last tile of 8"),
        (9, [1, 4, 7], (), "every 3rd row of M (1, 4, ...)"),
        (9, [2, 5, 8], (), "every 3rd row of M (2, 5, ...)"),
        (10, [1, 4, 7], (), "every 3rd row of M (1, 4, ...)"),
        (11, [1, 4, 7], (), ""),
        (9, [3, 6, 8], (), ""),
        (9, [4, 7], (), ""),
        (8, [0, 4], (4,), "every 4th row of M (0, 4)"),
        (8, [0, 4], (), ""),
        (16, [1, 2, 9, 10], (8,), "rows 1-2 of every tile of 8 of M"),
        (16, [0, 1, 2, 3, 8, 9, 10, 11], (8,), "rows 0-3 of every tile of 8 of M"),
        (16, [1, 2, 9, 11], (8,), ""),
        (16, [0, 1, 2, 3, 4, 8, 9, 10, 11, 12], (8,), ""),
        (12, range(8, 12), (4, 8), "rows 8-11 of M, the last tile of 8"),
        (12, range(4, 12), (4,), "rows 4-11 of M, up to the end"),
        (9, range(4, 9), (4,), "rows 4-8 of M, up to the end"),
        (9, range(4), (4,), "rows 0-3 of M, a whole tile of 4"),
        (5, range(1, 5), (1,), "rows 1-4 of M, all but the first"),
        (9, [1, 4, 6], (), ""),
        (12, [3, 6, 9], (), ""),
        (12, [0, 6], (6,), "every 6th row of M (0, 6)"),
        (12, [1, 2, 9, 10], (8,), ""),
        (16, [1, 3, 9, 11], (8,), ""),
        (16, [1, 2, 5, 6, 9, 10, 13, 14], (4, 8), "rows 1-2 of every tile of 4 of M"),
        (16, [1, 2, 3, 9, 10, 11], (1, 2, 8), "rows 1-3 of every tile of 8 of M"),
    ],
)
def test_what_the_failures_along_an_axis_have_in_common(size, where, tiles, said):
    assert axis_pattern(flags(size, *where), "row", "M", tiles) == said


def test_an_axis_without_a_name():
    assert axis_pattern(flags(9, 3), "row", "", ()) == "row 3"
    assert axis_pattern(flags(9, 1, 4, 7), "column", "", ()) == "every 3rd column (1, 4, ...)"


def test_ordinals():
    assert [patterns.ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 22, 111, 103)] == [
        *("1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "111th", "103rd")
    ]


def test_a_diagonal_has_three_elements_at_least():
    assert diagonal_pattern(np.eye(3, dtype=bool), "M", "N") == "on the diagonal N = M"
    assert diagonal_pattern(np.eye(3, k=1, dtype=bool), "M", "N") is None
    assert diagonal_pattern(np.eye(4, k=1, dtype=bool), "M", "N") == "on the diagonal N = M + 1"
    assert diagonal_pattern(np.eye(4, k=-1, dtype=bool), "M", "N") == "on the diagonal N = M - 1"


def test_all_but_a_corner_is_no_side_of_a_diagonal():
    for rows, side in ((4, None), (3, "above the diagonal (N >= M - 1)")):
        failing = np.ones((rows, 5), bool)
        failing[-1, 0] = False
        assert diagonal_pattern(failing, "M", "N") == side, f"{failing.mean():.0%} of the output"
    assert diagonal_pattern(np.eye(2, dtype=bool), "M", "N") is None


def test_a_side_of_a_diagonal_is_nearly_full():
    above = np.triu(np.ones((20, 20), bool), 1)
    assert diagonal_pattern(above, "M", "N") == "above the diagonal (N >= M + 1)"
    assert diagonal_pattern(above.T, "M", "N") == "below the diagonal (N <= M - 1)"
    holes = above.copy()
    holes[0, 2:20] = False  # 18 of 190
    assert diagonal_pattern(holes, "M", "N") == "above the diagonal (N >= M + 1)"
    holes[1, 3:8] = False
    assert diagonal_pattern(holes, "M", "N") is None
    corner = np.triu(np.ones((5, 5), bool), 2)
    assert diagonal_pattern(corner, "M", "N") == "above the diagonal (N >= M + 2)", "three rows"
    assert diagonal_pattern(np.triu(np.ones((4, 4), bool), 2), "M", "N") is None, "two rows"
    assert diagonal_pattern(np.stack([above, np.zeros_like(above)]), "M", "N") == "above the diagonal (N >= M + 1)"


REFERENCE = np.random.default_rng(0).standard_normal((30, 40))


@pytest.mark.parametrize(
    ("factor", "said"), [(1.04, None), (1.06, "every element is 1.06 times"), (-1.0, "every element is -1 times")]
)
def test_a_multiple_is_beyond_a_twentieth(factor, said):
    found = multiple(REFERENCE * factor, REFERENCE)
    assert found is None if said is None else found.startswith(said)


def test_an_offset_is_a_twentieth_of_the_spread():
    assert multiple(REFERENCE + 0.5, REFERENCE) == "every element is off by the same 0.5"
    assert multiple(REFERENCE + 0.02, REFERENCE) is None
    scattered = REFERENCE + 0.5
    scattered[:, 0] += 1  # one in forty
    assert multiple(scattered, REFERENCE) is None


def test_what_the_whole_output_is():
    allowed = np.full(REFERENCE.shape, 1e-3)

    def said(got, reference=REFERENCE):
        return whole_pattern(got, reference, allowed[: len(got)], ("M", "N"))

    assert said(np.full((30, 40), np.nan)) == "every element is NaN"
    assert said(np.zeros((30, 40))).startswith("the output is zero everywhere")
    assert said(np.full((30, 40), 2.5)) == "every element is 2.5"
    assert said(REFERENCE[::-1]) == "the output is the reference reversed along M"
    assert said(REFERENCE[:, ::-1]) == "the output is the reference reversed along N"
    assert said(np.roll(REFERENCE, 1, 0)).endswith("along M: index i holds what belongs at i - 1")
    assert said(np.roll(REFERENCE, -1, 1)).endswith("along N: index i holds what belongs at i + 1")
    assert said(np.full((1, 1), 3.0), np.ones((1, 1))) is None, "of one element nothing is said"
    assert whole_pattern(REFERENCE[:, :30].T.copy(), REFERENCE[:, :30], allowed[:, :30], ("M", "N")).endswith(
        "transposed"
    )
    nearly = np.roll(REFERENCE, 1, 0).copy()
    nearly[5:20] = 7  # half of it
    assert said(nearly) is None


def test_a_map_has_few_marks_and_lines_at_tiles():
    assert [maps.block(size, 16) for size in (1, 16, 17, 32, 33)] == [1, 1, 2, 2, 4]
    shares = maps.blocks(np.eye(5, dtype=bool), 2, 2)
    assert shares.tolist() == [[0.5, 0, 0], [0, 0.5, 0], [0, 0, 1]]
    assert [maps.mark(share, False) for share in (0.0, 0.5, 1.0)] == [".", "o", "#"] and maps.mark(0.0, True) == "x"
    assert [maps.grid((16, 32), step, 64) for step in (1, 4, 5, 8)] == [16, 16, 0, 32]
    assert [maps.grid((16,), 1, size) for size in (16, 17, 96, 97)] == [0, 16, 16, 0]
    found = maps.draw(np.array(True), np.array(False), (), [], [])
    assert found.lines == ["0  #"] and (found.rows, found.columns) == (1, 1)


@pytest.mark.parametrize(("by", "place"), [(1, 0), (-1, -1)])
def test_where_a_shift_moves_nothing_to_may_be_anything(by, place):
    got = np.roll(REFERENCE, by, 0)
    got[place] = 7
    found = whole_pattern(got, REFERENCE, np.full(REFERENCE.shape, 1e-3), ("M", "N"))
    assert found == f"the output is shifted along M: index i holds what belongs at i {'-' if by == 1 else '+'} 1"
