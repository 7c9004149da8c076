"""The random instructions: what they promise of sequences, ranges and states, and XORWOW against its definition."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from triptych.simulator.engines import xorwow
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa

vector, gpsimd = nisa.engine.vector, nisa.engine.gpsimd


def one_at_a_time(state, count):
    """XORWOW in Python's integers."""
    *words, d = (int(w) for w in state)
    out = []
    for _ in range(count):
        t = words[0] ^ (words[0] >> 2)
        v = (words[4] ^ (words[4] << 4) ^ t ^ (t << 1)) & 0xFFFFFFFF
        words, d = [*words[1:], v], (d + 362437) & 0xFFFFFFFF
        out.append((d + v) & 0xFFFFFFFF)
    return out


@pytest.mark.parametrize("width", [1, 4])
@pytest.mark.parametrize("count", [1, 8, 10])
def test_xorwow_is_marsaglias(width, count):
    states = xorwow.seeded(7, 3, width)
    streams = [[one_at_a_time(s, count) for s in lane] for lane in states]
    got = xorwow.draw(states, count)
    assert got.tolist() == [[lane[i % width][i // width] for i in range(count)] for lane in streams]


def bits_of(c, shape=(4, 10), dtype="uint32", engine=vector, buffer="sbuf"):
    tile = c.empty(shape, dtype, buffer)
    nisa.rng(tile, engine)
    tile.check_written()
    return tile.array.copy()


@pytest.mark.parametrize(("engine", "width"), [(vector, 4), (gpsimd, 1)])
def test_an_engine_starts_from_seed_0(core, engine, width):
    with core("trn3") as c:
        np.testing.assert_array_equal(bits_of(c, engine=engine), xorwow.draw(xorwow.seeded(0, 128, width)[:4], 10))


def test_a_run_repeats_itself_and_goes_on(core):
    with core() as c:
        first, second = bits_of(c), bits_of(c)
    with core() as c:
        np.testing.assert_array_equal(bits_of(c), first)
    assert (first != second).any() and len(np.unique(first)) == first.size


def test_a_seed_starts_a_sequence_again(core):
    with core("trn1") as c:
        draws = []
        for seed in (5, 5, 6):
            nisa.set_rng_seed(c.tile(np.array([[seed]], np.int32)))
            draws.append((bits_of(c), bits_of(c)))
        np.testing.assert_array_equal(draws[0], draws[1])
        assert (draws[0][0] != draws[2][0]).all()


def test_each_engine_has_a_state_of_its_own(core):
    """Drawing on one engine, and seeding Vector, leave GpSimd's sequence where it is."""
    with core("trn3") as c:
        alone = [bits_of(c, engine=gpsimd) for _ in range(3)]
    with core("trn3") as c:
        first = bits_of(c, engine=gpsimd)
        bits_of(c, engine=vector)
        second = bits_of(c, engine=gpsimd)
        nisa.set_rng_seed(c.tile(np.array([[5]], np.int32)))
        np.testing.assert_array_equal([first, second, bits_of(c, engine=gpsimd)], alone)
        assert set(c.machine.generators) == {vector, gpsimd}


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32"])
def test_narrower_integers_take_the_low_bits(core, dtype):
    with core() as c:
        wide = bits_of(c)
    with core() as c:
        narrow = bits_of(c, dtype=dtype)
    size = narrow.dtype.itemsize
    np.testing.assert_array_equal(narrow.view(f"uint{8 * size}"), wide.astype(f"uint{8 * size}"))


@pytest.mark.parametrize(("engine", "words"), [(gpsimd, 6), (vector, 24)])
def test_a_saved_state_repeats_what_came_after_it(core, engine, words):
    with core("trn3") as c:
        state = c.empty((4, words), "uint32")
        bits_of(c, engine=engine)
        nisa.rand_get_state(state, engine)
        first = bits_of(c, engine=engine)
        assert (bits_of(c, engine=engine) != first).any()
        nisa.rand_set_state(state, engine)
        np.testing.assert_array_equal(bits_of(c, engine=engine), first)
        assert first[0].tolist()[:: words // 6] == one_at_a_time(state.array[0, :6], len(first[0][:: words // 6]))


def test_each_partition_has_a_generator_of_its_own(core):
    with core("trn3") as c:
        big = c.empty((64, 6), "uint32")
        nisa.rand_set_state(c.tile(np.tile(np.arange(1, 7, dtype=np.uint32), (64, 1))))
        nisa.rng(big[32:64], gpsimd)  # moves the upper half on
        moved = big.array[32:64].copy()
        nisa.rng(big, gpsimd)
        assert (moved == moved[0]).all() and (big.array[:32] == moved[0]).all()
        assert (big.array[32:] != moved).any()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "tfloat32", "float8_e5m2", "int16", "uint8"])
def test_rand2_is_uniform_between_its_bounds(core, dtype):
    with core("trn3") as c:
        low, high = (2.0, 5.0) if dtype == "float32" else (0.0, 200.0)
        dst = c.empty((128, 512), dtype)
        nisa.rand2(dst, low, high)
        x = dst.array.astype(np.float64)
        middle, width = (low + high) / 2, high - low
        assert low <= x.min() < low + width / 20 and high - width / 20 < x.max() <= high
        assert abs(x.mean() - middle) < width / 100 and abs(x.var() / (width**2 / 12) - 1) < 0.02


def test_rand2_takes_columns(core):
    with core("trn3") as c:
        low, high = np.arange(4, dtype=np.float32)[:, None], np.arange(4, dtype=np.float32)[:, None] + 0.5
        dst = c.empty((4, 2, 50))
        nisa.rand2(dst, c.tile(low), c.tile(high))
        flat = dst.array.reshape(4, 100)
        assert (flat >= low).all() and (flat <= high).all() and (np.ptp(flat, axis=1) > 0.4).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "uint8"])
def test_dropout_zeroes_a_share_and_keeps_the_rest_bit_for_bit(core, dtype):
    with core() as c:
        x = np.full((128, 512), 7).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
        prob = np.tile(np.array([[0.0], [1.0], [0.25], [0.9]], np.float32), (32, 1))
        dst = c.empty(x.shape, dtype)
        nisa.dropout(dst, c.tile(x, dtype), c.tile(prob))
        got = dst.array.astype(np.float64)
        assert set(np.unique(got)) == {0.0, 7.0}
        shares = (got == 0).mean(axis=1).reshape(32, 4).mean(axis=0)
        assert shares[0] == 0 and shares[1] == 1 and abs(shares[2] - 0.25) < 0.02 and abs(shares[3] - 0.9) < 0.02


def test_dropout_in_place_with_a_number(core):
    with core() as c:
        tile = c.tile(np.arange(1, 4097, dtype=np.float32).reshape(8, 512))
        nisa.dropout(tile, tile, 0.5)
        kept = tile.array != 0
        assert 0.45 < kept.mean() < 0.55
        np.testing.assert_array_equal(tile.array[kept], np.arange(1, 4097).reshape(8, 512)[kept])


def _dropout(c, dst=(4, 6), kinds=("float32", "float32"), prob=0.5):
    nisa.dropout(c.empty(dst, kinds[0]), c.empty((4, 6), kinds[1]), prob)


LIMITS = [
    (lambda c: nisa.rng(c.empty((4, 6))), "dst must be one of int8"),
    (lambda c: nisa.rng(c.empty((4, 6), "uint32"), nisa.engine.scalar), "engine must be one of"),
    (lambda c: nisa.rng(c.empty((4, 6), "uint32", "private_hbm")), "dst must be a tile in SBUF or PSUM"),
    (lambda c: _dropout(c, dst=(4, 5)), "same partitions and elements per partition"),
    (lambda c: _dropout(c, kinds=("bfloat16", "float32")), "must have the same dtype"),
    (lambda c: _dropout(c, prob=None), "prob must be a number"),
    (lambda c: _dropout(c, prob=1.5), "prob is a probability, from 0 to 1, got 1.5"),
    (lambda c: _dropout(c, prob=c.empty((4, 2))), "prob must be a scalar or a tile"),
    (lambda c: _dropout(c, prob=c.empty((4, 1), "int32")), "prob must have a floating-point dtype"),
    (lambda c: _dropout(c, kinds=("int8", "int8"), prob=c.empty((4, 1), "bfloat16")), "must be float32, got"),
    (_dropout, "nothing has written"),
    (lambda c: nisa.set_rng_seed(c.empty((1, 2), "uint32")), r"src_seeds must be \(1, 1\) of 32 bits"),
    (lambda c: nisa.set_rng_seed(c.empty((1, 1), "uint16")), r"src_seeds must be \(1, 1\) of 32 bits"),
    (lambda c: nisa.set_rng_seed(c.empty((1, 1), "uint32", "private_hbm")), "src_seeds must be a tile in SBUF or PSUM"),
    (lambda c: nisa.set_rng_seed(c.empty((1, 1), "uint32")), "nothing has written"),
]


@pytest.mark.parametrize(("call", "words"), LIMITS)
def test_limits(refused, call, words):
    refused(call, words)


V3 = ("trn2", "trn3")
LATER_LIMITS = [
    (lambda c: nisa.rng(c.empty((4, 6), "uint32"), gpsimd), "engine gpsimd needs NeuronCore-v3", ("trn1",), V3),
    (lambda c: nisa.rng(c.empty((4, 6), "uint32", "psum"), gpsimd), "GpSimd cannot access PSUM", V3, ()),
    (
        lambda c: nisa.rand_get_state(c.empty((4, 24), "uint32"), vector),
        "engine vector needs .*v4",
        ("trn2",),
        ("trn3",),
    ),
    (lambda c: nisa.rand_get_state(c.empty((4, 6), "uint32", "psum")), "GpSimd cannot access PSUM", V3, ()),
    (lambda c: nisa.rand_get_state(c.empty((4, 24), "uint32")), r"dst must be \[P, 6\] in uint32", V3, ()),
    (lambda c: nisa.rand_get_state(c.empty((4, 6), "int32")), r"dst must be \[P, 6\] in uint32", V3, ()),
    (lambda c: nisa.rand_set_state(c.empty((4, 6), "uint32"), vector), "engine vector needs .*v4", ("trn2",), ()),
    (lambda c: nisa.rand_set_state(c.empty((4, 6), "uint32"), vector), r"src_seeds must be \[P, 24\]", ("trn3",), ()),
    (lambda c: nisa.rand_set_state(c.empty((4, 6), "uint32", "psum")), "src_seeds must be a tile in SBUF", V3, ()),
    (lambda c: nisa.rand_set_state(c.empty((4, 6, 1), "uint32")), r"src_seeds must be \[P, 6\]", V3, ()),
    (lambda c: nisa.rand_set_state(c.empty((4, 2, 3), "uint32")), r"src_seeds must be \[P, 6\]", V3, ()),
    (lambda c: nisa.rand_set_state(c.empty((4, 6), "uint32")), "nothing has written", V3, ()),
    (
        lambda c: nisa.rand2(c.empty((4, 6), "float8_e4m3fn"), 0.0, 1.0),
        "dst must be one of float8_e4m3,",
        ("trn3",),
        (),
    ),
    (
        lambda c: nisa.rand2(c.empty((2, 6)), c.tile(np.array([[0], [2]], np.float32)), 1.0),
        "min must be less than max, got NkiTensor",
        ("trn3",),
        (),
    ),
    (lambda c: nisa.rand2(c.empty((4, 6)), 1.0, 1.0), "min must be less than max, got 1.0 and 1.0", ("trn3",), ()),
    (lambda c: nisa.rand2(c.empty((4, 6)), c.empty((4, 1), "bfloat16"), 1.0), "min must be float32", ("trn3",), ()),
    (lambda c: nisa.rand2(c.empty((4, 6)), 0.0, c.empty((4, 1), "int32")), "max must be float32", ("trn3",), ()),
    (lambda c: nisa.rand2(c.empty((4, 6)), 0.0, c.empty((4, 1))), "nothing has written", ("trn3",), ()),
]


@pytest.mark.parametrize(("call", "words", "on", "fine"), LATER_LIMITS)
def test_limits_of_later_generations(refused, call, words, on, fine):
    refused(call, words, on, fine)
