"""nonzero_with_count, sequence_bounds and topk against plain loops."""

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
    p=st.sampled_from([1, 16, 17, 128]),
    n=st.integers(1, 20),
    offset=st.integers(-9, 99),
    padding=st.integers(-3, 3),
    dtype=st.sampled_from(["float32", "int32"]),
    layout=st.sampled_from(["dense", "strided", "window"]),
)
def test_nonzero_with_count_serves_every_sixteenth_partition(core, p, n, offset, padding, dtype, layout):
    with core() as c:
        x = np.random.default_rng(n).integers(-1, 2, (p, n)).astype(dtype)
        dst = c.tile(np.full((p, n + 1), -77, np.int32))
        nisa.nonzero_with_count(dst, c.tile(x, layout=layout), offset, padding)
        for q in range(p):
            at = [i + offset for i in range(n) if x[q, i] != 0]
            expected = [*at, *[padding] * (n - len(at)), len(at)] if q % 16 == 0 else [-77] * (n + 1)
            assert dst.array[q].tolist() == expected


def test_nonzero_with_count_reads_and_writes_nothing_else(core, same, refused):
    def call(c):
        src, dst = c.empty((32, 8)), c.empty((32, 9), "int32")
        for row in (0, 16):
            nisa.dma_copy(src[row : row + 1], c.tile(np.array([[0, 1, 1, 0, 0, 0, 0, 0]]), "float32"))
        nisa.nonzero_with_count(dst, src, 16)
        assert same(dst[0:1], [[17, 18, -1, -1, -1, -1, -1, -1, 2]])
        nisa.nonzero_with_count(dst, src, 2**31 - 8)
        assert same(dst[0:1], [[2**31 - 7, 2**31 - 6, -1, -1, -1, -1, -1, -1, 2]])
        nisa.dma_copy(c.empty((1, 9), "int32"), dst[1:2])

    refused(call, "reads 9 of 9 elements", on=("trn2", "trn3"))


@settings(max_examples=25, deadline=None)
@given(
    runs=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), min_size=1, max_size=8),
    dtypes=st.tuples(*[st.sampled_from(["float32", "int32"])] * 2),
)
def test_sequence_bounds_are_those_of_the_run(core, same, runs, dtypes):
    ids = [i for i, times in runs for _ in range(times)]
    n = len(ids)
    bounds = np.empty((1, 2, n))
    for i, mine in enumerate(ids):
        start, end = i, i
        while start and ids[start - 1] == mine:
            start -= 1
        while end < n and ids[end] == mine:
            end += 1
        bounds[0, :, i] = (start, end) if mine else (n, -1)
    with core() as c:
        dst = c.empty((1, 2, n), dtypes[1])
        nisa.sequence_bounds(dst, c.tile(np.array([ids]), dtypes[0]))
        assert same(dst, bounds)


@settings(max_examples=25, deadline=None)
@given(cores=st.sampled_from([1, 8]), n=st.integers(8, 60), k=st.integers(1, 8), ties=st.booleans())
def test_topk_of_the_snake(core, same, cast, cores, n, k, ties):
    p = 16 * cores
    rng = np.random.default_rng(n)
    values = cast(rng.integers(0, 4 if ties else 10**6, (cores, n)).astype(np.float32), "bfloat16")
    with core() as c:
        src = c.empty((p, -(-n // 16) + 1), "bfloat16")
        for g in range(cores):
            for i in range(n):  # only what the snake covers is ever written
                at = src[16 * g + i % 16 : 16 * g + i % 16 + 1, i // 16 : i // 16 + 1]
                at.array[...] = values[g, i]
                at.wrote()
        vals, idx = c.empty((p, k), "bfloat16"), c.empty((p, k), "uint32")
        nisa.topk(vals, idx, src, n)
        order = np.array([sorted(range(n), key=lambda i: (row[i], -i))[n - k :] for row in values.astype(float)])
        assert same(idx, np.repeat(order, 16, axis=0))
        assert same(vals, np.repeat(np.take_along_axis(values, order, axis=1), 16, axis=0))
        assert "not documented" in c.trace.notes[-1]


def test_topk_counts_a_nan_as_largest(core, same):
    """As max8 does, so that one is seen."""
    values = np.array([1, np.nan, 5, np.inf, -np.inf, np.nan, 2, 0] + [-1] * 8, np.float32).reshape(16, 1)
    with core() as c:
        vals, idx = c.empty((16, 4), "bfloat16"), c.empty((16, 4), "uint32")
        nisa.topk(vals, idx, c.tile(values, "bfloat16"), 16)
        assert same(idx, [[2, 3, 5, 1]] * 16) and same(vals, [[5, np.inf, np.nan, np.nan]] * 16)


def test_topk_reads_the_last_column_of_every_group(refused):
    def call(c):
        src = c.empty((32, 2), "bfloat16")
        nisa.memset(src[:, 0:1], 1.0)
        for row in (0, 1, 16):  # values 16 and 17 of each group; the second's last is missing
            nisa.dma_copy(src[row : row + 1, 1:2], src[row : row + 1, 0:1])
        nisa.topk(c.empty((32, 8), "bfloat16"), c.empty((32, 8), "uint32"), src, 18)

    refused(call, r"nisa.topk at .*: reads 1 of 2 elements")


def _nonzero(c, dst=(16, 9), src=(16, 8), kinds=("int32", "float32"), **more):
    nisa.nonzero_with_count(c.empty(dst, kinds[0]), c.empty(src, kinds[1]), **more)


V3_LIMITS = [
    (lambda c: _nonzero(c, kinds=("int32", "bfloat16")), "src must be float32 or int32"),
    (lambda c: _nonzero(c, kinds=("uint32", "float32")), "dst must be int32"),
    (lambda c: _nonzero(c, dst=(16, 8)), r"16 partitions of 8 \+ 1 elements"),
    (lambda c: _nonzero(c, dst=(8, 9)), r"16 partitions of 8 \+ 1 elements"),
    (lambda c: _nonzero(c, index_offset=0.5), "index_offset must be an int32"),
    (lambda c: _nonzero(c, index_offset=2**31 - 7), r"index_offset \+ 7 must be an int32"),
    (lambda c: _nonzero(c, padding_val=-(2**31) - 1), "padding_val must be an int32"),
    (
        lambda c: nisa.nonzero_with_count(c.empty((8, 9), "int32"), c.tile(np.zeros((16, 8)), "float32")[8:16]),
        "starts at partition 8, and 8 partitions must start at",
    ),
    (
        lambda c: nisa.nonzero_with_count(c.empty((8, 9), "int32"), c.empty((8, 8), buffer="psum")),
        "src must be a tile in SBUF",
    ),
    (_nonzero, "nothing has written"),
]


@pytest.mark.parametrize(("call", "words"), V3_LIMITS)
def test_limits_from_v3(refused, call, words):
    refused(call, words, on=("trn2", "trn3"))


def _bounds(c, dst=(1, 2, 8), ids=(1, 8), kinds=("float32", "float32"), fill=None):
    tile = c.empty(ids, kinds[1]) if fill is None else c.tile(np.full(ids, fill), kinds[1])
    nisa.sequence_bounds(c.empty(dst, kinds[0]), tile)


def _topk(c, src=(16, 4), k=8, n=42, vals=None, idx=None, kinds=("bfloat16", "bfloat16", "uint32")):
    out = (src[0], k)
    nisa.topk(c.empty(vals or out, kinds[1]), c.empty(idx or out, kinds[2]), c.empty(src, kinds[0]), n)


LIMITS = [
    (lambda c: _bounds(c, kinds=("bfloat16", "float32")), "dst must be float32 or int32"),
    (lambda c: _bounds(c, kinds=("float32", "uint32")), "segment_ids must be float32 or int32"),
    (lambda c: _bounds(c, ids=(2, 8)), "segment_ids must have 1 partition"),
    (lambda c: _bounds(c, dst=(1, 16)), r"dst must be \(1, 2, 8\), got \(1, 16\)"),
    (lambda c: _bounds(c, fill=-1), "segment_ids must be integers of 0 or more, got -1"),
    (lambda c: _bounds(c, fill=0.5), "segment_ids must be integers of 0 or more, got 0.5"),
    (
        lambda c: nisa.sequence_bounds(c.empty((1, 2, 8)), c.empty((1, 8), buffer="psum")),
        "segment_ids must be a tile in SBUF",
    ),
    (_bounds, "nothing has written"),
    (lambda c: _topk(c, kinds=("float32", "bfloat16", "uint32")), r"src must be \[P, free\] in bfloat16"),
    (lambda c: _topk(c, kinds=("bfloat16", "float32", "uint32")), r"val_dst must be \[P, free\] in bfloat16"),
    (lambda c: _topk(c, kinds=("bfloat16", "bfloat16", "int32")), r"idx_dst must be \[P, free\] in uint32"),
    (lambda c: _topk(c, src=(16, 2, 2)), r"src must be \[P, free\]"),
    (lambda c: _topk(c, src=(8, 4)), "a multiple of 16"),
    (lambda c: _topk(c, idx=(16, 7)), "the last two one shape"),
    (lambda c: _topk(c, n=7), "n must be 8 to 65535, got"),
    (lambda c: _topk(c, src=(16, 4096), n=65536), "n must be 8 to 65535, got"),
    (lambda c: _topk(c, n=65), "65 values take 5 columns of src"),
    (lambda c: _topk(c, k=43), "must be 1 to 42, got 43"),
    (
        lambda c: nisa.topk(c.empty((16, 8), "bfloat16", "psum"), c.empty((16, 8), "uint32"), c.empty((16, 4)), 9),
        "val_dst must be a tile in SBUF",
    ),
    (_topk, "nothing has written"),
]


@pytest.mark.parametrize(("call", "words"), LIMITS)
def test_limits(refused, call, words):
    refused(call, words)
