"""bn_stats and bn_aggr against NumPy's mean and variance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl


def moments(x):
    """(count, mean, variance * count) in float64."""
    n = x.shape[1]
    if n == 0:
        return np.zeros((x.shape[0], 3))
    return np.stack([np.full(x.shape[0], n), x.mean(axis=1), x.var(axis=1) * n], axis=1)


@settings(max_examples=25, deadline=None)
@given(
    p=st.integers(1, 9),
    f=st.one_of(st.integers(1, 20), st.just(512)),
    dtype=st.sampled_from(["float32", "bfloat16", "float16", "int8"]),
    layout=st.sampled_from(["dense", "strided", "window", "partitions", "split"]),
    shift=st.sampled_from([0.0, 100.0]),
    seed=st.integers(0, 99),
)
def test_bn_stats_takes_the_even_and_the_odd_elements(core, p, f, dtype, layout, shift, seed):
    with core() as c:
        x = c.random(seed, (p, f), dtype)
        x = x if dtype == "int8" else (x.astype(np.float32) + shift).astype(x.dtype)
        stats = c.empty((p, 6))
        nisa.bn_stats(stats, c.tile(x, layout=layout))
        exact = x.astype(np.float64)
        expected = np.concatenate([moments(exact[:, 0::2]), moments(exact[:, 1::2])], axis=1)
        np.testing.assert_allclose(stats.array, expected, rtol=2e-5, atol=2e-3 if dtype == "int8" else 1e-4)
        np.testing.assert_array_equal(stats.array[:, [0, 3]], expected[:, [0, 3]])


@pytest.mark.parametrize("sizes", [(1,), (7,), (512,), (512, 512), (512, 300, 1)])
def test_bn_aggr_merges_any_number_of_parts(core, sizes):
    """The parts of a long row, of even, odd and unequal lengths, give the row's mean and variance."""
    with core() as c:
        x = c.random(0, (128, sum(sizes))) * 3 + 7
        tile, stats, out = c.tile(x), c.empty((128, 6 * len(sizes))), c.empty((128, 2))
        start = 0
        for i, size in enumerate(sizes):
            nisa.bn_stats(stats[:, 6 * i : 6 * i + 6], tile[:, start : start + size])
            start += size
        nisa.bn_aggr(out, stats)
        exact = x.astype(np.float64)
        np.testing.assert_allclose(out.array, np.stack([exact.mean(1), exact.var(1)], 1), rtol=1e-5, atol=1e-6)


def test_bn_aggr_in_place_and_rounded(core, cast):
    with core() as c:
        stats = c.empty((2, 6))
        nisa.bn_stats(stats, c.tile(np.array([[1, 2, 3, 4], [5, 5, 5, 5]], np.float32)))
        low = c.empty((2, 2), "bfloat16")
        nisa.bn_aggr(low, stats)
        np.testing.assert_array_equal(low.array.astype(np.float32), [[2.5, 1.25], [5, 0]])
        nisa.bn_aggr(stats[:, 0:2], stats)
        np.testing.assert_array_equal(stats.array[:, :2], [[2.5, 1.25], [5, 0]])


def test_a_nan_stays_in_its_partition(core):
    with core() as c:
        stats, out = c.empty((2, 6)), c.empty((2, 2))
        nisa.bn_stats(stats, c.tile(np.array([[1, np.nan, 3, 4], [1, 2, 3, 4]], np.float32)))
        nisa.bn_aggr(out, stats)
        assert np.isnan(out.array[0]).all() and out.array[1].tolist() == [2.5, 1.25]


LIMITS = [
    (lambda c: nisa.bn_stats(c.empty((4, 6)), c.empty((4, 513))), "at most 512 elements per partition"),
    (lambda c: nisa.bn_stats(c.empty((4, 5)), c.empty((4, 8))), r"dst must be \(4, 6\), got \(4, 5\)"),
    (lambda c: nisa.bn_stats(c.empty((3, 6)), c.empty((4, 8))), r"dst must be \(4, 6\), got \(3, 6\)"),
    (lambda c: nisa.bn_stats(c.empty((4, 6)), c.empty((4, 8))), "nothing has written"),
    (lambda c: nisa.bn_stats(c.empty((4, 6)), c.empty((4, 8), buffer="private_hbm")), "data must be a tile in SBUF or"),
    (lambda c: nisa.bn_aggr(c.empty((4, 2)), c.empty((4, 8))), r"a multiple of 3 elements per partition; got \(4, 8\)"),
    (lambda c: nisa.bn_aggr(c.empty((4, 6)), c.empty((4, 6))), r"dst must be \(4, 2\), got \(4, 6\)"),
    (lambda c: nisa.bn_aggr(c.empty((4, 2)), c.empty((4, 6))), "nothing has written"),
]


@pytest.mark.parametrize(("call", "words"), LIMITS)
def test_limits(refused, call, words):
    refused(call, words)


def test_the_limit_is_the_one_that_kernels_can_read(core):
    with core() as c:
        full = nl.tile_size.bn_stats_fmax
        nisa.bn_stats(c.empty((1, 6)), c.tile(np.ones((1, full), np.float32)))
