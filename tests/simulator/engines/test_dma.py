"""DMA: copies that cast and transposes, between HBM and SBUF."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.simulator import NkiValidationError
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

V2, V3, V4 = TARGETS = ("trn1", "trn2", "trn3")
mode = nisa.dge_mode
dtypes = st.sampled_from(["float32", "bfloat16", "float16", "float8_e4m3", "int8", "int32", "uint16"])
layouts = st.sampled_from(["dense", "strided", "window", "partitions", "split"])
buffers = st.sampled_from(["sbuf", "private_hbm", "shared_hbm"])


def test_skipping_what_is_out_of_bounds_changes_nothing_at_a_static_address(core, same):
    x = np.arange(32, dtype=np.float32).reshape(4, 8)
    with core("trn2") as c:
        copied, added = c.empty((4, 8)), c.empty((4, 8))
        nisa.dma_copy(copied, c.tile(x), oob_mode=nisa.oob_mode.skip)
        nisa.dma_compute(added, [c.tile(x), c.tile(x)], reduce_op=nl.add, oob_mode=nisa.oob_mode.skip)
        assert same(copied, x) and same(added, 2 * x)


@settings(max_examples=40, deadline=None)
@given(
    p=st.integers(1, 9),
    f=st.integers(1, 12),
    kinds=st.tuples(dtypes, dtypes),
    places=st.tuples(buffers, buffers),
    layouts=st.tuples(layouts, layouts),
    seed=st.integers(0, 99),
)
def test_dma_copy_casts_through_float32(core, cast, same, p, f, kinds, places, layouts, seed):
    with core() as c:
        x = c.random(seed, (p, f), kinds[0])
        dst = c.tile(np.zeros((p, f)), kinds[1], places[1], layouts[1])
        nisa.dma_copy(dst, c.tile(x, kinds[0], places[0], layouts[0]))
        assert same(dst, x if kinds[0] == kinds[1] else cast(x.astype(np.float32), kinds[1]))


def test_dma_copy_reshapes_in_row_major_order(core, same):
    with core() as c:
        x = c.random(0, (6, 4))
        for shape in ((4, 6), (2, 3, 4), (1, 24)):
            dst = c.empty(shape)
            nisa.dma_copy(dst, c.tile(x, buffer="private_hbm"))
            assert same(dst, x.reshape(shape))
        line = c.empty((24,), buffer="shared_hbm")
        nisa.dma_copy(line, c.tile(x))
        assert same(line, x.reshape(-1))


@pytest.mark.parametrize("layout", ["dense", "strided"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float8_e4m3", "float8_e4m3fn", "float8_e5m2"])
def test_dma_copy_moves_bits_where_dtypes_agree(core, dtype, layout):
    """All NaN keep theirs, and so do numbers that have no normal form."""
    with core("trn3") as c:
        source, dst = (c.tile(np.zeros((4, 512)), dtype, buffer, layout) for buffer in ("sbuf", "shared_hbm"))
        kind = np.dtype(f"u{source.dtype.itemsize}")
        step = max(1, 2 ** (8 * kind.itemsize) // 2048)
        source.array.view(kind)[...] = (np.arange(2048) * step + 1).astype(kind).reshape(4, 512)  # signalling NaN, too
        nisa.dma_copy(dst, source)
        np.testing.assert_array_equal(dst.array.view(kind), source.array.view(kind))


@pytest.mark.parametrize("place", ["sbuf", "private_hbm"])
def test_dma_copy_within_one_tensor(core, same, place):
    with core() as c:
        tile = c.tile(np.arange(8, dtype=np.float32)[None, :], buffer=place)
        nisa.dma_copy(tile[:, 4:], tile[:, :4])
        assert same(tile, [[0, 1, 2, 3, 0, 1, 2, 3]])
        with pytest.raises(NkiValidationError, match="overlaps"):
            nisa.dma_copy(tile[:, 1:], tile[:, :-1])


AXES = {2: (1, 0), 3: (2, 1, 0), 4: (3, 1, 2, 0)}


@settings(max_examples=30, deadline=None)
@given(
    shape=st.lists(st.integers(1, 6), min_size=2, max_size=4).map(tuple),
    dtype=dtypes,
    place=buffers,
    explicit=st.booleans(),
    layout=st.sampled_from(["dense", "strided", "window"]),
    target=st.sampled_from(TARGETS),
)
def test_dma_transpose(core, same, shape, dtype, place, explicit, layout, target):
    with core(target) as c:
        x = c.random(0, shape, dtype)
        axes = AXES[len(shape)]
        dst = c.empty([shape[a] for a in axes], dtype)
        nisa.dma_transpose(dst, c.tile(x, dtype, place, layout), axes if explicit else None)
        assert same(dst, x.transpose(axes))


def test_dma_does_not_transpose_in_place(core):
    with core() as c:
        tile = c.tile(c.random(0, (8, 8)))
        with pytest.raises(NkiValidationError, match="overlaps"):
            nisa.dma_transpose(tile, tile)


def _copy(c, dst=None, src=None, **options):
    src = src if src is not None else c.tile(np.zeros((4, 6)), "float32", "private_hbm")
    nisa.dma_copy(dst if dst is not None else c.empty((4, 6)), src, **options)


def _transpose(c, shape, dtype="bfloat16", dst=None, place="private_hbm", **options):
    axes = AXES.get(len(shape), ())
    dst = dst if dst is not None else c.empty([shape[a] for a in axes] or (1, 1), dtype)
    nisa.dma_transpose(dst, c.tile(np.zeros(shape), dtype, place), **options)


LIMITS = [
    (lambda c: _copy(c, c.empty((4, 6), buffer="psum")), "DMA cannot reach PSUM", TARGETS, ()),
    (lambda c: _copy(c, src=c.empty((4, 6), buffer="psum")), "DMA cannot reach PSUM", TARGETS, ()),
    (lambda c: _copy(c, c.empty((4, 5))), r"same number of elements, got \(4, 6\) and \(4, 5\)", TARGETS, ()),
    (lambda c: _copy(c, src=c.empty((4, 6), buffer="shared_hbm")), "nothing has written", TARGETS, ()),
    (lambda c: _copy(c, src=np.zeros((4, 6))), "src must be a tensor in HBM or SBUF, got ndarray", TARGETS, ()),
    (lambda c: _copy(c, dge_mode=mode.hwdge), "hwdge needs NeuronCore-v3 or newer", (V2,), (V3, V4)),
    (lambda c: _copy(c, c.empty((4, 6), "bfloat16"), dge_mode=mode.hwdge), "hwdge does not cast", (V3, V4), ()),
    (lambda c: _copy(c, c.empty((4, 6), "bfloat16"), dge_mode=mode.swdge), "never", (), TARGETS),
    (lambda c: _copy(c, dge_mode="hwdge"), "dge_mode must be a nisa.dge_mode", TARGETS, ()),
    (lambda c: _copy(c, engine=nisa.engine.sync), "goes with dge_mode hwdge", TARGETS, ()),
    (lambda c: _copy(c, engine=nisa.engine.sync, dge_mode=mode.hwdge), "hwdge needs NeuronCore-v3", (V2,), (V3, V4)),
    (lambda c: _copy(c, engine=nisa.engine.vector, dge_mode=mode.hwdge), "engine is sync or scalar", (V3, V4), ()),
    (lambda c: _copy(c, priority=1), "priority is 0 to 3 and needs NeuronCore-v4", (V2, V3), (V4,)),
    (lambda c: _copy(c, priority=4), "priority is 0 to 3", TARGETS, ()),
    (lambda c: _transpose(c, (4,), place="shared_hbm"), r"for 2, 3 or 4 dimensions, got None for \(4,\)", TARGETS, ()),
    (lambda c: _transpose(c, (4, 6, 2), axes=(1, 0)), r"got \(1, 0\) for \(4, 6, 2\)", TARGETS, ()),
    (lambda c: _transpose(c, (4, 6, 2, 3), axes=(3, 2, 1, 0)), r"axes must be \(1, 0\), \(2, 1, 0\) or", TARGETS, ()),
    (
        lambda c: _transpose(c, (4, 6), dst=c.empty((4, 6), "bfloat16")),
        r"dst must be \(6, 4\) in bfloat16",
        TARGETS,
        (),
    ),
    (lambda c: _transpose(c, (4, 6), dst=c.empty((6, 4))), r"dst must be \(6, 4\) in bfloat16, got", TARGETS, ()),
    (
        lambda c: _transpose(c, (4, 6), dst=c.empty((6, 4), "bfloat16", "shared_hbm")),
        "dst must be a tile in SBUF",
        TARGETS,
        (),
    ),
    (lambda c: _transpose(c, (4, 6), place="psum"), "DMA cannot reach PSUM", TARGETS, ()),
    (lambda c: nisa.dma_transpose(c.empty((6, 4)), c.empty((4, 6))), "nothing has written", TARGETS, ()),
    (lambda c: _transpose(c, (4, 6), dge_mode=mode.swdge), "takes dge_mode unknown or hwdge", TARGETS, ()),
    (lambda c: _transpose(c, (4, 6), dge_mode=mode.none), "takes dge_mode unknown or hwdge", TARGETS, ()),
    (lambda c: _transpose(c, (4, 6), oob_mode=nisa.oob_mode.skip), "oob_mode skip goes with indirect", TARGETS, ()),
    (lambda c: _transpose(c, (16, 128), dge_mode=mode.hwdge), "hwdge needs NeuronCore-v3", (V2,), (V3, V4)),
    (lambda c: _transpose(c, (32, 128), dge_mode=mode.hwdge), "16 rows", (V3, V4), ()),
    (lambda c: _transpose(c, (8, 128), dge_mode=mode.hwdge), "16 rows", (V3, V4), ()),
    (lambda c: _transpose(c, (16, 128), "float32", dge_mode=mode.hwdge), "two-byte dtype", (V3, V4), ()),
    *[(lambda c, n=n: _transpose(c, (n, 16, 8), dge_mode=mode.hwdge), "never", (), (V3, V4)) for n in (1, 2, 4, 8, 16)],
    *[(lambda c, n=n: _transpose(c, (n, 16, 8), dge_mode=mode.hwdge), "16 rows", (V3, V4), ()) for n in (3, 32)],
    (lambda c: _transpose(c, (1, 8, 8), dge_mode=mode.hwdge), "16 rows", (V3, V4), ()),
    (lambda c: _transpose(c, (16, 4, 129), dge_mode=mode.hwdge, dst=c.empty((128, 1))), "dst must be", (V3, V4), ()),
    (lambda c: _transpose(c, (8, 2, 64), dge_mode=mode.hwdge), "hwdge needs NeuronCore-v3", (V2,), (V3, V4)),
    (lambda c: _transpose(c, (8, 3, 64), dge_mode=mode.hwdge), "multiple of 16 rows", (V3, V4), ()),
    (lambda c: _transpose(c, (3, 16, 64), dge_mode=mode.hwdge), "8 or 16 with a multiple of 16 rows", (V3, V4), ()),
    (lambda c: _transpose(c, (4, 5, 4, 64), dge_mode=mode.hwdge), "hwdge needs NeuronCore-v3", (V2,), (V3, V4)),
]


@pytest.mark.parametrize(("call", "words", "on", "fine"), LIMITS)
def test_limits(refused, call, words, on, fine):
    refused(call, words, on, fine)
