"""A view that an index moves, element by element against the positions that the documentation gives.

    element (i0, i1, ..) lies at offset + index * scale + sum(strides[k] * ik)

It is out of bounds where one of them is outside the tensor, or on chip outside its partition, or where the index is no
entry of a dimension that is selected from (nki/deep-dives/nki-aps.rst).
"""

from __future__ import annotations

import numpy as np
import pytest

from triptych.simulator import OutOfBounds, Uninitialized
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.machine.dynamic import Rows, moved

with simulated_nki():
    import nki.isa as nisa

SHAPE = (5, 3, 4)
TOTAL, ROW = 60, 12


def positions(start, shape, strides):
    """Where the elements of a view lie, counted in elements."""
    at = np.full(1, start)
    for n, stride in zip(shape, strides, strict=True):
        at = np.add.outer(at, stride * np.arange(n)).reshape(-1)
    return at.reshape(shape)


def bounded(at, first, on_chip):
    """Whether positions are in the tensor; on chip those of row i in partition `first` + i."""
    if not on_chip:
        return at.min() >= 0 and at.max() < TOTAL
    rows = at.reshape(at.shape[0], -1) // ROW
    return (rows == first + np.arange(at.shape[0])[:, None]).all() and rows.max() < SHAPE[0]


def patterns(rng, on_chip):
    """A random pattern that lies in the tensor where its index is 0: offset, shape, strides."""
    while True:
        shape = tuple(int(n) for n in rng.integers(1, 4, 3))
        strides = [ROW if on_chip else int(rng.integers(-13, 14)), *(int(s) for s in rng.integers(-3, 4, 2))]
        start = int(rng.integers(TOTAL))
        if bounded(positions(start, shape, strides), start // ROW, on_chip):
            return start, shape, strides


def tensor(c, on_chip):
    values = np.arange(TOTAL, dtype=np.int32).reshape(SHAPE)
    return c.tile(values, buffer="sbuf" if on_chip else "private_hbm")


def agrees(view, at, fine):
    """The moved view holds what lies at these positions, or it is out of bounds."""
    if fine:
        np.testing.assert_array_equal(moved(view).array, at)
    else:
        assert moved(view, skip=True) is None
        with pytest.raises(OutOfBounds, match=r": index -?\d+ leaves dimension \d of '\w+'(, which has \d entries)?; "):
            moved(view)


def indexed(rng, base, dim, scale, lowest, on_chip):
    """A random pattern of `base`, moved by an index of at least `lowest`: checked; whether it is in bounds."""
    start, shape, strides = patterns(rng, on_chip)
    entry = int(rng.integers(lowest, 9))
    pairs = [list(pair) for pair in zip(strides, shape, strict=True)]
    view = base.ap(pairs, start - base.offset, scalar_offset=nisa.register_alloc(entry), indirect_dim=dim)
    at = positions(start + entry * scale, shape, strides)
    fine = bool(entry >= 0 and bounded(at, start // ROW, on_chip))
    agrees(view, at, fine)
    return fine


@pytest.mark.parametrize("on_chip", [True, False])
def test_a_pattern_that_nothing_moves(core, on_chip):
    rng, met = np.random.default_rng(7), set()
    with core() as c:
        t = tensor(c, on_chip)
        for _ in range(300):
            shape = tuple(int(n) for n in rng.integers(1, 4, 3))
            strides = [ROW if on_chip else int(rng.integers(-13, 14)), *(int(s) for s in rng.integers(-3, 4, 2))]
            start = int(rng.integers(-4, TOTAL + 4))
            at = positions(start, shape, strides)
            fine = bool(start >= 0 and bounded(at, start // ROW, on_chip))
            view = t.ap([list(pair) for pair in zip(strides, shape, strict=True)], start)
            met.add(fine)
            if fine:
                np.testing.assert_array_equal(view.array, at)
            else:
                with pytest.raises(OutOfBounds, match="leaves tensor"):
                    view.array.sum()
    assert met == {True, False}


@pytest.mark.parametrize("on_chip", [True, False])
@pytest.mark.parametrize("dim", [0, 1, 2])
def test_a_pattern_that_an_index_moves(core, on_chip, dim):
    rng, scale, met = np.random.default_rng(dim), (ROW, 4, 1)[dim], set()
    with core() as c:
        t = tensor(c, on_chip)
        for _ in range(150):
            met.add(indexed(rng, t, dim, scale, -2, on_chip))
    assert met == {True, False}


@pytest.mark.parametrize("on_chip", [True, False])
def test_an_index_that_counts_backwards(core, on_chip):
    """Over a dimension whose stride is negative: that of the columns, and in HBM of the rows too."""
    rng, met = np.random.default_rng(3), set()
    with core() as c:
        t = tensor(c, on_chip)
        backwards = [(t.ap([[ROW, 5], [-1, ROW]], ROW - 1), 1, -1)]
        if not on_chip:
            backwards.append((t.ap([[-ROW, 5], [1, ROW]], 4 * ROW), 0, -ROW))
        for _ in range(300):
            base, dim, scale = backwards[rng.integers(len(backwards))]
            met.add(indexed(rng, base, dim, scale, -1, on_chip))
    assert met == {True, False}


@pytest.mark.parametrize("on_chip", [True, False])
@pytest.mark.parametrize("entry", range(-2, 7))
def test_an_entry_that_is_selected(core, on_chip, entry):
    """Of the whole, and of a part, whose entries are fewer than the tensor's."""
    whole = np.arange(TOTAL).reshape(SHAPE)
    with core() as c:
        t = tensor(c, on_chip)
        for dim in (1, 2) if on_chip else (0, 1, 2):
            for part in ((...,), (slice(1, 3), slice(0, 2), slice(1, 3))):
                count = whole[part].shape[dim]
                fine = 0 <= entry < count
                expected = whole[part].take(entry, dim) if fine else None
                agrees(t[part].select(dim, nisa.register_alloc(entry)), expected, fine)


@pytest.mark.parametrize("written", ["nothing", "all but a row", "the rows"])
def test_rows_that_are_gathered_have_been_written(core, written):
    with core() as c:
        table, dst = c.empty((5, 4), buffer="private_hbm"), c.empty((2, 4))
        if written != "nothing":
            for row in (1, 3) if written == "the rows" else (0, 1, 2, 4):
                table[row : row + 1].wrote()
        view = table.vector_select(0, c.tile(np.array([[3], [1]], np.int32)))
        if written == "the rows":
            nisa.dma_copy(dst, view)
            return
        with pytest.raises(Uninitialized, match="reads 4 of 4 elements that nothing has written"):
            nisa.dma_copy(dst, view)


@pytest.mark.parametrize("skip", [True, False])
def test_rows_that_have_an_index_each(core, skip):
    """Those of which an element is outside, or whose index is no row, are left out, or the first of them is named."""
    rng, met = np.random.default_rng(0), set()
    with core("trn3") as c:
        t = tensor(c, False)
        for _ in range(150):
            n, free = int(rng.integers(1, 6)), tuple(int(n) for n in rng.integers(1, 4, 2))
            strides, start = [int(s) for s in rng.integers(-3, 5, 2)], int(rng.integers(TOTAL))
            if not bounded(positions(start, free, strides), 0, False):
                continue
            index = rng.integers(-1, 7 if rng.integers(2) else 3, (n, 1)).astype(np.int32)
            pairs = [[99, n], *([s, f] for s, f in zip(strides, free, strict=True))]
            view = t.ap(pairs, start, vector_offset=c.tile(index), indirect_dim=0)
            at = np.stack([positions(start + int(i) * ROW, free, strides) for i in index[:, 0]])
            fine = np.array([0 <= i < SHAPE[0] and bounded(a, 0, False) for i, a in zip(index[:, 0], at, strict=True)])
            met.add(bool(fine.all()))
            if not fine.all() and not skip:
                first = int(np.argmin(fine))
                with pytest.raises(OutOfBounds, match=f"row {first} has index {index[first, 0]} leaves"):
                    Rows(view)
                continue
            rows = Rows(view, skip)
            kept = np.arange(n) if rows.kept is None else rows.kept
            assert kept.tolist() == np.flatnonzero(fine).tolist() and (rows.kept is None) == bool(fine.all())
            if fine.any():
                np.testing.assert_array_equal(rows.read(), at[fine])
            assert rows.repeat == (len({int(i) for i in index[fine, 0]}) < int(fine.sum()))
    assert met == {True, False}
