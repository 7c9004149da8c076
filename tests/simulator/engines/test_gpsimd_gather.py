"""local_gather and nc_n_gather against indexing in a loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.simulator import NkiValidationError, OutOfBounds
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

dtypes = st.sampled_from(["float32", "bfloat16", "int32", "uint8"])
layouts = st.sampled_from(["dense", "strided", "window", "split"])


@settings(max_examples=25, deadline=None)
@given(
    cores=st.sampled_from([1, 2, 8]),
    columns=st.integers(1, 4),
    each=st.sampled_from([1, 2, 4]),
    drop=st.integers(0, 15),
    dtype=dtypes,
    layout=layouts,
)
def test_each_core_gathers_with_its_own_indices(core, same, cores, columns, each, drop, dtype, layout):
    p, f, valid = 16 * cores, 12, 16 * columns - drop
    index = np.random.default_rng(drop).integers(0, f - each, (p, columns), dtype=np.uint16, endpoint=True)
    with core() as c:
        x = c.random(0, (p, f), dtype)
        dst = c.empty((p, valid, each), dtype)
        source = c.tile(x, dtype, layout=layout)
        nisa.local_gather(dst, source, c.tile(index), each, valid if drop else None)
        expected = np.empty((p, valid, each), x.dtype)
        for q in range(p):
            mine = index[q // 16 * 16 : q // 16 * 16 + 16].flatten(order="F")  # partition first
            for k in range(valid):
                expected[q, k] = x[q, mine[k] : mine[k] + each]
        assert same(dst, expected)


@settings(max_examples=25, deadline=None)
@given(p=st.integers(1, 9), n=st.integers(1, 20), dtype=dtypes, layout=layouts)
def test_nc_n_gather_is_numpys_take_along_axis(core, same, p, n, dtype, layout):
    with core() as c:
        x = c.random(0, (p, 12), dtype)
        index = np.random.default_rng(n).integers(0, 12, (p, n), dtype=np.uint32)
        dst = c.empty((p, n), dtype)
        nisa.nc_n_gather(dst, c.tile(x, dtype, layout=layout), c.tile(index))
        assert same(dst, np.take_along_axis(x, index.astype(int), axis=1))


@pytest.mark.parametrize("each", range(1, 65))
def test_an_index_brings_a_power_of_two_of_elements_up_to_32(core, same, each):
    with core() as c:
        x, index = c.random(0, (16, 70)), c.tile(np.full((16, 1), 3, np.uint16))
        dst = c.empty((16, 16, each))
        if each in (1, 2, 4, 8, 16, 32):
            nisa.local_gather(dst, c.tile(x), index, each)
            assert same(dst, np.repeat(x[:, None, 3 : 3 + each], 16, 1))
        else:
            with pytest.raises(NkiValidationError, match="num_elem_per_idx must be one of"):
                nisa.local_gather(dst, c.tile(x), index, each)


def test_one_index_that_leaves_its_partition_is_enough(core):
    with core() as c:
        indices = np.zeros((16, 2), np.uint16)
        indices[7, 1] = 11
        with pytest.raises(OutOfBounds, match="index 11 and 2 elements leave the 12 that a partition"):
            nisa.local_gather(c.empty((16, 32, 2)), c.tile(np.ones((16, 12), np.float32)), c.tile(indices), 2)


def test_a_gather_does_not_overwrite_what_it_reads(core):
    with core() as c:
        tile, index = c.tile(np.zeros((16, 16)), "float32"), c.tile(np.zeros((16, 1)), "uint16")
        for gather in (
            lambda: nisa.nc_n_gather(tile, tile, c.tile(np.zeros((16, 16)), "uint32")),
            lambda: nisa.nc_n_gather(tile, c.tile(np.zeros((16, 3)), "float32"), tile.view(nl.uint32)),
            lambda: nisa.local_gather(tile, tile, index),
        ):
            with pytest.raises(NkiValidationError, match="overlaps"):
                gather()


def test_nan_payloads_and_large_integers_survive(core):
    with core() as c:
        payload = np.array([[0x7FC00123, 0xFFC00001]], np.uint32).view(np.float32)
        dst = c.empty((1, 2))
        nisa.nc_n_gather(dst, c.tile(payload), c.tile(np.array([[1, 0]], np.uint32)))
        assert dst.array.view(np.uint32).tolist() == [[0xFFC00001, 0x7FC00123]]


def _filled(c, shapes, kinds, index):
    return [c.tile(np.full(shape, at), k) for shape, k, at in zip(shapes, kinds, (0, 0, index), strict=True)]


def _zero(c, shape, kind="float32"):
    return c.tile(np.zeros(shape), kind)


def _local(c, dst=(32, 32), src=(32, 8), index=(32, 2), kinds=("float32", "float32", "uint16"), value=0, **more):
    nisa.local_gather(*_filled(c, (dst, src, index), kinds, value), **more)


def _n(c, dst=(4, 3), data=(4, 8), indices=(4, 3), kinds=("float32", "float32", "uint32"), value=0):
    nisa.nc_n_gather(*_filled(c, (dst, data, indices), kinds, value))


LIMITS = [
    (lambda c: _local(c, src=(16, 8)), "same partitions, a multiple of 16"),
    (lambda c: _local(c, (8, 16), (8, 8), (8, 2)), "same partitions, a multiple of 16"),
    (lambda c: _local(c, kinds=("float32", "float32", "uint32")), "index must be uint16"),
    (lambda c: _local(c, kinds=("bfloat16", "float32", "uint16")), "must have the same dtype"),
    (lambda c: _local(c, num_elem_per_idx=3), "num_elem_per_idx must be one of"),
    (lambda c: _local(c, num_valid_indices=33), "num_valid_indices must be 1 to 32"),
    (lambda c: _local(c, num_valid_indices=0), "num_valid_indices must be 1 to 32"),
    (lambda c: _local(c, num_valid_indices=2.0), "num_valid_indices must be 1 to 32"),
    (lambda c: _local(c, (16, 4112), (16, 8), (16, 257)), "at most 4096 indices, got 4112"),
    (lambda c: _local(c, num_elem_per_idx=2), r"32 partitions of 32 indices x 2 elements, got \(32, 32\)"),
    (lambda c: _local(c, value=8), "index 8 and 1 elements leave the 8"),
    (lambda c: _local(c, dst=(32, 64), num_elem_per_idx=2, value=7), "index 7 and 2 elements leave the 8"),
    (
        lambda c: nisa.local_gather(c.empty((16, 16)), _zero(c, (32, 8))[8:24], _zero(c, (16, 1), "uint16")),
        "starts at partition 8, and 16 partitions must start at",
    ),
    (
        lambda c: nisa.local_gather(c.empty((16, 16)), c.empty((16, 8), buffer="psum"), c.empty((16, 1), "uint16")),
        "src_buffer must be a tile in SBUF",
    ),
    (
        lambda c: nisa.local_gather(c.empty((16, 16)), c.empty((16, 8)), c.empty((16, 1), "uint16")),
        "nothing has written",
    ),
    (lambda c: _n(c, kinds=("float32", "bfloat16", "uint32")), "must have the same dtype"),
    (lambda c: _n(c, kinds=("float32", "float32", "uint16")), "indices must be uint32"),
    (lambda c: _n(c, data=(3, 8)), "must have the same partitions"),
    (lambda c: _n(c, dst=(4, 4)), "as many elements as indices"),
    (lambda c: _n(c, value=8), "index 8 is outside the 8 elements"),
    (
        lambda c: nisa.nc_n_gather(c.empty((4, 3)), c.empty((4, 8)), c.empty((4, 3), "uint32", "psum")),
        "indices must be a tile in SBUF",
    ),
    (lambda c: nisa.nc_n_gather(c.empty((4, 3)), c.empty((4, 8)), c.empty((4, 3), "uint32")), "nothing has written"),
]


@pytest.mark.parametrize(("call", "words"), LIMITS)
def test_limits(refused, call, words):
    refused(call, words)
