"""max8 against a full sort."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa


@settings(max_examples=25, deadline=None)
@given(
    p=st.integers(1, 9),
    f=st.integers(8, 40),
    dtypes=st.tuples(*[st.sampled_from(["float32", "bfloat16", "int16", "uint8"])] * 2),
    layout=st.sampled_from(["dense", "strided", "window", "partitions", "split"]),
    seed=st.integers(0, 99),
)
def test_max8_is_the_head_of_a_sort(core, cast, same, p, f, dtypes, layout, seed):
    with core() as c:
        x = c.random(seed, (p, f), dtypes[0])
        dst = c.empty((p, 8), dtypes[1])
        nisa.max8(dst, c.tile(x, layout=layout))
        assert same(dst, cast(np.sort(x.astype(np.float32), axis=1)[:, :-9:-1], dtypes[1]))


def test_max8_goes_over_three_dimensions(core, same):
    with core() as c:
        x, dst = c.random(0, (4, 3, 8)), c.empty((4, 8))
        nisa.max8(dst, c.tile(x))
        assert same(dst, np.sort(x.reshape(4, 24), axis=1)[:, :-9:-1])


def test_repeated_values_come_repeatedly(core, same):
    with core() as c:
        dst = c.empty((1, 8))
        nisa.max8(dst, c.tile(np.array([[3, 1, 3, -np.inf, 2, 2, 3, 0, np.inf]], np.float32)))
        assert same(dst, [[np.inf, 3, 3, 3, 2, 2, 1, 0]])


def test_a_nan_is_seen(core):
    with core() as c:
        dst = c.empty((1, 8))
        nisa.max8(dst, c.tile(np.array([[1, 2, 3, 4, np.nan, 5, 6, 7, 8]], np.float32)))
        np.testing.assert_array_equal(dst.array, [[np.nan, 8, 7, 6, 5, 4, 3, 2]])


LIMITS = [
    (lambda c: nisa.max8(c.empty((4, 8)), c.empty((4, 7))), "8 to 16384 elements per partition, got 7"),
    (
        lambda c: nisa.max8(c.empty((4, 8)), c.empty((4, 16385), "bfloat16")),
        "8 to 16384 elements per partition, got 163",
    ),
    (lambda c: nisa.max8(c.empty((4, 8)), c.empty((4, 2, 2, 4))), r"at most 3 dimensions, got \(4, 2, 2, 4\)"),
    (lambda c: nisa.max8(c.empty((4, 9)), c.empty((4, 16))), r"dst must be \(4, 8\), got \(4, 9\)"),
    (lambda c: nisa.max8(c.empty((4, 2, 4)), c.empty((4, 16))), r"dst must be \(4, 8\), got \(4, 2, 4\)"),
    (lambda c: nisa.max8(c.empty((3, 8)), c.empty((4, 16))), r"dst must be \(4, 8\), got \(3, 8\)"),
    (lambda c: nisa.max8(c.empty((4, 8)), c.empty((4, 16))), "nothing has written"),
]


@pytest.mark.parametrize(("call", "words"), LIMITS)
def test_limits(refused, call, words):
    refused(call, words)
