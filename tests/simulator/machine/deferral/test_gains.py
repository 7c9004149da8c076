"""A line of a kernel whose putting off is seen to gain nothing is carried out at once."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_parts import in_hbm

from triptych import simulator
from triptych.simulator import Options
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.machine.deferral import deferred, pending
from triptych.simulator.memory import references

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

TILES = 20
TRIED = 8


@pytest.fixture
def put_off(monkeypatch):
    """The lines of what is put off, in order."""
    lines, write = [], pending.Book.write

    def noted(book, storage, at, value, line):
        lines.append(line[1])
        write(book, storage, at, value, line)

    monkeypatch.setattr(pending.Book, "write", noted)
    return lines


def counts(put_off, kernel, *arrays):
    """How often each line of the kernel put something off, first line first; the results are those of at once."""
    results = [simulator.run(kernel, *arrays, options=Options(defer=defer)).outputs for defer in (False, True)]
    np.testing.assert_array_equal(*results)
    return [put_off.count(line) for line in sorted(set(put_off))]


def numbers(seed, shape, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def test_loads_that_are_copied_all_the_same(put_off):
    def kernel(x):
        out = nl.ndarray((TILES, 32, 32), x.dtype, nl.shared_hbm)
        for n in range(TILES):
            tile, flipped = nl.ndarray((32, 32), x.dtype), nl.ndarray((32, 32), x.dtype)
            nisa.dma_copy(dst=tile, src=x[n])
            nisa.nc_transpose(flipped, tile)
            nisa.dma_copy(dst=out[n], src=flipped)
        return out

    assert counts(put_off, kernel, numbers(0, (TILES, 32, 32))) == [TRIED]


@pytest.mark.parametrize("whole", [True, False])
def test_loads_that_are_overwritten(put_off, whole):
    """Before anybody looks: nothing is ever copied, unless a part of them stays."""

    def kernel(x):
        out = nl.ndarray((TILES, 32, 64), x.dtype, nl.shared_hbm)
        for n in range(TILES):
            tile = nl.ndarray((32, 64), x.dtype)
            nisa.dma_copy(dst=tile, src=x[n])
            nisa.memset(tile if whole else tile[:, 0:32], 1.0)
            nisa.dma_copy(dst=out[n], src=tile)
        return out

    assert counts(put_off, kernel, numbers(0, (TILES, 32, 64))) == [TILES if whole else TRIED]


def test_loads_that_are_read_where_they_lie(put_off):
    def kernel(x):
        out = nl.ndarray((TILES, 32, 64), x.dtype, nl.shared_hbm)
        for n in range(TILES):
            tile, more = nl.ndarray((32, 64), x.dtype), nl.ndarray((32, 64), x.dtype)
            nisa.dma_copy(dst=tile, src=x[n])
            nisa.tensor_scalar(more, tile, nl.add, 1.0)
            nisa.dma_copy(dst=out[n], src=more)
        return out

    assert counts(put_off, kernel, numbers(0, (TILES, 32, 64))) == [TILES]


def test_loads_that_are_read_where_they_lie_before_they_are_copied(put_off):
    def kernel(x):
        out = nl.ndarray((TILES, 32, 32), x.dtype, nl.shared_hbm)
        for n in range(TILES):
            tile, more, flipped = (nl.ndarray((32, 32), x.dtype) for _ in range(3))
            nisa.dma_copy(dst=tile, src=x[n])
            nisa.tensor_scalar(more, tile, nl.add, 1.0)
            nisa.nc_transpose(flipped, tile)
            nisa.dma_copy(dst=out[n], src=flipped)
        return out

    assert counts(put_off, kernel, numbers(0, (TILES, 32, 32))) == [TILES]


def test_parts_of_loads_that_are_read_where_they_lie(put_off):
    def kernel(x):
        out = nl.ndarray((TILES, 32, 32), x.dtype, nl.shared_hbm)
        for n in range(TILES):
            tile, more = nl.ndarray((32, 64), x.dtype), nl.ndarray((32, 32), x.dtype)
            nisa.dma_copy(dst=tile, src=x[n])
            nisa.tensor_scalar(more, tile[:, 16:48], nl.add, 1.0)
            nisa.dma_copy(dst=out[n], src=more)
        return out

    assert counts(put_off, kernel, numbers(0, (TILES, 32, 64))) == [TILES]


def test_loads_that_lie_closer_than_in_their_tile_are_copied(put_off):
    """NumPy may add them up in another order there."""

    def kernel(x):
        out = nl.ndarray((TILES, 32, 32), x.dtype, nl.shared_hbm)
        for n in range(TILES):
            tile, more = nl.ndarray((32, 64), x.dtype), nl.ndarray((32, 32), x.dtype)
            nisa.dma_copy(dst=tile[:, 0:32], src=x[n])
            nisa.tensor_scalar(more, tile[:, 0:32], nl.add, 1.0)
            nisa.dma_copy(dst=out[n], src=more)
        return out

    assert counts(put_off, kernel, numbers(0, (TILES, 32, 32))) == [TRIED]


@pytest.mark.parametrize(("load", "turned"), [(nisa.dma_transpose, TILES), (nisa.dma_copy, 0)])
def test_a_load_of_rows_as_columns_is_turned_around_when_it_is_copied(monkeypatch, load, turned):
    """Element by element that takes several times as long."""
    tiles, turn = [], pending.copy_transposed
    monkeypatch.setattr(pending, "copy_transposed", lambda out, x: tiles.append(out.shape) or turn(out, x))

    def kernel(x):
        held = [nl.ndarray((64, 64), x.dtype) for _ in range(TILES)]
        for n, tile in enumerate(held):
            load(dst=tile, src=x[n])
        out = nl.ndarray((TILES, 64, 64), x.dtype, nl.shared_hbm)
        for n, tile in enumerate(held):
            flipped = nl.ndarray((64, 64), x.dtype, nl.psum)
            nisa.nc_transpose(flipped, tile)
            again = nl.ndarray((64, 64), x.dtype)
            nisa.tensor_copy(again, flipped)
            nisa.dma_copy(dst=out[n], src=again)
        return out

    x = numbers(0, (TILES, 64, 64))
    np.testing.assert_array_equal(simulator.run(kernel, x).outputs, x if turned else x.transpose(0, 2, 1))
    assert tiles == [(64, 64)] * turned


COPIES = {
    "of what was computed": lambda x, tile: nisa.tensor_copy(nl.ndarray(tile.shape, nl.float32), tile),
    "into PSUM": lambda x, tile: nisa.tensor_copy(nl.ndarray(tile.shape, nl.float32, nl.psum), tile),
    "that casts what was computed": lambda x, tile: nisa.tensor_copy(nl.ndarray(tile.shape, nl.bfloat16), tile),
    "to an address": lambda x, tile: nisa.dma_copy(nl.ndarray(tile.shape, nl.float32, address=(0, 0)), x),
    "that casts a load": lambda x, tile: nisa.dma_copy(nl.ndarray(tile.shape, nl.bfloat16), x),
}


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_a_copy_that_saves_nothing_is_not_put_off(put_off, copy):
    def kernel(x):
        tile = nl.ndarray(x.shape, nl.float32)
        nisa.memset(tile, 2.0)
        copy(x, tile)
        return x

    assert counts(put_off, kernel, numbers(0, (32, 64))) == []


def multiplied(steps):
    """Products of tiles that are loaded alone, each a sum of so many."""

    def kernel(a, b):
        out = nl.ndarray((TILES, 64, 64), nl.float32, nl.shared_hbm)
        for n in range(TILES):
            bank = nl.ndarray((64, 64), nl.float32, nl.psum)
            for k in range(steps):
                left, right = nl.ndarray((32, 64), a.dtype), nl.ndarray((32, 64), b.dtype)
                nisa.dma_copy(dst=left, src=a[n, k])
                nisa.dma_copy(dst=right, src=b[n, k])
                nisa.nc_matmul(bank, left, right, accumulate=k > 0)
            result = nl.ndarray((64, 64), nl.float32)
            nisa.tensor_scalar(result, bank, nl.multiply, 2.0)
            nisa.dma_copy(dst=out[n], src=result)
        return out

    return kernel


def test_a_matmul_that_is_a_sum_by_itself(put_off):
    """Nor is anything gained by what it multiplies."""
    arrays = numbers(0, (TILES, 1, 32, 64)), numbers(1, (TILES, 1, 32, 64))
    assert counts(put_off, multiplied(1), *arrays) == [TRIED] * 3


def test_matmuls_that_add_up(put_off):
    arrays = numbers(0, (TILES, 2, 32, 64)), numbers(1, (TILES, 2, 32, 64))
    assert counts(put_off, multiplied(2), *arrays) == [2 * TILES, 2 * TILES, TILES]


def test_what_is_passed_on_gains(put_off):
    """A load that is copied on chip, and only then copied."""

    def kernel(x):
        out = nl.ndarray((TILES, 32, 32), x.dtype, nl.shared_hbm)
        for n in range(TILES):
            tile, again, flipped = (nl.ndarray((32, 32), x.dtype) for _ in range(3))
            nisa.dma_copy(dst=tile, src=x[n])
            nisa.tensor_copy(again, tile)
            nisa.nc_transpose(flipped, again)
            nisa.dma_copy(dst=out[n], src=flipped)
        return out

    assert counts(put_off, kernel, numbers(0, (TILES, 32, 32))) == [TILES, TRIED]


def test_a_tile_that_is_loaded_in_halves_is_one_operand(put_off):
    def kernel(a, b):
        left, right = nl.ndarray((64, 32), a.dtype), nl.ndarray((64, 128), b.dtype)
        nisa.dma_copy(dst=left, src=a)
        for column in (0, 64):
            nisa.dma_copy(dst=right[:, column : column + 64], src=b[:, column : column + 64])
        bank = nl.ndarray((32, 128), nl.float32, nl.psum)
        nisa.nc_matmul(bank, left, right, accumulate=False)
        result = nl.ndarray((32, 128), nl.float32)
        nisa.tensor_scalar(result, bank, nl.multiply, 2.0)
        return in_hbm(result)

    assert counts(put_off, kernel, numbers(0, (64, 32)), numbers(1, (64, 128))) == [1, 2, 1]


def test_a_copy_of_what_was_loaded_from_two_places_is_of_two_parts(put_off):
    def kernel(a, b):
        tile, again = nl.ndarray((64, 128), a.dtype), nl.ndarray((64, 128), a.dtype)
        nisa.dma_copy(dst=tile[:, 0:64], src=a)
        nisa.dma_copy(dst=tile[:, 64:128], src=b)
        nisa.tensor_copy(again, tile)
        return in_hbm(again)

    assert counts(put_off, kernel, numbers(0, (64, 64)), numbers(1, (64, 64))) == [1, 1, 2]


@pytest.mark.parametrize(("most", "copies"), [(8, 8), (7, 0)])
def test_so_many_parts_of_a_tile_wait(put_off, monkeypatch, most, copies):
    """If there are more, all are copied, and so is then what is made of them."""
    monkeypatch.setattr(pending, "_MOST", most)

    def kernel(x):
        tile, again = nl.ndarray((64, 128), x.dtype), nl.ndarray((64, 128), x.dtype)
        for n in range(8):
            nisa.dma_copy(dst=tile[:, 16 * n : 16 * n + 16], src=x[7 - n])
        nisa.tensor_copy(again, tile)
        return in_hbm(again)

    assert counts(put_off, kernel, numbers(0, (8, 64, 16))) == [8, *[copies] * (copies > 0)]


def test_a_small_copy_to_hbm_waits_for_a_product_that_is_a_part_of_it(put_off):
    def kernel(a, b):
        left, right, tile = nl.ndarray((64, 32), a.dtype), nl.ndarray((64, 32), b.dtype), nl.ndarray((32, 64), a.dtype)
        nisa.dma_copy(dst=left, src=a)
        nisa.dma_copy(dst=right, src=b)
        bank, out = nl.ndarray((32, 32), nl.float32, nl.psum), nl.ndarray((32, 64), nl.float32, nl.shared_hbm)
        nisa.nc_matmul(bank, left, right, accumulate=False)
        nisa.tensor_copy(tile[:, 0:32], bank)
        nisa.dma_copy(dst=tile[:, 32:64], src=a[0:32])
        nisa.dma_copy(dst=out, src=tile)
        return out

    assert counts(put_off, kernel, numbers(0, (64, 32)), numbers(1, (64, 32))) == [1, 1, 1, 1, 1, 2]


def copied(side, tile):
    """A copy of a matrix in square tiles."""

    def kernel(x):
        out = nl.ndarray(x.shape, x.dtype, nl.shared_hbm)
        for row in range(0, side, tile):
            for column in range(0, side, tile):
                held = nl.ndarray((tile, tile), x.dtype)
                nisa.dma_copy(dst=held, src=x[row : row + tile, column : column + tile])
                nisa.dma_copy(dst=out[row : row + tile, column : column + tile], src=held)
        return out

    return kernel


def test_a_small_copy_to_hbm_is_carried_out_at_once(put_off, monkeypatch):
    """And its load, which gains nothing then. Products wait for their neighbours."""
    assert counts(put_off, copied(256, 64), numbers(0, (256, 256))) == [TRIED]
    monkeypatch.setattr(deferred, "WORTH", 64 * 64 * 4)
    put_off.clear()
    assert counts(put_off, copied(256, 64), numbers(0, (256, 256))) == [16, 16]


def test_what_waits_in_many_parts_is_looked_at_part_by_part(put_off, monkeypatch):
    """Rows of tiles that go on from each other: what a view covers is found once, not for each pair of views."""
    side, tile = 512, 32
    monkeypatch.setattr(deferred, "WORTH", 0)
    references._box.cache_clear()
    assert counts(put_off, copied(side, tile), numbers(0, (side, side))) == [(side // tile) ** 2] * 2
    assert references._box.cache_info().misses <= 4 * (side // tile) ** 2


OVER = {  # what is written over a load, and of how many loads nothing is seen any more
    "all of it, from another tile": (lambda tile, e: nisa.tensor_scalar(tile, e, nl.multiply, 2.0), TILES),
    "all of it, in another order": (
        lambda tile, e: nisa.tensor_scalar(
            tile.reshape_dim(1, (8, 8)).permute((0, 2, 1)), e.reshape_dim(1, (8, 8)), nl.multiply, 2.0
        ),
        TILES,
    ),
    "all of it, from itself": (lambda tile, e: nisa.tensor_tensor(tile, e, tile, nl.multiply), 0),
    "all of it, from a view of itself": (lambda tile, e: nisa.tensor_tensor(tile, e, tile[:, 0:64], nl.add), 0),
    "a part of it": (lambda tile, e: nisa.tensor_scalar(tile[:, 0:32], e[:, 32:64], nl.multiply, 2.0), 0),
    "where a predicate holds": (
        lambda tile, e: nisa.tensor_copy_predicated(tile, e, nl.greater(e, 1.0, dtype=nl.uint8)),
        0,
    ),
}


@pytest.mark.parametrize(("write", "unseen"), OVER.values(), ids=OVER)
def test_a_load_that_is_written_over_is_not_copied(monkeypatch, write, unseen):
    dropped, drop = [], deferred.drop
    monkeypatch.setattr(deferred, "drop", lambda storage: dropped.append(storage) or drop(storage))

    def kernel(x):
        out = nl.ndarray((TILES, 32, 64), x.dtype, nl.shared_hbm)
        for n in range(TILES):
            tile, e = nl.ndarray((32, 64), x.dtype), nl.ndarray((32, 64), x.dtype)
            nisa.dma_copy(dst=tile, src=x[n])
            nisa.activation(e, nl.exp, tile)
            write(tile, e)
            nisa.dma_copy(dst=out[n], src=tile)
        return out

    x = numbers(0, (TILES, 32, 64))
    results = [simulator.run(kernel, x, options=Options(defer=defer)).outputs for defer in (False, True)]
    np.testing.assert_array_equal(*results)
    assert len(dropped) == unseen
