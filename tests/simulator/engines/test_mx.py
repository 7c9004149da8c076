"""quantize_mx and nc_matmul_mx against the definition of the OCP microscaling formats, group by group."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa

FP8 = {"float8_e4m3fn_x4": (ml_dtypes.float8_e4m3fn, 8), "float8_e5m2_x4": (ml_dtypes.float8_e5m2, 15)}
packed8 = st.sampled_from(list(FP8))
scales = st.sampled_from(["float8_e8m0fnu", "uint8"])


def scale_tile(c, p, f, dtype, packed_at=None):
    """A tile for the scales of p partitions: of its least size, or from a partition of a shared tile."""
    if packed_at is not None:
        return c.empty((max(p, 32), f), dtype)[packed_at:p]
    return c.empty((p if p > 32 else p // 8, f), dtype)


def scale_bytes(tile):
    return np.ascontiguousarray(tile.array).view(np.uint8).reshape(tile.shape)


@settings(max_examples=25, deadline=None)
@given(
    p=st.sampled_from([32, 64, 128]),
    f=st.integers(1, 5),
    source=st.sampled_from(["bfloat16", "float16"]),
    kind=packed8,
    scale=scales,
    at=st.sampled_from([None, 0, 4, 8, 12]),
    seed=st.integers(0, 99),
)
def test_each_group_of_32_is_scaled_by_its_largest(core, cast, p, f, source, kind, scale, at, seed):
    element, emax = FP8[kind]
    with core("trn3") as c:
        spread = np.exp2(np.random.default_rng(seed).integers(-9, 9, (p, 1)))
        x = cast(c.random(seed, (p, 4 * f)) * spread.astype(np.float32), source)
        x[:8, :4] = 0
        dst, dst_scale = c.empty((p, f), kind), scale_tile(c, p, f, scale, at)
        nisa.quantize_mx(dst, c.tile(x, source), dst_scale)
        got, stored = dst.array.view(element).reshape(p, f, 4), scale_bytes(dst_scale)
        for g in range(p // 8):
            for column in range(f):
                group = x[8 * g : 8 * g + 8, 4 * column : 4 * column + 4].astype(np.float64)
                largest = np.abs(group).max()
                exponent = math.floor(math.log2(largest)) - (emax - 1) if largest else -127
                assert stored[32 * (g // 4) + g % 4, column] == exponent + 127
                expected = (group / 2.0**exponent).astype(np.float32).astype(element)
                mine = got[8 * g : 8 * g + 8, column]
                np.testing.assert_array_equal(mine.astype(np.float32), expected.astype(np.float32))


def test_a_source_whose_fours_lie_apart_is_packed_as_one_whose_fours_lie_together(core):
    with core("trn3") as c:
        x = c.random(0, (32, 4, 6))
        found = []
        for src in (c.tile(x, "bfloat16").permute((0, 2, 1)), c.tile(x.transpose(0, 2, 1), "bfloat16")):
            dst, scale = c.empty((32, 6), "float8_e4m3fn_x4"), c.empty((4, 6), "uint8")
            nisa.quantize_mx(dst, src, scale)
            found.append((dst.array.copy(), scale.array.copy()))
        for apart, together in zip(*found, strict=True):
            np.testing.assert_array_equal(apart, together)


@pytest.mark.parametrize("kind", list(FP8))
def test_no_group_of_bfloat16_saturates(core, kind):
    """The largest of a group is any positive bfloat16 in turn; its scale leaves room to round it (NKI 0.5.0)."""
    element, emax = FP8[kind]
    largest = np.arange(1, 0x7F80, dtype=np.uint16)
    groups = np.append(largest, largest[-1:]).view(ml_dtypes.bfloat16).reshape(16, 2040)
    with core("trn3") as c:
        src = c.tile(np.repeat(np.repeat(groups, 8, axis=0), 4, axis=1), "bfloat16")
        dst, scale = c.empty((128, 2040), kind), c.empty((128, 2040), "uint8")
        nisa.quantize_mx(dst, src, scale)
        values = dst.array.view(element).astype(np.float64).reshape(16, 8, 2040, 4)[:, 0, :, 0]
        exponents = np.stack([scale.array[32 * (g // 4) + g % 4] for g in range(16)]).astype(np.int64) - 127
    exact = groups.astype(np.float64)
    magnitude = np.floor(np.log2(exact))
    np.testing.assert_array_equal(exponents, np.maximum(magnitude - (emax - 1), -127))
    half_a_step = np.exp2(magnitude - (3 if emax == 8 else 2) - 1)
    normal = magnitude > -120  # below, the scale stays at its smallest
    assert (np.abs(values * np.exp2(exponents) - exact) <= half_a_step)[normal].all() and np.isfinite(values).all()


def test_the_smallest_scale_is_not_gone_below(core):
    with core("trn3") as c:
        x = np.full((32, 4), 2.0**-130, ml_dtypes.bfloat16)  # a subnormal
        dst, scale = c.empty((32, 1), "float8_e4m3fn_x4"), c.empty((4, 1), "uint8")
        nisa.quantize_mx(dst, c.tile(x, "bfloat16"), scale)
        assert (scale.array == 0).all()
        assert (dst.array.view(ml_dtypes.float8_e4m3fn).astype(np.float32) == 0.125).all()


def test_partitions_between_the_scales_stay_as_they_were(core):
    with core("trn3") as c:
        shared = c.tile(np.full((64, 2), 9, np.uint8))
        nisa.quantize_mx(
            c.empty((64, 2), "float8_e5m2_x4"), c.tile(np.ones((64, 8), ml_dtypes.bfloat16), "bfloat16"), shared[4:]
        )
        written = [r for r in range(64) if (shared.array[r] != 9).all()]
        assert written == [4, 5, 6, 7, 36, 37, 38, 39]
        assert (shared.array[4] == 127 - 14).all()


FP4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


def operand(c, rng, k, f, kind, scale, at):
    """A random packed tile, its scales, and the [4K, F] matrix in float64 that they stand for."""
    if kind == "float4_e2m1fn_x4":
        nibbles = rng.integers(0, 16, (k, f, 4))
        values = FP4[nibbles]
        packed = (nibbles << np.array([0, 4, 8, 12])).sum(axis=2).astype(np.uint16)
    else:
        eights = rng.standard_normal((k, f, 4)).astype(FP8[kind][0])
        values, packed = eights.astype(np.float64), eights.view(np.uint32)[..., 0]
    exponent = rng.integers(-6, 6, (k // 8, f))
    tile = scale_tile(c, k, f, scale, at)
    for g in range(k // 8):
        row = tile[32 * (g // 4) + g % 4 : 32 * (g // 4) + g % 4 + 1]
        row.array[...] = np.exp2(exponent[g]) if scale == "float8_e8m0fnu" else exponent[g] + 127
        row.wrote()
    matrix = values * np.exp2(np.repeat(exponent, 8, axis=0))[..., None]
    return c.tile(packed, kind), tile, matrix.transpose(0, 2, 1).reshape(4 * k, f)


@settings(max_examples=30, deadline=None)
@given(
    k=st.sampled_from([32, 64, 128]),
    m=st.sampled_from([2, 6, 128]),
    n=st.integers(1, 9),
    kinds=st.tuples(*[st.sampled_from([*FP8, "float4_e2m1fn_x4"])] * 2),
    scale=scales,
    at=st.sampled_from([None, 0, 4, 12]),
    out=st.sampled_from(["float32", "bfloat16"]),
)
def test_the_product_of_the_dequantised_matrices(core, k, m, n, kinds, scale, at, out):
    rng = np.random.default_rng(n)
    with core("trn3") as c:
        left, left_scale, a = operand(c, rng, k, m, kinds[0], scale, at)
        right, right_scale, b = operand(c, rng, k, n, kinds[1], scale, None)
        dst = c.empty((m, n), out, "psum")
        exact, bound = a.T @ b, np.abs(a).T @ np.abs(b)
        for times in (1, 2):  # the second accumulates
            event = nisa.nc_matmul_mx(dst, left, right, left_scale, right_scale)
            assert (dst.region in event.reads) is (times == 2)
            error = np.abs(dst.array.astype(np.float64) - times * exact)
            assert (error <= (1e-2 if out == "bfloat16" else 1e-6) * times * bound + 1e-30).all()
        nisa.nc_matmul_mx(dst, left, right, left_scale, right_scale, accumulate=False)
        assert (np.abs(dst.array.astype(np.float64) - exact) <= 1e-2 * bound + 1e-30).all()


def test_what_was_quantised_multiplies_back(core):
    with core("trn3") as c:
        x, y = (c.random(i, (128, 4 * f), "bfloat16") for i, f in enumerate((64, 100)))
        tiles = []
        for v in (x, y):
            data, scale = c.empty((128, v.shape[1] // 4), "float8_e4m3fn_x4"), c.empty((128, v.shape[1] // 4), "uint8")
            nisa.quantize_mx(data, c.tile(v, "bfloat16"), scale)
            tiles += [data, scale]
        dst = c.empty((64, 100), buffer="psum")
        nisa.nc_matmul_mx(dst, tiles[0], tiles[2], tiles[1], tiles[3])
        a, b = (v.astype(np.float64).reshape(128, -1, 4).transpose(0, 2, 1).reshape(512, -1) for v in (x, y))
        error = np.abs(dst.array - a.T @ b)
        # three mantissa bits, and 512 errors that add up as their root
        assert np.sqrt(np.mean(error**2)) < 2**-4 * 512**0.5


def test_a_scale_of_all_ones_is_not_a_number(core):
    with core("trn3") as c:
        one, scale = c.tile(np.zeros((32, 2), np.uint32), "float8_e4m3fn_x4"), c.tile(np.full((4, 2), 255, np.uint8))
        dst = c.empty((2, 2), buffer="psum")
        nisa.nc_matmul_mx(dst, one, one, scale, scale)
        assert np.isnan(dst.array).all()


def test_a_tile_of_scales_may_have_more_partitions_than_their_values(core):
    """nki-library's kernels have such tiles (r4); the guide's own tiles are as tall as the values."""
    with core("trn3") as c:
        x, tall = c.tile(np.ones((32, 8), np.float32), "bfloat16"), c.empty((64, 2), "uint8")
        nisa.quantize_mx(c.empty((32, 2), "float8_e4m3fn_x4"), x, tall)
        assert (tall.array[:4] == 127 - 7).all()


def test_only_the_partitions_that_hold_scales_are_read(core, refused):
    def call(c):
        data = c.tile(np.zeros((64, 2), np.uint32), "float8_e5m2_x4")
        scale = c.empty((64, 2), "uint8")
        nisa.memset(scale[0:4], 127)
        nisa.memset(scale[32:36], 127)
        nisa.nc_matmul_mx(c.empty((2, 2), buffer="psum"), data, data, scale, scale)
        late = c.empty((64, 2), "uint8")
        nisa.memset(late[0:4], 127)
        nisa.nc_matmul_mx(c.empty((2, 2), buffer="psum"), data, data, scale, late)

    refused(call, "reads 8 of 8 elements", on=("trn3",))


def _quantize(c, dst=(32, 2), src=(32, 8), scale=(4, 2), kinds=("float8_e5m2_x4", "bfloat16", "uint8"), fill=None):
    source = c.empty(src, kinds[1]) if fill is None else c.tile(np.full(src, fill), kinds[1])
    nisa.quantize_mx(c.empty(dst, kinds[0]), source, c.empty(scale, kinds[2]))


def _matmul_to(c, first):
    data, scale = c.empty((32, 32), F8), c.empty((4, 32), "uint8")
    dst = c.empty((64, 32), buffer="psum")
    nisa.nc_matmul_mx(dst[first : first + 32], data, data, scale, scale)


def _matmul(c, left=(32, 2), right=(32, 4), dst=None, scale=(4, 2), kinds=None, out="float32", **more):
    a, b, s = kinds or ("float8_e5m2_x4", "float8_e5m2_x4", "uint8")
    nisa.nc_matmul_mx(
        c.empty(dst or (left[1], right[1]), out, "psum"),
        c.empty(left, a),
        c.empty(right, b),
        c.empty(scale, s),
        c.empty((scale[0], right[1]), s),
        **more,
    )


@pytest.mark.parametrize("tiling", [((0, 0), (32, 128)), ((64, 0), (64, 128)), ((32, 0), (32, 128)), None])
def test_the_tile_of_the_array_stands_in_the_event(core, tiling):
    more = {} if tiling is None else {"tile_position": tiling[0], "tile_size": tiling[1]}
    with core("trn3", check_uninitialized=False) as c:
        _matmul(c, **more)
        assert c.trace.events[-1].attributes.get("tile") == (tiling and (*tiling[0], *tiling[1]))


F8, BF = "float8_e5m2_x4", "bfloat16"
LIMITS = [
    (lambda c: _quantize(c, kinds=(F8, "float32", "uint8")), "src must be bfloat16 or float16"),
    (lambda c: _quantize(c, kinds=("float4_e2m1fn_x4", BF, "uint8")), "dst must be float8_e5m2_x4 or float8_e4m3fn_x4"),
    (lambda c: _quantize(c, kinds=(F8, BF, "int8")), "dst_scale must be float8_e8m0fnu or uint8"),
    (lambda c: _quantize(c, (16, 2), (16, 8), (2, 2)), "src must have a multiple of 32 partitions"),
    (lambda c: _quantize(c, src=(32, 6)), "a multiple of 4 elements"),
    (lambda c: _quantize(c, dst=(32, 8)), "dst must have 32 partitions of 2 packed elements"),
    (lambda c: _quantize(c, scale=(4, 8)), "dst_scale must have 4 partitions or more.* of 2 elements"),
    (lambda c: _quantize(c, (64, 2), (64, 8), (8, 2)), "dst_scale must have 36 partitions or more"),
    (
        lambda c: nisa.quantize_mx(c.empty((32, 2), F8), c.empty((32, 8), BF), c.empty((32, 2), "uint8")[2:6]),
        "0, 4, 8 or 12 partitions into a quadrant, got 2",
    ),
    (
        lambda c: nisa.quantize_mx(c.empty((64, 2), F8)[16:48], c.empty((32, 8), BF), c.empty((32, 2), "uint8")),
        "starts at partition 16, and 32 partitions must start at 0, 32, 64, 96",
    ),
    (
        lambda c: nisa.quantize_mx(c.empty((32, 2), F8), c.empty((32, 8), BF, "psum"), c.empty((4, 2), "uint8")),
        "src must be a tile in SBUF",
    ),
    (lambda c: _quantize(c, fill=np.inf), "holds a NaN or an infinity"),
    (lambda c: _quantize(c, fill=np.nan), "holds a NaN or an infinity"),
    (_quantize, "nothing has written"),
    (lambda c: _matmul(c, kinds=(BF, F8, "uint8")), "stationary must be float8_e5m2_x4"),
    (lambda c: _matmul(c, kinds=(F8, "uint32", "uint8")), "moving must be float8_e5m2_x4"),
    (lambda c: _matmul(c, kinds=(F8, F8, "int8")), "stationary_scale must be float8_e8m0fnu or uint8"),
    (lambda c: _matmul(c, (16, 2), (16, 4)), "stationary must have a multiple of 32 partitions"),
    (lambda c: _matmul(c, (64, 2), (32, 4)), "contract over their partitions"),
    (lambda c: _matmul(c, (32, 3)), "free size of stationary must be even"),
    (lambda c: _matmul(c, (32, 130), dst=(128, 4)), "free size of stationary is at most 128"),
    (lambda c: _matmul(c, right=(32, 4097), dst=(2, 4096)), "free size of moving is at most 4096"),
    (lambda c: _matmul(c, right=(32, 8193), dst=(2, 8192), out=BF), "free size of moving is at most 8192"),
    (lambda c: _matmul(c, dst=(2, 5)), r"dst must be \[2, 4\]"),
    (lambda c: _matmul(c, out="float16"), "dst must be float32 or bfloat16"),
    (lambda c: _matmul(c, scale=(4, 3)), "stationary_scale must have 4 partitions or more"),
    (lambda c: _matmul(c, tile_position=(0, 0)), "given together or not at all"),
    (lambda c: _matmul(c, tile_position=(16, 0), tile_size=(32, 128)), "tiling takes"),
    (lambda c: _matmul(c, tile_position=(0, 0), tile_size=(32, 64)), "rows, all 128 columns"),
    (lambda c: _matmul(c, (64, 2), (64, 4), tile_position=(0, 0), tile_size=(32, 128)), "at most 32 partitions"),
    (lambda c: _matmul_to(c, 16), "starts at partition 16, and 32 partitions must start at 0, 32, 64, 96"),
    (lambda c: _matmul_to(c, 32), "nothing has written"),
    (_matmul, "nothing has written"),
]


@pytest.mark.parametrize(("call", "words"), LIMITS)
def test_limits(refused, call, words):
    refused(call, words, on=("trn3",))
