"""BLAS's product that adds to what is there."""

from __future__ import annotations

import numpy as np
import pytest

from triptych.simulator.machine.deferral import blas


def numbers(seed, shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("flips", [(False, False), (True, False), (False, True), (True, True)])
def test_a_product_is_made_piece_by_piece(flips):
    """Of operands in a wider tensor, as rows or as columns."""
    if blas._sgemm() is None:
        pytest.skip("NumPy's BLAS has no sgemm to call here")
    around = [numbers(n, (80, 200)) for n in (0, 1)]
    left, right = (x.T[20:84, 5:77] if flip else x[3:67, 7:79] for x, flip in zip(around, flips, strict=True))
    whole = numbers(2, (80, 100))
    out, old = whole[2:74, 9:81], whole.copy()
    blas.multiply(left, right, out, flips, True, (24, 36))
    np.testing.assert_allclose(out, old[2:74, 9:81] + left.astype(float).T @ right, rtol=0, atol=1e-4)
    whole[2:74, 9:81] = old[2:74, 9:81]
    np.testing.assert_array_equal(whole, old)


def test_an_operand_is_read_in_place_where_its_rows_or_columns_lie_apart():
    whole = numbers(0, (6, 10))
    for a in (whole, whole[:, 2:7], whole.T, whole.T[2:7]):
        assert np.shares_memory(blas.readable(a), whole) and blas.is_flipped(a) == (a.strides[0] == 4)
    windows = np.lib.stride_tricks.as_strided(whole, (3, 4), (8, 4))  # rows that overlap
    for a in (
        windows,
        windows.T,
        whole[:, ::2],
        np.broadcast_to(whole[0], (5, 10)),
        whole.astype(np.float16),
        whole.T.astype(np.float16),
    ):
        found = blas.readable(a)
        assert not np.shares_memory(found, whole) and found.dtype == np.float32
        np.testing.assert_array_equal(found, a)


@pytest.mark.parametrize(("k", "tile"), [(1, (8, 8)), (4, (1, 8)), (4, (8, 1))])
def test_forms_in_which_too_little_is_added_up_to_tell_are_never_trusted(k, tile):
    """Of one product an element, and of single rows and columns, equal bits of one trial say nothing."""
    assert not blas.same_bits(k, tile, (8, 8), (False, False))


@pytest.fixture
def with_blas(monkeypatch):
    """with_blas(multiply) has same_bits ask `multiply` in the place of BLAS."""

    def ask(multiply):
        blas.same_bits.cache_clear()
        monkeypatch.setattr(blas, "_sgemm", lambda: "some BLAS")
        monkeypatch.setattr(blas, "multiply", multiply)

    yield ask
    blas.same_bits.cache_clear()


def in_tiles(m, n, wrong=()):
    """NumPy's product and sum of each tile, with the last bit of some elements turned."""

    def multiply(left, right, out, flips, adds, piece):
        assert adds and piece == out.shape and flips == tuple(blas.is_flipped(a) for a in (left, right))
        for i in range(0, out.shape[0], m):
            for j in range(0, out.shape[1], n):
                a, b = left[:, i : i + m].copy(), right[:, j : j + n].copy()
                out[i : i + m, j : j + n] = np.add(np.matmul(a.T, b), out[i : i + m, j : j + n])
        for at in wrong:
            out.view(np.uint32)[at] ^= 1

    return multiply


@pytest.mark.parametrize("flips", [(False, False), (True, False), (False, True), (True, True)])
def test_a_form_in_which_every_tile_has_its_own_bits_is_trusted(with_blas, flips):
    with_blas(in_tiles(4, 6))
    assert blas.same_bits(2, (4, 6), (12, 18), flips)


@pytest.mark.parametrize("at", [(0, 0), (3, 17), (4, 6), (11, 0), (11, 17)])
def test_a_form_in_which_one_element_has_other_bits_is_not_trusted(with_blas, at):
    with_blas(in_tiles(4, 6, [at]))
    assert not blas.same_bits(2, (4, 6), (12, 18), (False, False))
