"""Arithmetic on views that stand for others, against lists of the elements that they name."""

from __future__ import annotations

import itertools

import numpy as np

from triptych.simulator.dtypes import dtype_of, float32
from triptych.simulator.memory.layout import Layout
from triptych.simulator.memory.references import joined, passed_through, perhaps_sharing


def apart(a, b, width):
    return not perhaps_sharing(a, [b], width)


def elements(at):
    """The places of a view's elements, in its shape."""
    found = np.full(at.shape, at.offset)
    for dim, (n, stride) in enumerate(zip(at.shape, at.strides, strict=True)):
        found += (np.arange(n) * stride).reshape([-1 if d == dim else 1 for d in range(len(at.shape))])
    return found


def views(rng, count):
    """Views of a memory of 8 rows of 24 elements, as kernels make them: blocks, with steps, axes swapped and split."""
    for _ in range(count):
        rows, columns, step = int(rng.integers(1, 5)), int(rng.integers(1, 6)) * 2, int(rng.integers(1, 3))
        offset = int(rng.integers(0, 4)) * 24 + int(rng.integers(0, 24 - (columns - 1) * step))
        at = Layout(offset, (rows, columns), (24, step), float32)
        kind = rng.integers(0, 4)
        if kind == 1:
            at = at.permute((1, 0))
        elif kind == 2:
            at = at.split_dim(1, (columns // 2, 2))
        elif kind == 3:
            at = at.split_dim(1, (2, columns // 2)).permute((1, 0, 2))
        yield at


def part_of(rng, at):
    """A part of a view, by a slice of each dimension."""
    offset, shape, strides = at.offset, [], []
    for n, stride in zip(at.shape, at.strides, strict=True):
        first, step = int(rng.integers(0, n)), int(rng.integers(1, 3))
        offset += first * stride
        shape.append((n - first - 1) // step + 1)
        strides.append(stride * step)
    return at.changed(offset, shape, strides)


def test_a_view_is_found_where_its_elements_are():
    rng = np.random.default_rng(0)
    found = 0
    pairs = list(itertools.product(views(rng, 40), views(rng, 40)))
    pairs += [(whole, part_of(rng, whole)) for whole in views(rng, 300)]
    for written, view in pairs:
        value = Layout(
            7, written.shape, tuple(int(s) for s in rng.permutation([1, 50, 300])[: len(written.shape)]), float32
        )
        through = passed_through(view, written, value)
        place = dict(zip(elements(written).ravel().tolist(), elements(value).ravel().tolist(), strict=True))
        inside = [place.get(e) for e in elements(view).ravel().tolist()]
        if through is not None:
            assert elements(through).ravel().tolist() == inside
            found += view != written
        assert view != written or through is not None
    assert found > 200


def test_a_view_as_another_dtype_is_not_found():
    at = Layout(0, (4, 8), (24, 1), float32)
    assert passed_through(at._replace(dtype=dtype_of("bfloat16")), at, at) is None


def test_views_that_are_said_to_be_apart_share_no_element():
    all_views = list(views(np.random.default_rng(1), 80))
    said = 0
    for a, width in itertools.product(all_views, (24, 6)):
        left = perhaps_sharing(a, all_views, width)
        assert left == [b for b in all_views if b in left]
        for b in [b for b in all_views if b not in left]:
            said += 1
            assert not set(elements(a).ravel()) & set(elements(b).ravel())
    assert said > 1000


def test_views_that_go_on_from_each_other_are_one():
    first, second = (Layout(c, (4, 3), (24, 1), float32) for c in (2, 5))
    assert joined(first, second) == (1, Layout(2, (4, 6), (24, 1), float32))
    assert joined(first, Layout(2 + 4 * 24, (2, 3), (24, 1), float32)) == (0, Layout(2, (6, 3), (24, 1), float32))
    assert joined(second, first) is None
    assert joined(first, Layout(5, (3, 3), (24, 1), float32)) is None
    assert joined(first, Layout(5, (4, 3), (48, 1), float32)) is None
    assert joined(first, Layout(5, (4, 3), (24, 1), dtype_of("int32"))) is None
    assert joined(first, Layout(6, (4, 3), (24, 1), float32)) is None
    cube = Layout(0, (2, 3, 4), (48, 12, 1), float32)
    assert joined(cube, Layout(96, (5, 3, 4), (48, 12, 1), float32)) == (0, cube._replace(shape=(7, 3, 4)))
    assert joined(cube, Layout(36, (2, 1, 4), (48, 12, 1), float32)) == (1, cube._replace(shape=(2, 4, 4)))
    assert joined(cube, Layout(4, (2, 3, 8), (48, 12, 1), float32)) == (2, cube._replace(shape=(2, 3, 12)))
    assert joined(cube, Layout(36, (2, 1, 5), (48, 12, 1), float32)) is None


def test_blocks_of_rows_and_columns_are_known_to_be_apart():
    """In rows of 24: side by side, one above the other, and over the end of a row."""
    block = Layout(24 * 2 + 4, (2, 6), (24, 1), float32)  # rows 2 and 3, columns 4 to 9
    for other, expected in (
        (Layout(24 * 2 + 10, (2, 6), (24, 1), float32), True),
        (Layout(24 * 2 + 9, (2, 6), (24, 1), float32), False),
        (Layout(24 * 2, (2, 4), (24, 1), float32), True),
        (Layout(24 * 2, (2, 5), (24, 1), float32), False),
        (Layout(24 * 4 + 4, (2, 6), (24, 1), float32), True),
        (Layout(24 * 3 + 4, (2, 6), (24, 1), float32), False),
        (Layout(4, (2, 6), (24, 1), float32), True),
        (Layout(4, (2, 6), (48, 1), float32), False),
        (Layout(24 + 9, (1, 6), (24, -1), float32), True),
        (Layout(24 * 3 + 9, (1, 6), (24, -1), float32), False),
        (Layout(24 * 2 + 15, (1, 6), (24, -1), float32), True),
        (Layout(20, (1, 8), (24, 1), float32), True),  # rows 0 and 1
        (Layout(24 + 20, (1, 8), (24, 1), float32), False),  # row 2, and which columns is not looked at
        (Layout(24 * 4 + 20, (1, 8), (24, 1), float32), True),
        (Layout(24 * 4 + 20, (2, 8), (-24, 1), float32), False),  # rows 3 to 5
    ):
        assert apart(block, other, 24) is apart(other, block, 24) is expected
    assert not apart(block, block._replace(offset=0, dtype=dtype_of("bfloat16")), 24)


def test_a_view_that_goes_back_over_the_beginning_of_a_row_reaches_the_row_before():
    end_of_row_1, back = Layout(24 + 20, (1, 4), (24, 1), float32), Layout(48 + 2, (1, 6), (24, -1), float32)
    assert not apart(end_of_row_1, back, 24) and not apart(back, end_of_row_1, 24)


def test_what_no_strides_say_is_not_found():
    written, value = Layout(0, (2, 6), (6, 1), float32), Layout(0, (2, 6), (100, 1), float32)
    for view in (Layout(0, (2, 3), (6, 4), float32), Layout(4, (5,), (1,), float32), Layout(12, (1,), (1,), float32)):
        assert passed_through(view, written, value) is None
    assert passed_through(written, written._replace(strides=(1, 1)), value) is None  # one that folds back
    assert passed_through(Layout(5, (2,), (-1,), float32), Layout(5, (6,), (-1,), float32), value) is None
    assert passed_through(Layout(7, (3,), (2,), float32), written, value) == Layout(101, (3,), (2,), float32)
    backwards = Layout(5, (2, 6), (8, -1), float32)
    assert passed_through(Layout(5, (2, 2), (8, -1), float32), backwards, value) is None
    folded = Layout(0, (2, 3), (2, 1), float32)  # its element 2 is in both rows
    assert passed_through(Layout(0, (3,), (1,), float32), folded, value._replace(shape=(2, 3))) is None
    row = Layout(0, (1, 6), (0, 1), float32)  # how far apart the rows of one row are is nothing
    assert passed_through(row, row, value._replace(shape=(1, 6))) == Layout(0, (1, 6), (0, 1), float32)
    gaps = written._replace(strides=(12, 2))
    assert passed_through(Layout(0, (2,), (3,), float32), gaps, value) is None
    assert passed_through(Layout(2, (2,), (4,), float32), gaps, value) == Layout(1, (2,), (2,), float32)
