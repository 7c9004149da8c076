"""nc_find_index8 and nc_match_replace8 against a search written out element by element."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa


def search(data, vals, order):
    """Each value takes the first equal element that none before it took."""
    found = np.full(vals.shape, -1)
    for p, row in enumerate(data):
        free = list(range(len(row)))
        for j in order:
            at = next((i for i in free if row[i] == vals[p, j]), -1)
            if at >= 0:
                free.remove(at)
            found[p, j] = at
    return found


cases = {
    "p": st.integers(1, 9),
    "f": st.integers(8, 40),
    "few": st.booleans(),
    "dtype": st.sampled_from(["float32", "bfloat16", "int16"]),
    "indices": st.sampled_from(["uint16", "uint32"]),
    "layout": st.sampled_from(["dense", "strided", "window", "partitions", "split"]),
    "seed": st.integers(0, 99),
}


def operands(c, cast, p, f, few, dtype, seed):
    """Data and eight values, in `few` many of them equal and some absent."""
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 6 if few else 1000, (p, f)).astype(np.float32)
    vals = np.where(rng.random((p, 8)) < 0.8, rng.permuted(data, axis=1)[:, :8], 1234)
    return cast(data, dtype), cast(vals, dtype)


@settings(max_examples=25, deadline=None)
@given(**cases)
def test_nc_find_index8_pairs_in_ascending_order(core, cast, same, p, f, few, dtype, indices, layout, seed):
    with core() as c:
        data, vals = operands(c, cast, p, f, few, dtype, seed)
        dst = c.empty((p, 8), indices)
        nisa.nc_find_index8(dst, c.tile(data, dtype, layout=layout), c.tile(vals, dtype))
        assert same(dst, search(data, vals, range(8)).astype(indices))


@settings(max_examples=25, deadline=None)
@given(**cases)
def test_nc_match_replace8_pairs_in_descending_order(core, cast, same, p, f, few, dtype, indices, layout, seed):
    with core() as c:
        data, vals = operands(c, cast, p, f, few, dtype, seed)
        tile, dst_idx = c.tile(data, dtype, layout=layout), c.empty((p, 8), indices)
        nisa.nc_match_replace8(tile, tile, c.tile(vals, dtype), -7.0, dst_idx)  # in place
        found = search(data, vals, range(7, -1, -1))
        for row, at in zip(data, found, strict=True):
            row[at[at >= 0]] = -7
        assert same(tile, data) and same(dst_idx, found.astype(indices))


def test_searches_go_over_three_dimensions(core, same):
    with core() as c:
        x = c.random(0, (4, 3, 8))
        data, vals, dst = c.tile(x), c.tile(x[:, 1].reshape(4, 2, 4)), c.empty((4, 8), "uint32")
        nisa.nc_find_index8(dst, data, vals)
        assert same(dst, np.tile(np.arange(8, 16), (4, 1)))
        replaced = c.empty((4, 3, 8))
        nisa.nc_match_replace8(replaced, data, vals, 0.0)
        x[:, 1] = 0
        assert same(replaced, x)


def test_the_documented_example(core, same):
    data = np.array([[1, 2, 3, 4, 8, 8, 8, 8, 8, 8, 8]], np.float32)
    with core() as c:
        vals, dst = c.tile(np.array([[3, 8, 8, 8, 8, 8, 8, 8]], np.float32)), c.empty((1, 11))
        descending, ascending = c.empty((1, 8), "uint32"), c.empty((1, 8), "uint32")
        nisa.nc_match_replace8(dst, c.tile(data), vals, float("-inf"), descending)
        nisa.nc_find_index8(ascending, c.tile(data), vals)
        assert same(descending, [[2, 10, 9, 8, 7, 6, 5, 4]]) and same(ascending, [[2, 4, 5, 6, 7, 8, 9, 10]])
        assert same(dst, np.where((data == 3) | (data == 8), -np.inf, data))


def test_max8_and_two_searches_sort_the_sixteen_largest(core):
    """What AWS's top-k kernels do: take eight, replace them by -inf, take eight more."""
    with core() as c:
        x = c.random(3, (64, 200))
        tile, taken = c.tile(x), []
        for _ in range(2):
            best, at = c.empty((64, 8)), c.empty((64, 8), "uint32")
            nisa.max8(best, tile)
            nisa.nc_find_index8(at, tile, best)
            nisa.nc_match_replace8(tile, tile, best, -np.inf)
            taken.append(at.array.astype(np.int64))
        np.testing.assert_array_equal(np.concatenate(taken, axis=1), np.argsort(-x, axis=1)[:, :16])


def _find(c, data=(4, 16), vals=(4, 8), dst=(4, 8), dtype="uint32"):
    nisa.nc_find_index8(c.empty(dst, dtype), c.empty(data, "bfloat16"), c.empty(vals))


def _replace(c, data=(4, 16), vals=(4, 8), dst=(4, 16), imm=0.0, idx=None):
    nisa.nc_match_replace8(c.empty(dst), c.empty(data), c.empty(vals), imm, idx)


LIMITS = [
    (lambda c: _find(c, (4, 7)), "8 to 16384 elements per partition, got 7"),
    (lambda c: _find(c, (4, 16385)), "8 to 16384 elements per partition, got 16385"),
    (lambda c: _find(c, (4, 2, 2, 4)), "data has at most 3 dimensions"),
    (lambda c: _find(c, vals=(4, 9)), r"vals must be \(4, 8\)"),
    (lambda c: _find(c, vals=(3, 8)), r"vals must be \(4, 8\)"),
    (lambda c: _find(c, vals=(4, 2, 2, 2)), "in at most 3 dimensions"),
    (lambda c: _find(c, dst=(4, 2, 4)), r"dst must be \(4, 8\) in uint16 or uint32"),
    (lambda c: _find(c, dtype="int32"), r"dst must be \(4, 8\) in uint16 or uint32"),
    (_find, "nothing has written"),
    (lambda c: _replace(c, dst=(4, 15)), "same partitions and elements per partition"),
    (lambda c: _replace(c, (4, 7), dst=(4, 7)), "8 to 16384"),
    (lambda c: _replace(c, imm=c.empty((4, 1))), "imm must be a float32 number"),
    (lambda c: _replace(c, idx=c.empty((4, 7), "uint32")), r"dst_idx must be \(4, 8\)"),
    (lambda c: _replace(c, idx=c.empty((4, 8))), r"dst_idx must be \(4, 8\) in uint16 or uint32"),
    (lambda c: _replace(c, idx=c.empty((4, 8), "uint32", "private_hbm")), "dst_idx must be a tile in SBUF or PSUM"),
    (_replace, "nothing has written"),
]


@pytest.mark.parametrize(("call", "words"), LIMITS)
def test_limits(refused, call, words):
    refused(call, words)
