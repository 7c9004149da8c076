"""Rows of HBM that an index each chooses, put off: what they were when they were gathered, fetched where they go."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_parts import in_hbm, in_sbuf

from triptych import simulator
from triptych.simulator import NkiError, Options
from triptych.simulator.dtypes import TABLE
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.machine.deferral import deferred, pending

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

ROWS = np.random.default_rng(1).integers(0, 300, (128, 1)).astype(np.int32)
WIDE = 2 * deferred.WORTH // 128 // 4  # columns of a tile that is worth it


def table(dtype="float32", columns=64):
    return np.random.default_rng(0).standard_normal((300, columns)).astype(TABLE[dtype].np)


@pytest.fixture
def taken(monkeypatch):
    """Shapes of what rows that were put off are fetched into."""
    shapes, take = [], pending.take

    def noted(rows, at, out):
        shapes.append(out.shape)
        take(rows, at, out)

    for module in (deferred, pending):
        monkeypatch.setattr(module, "take", noted)
    return shapes


def outcome(kernel, *arrays, **options):
    """The outputs, and the arguments as they are then."""
    own = [a.copy() for a in arrays]
    outputs = simulator.run(kernel, *own, target="trn2", options=Options(**options)).outputs
    return [a.tobytes() for a in (*(outputs if isinstance(outputs, tuple) else (outputs,)), *own)]


def same(kernel, *arrays):
    """What a kernel leaves, which is the same where each instruction is carried out at once."""
    put_off = outcome(kernel, *arrays)
    assert put_off == outcome(kernel, *arrays, defer=False)
    return put_off


def gathered(x, rows, columns=None):
    """A tile of rows of x, whose indices go as soon as they were read."""
    index, tile = in_sbuf(rows), nl.ndarray((rows.shape[0], columns or x.shape[1]), x.dtype)
    nisa.dma_copy(dst=tile, src=(x if columns is None else x[:, :columns]).vector_select(0, index))
    nisa.memset(index, 0)
    return tile


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_rows_go_where_the_tile_is_stored(taken, dtype):
    """Not by way of the tile, neither once nor twice."""

    def kernel(x, rows):
        tile, out = gathered(x, rows), nl.ndarray((2, 128, x.shape[1]), x.dtype, nl.shared_hbm)
        nisa.dma_copy(dst=out[0], src=tile)
        nisa.dma_copy(dst=out[1], src=tile)
        return out

    x = table(dtype, WIDE)
    assert same(kernel, x, ROWS)[0] == np.stack([x[ROWS[:, 0]]] * 2).tobytes()
    assert taken == [(128, WIDE)] * 2


@pytest.mark.parametrize("part", [np.s_[:, 8:40], np.s_[32:96, :], np.s_[:, ::2], np.s_[5:6, 3:4], np.s_[:, 0:WIDE]])
def test_parts_of_the_rows(taken, part):
    def kernel(x, rows):
        view = gathered(x, rows)[part]
        whole = nl.ndarray((128, WIDE), x.dtype)
        nisa.memset(whole, 2.0)
        first = int(view.shape[1] < WIDE)
        nisa.dma_copy(dst=whole[: view.shape[0], first : first + view.shape[1]], src=view)
        return in_hbm(whole)

    same(kernel, table(columns=WIDE), ROWS)
    assert len(taken) == 1


def test_all_of_the_rows_in_another_order_or_shape(taken):
    def kernel(x, rows):
        tile, halves = gathered(x, rows), nl.ndarray((128, 2, WIDE), x.dtype, nl.shared_hbm)
        turned = nl.ndarray((128, 64, WIDE // 64), x.dtype, nl.shared_hbm)
        for column in (0, WIDE // 2):
            nisa.dma_copy(dst=halves[:, :, column : column + WIDE // 2], src=tile)
        nisa.dma_copy(dst=turned, src=tile.reshape((128, WIDE // 64, 64)).permute((0, 2, 1)))
        return halves, turned

    same(kernel, table(columns=WIDE), ROWS)
    assert taken == [(128, 2, WIDE // 2)] * 2 + [(128, 64, WIDE // 64)]


def test_the_table_changes_after_it_was_read():
    """By a copy, by a scatter, and in a part of it that is none of the rows."""

    def kernel(x, rows):
        zeros, out = nl.ndarray((128, x.shape[1]), x.dtype), nl.ndarray((3, 128, x.shape[1]), x.dtype, nl.shared_hbm)
        nisa.memset(zeros, 0.0)
        for n, to in enumerate((x[0:128], x.vector_select(0, in_sbuf(rows[0:1])), x[299:300])):
            tile = gathered(x, rows)
            nisa.dma_copy(dst=to, src=zeros[: to.shape[0]])
            nisa.dma_copy(dst=out[n], src=tile)
        return out

    x = table()
    found = same(kernel, x, ROWS)
    assert np.frombuffer(found[0], np.float32).reshape(3, 128, 64)[0].tobytes() == x[ROWS[:, 0]].tobytes()


def test_a_table_that_waits_itself():
    """One that a kernel has copied and one that it has multiplied, whose stores were put off."""

    def kernel(x, rows):
        copied, product = (nl.ndarray((256, WIDE), x.dtype, nl.shared_hbm) for _ in range(2))
        for row in (0, 128):
            nisa.dma_copy(dst=copied[row : row + 128], src=in_sbuf(x[row : row + 128]))
            for column in range(0, WIDE, 512):
                bank, tile = nl.ndarray((128, 512), nl.float32, nl.psum), nl.ndarray((128, 512), x.dtype)
                moving = in_sbuf(x[0:64, column : column + 512])
                nisa.nc_matmul(bank, in_sbuf(x[row : row + 64, 0:128]), moving, accumulate=False)
                nisa.tensor_copy(tile, bank)
                nisa.dma_copy(dst=product[row : row + 128, column : column + 512], src=tile)
        out = nl.ndarray((2, 128, WIDE), x.dtype, nl.shared_hbm)
        for n, t in enumerate((copied, product)):
            nisa.dma_copy(dst=out[n], src=gathered(t, rows))
        return out, copied, product

    same(kernel, table(columns=WIDE)[:256], np.minimum(ROWS, 255))


def test_a_tile_that_is_computed_with_gains_nothing(taken):
    """Nothing is put off at that line any more, once that was seen."""

    def kernel(x, rows):
        out = nl.ndarray((20, 128, x.shape[1]), x.dtype, nl.shared_hbm)
        for n in range(20):
            tile, more = gathered(x, rows), nl.ndarray((128, x.shape[1]), x.dtype)
            nisa.tensor_scalar(more, tile, nl.add, 1.0)
            nisa.tensor_scalar(tile, tile, nl.add, more[:, 0:1])
            nisa.dma_copy(dst=out[n], src=tile)
        return out

    same(kernel, table(), ROWS)
    assert len(taken) == 8


def test_a_tile_that_is_multiplied_or_overwritten():
    def kernel(x, rows):
        tile, bank = gathered(x, rows), nl.ndarray((64, 64), nl.float32, nl.psum)
        nisa.nc_matmul(bank, tile, in_sbuf(x[0:128]), accumulate=False)
        again, product = gathered(x, rows), nl.ndarray((64, 64), nl.float32)
        nisa.tensor_copy(product, bank)
        nisa.memset(again[:, 3:9], 1.0)
        nisa.dma_copy(dst=again[0:64, 16:32], src=tile[64:128, 0:16])
        whole = gathered(x, rows)
        nisa.memset(whole, 2.0)
        return in_hbm(product), in_hbm(again), in_hbm(whole)

    same(kernel, table(), ROWS)


def test_what_is_fetched_at_once(taken):
    """Rows that are left out, another dtype, rows for HBM, and an argument that shares its bytes with another."""

    def kernel(x, rows, other):
        tile, low, out = (
            nl.ndarray((128, 64), x.dtype),
            nl.ndarray((128, 64), nl.bfloat16),
            nl.ndarray((128, 64), x.dtype, nl.shared_hbm),
        )
        nisa.memset(tile, 3.0)
        index = in_sbuf(rows)
        nisa.dma_copy(dst=tile, src=x[0:200].vector_select(0, index), oob_mode=nisa.oob_mode.skip)
        nisa.dma_copy(dst=low, src=x.vector_select(0, index))
        nisa.dma_copy(dst=out, src=x.vector_select(0, index))
        return in_hbm(tile), in_hbm(low), out

    x = table()
    same(kernel, x, ROWS, table())
    run = [simulator.run(kernel, x, ROWS, x[:10], options=Options(defer=defer)).outputs for defer in (False, True)]
    assert all(np.array_equal(*pair) for pair in zip(*run, strict=True)) and taken == []


def test_an_index_out_of_bounds_says_so_at_its_own_line():
    def kernel(x, rows):
        return in_hbm(gathered(x[0:100], rows))

    for defer in (False, True):
        with pytest.raises(NkiError, match=r"row \d+ has index \d+ leaves dimension 0 .*which has 100 entries"):
            simulator.run(kernel, table(), ROWS, target="trn2", options=Options(defer=defer))
