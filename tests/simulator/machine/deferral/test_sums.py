"""Sums of products, put off or not, of operands that lie in every way: their bits are those of one matmul at a time."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from kernel_parts import in_hbm, in_sbuf

import triptych
from triptych import simulator
from triptych.simulator import Options
from triptych.simulator.dtypes import TABLE
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.machine.deferral import products

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

KERNELS = Path(triptych.__file__).parent / "kernels" / "nki"
SIZE = 64


def transposed(x):
    """A tile that is loaded with its rows as columns."""
    tile = nl.ndarray((x.shape[1], x.shape[0]), x.dtype)
    nisa.dma_transpose(dst=tile, src=x)
    return tile


def computed(x):
    """A tile that an engine has made."""
    tile = nl.ndarray(x.shape, x.dtype)
    nisa.tensor_scalar(tile, in_sbuf(x), nl.multiply, 0.5)
    return tile


def below(x, j):
    """A tile of the lower half, as far from the left as the tile of the result is."""
    return in_sbuf(x[128:256, SIZE * j : SIZE * j + SIZE])


def in_parts(x, j):
    """A tile of which the halves were loaded from places that are no neighbours."""
    tile = nl.ndarray((128, SIZE), x.dtype)
    for n in range(2):
        nisa.dma_copy(dst=tile[:, 32 * n : 32 * n + 32], src=x[128 * n : 128 * n + 128, SIZE * j : SIZE * j + 32])
    return tile


def column(x, start, step=1):
    return x[0:128, start : start + (SIZE - 1) * step + 1 : step]


# Each step of the sum in one tile of the result: its operands, of two matrices [256, 256] and the number of the tile.
STEPS = {
    "neighbours": [lambda x, j: in_sbuf(column(x, SIZE * j)), below],
    "the second no neighbours": [lambda x, j: in_sbuf(column(x, SIZE * j)), lambda x, j: in_sbuf(column(x, 192 * j))],
    "the second with gaps, no neighbours": [
        lambda x, j: in_sbuf(column(x, SIZE * j)),
        lambda x, j: in_sbuf(column(x, j, 2)),
    ],
    "with gaps": [lambda x, j: in_sbuf(column(x, 128 * j, 2)), lambda x, j: in_sbuf(column(x, 128 * j + 1, 2))],
    "gaps beside none": [lambda x, j: in_sbuf(column(x, 128 * j, 2)), lambda x, j: in_sbuf(column(x, SIZE * j))],
    "transposed": [lambda x, j: transposed(x[SIZE * j : SIZE * j + SIZE, 0:128]), below],
    "computed": [lambda x, j: computed(column(x, SIZE * j)), lambda x, j: in_sbuf(column(x, SIZE * j))],
    "computed behind": [lambda x, j: in_sbuf(column(x, SIZE * j)), lambda x, j: computed(column(x, SIZE * j))],
    "fewer rows": [lambda x, j: in_sbuf(column(x, SIZE * j)), lambda x, j: in_sbuf(column(x, SIZE * j)[0:32])],
    "one row": [below, lambda x, j: in_sbuf(x[200:201, SIZE * j : SIZE * j + SIZE])],
    "parts of one tile": [lambda x, j: in_sbuf(x[0:128])[:, SIZE * j : SIZE * j + SIZE]] * 2,
    "with gaps on chip": [lambda x, j: in_sbuf(x[0:128])[:, j : j + 2 * SIZE : 2]] * 2,
    "in reverse": [lambda x, j: in_sbuf(column(x, 192 - SIZE * j))] * 2,
    "in parts": [in_parts, below],
    "one tile for all": [lambda x, j: in_sbuf(column(x, 0))] * 2,
}  # fmt: skip


def in_tiles(left, right, tiles=(2, 2)):
    """A kernel that makes tiles [64, 64] of the result beside and below each other."""

    def kernel(x, y):
        out = nl.ndarray((tiles[0] * SIZE, tiles[1] * SIZE), x.dtype, nl.shared_hbm)
        for i in range(tiles[0]):
            for j in range(tiles[1]):
                bank = nl.ndarray((SIZE, SIZE), nl.float32, nl.psum)
                for n, (a, b) in enumerate(zip(left, right, strict=True)):
                    nisa.nc_matmul(bank, a(x, i), b(y, j), accumulate=n > 0)
                tile = nl.ndarray((SIZE, SIZE), x.dtype)
                nisa.tensor_copy(tile, bank)
                nisa.dma_copy(dst=out[SIZE * i : SIZE * i + SIZE, SIZE * j : SIZE * j + SIZE], src=tile)
        return out

    return kernel


def same(kernel, dtype="float32", target="trn2"):
    """The result of a kernel of two matrices, which is one whether it is put off or not."""
    rngs = [np.random.default_rng(seed) for seed in range(2)]
    arrays = [rng.integers(-8, 9, (256, 256)).astype(np.float32).astype(TABLE[dtype].np) for rng in rngs]
    if dtype == "float32":
        arrays = [a + rng.standard_normal(a.shape, np.float32) for a, rng in zip(arrays, rngs, strict=True)]
    found = [simulator.run(kernel, *arrays, target=target, options=Options(defer=d)).outputs for d in (False, True)]
    np.testing.assert_array_equal(*[x.astype(np.float32) for x in found])
    return found[1]


FEW = {"fewer rows": 32, "one row": 1}
PAIRS = [(a, b) for a in STEPS for b in STEPS if FEW.get(a) == FEW.get(b)]


@pytest.mark.parametrize(("left", "right"), PAIRS)
def test_tiles_of_operands_that_lie_in_every_way(left, right):
    same(in_tiles(STEPS[left], STEPS[right]))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float8_e4m3", "float8_e5m2"])
def test_of_other_dtypes(dtype):
    same(in_tiles(STEPS["neighbours"], STEPS["neighbours"]), dtype)


def test_of_three_tiles_of_which_two_are_neighbours():
    apart = [lambda x, j: in_sbuf(column(x, (0, 64, 192)[j]))] * 2
    same(in_tiles(apart, apart, (3, 3)))


def test_neighbours_in_one_step_that_are_none_in_the_next():
    """Their second operands lie as far apart as the first ones, which have gaps, but have none."""
    steps = [lambda x, j: in_sbuf(column(x, 128 * j, 2)), lambda x, j: in_sbuf(column(x, 128 * j))]
    same(in_tiles(steps, steps))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_no_more_are_computed_at_once_than_are_worth_it(monkeypatch, dtype):
    """Where they are rounded, fewer: they need scratch, of which there is one at a time."""
    shapes, compute = [], products._compute
    monkeypatch.setattr(products, "_compute", lambda p, shape, out: (shapes.append(shape), compute(p, shape, out)))
    monkeypatch.setattr(products, "_MOST", (128, 192))
    monkeypatch.setattr(products, "_MOST_ROUNDED", (64, 192))
    same(in_tiles(STEPS["neighbours"], STEPS["neighbours"], (4, 4)), dtype)
    rows = {"float32": 128, "bfloat16": 64}[dtype]
    assert sorted(shapes) == sorted([(rows, 64), (rows, 192)] * (256 // rows))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_large_product_takes_no_more_than_half_as_much_memory_as_its_matrices(dtype):
    kernel = simulator.load(KERNELS / "matmul.py").matmul
    x, y = (np.ones((2048, 2048), TABLE[dtype].np) for _ in range(2))
    simulator.run(kernel, x, y)  # what is made once
    tracemalloc.start()
    try:
        simulator.run(kernel, x, y)
        peak = tracemalloc.get_traced_memory()[1]  # with the result, without the arguments
    finally:
        tracemalloc.stop()
    assert peak + 2 * x.nbytes <= 1.5 * 3 * x.nbytes


@pytest.mark.parametrize("tiles", [(4, 2), (2, 4)])
def test_tiles_that_would_be_rounded_otherwise_together_are_computed_one_by_one(monkeypatch, tiles):
    monkeypatch.setattr(products, "same_bits", lambda *asked: False)
    same(in_tiles(STEPS["neighbours"], STEPS["neighbours"], tiles))


def into(bank, x, y, steps=2, **options):
    """The bank, copied to HBM, after a sum of so many products."""
    for n in range(steps):
        left, right = in_sbuf(x[128 * n : 128 * n + 128, 0:SIZE]), in_sbuf(y[128 * n : 128 * n + 128, 0:SIZE])
        nisa.nc_matmul(bank, left, right, accumulate=n > 0, **options)
    tile = nl.ndarray((SIZE, SIZE), nl.float32)
    nisa.tensor_copy(tile, bank)
    return in_hbm(tile)


def test_a_sum_in_bfloat16_is_rounded_at_each_step():
    found = same(lambda x, y: into(nl.ndarray((SIZE, SIZE), nl.bfloat16, nl.psum), x, y), target="trn3")
    assert (found == found.astype(TABLE["bfloat16"].np).astype(np.float32)).all()


def test_a_sum_at_an_address_is_seen_by_whoever_lies_there():
    def kernel(x, y):
        a, b = (nl.ndarray((SIZE, SIZE), nl.float32, nl.psum, address=(0, 0)) for _ in range(2))
        for n in range(2):
            nisa.nc_matmul(a, *[in_sbuf(t[128 * n : 128 * n + 128]) for t in (x, y)], accumulate=n > 0)
        tiles = [nl.ndarray((SIZE, SIZE), nl.float32) for _ in range(2)]
        for tile, bank in zip(tiles, (b, a), strict=True):
            nisa.tensor_copy(tile, bank)
        return tuple([in_hbm(tile) for tile in tiles])

    x, y = (np.random.default_rng(seed).standard_normal((256, SIZE), np.float32) for seed in range(2))
    for defer in (False, True):
        through_other, through_itself = simulator.run(kernel, x, y, options=Options(defer=defer)).outputs
        np.testing.assert_array_equal(through_other, through_itself)
        np.testing.assert_allclose(through_other, x.T @ y, rtol=0, atol=1e-3)


@pytest.mark.parametrize("hint", ["is_stationary_onezero", "is_moving_onezero"])
def test_a_hint_that_is_not_true_is_refused_at_its_matmul(hint):
    def kernel(x, y):
        bank = nl.ndarray((SIZE, SIZE), nl.float32, nl.psum)
        return into(bank, x, y, **{hint: True})

    ones, other = np.ones((256, SIZE), np.float32), np.full((256, SIZE), 2, np.float32)
    told = hint == "is_moving_onezero"
    for defer in (False, True):
        good, bad = ((other, ones), (ones, other)) if told else ((ones, other), (other, ones))
        assert (simulator.run(kernel, *good, options=Options(defer=defer)).outputs == 512).all()
        with pytest.raises(simulator.NkiValidationError, match=f"{hint} says"):
            simulator.run(kernel, *bad, options=Options(defer=defer))


def test_of_a_tile_with_itself():
    def kernel(x, y):
        a = in_sbuf(x[0:128, 0:SIZE])
        bank, tile = nl.ndarray((SIZE, SIZE), nl.float32, nl.psum), nl.ndarray((SIZE, SIZE), nl.float32)
        nisa.nc_matmul(bank, a, a)
        nisa.nc_matmul(bank, a, a)
        nisa.tensor_copy(tile, bank)
        return in_hbm(tile)

    same(kernel)


def test_onto_what_another_matmul_began_in_part():
    """The first writes the left half, the second adds there and overwrites the right half."""

    def kernel(x, y):
        bank, tile = nl.ndarray((SIZE, SIZE), nl.float32, nl.psum), nl.ndarray((SIZE, SIZE), nl.float32)
        nisa.nc_matmul(bank[:, 0:32], in_sbuf(x[0:128, 0:SIZE]), in_sbuf(y[0:128, 0:32]))
        nisa.nc_matmul(bank, in_sbuf(x[128:256, 0:SIZE]), in_sbuf(y[128:256, 0:SIZE]))
        nisa.tensor_copy(tile, bank)
        return in_hbm(tile)

    same(kernel)


def test_a_sum_of_which_a_copy_waits_stays_as_it_was():
    """A matmul adds to a bank that was copied: the copy is of what stood there before."""

    def kernel(x, y):
        bank = nl.ndarray((SIZE, SIZE), nl.float32, nl.psum)
        before, behind = nl.ndarray((SIZE, SIZE), nl.float32), nl.ndarray((SIZE, SIZE), nl.float32)
        for n, tile in enumerate((before, behind)):
            left, right = in_sbuf(x[128 * n : 128 * n + 128, 0:SIZE]), in_sbuf(y[128 * n : 128 * n + 128, 0:SIZE])
            nisa.nc_matmul(bank, left, right, accumulate=n > 0)
            nisa.tensor_copy(tile, bank)
        out = nl.ndarray((2, SIZE, SIZE), nl.float32, nl.shared_hbm)
        nisa.dma_copy(dst=out[1], src=behind)
        nisa.dma_copy(dst=out[0], src=before)
        return out

    same(kernel)


def test_a_sum_of_which_a_copy_waits_is_overwritten_in_part():
    """Its bank is computed for an engine then, and the copy is asked for last."""

    def kernel(x, y):
        bank, more = nl.ndarray((SIZE, SIZE), nl.float32, nl.psum), nl.ndarray((SIZE, SIZE), nl.float32)
        copy = nl.ndarray((SIZE, SIZE), nl.float32)
        nisa.nc_matmul(bank, in_sbuf(x[0:128, 0:SIZE]), in_sbuf(y[0:128, 0:SIZE]))
        nisa.tensor_copy(copy, bank)
        nisa.tensor_copy(bank[:, 0:32], in_sbuf(x[0:SIZE, 0:32]))
        nisa.tensor_scalar(more, bank, nl.multiply, 0.5)
        out = nl.ndarray((2, SIZE, SIZE), nl.float32, nl.shared_hbm)
        nisa.dma_copy(dst=out[0], src=more)
        nisa.dma_copy(dst=out[1], src=copy)
        return out

    same(kernel)


def test_a_sum_that_was_rounded_for_one_tile_is_not_for_another():
    """Engines ask for both, first for the one in bfloat16."""

    def kernel(x, y):
        bank, found = (
            nl.ndarray((SIZE, SIZE), nl.float32, nl.psum),
            nl.ndarray((2, SIZE, SIZE), nl.float32, nl.shared_hbm),
        )
        nisa.nc_matmul(bank, in_sbuf(x[0:128, 0:SIZE]), in_sbuf(y[0:128, 0:SIZE]))
        tiles = [nl.ndarray((SIZE, SIZE), dtype) for dtype in (nl.bfloat16, nl.float32)]
        for tile in tiles:
            nisa.tensor_copy(tile, bank)
        for n, tile in enumerate(tiles):
            half = nl.ndarray((SIZE, SIZE), nl.float32)
            nisa.tensor_scalar(half, tile, nl.multiply, 0.5)
            nisa.dma_copy(dst=found[n], src=half)
        return found

    same(kernel)


@pytest.mark.parametrize("dtype", ["float8_e5m2", "float16", "float32"])
def test_a_sum_that_was_rounded_is_rounded_from_there(dtype):
    """By way of bfloat16, not from the sum itself."""

    def kernel(x, y):
        bank = nl.ndarray((SIZE, SIZE), nl.float32, nl.psum)
        half, last = nl.ndarray((SIZE, SIZE), nl.bfloat16), nl.ndarray((SIZE, SIZE), dtype)
        nisa.nc_matmul(bank, in_sbuf(x[0:128, 0:SIZE]), in_sbuf(y[0:128, 0:SIZE]))
        nisa.tensor_copy(half, bank)
        nisa.tensor_copy(last, half)
        return in_hbm(last)

    same(kernel)


@pytest.mark.parametrize(("rows", "columns"), [(1, (2, 3)), (2, (1, 3)), (3, (4, 1)), (1, (1, 1)), (5, (1, 1))])
def test_of_single_rows_and_columns(rows, columns):
    def kernel(x, y):
        m, n = columns
        bank, tile = nl.ndarray((m, n), nl.float32, nl.psum), nl.ndarray((m, n), nl.float32)
        for at in (0, 128):
            left, right = in_sbuf(x[at : at + rows, 0:m]), in_sbuf(y[at : at + rows, 7 : 7 + n])
            nisa.nc_matmul(bank, left, right, accumulate=at > 0)
        nisa.tensor_copy(tile, bank)
        return in_hbm(tile)

    same(kernel)


def test_two_rows_of_the_contraction_in_one_partition_are_no_columns():
    def kernel(x, y):
        bank, tile = nl.ndarray((32, 32), nl.float32, nl.psum), nl.ndarray((32, 32), nl.float32)
        left, right = (in_sbuf(t[0:128, 0:SIZE]).reshape((128, 2, 32)) for t in (x, y))
        nisa.nc_matmul(bank, left, right, perf_mode=nisa.matmul_perf_mode.double_row)
        nisa.tensor_copy(tile, bank)
        return in_hbm(tile)

    same(kernel, "float8_e4m3")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_of_a_sum(dtype):
    """Its copy, or a part of it, is an operand of the next."""

    def kernel(x, y):
        first, second = (nl.ndarray((SIZE, SIZE), nl.float32, nl.psum) for _ in range(2))
        tile, out = nl.ndarray((SIZE, SIZE), x.dtype), nl.ndarray((SIZE, SIZE), nl.float32)
        nisa.nc_matmul(first, in_sbuf(x[0:128, 0:SIZE]), in_sbuf(y[0:128, 0:SIZE]))
        nisa.tensor_copy(tile, first)
        nisa.nc_matmul(second, tile, in_sbuf(y[0:SIZE, 0:SIZE]))
        nisa.nc_matmul(second, in_sbuf(x[0:32, 0:SIZE]), tile[0:32], accumulate=True)
        nisa.tensor_copy(out, second)
        return in_hbm(out)

    same(kernel, dtype)
