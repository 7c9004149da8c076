"""Poisoned memory: what nothing has written cannot be read, whatever its dtype and however it is viewed."""

from __future__ import annotations

import gc
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from triptych import simulator
from triptych.simulator import KernelError, NkiValidationError, Options, Uninitialized
from triptych.simulator.dtypes import dtype_of
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.memory.storage import Outside

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl


@pytest.fixture
def c(core):
    with core("trn2") as current:
        yield current


def read(c, tensor):
    nisa.dma_copy(c.empty(tensor.shape, tensor.dtype, "private_hbm"), tensor)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float8_e4m3", "int8", "int32", "uint16", "bool_"])
@pytest.mark.parametrize("buffer", ["sbuf", "private_hbm", "shared_hbm"])
def test_fresh_memory_has_no_value_integers_included(c, dtype, buffer):
    with pytest.raises(Uninitialized, match="reads 24 of 24 elements that nothing has written"):
        read(c, c.empty((4, 6), dtype, buffer))


def test_a_partial_write_is_known_element_by_element(c):
    tensor = c.empty((34, 6), "int32")
    nisa.memset(tensor[32:34, 2:4], 7)
    read(c, tensor[32:34, 2:4])
    read(c, tensor[32, 3])
    for view, words in (
        (tensor, r"reads 200 of 204 elements .* first at \[0, 0\]"),
        (tensor[32:], r"reads 8 of 12 elements .* first at \[0, 0\]"),
        (tensor[32:, 2:], r"reads 4 of 8 elements .* first at \[0, 2\]"),
        (tensor[32:, 2::3], r"reads 2 of 4 elements .* first at \[0, 1\]"),
    ):
        with pytest.raises(Uninitialized, match=words):
            read(c, view)


def test_pieces_make_a_whole(c):
    tensor = c.empty((4, 7))
    for start in (0, 2, 4):
        nisa.memset(tensor[:, start : min(start + 3, 7)], 0)  # they overlap
    assert tensor.storage.missing == 0
    for start in (0, 1):
        nisa.memset(c.empty((4, 7))[:, start::2], 0)
    read(c, tensor)


def test_there_is_a_mask_while_a_part_is_written_and_no_longer(c):
    whole, parts, bank = c.empty((4, 6)), c.empty((4, 6)), c.empty((4, 6), buffer="psum")
    nisa.memset(whole, 0)
    assert whole.storage.mask is None
    nisa.memset(parts[:, 0:4], 0)
    mask = parts.storage.mask
    assert (mask.unit, mask.bits.tolist()) == (8, [True, True, False] * 4)
    nisa.memset(parts[:, 4:6], 0)
    assert parts.storage.mask is None and parts.storage.missing == 0
    nisa.memset(parts, 0)
    nisa.memset(bank, 0)
    nisa.memset(bank[:, 0:2], 0)
    assert parts.storage.mask is None and bank.storage.mask is None
    chosen = c.empty((4, 6))
    chosen.wrote_where(np.ones((4, 6), bool))
    assert chosen.storage.mask is None and chosen.storage.missing == 0
    assert bank.storage.started is False and bank.storage.missing == 0
    ones = c.tile(np.ones((8, 10), np.float32))
    nisa.nc_matmul(bank, ones[:, 0:4], ones[:, 4:10])
    assert bank.storage.started is True


def test_a_write_through_repeating_strides_counts_each_element_once(c):
    tensor = c.empty((2, 8))
    nisa.memset(tensor.ap([[8, 2], [0, 4], [1, 2]]), 1.0)  # eight indices a partition, two elements
    assert tensor.storage.missing == 48  # bytes
    with pytest.raises(Uninitialized, match="reads 12 of 16"):
        read(c, tensor)
    folded = c.empty((2, 8))
    nisa.memset(folded.ap([[8, 2], [2, 4], [1, 2]]), 1.0)
    read(c, folded)


def test_a_write_through_windows_that_overlap_counts_each_element_once(c):
    tensor = c.empty((2, 8))
    windows = tensor.ap([[8, 2], [1, 3], [1, 2]])  # six elements a partition, of four
    windows.wrote()
    assert tensor.storage.missing == 2 * 4 * 4


def test_reinterpreted_views_are_written_byte_by_byte(c):
    tensor = c.empty((1, 4))
    nisa.memset(tensor.view(nl.uint8)[:, 2:9], 0)  # half of element 0, all of 1, a quarter of 2
    read(c, tensor[:, 1])
    read(c, tensor.view(nl.uint16)[:, 1:4])
    with pytest.raises(Uninitialized, match=r"reads 3 of 4 elements .* first at \[0, 0\]"):
        read(c, tensor)
    nisa.memset(tensor[:, 2:4], 1.0)
    with pytest.raises(Uninitialized, match="reads 2 of 16 elements"):
        read(c, tensor.view(nl.uint8))
    nisa.memset(tensor.view(nl.uint16)[:, 0:1], 0)
    assert tensor.storage.missing == 0
    read(c, tensor)


def test_dropped_memory_comes_back_poisoned(c):
    """A tensor that reuses the bytes of a dropped one does not see its values."""
    for _ in range(3):
        tensor = c.empty((4, 8))
        with pytest.raises(Uninitialized):
            read(c, tensor)
        nisa.memset(tensor, 1.0)
        del tensor
        gc.collect()


def test_an_array_of_a_dropped_tensor_keeps_its_bytes(c):
    tensor = c.empty((4, 8))
    nisa.memset(tensor, 1.0)
    array = tensor.array
    del tensor
    for _ in range(3):
        nisa.memset(c.empty((4, 8)), 2.0)
    assert (array == 1).all()


def test_a_converted_tile_is_converted_again_after_a_write(c):
    """The float32 form of a low-precision tile is kept, and dropped when the tile changes."""
    low, out = c.tile(np.ones((2, 4)), "bfloat16"), c.empty((2, 4))
    nisa.tensor_copy(out, low)
    nisa.memset(low[:, 1:2], 3.0)
    nisa.tensor_copy(out, low)
    assert out.array.tolist() == [[1, 3, 1, 1]] * 2
    nisa.tensor_copy_predicated(low, 5.0, c.tile(np.eye(2, 4), "uint8"))
    nisa.tensor_copy(out, low)
    assert out.array.tolist() == [[5, 3, 1, 1], [1, 5, 1, 1]]


def test_a_storage_has_what_it_has(c):
    storage = c.empty((4, 8)).storage
    assert storage.raw is storage.raw and storage.raw.size == 128
    outside = Outside(storage.allocation, ValueError("left"))
    assert outside.allocation is storage.allocation
    with pytest.raises(ValueError, match="left"):
        _ = outside.missing


@pytest.mark.parametrize("buffer, row", [("sbuf", 16), ("psum", 16), ("private_hbm", 0), ("shared_hbm", 0)])
def test_what_a_storage_is_made_with(core, buffer, row):
    for rounds in (True, False):
        for data in (True, False):
            with core(round_low_precision=rounds, data=data) as c:
                for dtype, widened in (("bfloat16", not rounds), ("float32", False), ("int8", False)):
                    storage = c.empty((4, 2, 4), dtype, buffer).storage
                    size = dtype_of(dtype).itemsize
                    assert (storage.widened, storage.np) == (widened, np.dtype("f4") if widened else dtype_of(dtype).np)
                    assert (storage.row, storage.partition, storage.dense) == (row * size // 2, 0, (8, 4, 1))
                    wide = 4 if widened and data else size
                    assert (storage.itemsize, storage.nbytes, storage.missing) == (wide, 32 * wide, 32 * wide)


def test_the_error_names_both_lines(c):
    tensor = c.empty((4, 6))
    with pytest.raises(Uninitialized) as e:
        nisa.reciprocal(c.empty((4, 6)), tensor)
    lines = Path(__file__).read_text().splitlines()
    here = 1 + next(n for n, line in enumerate(lines) if "nisa.reciprocal" in line)
    assert str(e.value).startswith(f"nisa.reciprocal at test_memory.py:{here}: ")
    assert "allocated at conftest.py:" in str(e.value)


def test_unchecked_memory_is_a_named_leniency(core):
    with core(check_uninitialized=False) as c:
        read(c, c.empty((4, 6)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float8_e4m3", "float8_e5m2"])
def test_unwritten_memory_that_may_be_read_is_the_same_in_every_run_and_no_special_value(core, dtype):
    with core(check_uninitialized=False) as c:
        c.tile(np.full((4, 64), np.nan, np.float32), dtype)  # leaves bytes behind
        for address in (None, (0, 0)):
            found = nl.ndarray((4, 64), dtype, nl.sbuf, address=address).f32()
            assert np.all(np.isfinite(found) & (found != 0)) and len(np.unique(found)) == 1


# Limits of an allocation


@pytest.mark.parametrize(("target", "size"), [("trn1", 192), ("trn2", 224), ("trn3", 256)])
def test_a_tensor_fits_its_partition(core, target, size):
    with core(target) as c:
        c.empty((128, size * 256))
        c.empty((1, size * 1024), "uint8")
        with pytest.raises(NkiValidationError, match=f"bytes of each sbuf partition, and .* has {size * 1024}"):
            c.empty((128, size * 256 + 1))
        c.empty((128, 4096), buffer="psum")
        with pytest.raises(NkiValidationError, match="bytes of each psum partition, and .* has 16384"):
            c.empty((128, 4097), buffer="psum")


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((129, 4), r"dimension 0 of a sbuf tensor is the partition, at most 128; got \(129, 4\); nl.alloc_tiles"),
        ((128,), r"a partition and a free dimension, got \(128,\); write \(128, 1\) or \(1, 128\)"),
        ((), "at least one dimension"),
        ((4, 0), "sizes of 1 or more"),
        ((4, -1), "sizes of 1 or more"),
    ],
)
def test_shapes_of_on_chip_tensors(c, shape, words):
    with pytest.raises(NkiValidationError, match=words):
        nl.ndarray(shape, nl.float32)


def test_a_buffer_is_a_memory_region(c):
    with pytest.raises(NkiValidationError, match="buffer must be nl.sbuf, .* got 'sbuf'"):
        nl.ndarray((4, 4), nl.float32, buffer="sbuf")


# Kernels


def fill_rows(a, rows, columns, dtype):
    out = nl.ndarray(a.shape, dtype, buffer=nl.shared_hbm)
    tile = nl.ndarray((rows, columns), dtype)
    nisa.memset(tile, 1)
    nisa.dma_copy(out[:rows, :columns], tile)
    return out


def test_an_output_left_unwritten_is_an_error_with_its_first_gap():
    a = np.ones((4, 6), np.float32)
    assert (simulator.run(fill_rows, a, 4, 6, "bfloat16").outputs == 1).all()
    with pytest.raises(
        KernelError, match=r"fill_rows returns 'out' \(4, 6\) .* with 6 of 24 elements never written, first at \[3, 0\]"
    ):
        simulator.run(fill_rows, a, 3, 6, "int32")
    with pytest.raises(KernelError, match=r"with 4 of 24 elements never written, first at \[0, 5\]"):
        simulator.run(fill_rows, a, 4, 5, "float32")


def test_an_output_never_touched_is_an_error_too():
    def kernel(a):
        return nl.ndarray(a.shape, a.dtype, buffer=nl.shared_hbm)

    with pytest.raises(KernelError, match=r"24 of 24 elements never written, first at \[0, 0\]"):
        simulator.run(kernel, np.ones((4, 6), np.float32))
    garbage = simulator.run(kernel, np.ones((4, 6), np.float32), options=Options(check_uninitialized=False)).outputs
    assert np.all(np.isfinite(garbage) & (garbage != 0))


def test_an_option_of_a_run_reaches_its_memory():
    def kernel(a):
        out = nl.ndarray(a.shape, a.dtype, buffer=nl.shared_hbm)
        nisa.dma_copy(out, nl.ndarray(a.shape, a.dtype))
        return out

    a = np.ones((4, 6), np.int32)
    with pytest.raises(Uninitialized, match="reads 24 of 24 elements"):
        simulator.run(kernel, a, options=Options(strict=True))
    words = r"24 of 24 elements of 'out' .*: nisa.dma_copy at test_memory.py.* reads sbuf"
    with pytest.warns(simulator.SimulatorWarning), pytest.raises(Uninitialized, match=words):
        simulator.run(kernel, a)
    assert simulator.run(kernel, a, options=Options(check_uninitialized=False)).outputs.shape == (4, 6)


def test_two_arguments_that_share_an_array_see_each_others_writes():
    def kernel(a, b):
        out = nl.ndarray((2, 4), nl.float32, nl.shared_hbm)
        tile = nl.ndarray((2, 4), nl.float32)
        nisa.dma_copy(dst=tile, src=b)  # a cast, which reads b in float32
        ones = nl.ndarray((2, 4), nl.bfloat16)
        nisa.memset(dst=ones, value=1.0)
        nisa.dma_copy(dst=a, src=ones)
        nisa.dma_copy(dst=tile, src=b)
        nisa.dma_copy(dst=out, src=tile)
        return out

    shared = np.zeros((2, 4), ml_dtypes.bfloat16)
    assert np.all(simulator.run(kernel, shared, shared).outputs == 1.0)
