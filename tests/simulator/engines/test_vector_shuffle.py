"""nc_stream_shuffle against indexing one partition at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.memory.storage import MemoryRegion

with simulated_nki():
    import nki.isa as nisa

masks = st.lists(st.sampled_from([*range(32), 255]), min_size=32, max_size=32)


def shuffled(before, src, mask):
    after = before.copy()
    for p in range(len(after)):
        if mask[p % 32] != 255:
            after[p] = src[p // 32 * 32 + mask[p % 32]]
    return after


@settings(max_examples=25, deadline=None)
@given(
    mask=masks,
    p=st.sampled_from([32, 64, 128]),
    dtype=st.sampled_from(["float32", "bfloat16", "int32", "uint8"]),
    layout=st.sampled_from(["dense", "strided", "window", "split"]),
    buffer=st.sampled_from(["sbuf", "psum"]),
)
def test_each_quadrant_is_shuffled_alike(core, same, mask, p, dtype, layout, buffer):
    with core() as c:
        x, old = c.random(0, (p, 6), dtype), c.random(1, (p, 6), dtype)
        dst = c.tile(old, dtype)
        nisa.nc_stream_shuffle(dst, c.tile(x, dtype, buffer, layout), mask)
        assert same(dst, shuffled(old, x, mask))


@settings(max_examples=10, deadline=None)
@given(mask=masks)
def test_in_place(core, same, mask):
    with core() as c:
        x = c.random(0, (64, 5))
        tile = c.tile(x)
        nisa.nc_stream_shuffle(tile, tile, mask)
        assert same(tile, shuffled(x, x, mask))


def test_one_partition_is_broadcast_to_a_quadrant_elsewhere(core, same):
    with core() as c:
        x = c.random(0, (128, 3), "bfloat16")
        big = c.empty((128, 3), "bfloat16")
        nisa.nc_stream_shuffle(big[96:128], c.tile(x, "bfloat16")[64:65], [0] * 32)
        assert same(big[96:128], np.repeat(x[64:65], 32, axis=0))


def test_an_address_counts_into_the_partition(core, refused):
    def call(c):
        placed = c.machine.allocate((32, 4), "float32", MemoryRegion.sbuf, address=(64, 0))
        nisa.memset(placed, 1.0)
        nisa.nc_stream_shuffle(placed, placed, [0] * 32)
        nisa.nc_stream_shuffle(placed[16:20], placed, [0] * 32)

    refused(call, "dst must start on partition 0 or 32 or 64 or 96, got 80")


def test_what_255_leaves_alone_stays_unwritten_and_is_not_read(core, refused):
    def call(c):
        src, dst = c.empty((32, 4)), c.empty((32, 4))
        nisa.memset(src[0:1], 2.0)
        nisa.nc_stream_shuffle(dst, src, [0, *[255] * 31])  # reads partition 0 alone
        assert (dst[0:1].array == 2).all()
        dst.check_written()

    refused(call, "reads 124 of 128 elements")


def _shuffle(c, dst=(32, 4), src=(32, 4), mask=(0,) * 32, dtype="float32"):
    nisa.nc_stream_shuffle(c.empty(dst), c.empty(src, dtype), mask)


LIMITS = [
    (lambda c: _shuffle(c, dtype="bfloat16"), "same dtype"),
    (lambda c: _shuffle(c, src=(32, 5)), "same elements per partition"),
    (lambda c: _shuffle(c, mask=[0] * 31), "shuffle_mask must be 32 integers"),
    (lambda c: _shuffle(c, mask=[32] * 32), "shuffle_mask must be 32 integers"),
    (lambda c: _shuffle(c, mask=[0.0] * 32), "shuffle_mask must be 32 integers"),
    (lambda c: _shuffle(c, mask=[False, *range(1, 32)]), "shuffle_mask must be 32 integers"),
    (lambda c: _shuffle(c, mask=[-1] * 32), "shuffle_mask must be 32 integers"),
    (lambda c: _shuffle(c, mask=0), "shuffle_mask must be 32 integers"),
    (lambda c: _shuffle(c, src=(4, 4), mask=[4] * 32), "names partition 4 of src, which has 4"),
    (lambda c: _shuffle(c, src=(4, 4), dst=(64, 4)), "names partition 32 of src, which has 4"),
    (
        lambda c: nisa.nc_stream_shuffle(c.empty((32, 4)), c.empty((64, 4))[16:48], [0] * 32),
        "with 32 active partitions src must start on partition 0 or 32 or 64 or 96, got 16",
    ),
    (
        lambda c: nisa.nc_stream_shuffle(c.empty((128, 4))[32:96], c.empty((64, 4)), [0] * 32),
        "with 64 active partitions dst must start on partition 0 or 64, got 32",
    ),
    (
        lambda c: nisa.nc_stream_shuffle(c.empty((128, 4))[32:65], c.empty((33, 4)), [0] * 32),
        "with 64 active partitions dst must start on partition 0 or 64, got 32",
    ),
    (
        lambda c: nisa.nc_stream_shuffle(c.empty((128, 4))[32:128], c.empty((96, 4)), [0] * 32),
        "with 96 active partitions dst must start on partition 0, got 32",
    ),
    (_shuffle, "nothing has written"),
]


@pytest.mark.parametrize(("call", "words"), LIMITS)
def test_limits(refused, call, words):
    refused(call, words)
