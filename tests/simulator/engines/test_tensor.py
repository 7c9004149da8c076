"""Tensor Engine: nc_matmul in all its modes, and nc_transpose on both of its engines."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from triptych.simulator import INSTRUCTIONS, NkiValidationError, Uninitialized
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa

V2, V3, V4 = TARGETS = ("trn1", "trn2", "trn3")
NARROW = ("bfloat16", "float16", "float8_e4m3", "float8_e5m2")
WIDE = ("float32", "tfloat32")
double_row = nisa.matmul_perf_mode.double_row
layouts = st.sampled_from(["dense", "strided", "window", "partitions"])
mixes = st.one_of(
    st.tuples(st.sampled_from(NARROW), st.sampled_from(NARROW)), st.tuples(st.sampled_from(WIDE), st.sampled_from(WIDE))
)


def product(stationary, moving):
    """stationary.T @ moving in float64."""
    return stationary.astype(np.float64).T @ moving.astype(np.float64)


def close(tile, expected, size=None):
    """The tile is `expected` to 1e-5 of `size`: of its largest element, or of what cancels in its sums."""
    tile.check_written()
    atol = 1e-5 * np.abs(expected if size is None else size).max()
    np.testing.assert_allclose(tile.array.reshape(expected.shape), expected, rtol=1e-5, atol=atol)


@settings(max_examples=40, deadline=None)
@given(
    k=st.sampled_from([1, 3, 32, 128]),
    m=st.sampled_from([1, 5, 128]),
    n=st.sampled_from([1, 7, 512]),
    dtypes=mixes,
    layouts=st.tuples(layouts, layouts),
    target=st.sampled_from(TARGETS),
    seed=st.integers(0, 99),
)
def test_nc_matmul_is_a_product(core, cast, k, m, n, dtypes, layouts, target, seed):
    with core(target) as c:
        a, b = (cast(c.random(seed + i, (k, s), d), d) for i, (s, d) in enumerate(zip((m, n), dtypes, strict=True)))
        dst = c.empty((m, n), buffer="psum")
        nisa.nc_matmul(
            dst, c.tile(a, dtypes[0], layout=layouts[0]), c.tile(b, dtypes[1], layout=layouts[1]), accumulate=False
        )
        close(dst, product(a, b), product(np.abs(a), np.abs(b)))


def test_free_dimensions_may_be_several(core):
    with core() as c:
        a, b = c.random(0, (16, 2, 3)), c.random(1, (16, 4, 5))
        dst = c.empty((6, 2, 10), buffer="psum")
        nisa.nc_matmul(dst, c.tile(a), c.tile(b))
        close(dst, product(a.reshape(16, 6), b.reshape(16, 20)).reshape(6, 2, 10))


def test_v4_writes_bfloat16_and_streams_the_whole_psum(core):
    with core(V4) as c:
        a, b = c.random(0, (128, 128), "bfloat16"), c.random(1, (128, 4096), "bfloat16")
        dst = c.empty((128, 4096), buffer="psum")
        nisa.nc_matmul(dst, c.tile(a), c.tile(b))
        close(dst, product(a, b))
        low = c.empty((128, 8192), "bfloat16", "psum")
        nisa.nc_matmul(low, c.tile(a), c.tile(np.concatenate([b, b], axis=1)))
        np.testing.assert_array_equal(low.array[:, :4096], dst.array.astype(ml_dtypes.bfloat16))


def test_bfloat16_psum_is_rounded_after_each_matmul(core):
    """256 + 1 is 256 in bfloat16, so ones added one by one never leave it; float32 PSUM counts them."""
    with core(V4) as c:
        one, big = (c.tile(np.full((1, 1), v, ml_dtypes.bfloat16)) for v in (1, 256))
        low, full = c.empty((1, 1), "bfloat16", "psum"), c.empty((1, 1), buffer="psum")
        for dst in (low, full):
            nisa.nc_matmul(dst, one, big, accumulate=False)
            for _ in range(3):
                nisa.nc_matmul(dst, one, one, accumulate=True)
        assert float(low.array[0, 0]) == 256 and full.array[0, 0] == 259


# Accumulation


def _ones(c, n=4):
    """A product that is 2 everywhere: [2, 2].T @ [2, n]."""
    one = np.ones((2, 2), np.float32)
    return c.tile(one), c.tile(np.ones((2, n), np.float32))


@pytest.mark.parametrize("target", TARGETS)
def test_accumulate_says_whether_to_add(core, same, target):
    with core(target) as c:
        dst = c.empty((2, 4), buffer="psum")
        for accumulate, expected in ((False, 2), (True, 4), (None, 6), (np.False_, 2), (None, 4), (np.True_, 6)):
            nisa.nc_matmul(dst, *_ones(c), accumulate=accumulate)
            assert same(dst, np.full((2, 4), expected))


@pytest.mark.parametrize("target", TARGETS)
def test_accumulate_none_knows_what_was_begun_element_by_element(core, same, target):
    with core(target) as c:
        dst = c.empty((2, 4), buffer="psum")
        nisa.nc_matmul(dst[:, 1:3], *_ones(c, 2))
        nisa.nc_matmul(dst, *_ones(c))
        assert same(dst, [[2, 4, 4, 2]] * 2) and not c.trace.notes


@pytest.mark.parametrize("target", TARGETS)
def test_accumulating_onto_nothing_is_undefined(core, target):
    with core(target) as c, pytest.raises(Uninitialized, match="8 of 8 elements"):
        nisa.nc_matmul(c.empty((2, 4), buffer="psum"), *_ones(c), accumulate=True)


def _onto_memset(c, accumulate, value):
    dst = c.empty((2, 4), buffer="psum")
    nisa.memset(dst, value)
    nisa.nc_matmul(dst, *_ones(c), accumulate=accumulate)
    return dst


@pytest.mark.parametrize(("accumulate", "value"), [(True, 3.0), (None, 3.0)])
def test_accumulating_onto_another_engines_values_is_for_v4(core, same, refused, accumulate, value):
    refused(lambda c: _onto_memset(c, accumulate, value), "undefined on", on=(V2, V3))
    with core(V4) as c:
        assert same(_onto_memset(c, accumulate, value), np.full((2, 4), value + 2))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("accumulate", [True, None])
def test_zeros_of_another_engine_do_no_harm(core, same, target, accumulate):
    """Overwriting and adding to 0 are the same, so the habit of clearing PSUM first is let through, with a remark."""
    with core(target) as c:
        assert same(_onto_memset(c, accumulate, 0.0), np.full((2, 4), 2))
        assert ["adds to zeros that no matmul wrote" in note for note in c.trace.notes] == [True] * (target != V4)


def test_a_leniency_lets_a_matmul_add_to_another_engines_values(core, same):
    with core(V2, check_accumulation=False) as c:
        assert same(_onto_memset(c, True, 3.0), np.full((2, 4), 5))


@pytest.mark.parametrize("target", [V2, V3])
def test_another_engines_write_ends_what_a_matmul_began(core, target):
    with core(target) as c:
        dst = c.empty((2, 4), buffer="psum")
        nisa.nc_matmul(dst, *_ones(c))
        nisa.memset(dst[:, :1], 5.0)
        nisa.nc_matmul(dst[:, 1:], *_ones(c, 3))
        with pytest.raises(NkiValidationError, match="undefined on"):
            nisa.nc_matmul(dst, *_ones(c))
        assert dst.array.tolist() == [[5, 4, 4, 4]] * 2


def test_the_event_reads_dst_only_when_it_adds(core):
    with core() as c:
        dst = c.empty((2, 4), buffer="psum")
        nisa.nc_matmul(dst, *_ones(c))
        nisa.nc_matmul(dst, *_ones(c))
        assert [dst.region in event.reads for event in c.trace.events] == [False, True]


@pytest.mark.parametrize("hint", ["is_stationary_onezero", "is_moving_onezero"])
def test_a_hint_of_ones_and_zeros_changes_the_cost_alone(core, same, hint):
    """And of float32 alone; what bfloat16 operands hold is not looked at."""
    with core() as c:
        zeros_and_ones = np.tile(np.array([[1, 0], [0, 1]], np.float32), (1, 32))
        dst, costs = c.empty((64, 64), buffer="psum"), []
        for dtype, values in (("float32", zeros_and_ones), ("bfloat16", 2 * zeros_and_ones)):
            for options in ({}, {hint: True}):
                tile = c.tile(values, dtype)
                event = nisa.nc_matmul(dst, tile, tile, accumulate=False, **options)
                assert same(dst, values.T @ values)
                costs.append(INSTRUCTIONS["nc_matmul"].cost(event, c.trace.chip))
        assert costs[1] == costs[0] / 2 and costs[3] == costs[2]


# Double FP8 rows


@pytest.mark.parametrize("target", [V3, V4])
@pytest.mark.parametrize("dtypes", [("float8_e4m3", "float8_e4m3"), ("float8_e5m2", "float8_e4m3")])
def test_double_row_contracts_over_partitions_and_pairs(core, target, dtypes):
    with core(target) as c:
        a, b = c.random(0, (128, 2, 5), dtypes[0]), c.random(1, (128, 2, 9), dtypes[1])
        dst = c.empty((5, 9), buffer="psum")
        nisa.nc_matmul(dst, c.tile(a), c.tile(b), perf_mode=double_row)
        expected = np.einsum("krm,krn->mn", a.astype(np.float64), b.astype(np.float64))
        close(dst, expected)


# Tiling


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "tiling", [((64, 0), (64, 128)), ((0, 64), (128, 64)), ((64, 64), (64, 64)), ((0, 0), (128, 128))]
)
def test_tiles_of_the_array_compute_the_same(core, target, tiling):
    with core(target) as c:
        a, b = c.random(0, (64, 5)), c.random(1, (64, 6))
        dst = c.empty((5, 6), buffer="psum")
        nisa.nc_matmul(dst, c.tile(a), c.tile(b), tile_position=tiling[0], tile_size=tiling[1])
        close(dst, product(a, b))
        assert c.trace.events[-1].attributes["tile"] == (*tiling[0], *tiling[1])
        nisa.nc_matmul(dst, c.tile(a), c.tile(b))
        assert "tile" not in c.trace.events[-1].attributes


def test_a_product_of_deep_operands_is_none_that_may_wait(core):
    with core() as c:
        deep = [c.tile(np.ones((64, 2, n)), "float8_e4m3") for n in (4, 6)]
        plain = [t[:, 0] for t in deep]
        dst, issue = c.empty((4, 6), buffer="psum"), INSTRUCTIONS["nc_matmul"].effect
        nisa.nc_matmul(dst, *deep, perf_mode=double_row, tile_position=(0, 0), tile_size=(64, 128))
        assert issue(dst, *deep, perf_mode=nisa.matmul_perf_mode.double_row).multiplies is False
        assert issue(dst, *plain).multiplies is True and issue(dst, *plain).attributes == {"rows": 1}
        assert nisa.tensor_copy(c.empty((64, 4)), plain[0]).attributes["open"] is True


def test_a_sum_that_matmuls_began_everywhere_is_added_to_as_it_stands(core, monkeypatch):
    with core() as c:
        a, b = c.random(0, (64, 5)), c.random(1, (64, 6))
        tiles, dst = (c.tile(a), c.tile(b)), c.empty((5, 6), buffer="psum")
        nisa.nc_matmul(dst, *tiles)
        with monkeypatch.context() as patched:
            patched.setattr(np, "where", None)
            nisa.nc_matmul(dst, *tiles)
        close(dst, 2 * product(a, b))


# Transposes


@pytest.mark.parametrize("target", TARGETS)
def test_is_transpose(core, target):
    """Bit for bit from v3 on, in the input's dtype; on v2 it is an ordinary product with the identity."""
    with core(target) as c:
        x = c.random(0, (16, 5), "bfloat16")
        dst = c.empty((5, 16), "float32" if target == V2 else "bfloat16", "psum")
        eye = c.tile(np.eye(16, dtype=ml_dtypes.bfloat16))
        nisa.nc_matmul(dst, c.tile(x), eye, is_transpose=True)
        np.testing.assert_array_equal(dst.array.astype(np.float32), x.T.astype(np.float32))


def test_is_transpose_keeps_nan_and_infinity_from_v3_on(core):
    x = np.array([[np.nan, 1.0], [np.inf, 2.0]], np.float32)
    for target, expected in ((V3, x.T), (V4, x.T), (V2, [[np.nan, np.nan], [1, 2]])):
        with core(target) as c:
            dst = c.empty((2, 2), buffer="psum")
            nisa.nc_matmul(dst, c.tile(x), c.tile(np.eye(2, dtype=np.float32)), is_transpose=True)
            np.testing.assert_array_equal(dst.array, expected)


@settings(max_examples=25, deadline=None)
@given(
    p=st.integers(1, 32),
    f=st.integers(1, 32),
    dtype=st.sampled_from(["float32", "bfloat16", "float8_e4m3", "int32", "uint8", "int16"]),
    layout=layouts,
    where=st.sampled_from([("sbuf", "psum", "tensor"), ("sbuf", "sbuf", "vector"), ("psum", "sbuf", "vector")]),
    asked=st.booleans(),
    target=st.sampled_from(TARGETS),
)
def test_nc_transpose_moves_bits(core, p, f, dtype, layout, where, asked, target):
    source, destination, on = where
    assume(target != V2 or on == "vector" or dtype == "float32")
    with core(target) as c:
        x = c.random(0, (p, f), dtype)
        dst = c.empty((f, p), dtype, destination)
        nisa.nc_transpose(dst, c.tile(x, dtype, source, layout), nisa.engine[on] if asked else nisa.engine.unknown)
        dst.check_written()
        np.testing.assert_array_equal(
            np.ascontiguousarray(dst.array).view(np.uint8), np.ascontiguousarray(x.T).view(np.uint8)
        )
        assert c.trace.events[-1].engine == on


def test_nc_transpose_flattens_free_dimensions(core, same):
    with core() as c:
        x = c.random(0, (128, 4, 32))
        dst, split = c.empty((128, 128), buffer="psum"), c.empty((128, 2, 64), buffer="psum")
        nisa.nc_transpose(dst, c.tile(x))
        assert same(dst, x.reshape(128, 128).T)
        nisa.nc_transpose(split, c.tile(x))
        assert same(split, x.reshape(128, 128).T)


def test_on_v2_the_tensor_engine_spreads_a_nan_over_its_row(core):
    x = np.array([[np.nan, 1.0, 5.0], [3.0, 2.0, -np.inf]], np.float32)
    for target, expected in (
        (V2, [[np.nan, np.nan], [1, 2], [np.nan, -np.inf]]),
        (V3, x.T),
        (V4, x.T),
    ):
        with core(target) as c:
            dst, by_vector = c.empty((3, 2), buffer="psum"), c.empty((3, 2))
            nisa.nc_transpose(dst, c.tile(x))
            np.testing.assert_array_equal(dst.array, expected)
            nisa.nc_transpose(by_vector, c.tile(x))  # to SBUF: the Vector Engine, exact everywhere
            np.testing.assert_array_equal(by_vector.array, x.T)


def test_the_vector_engine_transposes_in_place(core, same):
    with core() as c:
        x = c.random(0, (32, 32))
        tile = c.tile(x)
        nisa.nc_transpose(tile, tile)
        assert same(tile, x.T)


# Limits


def _matmul(c, stationary=((4, 8), "float32"), moving=((4, 6), "float32"), dst=None, value=0, **options):
    a, b = (c.tile(np.full(shape, value), dtype) for shape, dtype in (stationary, moving))
    nisa.nc_matmul(dst if dst is not None else c.empty((8, 6), buffer="psum"), a, b, **options)


def _bank(c, columns):
    """Six columns of a wide PSUM tensor that start at `columns`."""
    _matmul(c, dst=c.empty((8, 1024), buffer="psum")[:, columns : columns + 6])


E4M3, E4M3FN = "float8_e4m3", "float8_e4m3fn"
LIMITS = [
    (lambda c: _matmul(c, ((4, 129), "float32")), "free size of stationary is at most 128, got 129", TARGETS, ()),
    (
        lambda c: _matmul(
            c, moving=((4, 513), "bfloat16"), stationary=((4, 8), "bfloat16"), dst=c.empty((8, 513), buffer="psum")
        ),
        "free size of moving is at most 512 on NeuronCore-v., got 513",
        (V2, V3),
        (V4,),
    ),
    (
        lambda c: _matmul(c, ((4, 1), "bfloat16"), ((4, 4097), "bfloat16"), c.empty((1, 16), buffer="psum")),
        "free size of moving is at most 4096 on NeuronCore-v4, got 4097",
        (V4,),
        (),
    ),
    (
        lambda c: _matmul(c, ((1, 1), "bfloat16"), ((1, 8193), "bfloat16"), c.empty((1, 8192), "bfloat16", "psum")),
        "free size of moving is at most 8192 on NeuronCore-v4, got 8193",
        (V4,),
        (),
    ),
    (lambda c: _matmul(c, ((5, 8), "float32")), r"need the same number, got \(5, 8\) and \(4, 6\)", TARGETS, ()),
    (lambda c: _matmul(c, dst=c.empty((6, 8), buffer="psum")), r"dst must be \[8, 6\]", TARGETS, ()),
    (lambda c: _matmul(c, dst=c.empty((8, 6))), "dst must be a tile in PSUM", TARGETS, ()),
    (
        lambda c: nisa.nc_matmul(c.empty((8, 6), buffer="psum"), c.empty((4, 8), buffer="psum"), c.empty((4, 6))),
        "stationary must be a tile in SBUF",
        TARGETS,
        (),
    ),
    (
        lambda c: nisa.nc_matmul(c.empty((8, 6), buffer="psum"), c.empty((4, 8)), c.empty((4, 6), buffer="psum")),
        "moving must be a tile in SBUF",
        TARGETS,
        (),
    ),
    (
        lambda c: nisa.nc_matmul(c.empty((8, 6), buffer="psum"), c.empty((4, 8)), c.empty((4, 6))),
        "reads 32 of 32 elements that nothing has written",
        TARGETS,
        (),
    ),
    (lambda c: _matmul(c, ((4, 8), "int32")), "stationary must be one of float8_e4m3", TARGETS, ()),
    (lambda c: _matmul(c, moving=((4, 6), "uint8")), "moving must be one of float8_e4m3", TARGETS, ()),
    (lambda c: _matmul(c, ((4, 8), "bfloat16")), "mix only with each other, got bfloat16 and float32", TARGETS, ()),
    (lambda c: _matmul(c, moving=((4, 6), E4M3)), "mix only with each other, got float32 and float8_e4m3", TARGETS, ()),
    (lambda c: _matmul(c, ((4, 8), E4M3FN), ((4, 6), E4M3FN)), "stationary must be one of", (V2, V3), (V4,)),
    (lambda c: _matmul(c, ((4, 8), E4M3), ((4, 6), E4M3FN)), "cannot be mixed in one matmul", (V4,), ()),
    (
        lambda c: _matmul(c, dst=c.empty((8, 6), "bfloat16", "psum")),
        "dst must be float32 on NeuronCore-v., got bfloat16",
        (V2, V3),
        (V4,),
    ),
    (lambda c: _matmul(c, dst=c.empty((8, 6), "float16", "psum")), "dst must be float32", TARGETS, ()),
    (
        lambda c: _bank(c, 508),
        "one PSUM bank of 2048 bytes per partition, and spans bytes 2032 to 2052",
        (V2, V3),
        (V4,),
    ),
    (lambda c: _bank(c, 512), "never", (), TARGETS),
    (
        lambda c: _matmul(c, ((4, 2, 8), E4M3), ((4, 2, 6), E4M3), perf_mode=double_row),
        "double_row needs NeuronCore-v3 or newer",
        (V2,),
        (V3, V4),
    ),
    (lambda c: _matmul(c, value=0.5, is_stationary_onezero=True), "stationary holds ones and zeros only", TARGETS, ()),
    (lambda c: _matmul(c, value=np.nan, is_moving_onezero=True), "moving holds ones and zeros only", TARGETS, ()),
    (lambda c: _matmul(c, value=1, is_stationary_onezero=True, is_moving_onezero=True), "never", (), TARGETS),
    (lambda c: _matmul(c, accumulate="yes"), "accumulate must be True, False or None, got 'yes'", TARGETS, ()),
    (lambda c: _matmul(c, perf_mode="double_row"), "perf_mode must be a nisa.matmul_perf_mode", TARGETS, ()),
    (
        lambda c: _matmul(c, ((4, 3, 8), E4M3), ((4, 3, 6), E4M3), perf_mode=double_row),
        r"double_row needs stationary of shape \[K, 2, free\]",
        (V3, V4),
        (),
    ),
    (
        lambda c: _matmul(c, ((4, 2, 8), E4M3), ((4, 2, 6), "bfloat16"), perf_mode=double_row),
        "double_row needs moving of shape .* in float8",
        (V3, V4),
        (),
    ),
    (
        lambda c: _matmul(c, ((4, 2, 8), E4M3), ((4, 2, 6), E4M3), perf_mode=double_row, is_transpose=True),
        "double_row does not go with is_transpose",
        (V3, V4),
        (),
    ),
    (lambda c: _matmul(c, tile_size=(64, 128)), "given together or not at all", TARGETS, ()),
    (lambda c: _matmul(c, tile_position=(0, 0)), "given together or not at all", TARGETS, ()),
    (
        lambda c: _matmul(c, tile_position=(32, 0), tile_size=(32, 128)),
        "tiling takes 64, 128 rows and columns on NeuronCore-v2",
        (V2,),
        (V3, V4),
    ),
    (lambda c: _matmul(c, tile_position=(32, 0), tile_size=(64, 128)), "from a multiple of that", TARGETS, ()),
    (lambda c: _matmul(c, tile_position=(-64, 0), tile_size=(64, 128)), "from a multiple of that", TARGETS, ()),
    (lambda c: _matmul(c, tile_position=(128, 0), tile_size=(64, 128)), "from a multiple of that", TARGETS, ()),
    (
        lambda c: _matmul(c, tile_position=(0, 96), tile_size=(64, 32)),
        "tiling takes 64, 128 rows and columns on NeuronCore-v2",
        (V2,),
        (V3, V4),
    ),
    (lambda c: _matmul(c, tile_position=(0, 32), tile_size=(64, 64)), "from a multiple of that", TARGETS, ()),
    (lambda c: _matmul(c, tile_position=(0, 0), tile_size=(64, 16)), "from a multiple of that", TARGETS, ()),
    (lambda c: _matmul(c, tile_position=(0,), tile_size=(64,)), "from a multiple of that", TARGETS, ()),
    (
        lambda c: _matmul(
            c,
            ((4, 65), "float32"),
            dst=c.empty((65, 6), buffer="psum"),
            tile_position=(0, 0),
            tile_size=(64, 64),
        ),
        "a column tile of 64 holds a stationary of at most 64 columns, got 65",
        TARGETS,
        (),
    ),
    (
        lambda c: _matmul(
            c,
            ((4, 2, 8), E4M3),
            ((4, 2, 6), E4M3),
            perf_mode=double_row,
            tile_position=(0, 0),
            tile_size=(64, 64),
        ),
        "double_row does not go with column tiles",
        (V3, V4),
        (),
    ),
    (
        lambda c: _matmul(c, ((65, 8), "float32"), ((65, 6), "float32"), tile_position=(0, 0), tile_size=(64, 128)),
        "a row tile of 64 holds at most 64 partitions, got 65",
        TARGETS,
        (),
    ),
    (
        lambda c: _matmul(c, moving=((4, 5), "float32"), dst=c.empty((8, 5), buffer="psum"), is_transpose=True),
        "is_transpose takes an identity matrix as moving",
        (V3, V4),
        (),
    ),
    (
        lambda c: _matmul(c, moving=((4, 4), "float32"), dst=c.empty((8, 4), buffer="psum"), is_transpose=True),
        "is_transpose takes an identity matrix as moving",
        (V3, V4),
        (V2,),
    ),
    (
        lambda c: _matmul(
            c, ((4, 8), "bfloat16"), ((4, 4), "bfloat16"), c.empty((8, 4), buffer="psum"), is_transpose=True
        ),
        "a transpose keeps the dtype: dst must be bfloat16, got float32",
        (V3, V4),
        (V2,),
    ),
    (
        lambda c: nisa.nc_transpose(c.empty((129, 4), buffer="psum"), c.empty((4, 129))),
        "dimension 0 of a psum tensor is the partition",
        TARGETS,
        (),
    ),
    (
        lambda c: nisa.nc_transpose(c.empty((128, 4), buffer="psum"), c.empty((4, 129))),
        r"the tensor engine transposes at most 128 x 128, got \(4, 129\)",
        TARGETS,
        (),
    ),
    (
        lambda c: nisa.nc_transpose(c.empty((33, 4)), c.empty((4, 33))),
        r"the vector engine transposes at most 32 x 32, got \(4, 33\)",
        TARGETS,
        (),
    ),
    (
        lambda c: nisa.nc_transpose(c.empty((4, 33)), c.empty((33, 4))),
        r"the vector engine transposes at most 32 x 32, got \(33, 4\)",
        TARGETS,
        (),
    ),
    (
        lambda c: nisa.nc_transpose(
            c.empty((6, 1024), buffer="psum")[:, 510:514], c.tile(np.zeros((4, 6), np.float32))
        ),
        "one PSUM bank of 2048 bytes per partition, and spans bytes 2040 to 2052",
        (V2, V3),
        (V4,),
    ),
    (
        lambda c: nisa.nc_transpose(c.empty((6, 4)), c.empty((4, 6)), nisa.engine.tensor),
        "dst must be a tile in PSUM",
        TARGETS,
        (),
    ),
    (
        lambda c: nisa.nc_transpose(c.empty((6, 4), buffer="psum"), c.empty((4, 6), buffer="psum"), nisa.engine.tensor),
        "data must be a tile in SBUF",
        TARGETS,
        (),
    ),
    (
        lambda c: nisa.nc_transpose(c.empty((6, 4), buffer="psum"), c.empty((4, 6)), nisa.engine.scalar),
        "engine must be one of nisa.engine.tensor, nisa.engine.vector",
        TARGETS,
        (),
    ),
    (
        lambda c: nisa.nc_transpose(c.empty((6, 4), "bfloat16", "psum"), c.empty((4, 6))),
        "a transpose keeps the dtype: dst must be float32, got bfloat16",
        (V3, V4),
        (),
    ),
    (
        lambda c: nisa.nc_transpose(c.empty((6, 4), "bfloat16", "psum"), c.tile(np.ones((4, 6)), "bfloat16")),
        r"must be float32 on NeuronCore-v2, got bfloat16.*decode_attention.*nki/api/nki/isa/__init__.py",
        (V2,),
        (V3, V4),
    ),
    (
        lambda c: nisa.nc_transpose(c.empty((6, 4), buffer="psum"), c.tile(np.ones((4, 6)), "bfloat16")),
        "a transpose keeps the dtype",
        (V3, V4),
        (V2,),
    ),
    (
        lambda c: nisa.nc_transpose(c.empty((6, 4), "int32", "psum"), c.tile(np.ones((4, 6)), "int32")),
        "the Tensor Engine transposes by a product, of floats; got data in int32",
        (V2,),
        (V3, V4),
    ),
    (
        lambda c: nisa.nc_transpose(c.empty((4, 6), buffer="psum"), c.empty((4, 6))),
        "dst must hold 6 partitions of 4 elements",
        TARGETS,
        (),
    ),
    (lambda c: nisa.nc_transpose(c.empty((6, 4)), c.empty((4, 6))), "nothing has written", TARGETS, ()),
]


@pytest.mark.parametrize(("call", "words", "on", "fine"), LIMITS)
def test_limits(refused, call, words, on, fine):
    refused(call, words, on, fine)
