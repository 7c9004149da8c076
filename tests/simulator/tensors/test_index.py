"""Views with an index: what one may be, which partitions a tile lies on, and what a tensor says of its values."""

from __future__ import annotations

import numpy as np
import pytest

from triptych.simulator import NkiValidationError, OutOfBounds
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.tensors.partitions import partitions_of, starts

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl


@pytest.fixture
def c(core):
    with core("trn3") as current:
        yield current


@pytest.fixture
def table(c):
    return c.machine.input(np.arange(40, dtype=np.float32).reshape(8, 5), "table")


ROW_INDEX = "vector_offset must be a tile of integers in SBUF"


@pytest.mark.parametrize(
    "shape, dtype, buffer",
    [
        ((4, 1), "float32", "sbuf"),
        ((4, 1), "int32", "psum"),
        ((4, 1, 2), "int32", "sbuf"),
        ((4, 2, 2), "int32", "sbuf"),
    ],
)
def test_rows_are_chosen_by_integers_in_sbuf(c, table, shape, dtype, buffer):
    with pytest.raises(NkiValidationError, match=ROW_INDEX):
        table.vector_select(0, c.empty(shape, dtype, buffer))


def test_rows_are_not_chosen_by_what_is_no_tile(c, table):
    for wrong in (3, c.empty((16, 4), "int32").indirect(c.empty((16, 1), "int32"))):
        with pytest.raises(NkiValidationError, match=ROW_INDEX):
            table.vector_select(0, wrong)
    chosen = table.vector_select(0, c.tile(np.array([[6], [1]], np.int32)[:, :, None]))  # (P, F, 1) is as good
    tile = c.empty((2, 5))
    nisa.dma_copy(dst=tile, src=chosen)
    assert tile.array[:, 0].tolist() == [30, 5]


def test_indirect_goes_over_gapless_tiles(c):
    offsets = c.tile(np.zeros((16, 2), np.int32))
    tile = c.empty((16, 8))
    assert tile.indirect(offsets, 32).shape == (16, 32) and tile[:, 2:4].indirect(offsets).shape == (16, 32)
    for wrong in (tile[:, ::2], c.machine.input(np.zeros((16, 8), np.float32), "x")):
        with pytest.raises(NkiValidationError, match="indirect goes over gapless tiles in SBUF or PSUM"):
            wrong.indirect(offsets)


@pytest.mark.parametrize("partitions, count", [(8, 4), (32, 4), (16, 0), (16, 33), (16, 1.0)])
def test_an_index_has_the_partitions_of_the_tile_and_holds_the_offsets(c, partitions, count):
    offsets = c.tile(np.zeros((partitions, 2), np.int32))
    with pytest.raises(NkiValidationError, match="index must have the 16 partitions of the tile and hold num_elem"):
        c.empty((16, 8)).indirect(offsets, count)


@pytest.mark.parametrize("shape, dtype", [((16, 1, 2), "int32"), ((16, 2), "float32")])
def test_an_index_is_integers_in_two_dimensions(c, shape, dtype):
    with pytest.raises(NkiValidationError, match="index must be integers in SBUF, in two dimensions"):
        c.empty((16, 8)).indirect(c.empty(shape, dtype))


def test_a_tile_lies_on_the_partitions_of_its_address(c):
    placed = nl.ndarray((32, 8), nl.float32, nl.sbuf, address=(64, 16))
    assert (partitions_of(placed), partitions_of(placed[4:10])) == (slice(64, 96), slice(68, 74))
    assert (starts(placed), starts(placed[4:10])) == ([64], [68])
    free = c.empty((64, 8))
    assert (partitions_of(free[8:]), starts(free[8:])) == (slice(8, 64), [8, 72])


def test_the_first_stride_of_a_pattern_is_that_of_a_partition(c):
    tile = c.tile(np.arange(256, dtype=np.float32).reshape(8, 32))
    for count in (2, 3):
        with pytest.raises(NkiValidationError, match="the first stride of an on-chip pattern .* 32 elements; got 16"):
            tile.ap([[16, count], [1, 4]])
    np.testing.assert_array_equal(tile.ap([[16, 1], [1, 4]], 40).array, [[40, 41, 42, 43]])  # of one partition any


def test_a_pattern_ends_with_its_partition(c):
    tile = c.tile(np.zeros((8, 32), np.float32))
    assert tile.ap([[32, 4], [1, 31]], 1).array.shape == (4, 31)
    for offset, pairs in ((1, [[32, 4], [1, 32]]), (30, [[32, 4], [-1, 32]])):
        with pytest.raises(OutOfBounds, match="leaves tensor"):
            _ = tile.ap(pairs, offset).array


def test_what_is_printed_of_a_tensor(c):
    tile = c.empty((2, 3), "bfloat16")
    nisa.memset(tile[:, :2], 1.5)
    assert str(tile).partition("\n")[2] == "[[1.5 1.5 --]\n [1.5 1.5 --]]"
    bits = c.empty((1, 2), "float8_e4m3fn_x4")
    bits.view(nl.uint32).array[...] = [[1, 0xABCDEF01]]
    bits.wrote()
    assert str(bits).partition("\n")[2] == "[['0x00000001' '0xabcdef01']]"
    rows = c.machine.input(np.zeros((4, 2), np.float32), "x").vector_select(0, c.tile(np.zeros((2, 1), np.int32)))
    assert "(an index chooses its elements when an instruction uses it)" in str(rows)


def test_what_is_printed_without_data(core):
    with core(data=False) as c:
        assert "(no values: this run has shapes alone)" in str(c.empty((2, 3)))
