"""dma_compute against a float32 sum in the order of its sources."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

V3 = ("trn2", "trn3")
kinds = st.sampled_from(["float32", "bfloat16", "float16", "int16"])


@settings(max_examples=25, deadline=None)
@given(sources=st.lists(kinds, min_size=1, max_size=16), out=kinds, buffer=st.sampled_from(["sbuf", "private_hbm"]))
def test_it_adds_in_float32_and_rounds_once(core, cast, same, sources, out, buffer):
    with core() as c:
        arrays = [cast(c.random(i, (3, 4)), kind) for i, kind in enumerate(sources)]
        places = itertools.cycle(["sbuf", "private_hbm"])
        tiles = [c.tile(x, kind, place) for x, kind, place in zip(arrays, sources, places, strict=False)]
        dst = c.empty((3, 2, 2), out, buffer)
        nisa.dma_compute(dst, tiles, nl.add, [1.0] * len(tiles))
        total = arrays[0].astype(np.float32)
        for x in arrays[1:]:
            total = total + x.astype(np.float32)
        assert same(dst, cast(total, out).reshape(3, 2, 2))


def test_dst_may_be_a_source(core, same):
    with core() as c:
        tile = c.tile(np.ones((2, 3), np.float32), buffer="private_hbm")
        nisa.dma_compute(tile, [tile, tile, c.tile(np.full((2, 3), 5.0, np.float32))], nl.add)
        assert same(tile, np.full((2, 3), 7))


def _gather(c, index, p=3, dst=None, first=True, **more):
    """Three tiles, of which the last has gained rows of the middle one."""
    table = c.tile(np.arange(20, dtype=np.float32).reshape(10, 2), buffer="private_hbm")
    dst = c.tile(np.full((3, 2), 100.0, np.float32)) if dst is None else dst
    rows = table.ap([[2, p], [1, 2]], vector_offset=c.tile(np.array(index, np.int32)[:, None]))
    nisa.dma_compute(dst, [dst, rows] if first else [rows, dst], nl.add, **more)
    return dst


@pytest.mark.parametrize("first", [True, False])
def test_rows_are_gathered_onto_dst(core, same, first):
    with core() as c:
        dst = _gather(c, [9, 0, 4], first=first)
        assert same(dst, [[118, 119], [100, 101], [108, 109]])
        event = c.trace.events[-1]
        assert event.attributes["gathered"] and len(event.reads) == 5


def test_a_row_out_of_bounds_raises_or_is_skipped(core, same, refused):
    refused(lambda c: _gather(c, [9, 10, 4]), "index 10 leaves dimension 0", V3)
    refused(lambda c: _gather(c, [9, 0, 4]), "needs NeuronCore-v3 or newer", ("trn1",), V3)
    with core() as c:
        dst = _gather(c, [9, 10, 4], oob_mode=nisa.oob_mode.skip)
        assert same(dst, [[118, 119], [100, 100], [108, 109]])


def _scatter(c, index, p=3, own=None, source=None, first=True, **more):
    """A table whose rows `index` have gained 1000, 2000 and 3000."""
    table = c.tile(np.arange(20, dtype=np.float32).reshape(10, 2), buffer="private_hbm")
    gained = c.tile(np.repeat([[1000.0], [2000.0], [3000.0]], 2, 1), "float32") if source is None else source
    at = c.tile(np.array(index, np.int32)[:, None])
    rows = table.ap([[2, p], [1, 2]], vector_offset=at)
    same = table.ap([[2, p], [1, 2]], vector_offset=at[:, :]) if own is None else own(table, at)
    nisa.dma_compute(rows, [same, gained] if first else [gained, same], nl.add, **more)
    return table


@pytest.mark.parametrize("first", [True, False])
def test_rows_are_scattered_onto_dst(core, same, first):
    with core() as c:
        table = _scatter(c, [9, 0, 4], first=first)
        expected = np.arange(20, dtype=np.float32).reshape(10, 2)
        expected[[9, 0, 4]] += [[1000], [2000], [3000]]
        assert same(table, expected)
        event = c.trace.events[-1]
        assert event.attributes["scattered"] and len(event.reads) == 5 and len(event.writes) == 3


def test_a_scattered_row_out_of_bounds_raises_or_is_skipped(core, same, refused):
    refused(lambda c: _scatter(c, [9, -1, 4]), "index -1 leaves dimension 0", V3)
    with core() as c:
        table = _scatter(c, [9, 10, 10], oob_mode=nisa.oob_mode.skip)
        assert same(table[9:10], [[1018, 1019]]) and same(table[:9], np.arange(18).reshape(9, 2))


def _add(c, srcs=2, size=(4, 6), op=nl.add, buffer="sbuf", dtype="float32", **more):
    nisa.dma_compute(c.empty((4, 6), buffer=buffer), [c.empty(size, dtype) for _ in range(srcs)], op, **more)


LIMITS = [
    (lambda c: _add(c, 0), "srcs must be a list of 1 to 16 tensors"),
    (lambda c: _add(c, 17), "srcs must be a list of 1 to 16 tensors"),
    (lambda c: nisa.dma_compute(c.empty((4, 6)), c.empty((4, 6)), nl.add), "srcs must be a list of 1 to 16"),
    (lambda c: _add(c, buffer="psum"), "dst must be a tensor in HBM or SBUF"),
    (lambda c: nisa.dma_compute(c.empty((4, 6)), [1.0], nl.add), r"srcs\[0\] must be a tensor in HBM or SBUF"),
    (lambda c: _add(c, op=nl.maximum), "reduce_op must be nl.add"),
    (lambda c: _add(c, scales=[1.0, 2.0]), "scales must be None or 2 times 1.0"),
    (lambda c: _add(c, scales=1.0), "scales must be None or 2 times 1.0"),
    (lambda c: _add(c, scales=[1.0]), "scales must be None or 2 times 1.0"),
    (lambda c: _add(c, unique_indices=False), "unique_indices must be True"),
    (lambda c: _add(c, size=(4, 5)), r"srcs\[0\] and dst must hold as many elements"),
    (lambda c: _add(c, dtype="float8_e5m2_x4"), "packed dtypes hold no numbers"),
    (_add, "nothing has written"),
]


@pytest.mark.parametrize(("call", "words"), LIMITS)
def test_limits(refused, call, words):
    refused(call, words)


def _moved(c):
    """Three rows in SBUF that a register chooses."""
    return c.tile(np.ones((3, 2, 4), np.float32)).select(2, nisa.register_alloc(1))


ROW_LIMITS = [
    (lambda c: _scatter(c, [1, 2, 3], source=_moved(c)), "with a dynamic address, dma_compute takes two sources"),
    (
        lambda c: _gather(c, [1, 2, 3], dst=c.empty((3, 2), buffer="private_hbm")),
        "with a dynamic address, dma_compute takes two sources",
    ),
    (lambda c: _gather(c, [1, 2], 2), "hold as many elements"),
    (lambda c: _gather(c, [1, 2, 3], dst=c.empty((3, 2))), "nothing has written"),
    (lambda c: _scatter(c, [1, 2, 1]), "has one index twice"),
    (lambda c: _scatter(c, [1, 2, 3], source=c.empty((3, 2))), "nothing has written"),
    (lambda c: _scatter(c, [1, 2, 3], source=c.empty((3, 2), buffer="private_hbm")), "takes two sources"),
    (lambda c: _scatter(c, [1, 2, 3], own=lambda t, i: t[1:4]), "takes two sources"),
    (lambda c: _scatter(c, [1, 2, 3], own=lambda t, i: c.empty((3, 2))), "takes two sources"),
    (lambda c: _scatter(c, [1, 2, 3], own=lambda t, i: t.vector_select(0, c.empty((3, 1), "int32"))), "takes two"),
    (lambda c: _scatter(c, [1, 2, 3], source=c.empty((1, 6))), "3 rows need as many partitions in SBUF"),
    (lambda c: _scatter(c, [1, 2, 3], unique_indices=False), "unique_indices must be True"),
]


@pytest.mark.parametrize(("call", "words"), ROW_LIMITS)
def test_limits_of_rows(refused, call, words):
    refused(call, words, V3)
