"""What is put off leaves the bits, the trace and the errors of what is carried out at once."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from deferral_parts import numbers, same
from kernel_parts import in_hbm, in_sbuf

from triptych import simulator
from triptych.simulator import NkiError, Options
from triptych.simulator.engines import dma_compute
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.machine.deferral import blas, products

with simulated_nki():
    import nki
    import nki.isa as nisa
    import nki.language as nl


@nki.jit
def multiplied(a, b):
    """a.T @ b in tiles of 64 x 64, whose copies wait until the end."""
    out = nl.ndarray((a.shape[1], b.shape[1]), a.dtype, nl.shared_hbm)
    for i in range(0, a.shape[1], 64):
        for j in range(0, b.shape[1], 64):
            bank = nl.ndarray((64, 64), nl.float32, nl.psum)
            for k in range(0, a.shape[0], 128):
                tiles = in_sbuf(a[k : k + 128, i : i + 64]), in_sbuf(b[k : k + 128, j : j + 64])
                nisa.nc_matmul(bank, *tiles, accumulate=k > 0)
            tile = nl.ndarray((64, 64), a.dtype)
            nisa.tensor_copy(tile, bank)
            nisa.dma_copy(dst=out[i : i + 64, j : j + 64], src=tile)
    return out


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_neighbouring_tiles_are_one_product(dtype, monkeypatch):
    shapes = []
    compute = products._compute
    monkeypatch.setattr(products, "_compute", lambda p, shape, out: (shapes.append(shape), compute(p, shape, out)))
    same(multiplied, numbers(0, (256, 192), dtype), numbers(1, (256, 320), dtype))
    assert shapes == [(192, 320)]


def test_where_a_large_product_has_other_bits_blas_adds_to_each_tile(monkeypatch):
    pieces, multiply = [], products.multiply
    monkeypatch.setattr(products, "same_bits", lambda k, tile, whole, flips: whole == tile == (64, 64))
    monkeypatch.setattr(products, "multiply", lambda *of: (pieces.append(of[-1]), multiply(*of)))
    monkeypatch.setattr(products, "_by_tile", None)
    same(multiplied, numbers(0, (256, 192)), numbers(1, (256, 320)))
    assert pieces == [(64, 64)] * 2


def test_where_blas_gives_other_bits_each_tile_is_its_own(monkeypatch):
    monkeypatch.setattr(products, "same_bits", lambda *form: False)
    monkeypatch.setattr(products, "multiply", None)
    same(multiplied, numbers(0, (256, 192)), numbers(1, (256, 320)))


def test_without_a_blas_that_adds_each_tile_is_its_own(monkeypatch):
    blas.same_bits.cache_clear()
    monkeypatch.setattr(blas, "_sgemm", lambda: None)
    try:
        same(multiplied, numbers(0, (256, 192)), numbers(1, (256, 320)))
    finally:
        blas.same_bits.cache_clear()


def test_infinities_and_nan_come_out_where_they_do_at_once():
    a, b = numbers(0, (256, 128)), numbers(1, (256, 128))
    a[3, 5], a[130, 7], b[200, 9], b[3, 11] = np.inf, np.nan, -np.inf, 0
    results = [simulator.run(multiplied, a, b, options=Options(defer=d)).outputs for d in (False, True)]
    np.testing.assert_array_equal(*results)


@pytest.mark.filterwarnings("ignore::triptych.simulator.SimulatorWarning")
def test_what_is_printed_and_asserted_is_there(capsys):
    def kernel(x):
        tile = in_sbuf(x)
        nl.device_print("tile", tile[0:1, 0:4])
        print(tile[0:1, 0:4])
        assert nl.equal(tile, tile)
        return in_hbm(tile)

    x = numbers(0, (32, 64))
    same(kernel, x)
    said = capsys.readouterr().out
    assert said[: len(said) // 2] == said[len(said) // 2 :] and f"{x[0, 0]:.3f}"[:4] in said


def test_an_index_that_was_put_off_is_read():
    def kernel(x, index):
        where = in_sbuf(index)
        register = nisa.register_alloc()
        nisa.register_load(register, where)
        chosen = in_sbuf(x.select(0, register))
        nisa.dma_copy(dst=where, src=index)
        return in_hbm(chosen)

    same(kernel, numbers(0, (4, 32, 16)), np.array([[2]], np.int32))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_transposed_load_that_was_put_off_is_copied_for_whoever_asks(dtype):
    def kernel(x):
        tile, back = nl.ndarray((96, 64), x.dtype), nl.ndarray((64, 96), x.dtype, nl.psum)
        nisa.dma_transpose(dst=tile, src=x)
        nisa.nc_transpose(back, tile)
        again = nl.ndarray((64, 96), x.dtype)
        nisa.tensor_copy(again, back)
        return in_hbm(tile), in_hbm(again)

    x = numbers(0, (64, 96), dtype)
    same(kernel, x)
    for found, expected in zip(simulator.run(kernel, x).outputs, (x.T, x), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_an_argument_is_read_before_it_is_overwritten():
    """Two arguments that share bytes: what is written to one is written to the other."""

    def kernel(x, y):
        a, b = in_sbuf(x), in_sbuf(y)
        nisa.tensor_scalar(b, b, nl.add, 1.0)
        nisa.dma_copy(dst=y, src=b)
        return in_hbm(a), in_hbm(in_sbuf(x))

    results = []
    for defer in (False, True):
        x = numbers(0, (192, 64))
        results.append([*simulator.run(kernel, x[:128], x[64:], options=Options(defer=defer)).outputs, x])
    for at_once, put_off in zip(*results, strict=True):
        np.testing.assert_array_equal(at_once, put_off)


def test_an_argument_is_read_before_its_bytes_are_those_of_another_that_nothing_has_read():
    def kernel(x, y):
        a, ones = in_sbuf(x), nl.ndarray(y.shape, y.dtype)
        nisa.memset(ones, 1.0)
        nisa.dma_copy(dst=y, src=ones)
        return in_hbm(a)

    for defer in (False, True):
        x = numbers(0, (192, 1024))
        before = x[:128].copy()
        run = simulator.run(kernel, x[:128], x[64:], options=Options(defer=defer))
        np.testing.assert_array_equal(run.outputs, before)
        assert (x[64:] == 1).all()


def test_what_a_kernel_wrote_to_an_argument_is_there_though_it_is_not_returned():
    def kernel(x, y):
        nisa.dma_copy(dst=y, src=in_sbuf(x))

    same(kernel, numbers(0, (128, 64)), np.zeros((128, 64), np.float32))


def test_a_kernel_that_fails_leaves_what_it_wrote_before():
    def kernel(x, y):
        nisa.dma_copy(dst=y, src=in_sbuf(x))
        nisa.tensor_copy(in_sbuf(x), y)

    x, y = numbers(0, (128, 64)), np.zeros((128, 64), np.float32)
    with pytest.raises(NkiError, match=r"test_deferred.py:\d+"):
        simulator.run(kernel, x, y)
    np.testing.assert_array_equal(x, y)


def bounds_of_no_segments(x, segments):
    """What was loaded is about to be made anew, of segments that have no such numbers."""
    tile, wrong = in_sbuf(x), in_sbuf(segments)
    with contextlib.suppress(NkiError):
        nisa.sequence_bounds(tile, wrong)
    return in_hbm(tile)


def test_what_is_refused_leaves_what_was_loaded_before():
    x = numbers(0, (1, 2, 32))
    (out, *_), _, _ = same(bounds_of_no_segments, x, np.full((1, 32), -1, np.float32))
    assert out == x.tobytes()


@pytest.mark.parametrize("defer", [False, True])
def test_what_fails_leaves_what_was_copied_to_an_argument_before(defer, monkeypatch):
    def fail(dst, *tensors):
        raise KeyboardInterrupt

    def kernel(x, y):
        for row in range(0, len(x), 128):
            nisa.dma_copy(dst=y[row : row + 128], src=in_sbuf(x[row : row + 128]))
        nisa.dma_compute(y, [x, x], reduce_op=nl.add)

    monkeypatch.setattr(dma_compute, "_sum", fail)
    x, y = numbers(0, (256, 1024)), np.zeros((256, 1024), np.float32)
    with pytest.raises(KeyboardInterrupt):
        simulator.run(kernel, x, y, options=Options(defer=defer))
    np.testing.assert_array_equal(x, y)


# Copies that no reference stands for


def turned(x):
    """What is read in another order than it lies in, into a tile of another shape."""
    tile, dst = nl.ndarray((64, 4, 8), x.dtype), nl.ndarray((64, 32), x.dtype)
    nisa.dma_copy(dst=tile, src=x)
    nisa.tensor_copy(dst, tile.permute((0, 2, 1)))
    return in_hbm(dst)


def onto_itself(x):
    """Eight elements into one, of which the last stays."""
    tile, dst = nl.ndarray((64, 32), x.dtype), nl.ndarray((64, 1), x.dtype)
    nisa.dma_copy(dst=tile, src=x)
    nisa.tensor_copy(dst.broadcast(1, 32), tile)
    return in_hbm(dst)


def of_one_column(x, columns=1):
    """A product of single columns of tiles that were loaded."""
    tile, dst = nl.ndarray((64, 32), x.dtype), nl.ndarray((64, 32), nl.float32, nl.psum)
    nisa.dma_copy(dst=tile, src=x)
    nisa.nc_matmul(dst[:columns], tile[:, :columns], tile)
    nisa.nc_matmul(dst[32:, :columns], tile, tile[:, :columns])
    row, column = nl.ndarray((columns, 32), nl.float32), nl.ndarray((32, columns), nl.float32)
    nisa.tensor_copy(row, dst[:columns])
    nisa.tensor_copy(column, dst[32:, :columns])
    return in_hbm(row), in_hbm(column)


@pytest.mark.parametrize("kernel", [turned, onto_itself, of_one_column])
def test_what_cannot_be_put_off_is_done_at_once(kernel):
    x = numbers(0, (64, 32))
    (out, *_), _, _ = same(kernel, x.reshape(64, 4, 8) if kernel is turned else x)
    if kernel is onto_itself:
        assert out == x[:, -1:].tobytes()
