"""What instructions do with operands: whom they refuse, and how results are written."""

from __future__ import annotations

import numpy as np
import pytest

from triptych.simulator import NkiValidationError
from triptych.simulator.dtypes import float32
from triptych.simulator.enums import engine, reduce_cmd
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.memory.storage import PSUM, SBUF
from triptych.simulator.operands import operands as o

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl


@pytest.fixture
def c(core):
    with core("trn3") as current:
        yield current


def late(c):
    """A view that an index moves."""
    return c.empty((4, 3, 2)).select(1, nisa.register_alloc(1))


def test_a_tile_is_a_tensor_on_chip_without_an_index(c):
    o.on_chip(a=c.empty((4, 2)), b=c.empty((4, 2), buffer="psum"), c=c.empty((4, 2), "int32"))
    for wrong in (3, None, c.empty((4, 2), buffer="private_hbm"), late(c), np.ones((4, 2))):
        with pytest.raises(NkiValidationError, match="dst must be a tile in SBUF or PSUM, got"):
            o.on_chip(src=c.empty((4, 2)), dst=wrong)
    scalar = c.empty((4, 2), "int64")
    with pytest.raises(NkiValidationError, match="engines compute on no integers of 64 bits"):
        o.on_chip(dst=scalar)


@pytest.mark.parametrize("buffer, other", [(SBUF, "psum"), (PSUM, "sbuf")])
def test_a_tile_is_in_the_memory_that_it_has_to_be_in(c, buffer, other):
    o.in_buffer(buffer, a=c.empty((4, 2), buffer=buffer.name))
    moved = c.empty((4, 3, 2), buffer=buffer.name).select(1, nisa.register_alloc(1))
    for wrong in (3, c.empty((4, 2), buffer=other), moved):
        with pytest.raises(NkiValidationError, match=f"dst must be a tile in {buffer.name.upper()}, got"):
            o.in_buffer(buffer, dst=wrong)


def test_what_describes_an_operand(c):
    assert o.describe(c.empty((4, 2))).startswith("NkiTensor(")
    assert o.describe(3) == "int 3"


def test_an_operand_has_one_of_some_dtypes(c):
    low, wide = c.empty((4, 2), "bfloat16"), c.empty((4, 2))
    o.in_dtype(("bfloat16",), a=low, b=low)
    for allowed, known in ((["int8"], "int8"), (["int8", "bfloat16"], "int8 or bfloat16")):
        with pytest.raises(NkiValidationError, match=f"b must be {known}, got NkiTensor"):
            o.in_dtype(allowed, **({"a": low} if "bfloat16" in allowed else {}), b=wide)
    with pytest.raises(NkiValidationError, match="b must be one of int8, uint8, bfloat16, got NkiTensor"):
        o.in_dtype(("int8", "uint8", "bfloat16"), a=low, b=wide)


def test_a_member_of_an_enumeration_is_no_raw_value():
    o.members_of(engine, on=engine.vector)
    with pytest.raises(NkiValidationError, match="on must be a nisa.engine, got 1; raw integers are not accepted"):
        o.members_of(engine, which=engine.vector, on=1)
    with pytest.raises(NkiValidationError, match="on must be a nisa.engine"):
        o.members_of(engine, on=reduce_cmd.idle)


def test_psum_is_read_by_one_operand_and_never_by_gpsimd(c):
    sbuf, psum = c.empty((4, 2)), c.empty((4, 2), buffer="psum")
    moved = c.empty((4, 3, 2), buffer="psum").select(1, nisa.register_alloc(1))
    for a, b in ((sbuf, sbuf), (sbuf, psum), (psum, sbuf), (psum, 1.0), (psum, moved)):
        o.not_both_in_psum(a, b, "a and b")
    with pytest.raises(NkiValidationError, match="a and b cannot both be in PSUM: copy one to SBUF first"):
        o.not_both_in_psum(psum, psum, "a and b")
    assert o.any_in_psum(sbuf, psum) and not o.any_in_psum(sbuf, 1.0, moved) and not o.any_in_psum()
    assert o.without_gpsimd_in_psum(engine.gpsimd, sbuf) is engine.gpsimd
    assert o.without_gpsimd_in_psum(engine.vector, psum) is engine.vector
    with pytest.raises(NkiValidationError, match="GpSimd cannot access PSUM; use the Vector Engine"):
        o.without_gpsimd_in_psum(engine.gpsimd, sbuf, psum)


def test_bit_patterns_are_integers_of_one_size(c):
    o.check_integers(c.empty((4, 2), "int32"), c.empty((4, 2), "uint32"))
    o.check_integers(c.empty((4, 2), "uint8"))
    with pytest.raises(NkiValidationError, match="bitvec operators need integer tiles"):
        o.check_integers(c.empty((4, 2), "int32"), c.empty((4, 2)))
    with pytest.raises(NkiValidationError, match="need integers of one size; got int32, uint8"):
        o.check_integers(c.empty((4, 2), "int32"), c.empty((4, 2), "uint8"))


def test_the_same_tile_may_split_its_free_dimensions(c):
    o.same_tile("a and b", c.empty((4, 6)), c.empty((4, 6)))
    o.same_tile("a and b", c.empty((4, 6)), c.empty((4, 2, 3)))
    for other in ((3, 8), (4, 5), (4, 3, 3)):
        with pytest.raises(
            NkiValidationError, match="a and b must have the same partitions and elements per partition"
        ):
            o.same_tile("a and b", c.empty((4, 6)), c.empty(other))


def test_a_number_or_a_column(c):
    data, column = c.empty((4, 2, 3)), c.tile(np.arange(4, dtype=np.float32)[:, None], "bfloat16")
    for number in (2, True, 2.5, np.int8(3), np.float64(0.1)):
        value, tiles = o.per_partition(number, data, "x")
        assert type(value) is np.float32 and value == np.float32(number) and tiles == ()
        assert o.column(value, data) is value
    assert o.per_partition(column, data, "x") == (column, (column,))
    held = o.column(column, data)
    assert held.dtype == np.float32 and held.shape == (4, 1, 1) and held.ravel().tolist() == [0, 1, 2, 3]
    assert o.per_partition(c.empty((4, 1, 1)), data, "x")[1]
    for wrong in (c.empty((3, 1)), c.empty((4, 2))):
        with pytest.raises(NkiValidationError, match=r"x must be a scalar or a tile of shape \(4, 1\), got"):
            o.per_partition(wrong, data, "x")
    with pytest.raises(NkiValidationError, match="x must be a tile in SBUF or PSUM"):
        o.per_partition(c.empty((4, 1), buffer="private_hbm"), data, "x")
    for wrong in ("1", None, [1.0], 1j):
        with pytest.raises(NkiValidationError, match=r"x must be a number or a tile of shape \(4, 1\), got"):
            o.per_partition(wrong, data, "x")


@pytest.mark.parametrize("dtype, bits", [("uint8", np.uint8), ("bfloat16", np.uint16), ("int32", np.uint32)])
def test_bits_are_unsigned_and_in_place(c, dtype, bits):
    tile = c.empty((2, 4), dtype)
    patterns = np.arange(8, dtype=bits).reshape(4, 2) + bits(250)
    o.put_bits(tile, patterns)
    assert o.bits(tile).dtype == bits and np.shares_memory(o.bits(tile), tile.array)
    np.testing.assert_array_equal(tile.array.view(bits), patterns.reshape(2, 4))
    tile.check_written()
    floats = c.tile(np.ones((2, 2), np.float32))
    assert o.bits(floats) is floats.array


def test_results_are_rounded_to_the_dtype(core):
    values = np.array([[1 + 2**-9, 3.7, -300.5, np.nan]], np.float32)
    with core() as c:
        low, integers = c.empty((1, 4), "bfloat16"), c.empty((1, 2, 2), "int8")
        assert o.rounding_of(low) == "bfloat16" and o.rounding_of(c.empty((1, 4), "tfloat32")) == "tfloat32"
        o.put(low, values[:, :3].repeat(2, axis=1)[:, :4])
        assert low.array.astype(np.float32).tolist() == [[1, 1, 3.703125, 3.703125]]
        low.check_written()
        assert c.trace.notes == []
        o.put(integers, values)
        assert integers.array.tolist() == [[[1, 4], [-128, 0]]]
        assert c.trace.notes[0].endswith("1 NaN are cast to int8, as 0: what they become is not documented")
        stored = o.stored(low, values)
        assert stored.dtype == low.array.dtype and stored[0, 0] == 1 and low.array[0, 2] == np.float32(3.703125)
        assert o.as_stored(low, low, values) is values
        cast = o.as_stored(integers, low, values.astype(low.array.dtype))
        assert cast.dtype == np.int8 and cast.tolist() == [[1, 4, -128, 0]] and len(c.trace.notes) == 2
        assert o.as_stored(integers, None, values).tolist() == [[1, 4, -128, 0]]
    with core(round_low_precision=False) as c:
        wide = c.empty((1, 4), "bfloat16")
        o.put(wide, values)
        assert wide.array[0, 0] == 1 + 2**-9 and o.rounding_of(wide) is float32
        assert o.rounding_of(c.empty((1, 4), "tfloat32")) is float32 and o.rounding_of(c.empty((1, 4))) == "float32"
        assert o.rounding_of(c.empty((1, 4), "int8")) == "int8"


def test_a_move_is_bit_for_bit_where_dtypes_agree(c):
    bits = np.array([[0x7FC1, 0xFF81, 0x8000, 0x3F80]], np.uint16)
    src, dst, wide = c.tile(bits).view(nl.bfloat16), c.empty((1, 2, 2), "bfloat16"), c.empty((1, 4))
    o.move(dst, src)
    assert dst.array.view(np.uint16).ravel().tolist() == bits.ravel().tolist()
    dst.check_written()
    o.move(wide, src)
    assert wide.array[0, 3] == 1 and np.isnan(wide.array[0, :2]).all()
    assert o.same_elements(wide, src) == (src, src.layout)
    assert o.same_elements(dst, src) == (src, src.layout.reshape((1, 2, 2)))
    turned = c.empty((4, 3, 2)).permute((0, 2, 1))
    assert o.same_elements(c.empty((4, 6)), turned) == (turned, None)


def test_where_a_result_is_computed(c):
    dst, low, split = c.empty((4, 6)), c.empty((4, 6), "bfloat16"), c.empty((4, 2, 3))
    assert o.target(dst, (4, 6)) is dst.array
    repeated = c.empty((4, 1)).broadcast(1, 6)
    for tile in (low, split, repeated):
        scratch = o.target(tile, (4, 6))
        assert scratch.shape == (4, 6) and scratch.dtype == np.float32 and not np.shares_memory(scratch, tile.array)
    assert np.shares_memory(o.scratch((4, 6)), o.scratch((2, 3))) and o.scratch((64, 512)).size == 1 << 15
    again = o.scratch((300, 512))
    assert again.shape == (300, 512) and np.shares_memory(again, o.scratch((300, 512)))
    for tile in (dst, low, split):
        out = o.target(tile, (4, 6))
        out[...] = 2.5
        o.finish(tile, out)
        tile.check_written()
        assert (tile.array == 2.5).all()
    o.elementwise(low, np.add, np.ones((4, 6), np.float32), np.float32(2))
    assert (low.array == 3).all()
    o.elementwise(split, lambda x, y: x * y, np.full((4, 6), 2, np.float32), np.float32(3))
    assert (split.array == 6).all()
