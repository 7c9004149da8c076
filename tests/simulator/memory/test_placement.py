"""Tensors at addresses: they alias where their bytes overlap, and are poisoned like any other memory."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from triptych import simulator
from triptych.simulator import NkiValidationError, Options, Uninitialized
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.memory import placement
from triptych.simulator.memory.mask import Mask
from triptych.simulator.memory.placement import Places, both

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl


@pytest.fixture
def c(core):
    with core("trn2") as current:
        yield current


def at(partition, byte, shape, dtype=None, buffer=None):
    return nl.ndarray(shape, dtype or nl.float32, buffer or nl.sbuf, address=(partition, byte))


def test_one_address_is_one_memory(c):
    a, b = at(0, 256, (128, 8)), at(0, 256, (128, 8))
    nisa.memset(dst=a, value=3.0)
    assert np.all(b.f32() == 3.0)
    nisa.memset(dst=b[:, 2:4], value=5.0)
    assert a.f32()[7].tolist() == [3, 3, 5, 5, 3, 3, 3, 3]


def test_overlap_is_by_bytes_whatever_shape_and_dtype(c):
    wide = at(64, 64, (64, 4, 4), nl.bfloat16)
    inner = at(64, 72, (32, 2), nl.bfloat16)  # elements 4 and 5 of the first 32 rows
    nisa.memset(dst=wide, value=1.0)
    nisa.memset(dst=inner, value=2.0)
    expected = np.ones((64, 16))
    expected[:32, 4:6] = 2
    np.testing.assert_array_equal(wide.f32().reshape(64, 16), expected)


def test_bits_show_through(c):
    number, bits = at(0, 0, (4, 2)), at(0, 0, (4, 2), nl.uint32)
    nisa.memset(dst=number, value=1.0)
    assert np.all(bits.array == 0x3F800000)


def test_neighbours_are_apart(c):
    left, right, below = at(0, 0, (32, 4)), at(0, 16, (32, 4)), at(32, 0, (32, 4))
    for value, tile in enumerate((left, right, below)):
        nisa.memset(dst=tile, value=float(value))
    assert [float(t.f32()[0, 0]) for t in (left, right, below)] == [0, 1, 2]


def test_a_converted_copy_does_not_outlive_a_write_through_another_tensor(c):
    a, b = at(0, 0, (4, 4), nl.bfloat16), at(0, 0, (4, 4), nl.bfloat16)
    nisa.memset(dst=a, value=1.0)
    assert np.all(a.f32() == 1.0)
    nisa.memset(dst=b, value=2.0)
    assert np.all(a.f32() == 2.0)


def test_views_of_a_placed_tensor(c):
    x = np.arange(128 * 24, dtype=np.float32).reshape(128, 24)
    tile = at(0, 4096, (128, 24))
    tile.array[...] = x
    tile.wrote()
    np.testing.assert_array_equal(tile[10:20, 3:9:2].array, x[10:20, 3:9:2])
    np.testing.assert_array_equal(
        tile.reshape((128, 4, 6)).permute((0, 2, 1)).array, x.reshape(128, 4, 6).swapaxes(1, 2)
    )
    np.testing.assert_array_equal(tile.ap([[24, 128], [0, 2], [1, 3]]).array[:, 1], x[:, :3])
    np.testing.assert_array_equal(tile[5].array, x[5:6])


def test_what_nothing_wrote_is_poisoned(c):
    tile = at(0, 0, (4, 8))
    nisa.memset(dst=tile[:, 0:4], value=0.0)
    with pytest.raises(Uninitialized, match=r"16 of 32 elements .* first at \[0, 4\]"):
        tile.check_written()
    half = at(0, 512, (4, 2))
    nisa.memset(dst=at(0, 512, (4, 1), nl.bfloat16), value=0.0)
    with pytest.raises(Uninitialized, match="8 of 8 elements"):  # half of an element's bytes are no element
        half.check_written()


def test_an_address_used_again_is_poisoned_again(c):
    first = at(0, 0, (4, 8))
    nisa.memset(dst=first, value=0.0)
    del first
    with pytest.raises(Uninitialized):
        at(0, 0, (4, 8)).check_written()


def test_a_full_tensor_is_doubted_when_another_forgets_what_both_show(c):
    a, b = at(0, 0, (4, 8)), at(0, 16, (4, 4))  # b is the last four columns of a
    nisa.memset(dst=a, value=1.0)
    assert a.storage.missing == 0 and a.storage.written_at(a.layout) is True
    before = b.storage.snapshot(b.layout)
    b.storage.forget(b.layout, np.eye(4, dtype=bool))
    expected = np.ones((4, 8), bool)
    expected[:, 4:] = ~np.eye(4, dtype=bool)
    assert a.storage.missing and np.array_equal(a.storage.written_at(a.layout), expected)
    with pytest.raises(Uninitialized, match=r"reads 4 of 32 elements .* first at \[0, 4\]"):
        a.storage.check_written(a.layout)
    b.storage.restore(before)
    a.storage.check_written(a.layout)
    assert a.storage.missing == 0


def test_a_tensor_written_in_parts_is_found_to_be_full(c, monkeypatch):
    tile = at(0, 0, (4, 8))
    for column in range(8):
        nisa.memset(dst=tile[:, column : column + 1], value=1.0)
        assert tile.storage.missing
        tile.storage.check_written(tile[:, column : column + 1].layout)
    assert tile.storage.missing == 0, "the eighth look, as the first, second and fourth, was at the whole"
    again = at(0, 512, (4, 8))
    nisa.memset(dst=again[:, 0:4], value=1.0)
    for _ in range(2):
        again.storage.check_written(again[:, 0:4].layout)
    nisa.memset(dst=again[:, 4:8], value=1.0)
    assert again.storage.missing
    again.storage.check_written(again.layout)
    assert again.storage.missing == 0, "a look at the whole that finds it written says so"
    monkeypatch.setattr(type(again.storage), "written_at", None)
    again.storage.check_written(again.layout)


def test_what_two_masks_have_in_common():
    mask, other = np.array([True, True, False]), np.array([False, True, True])
    assert both(False, mask) is both(mask, False) is both(False, False) is both(True, False) is False
    assert both(True, mask) is both(mask, True) is mask and both(True, True) is True
    assert both(mask, other).tolist() == [False, True, False]


def test_rows_that_are_written_are_whole(c):
    tile = at(0, 64, (4, 3, 5))
    tile.storage.wrote_rows(tile.layout, np.array([0, 2]))
    written = np.broadcast_to(tile.storage.written_at(tile.layout), tile.shape)
    np.testing.assert_array_equal(written, np.isin(np.arange(4), [0, 2])[:, None, None] & np.ones(tile.shape, bool))


def test_a_view_of_every_other_partition_lies_on_them(c):
    tile = at(32, 64, (4, 5))
    tile.array[...] = np.arange(20).reshape(4, 5)
    there = tile.storage.array_of(tile.storage.raw, tile.layout)
    offset, shape, strides, dtype = tile.layout
    every_other = tile.layout.changed(offset, (2, 5), (2 * strides[0], 1))
    np.testing.assert_array_equal(tile.storage.array(every_other), there[::2])
    again = tile.layout.changed(offset, (3, 5), (0, 1))
    np.testing.assert_array_equal(tile.storage.array(again), there[[0, 0, 0]])


@pytest.mark.parametrize("seed", range(20))
def test_of_a_new_tensor_what_no_older_one_holds_is_found_once(seed):
    """Boxes of rows and bytes against a count for each byte."""
    rng = np.random.default_rng(seed)
    places, held = Places(), []
    for _ in range(30):
        if held and rng.random() < 0.3:
            places.leave(held.pop(int(rng.integers(len(held)))))
        top, left = rng.integers(0, [12, 5000])
        bottom, right = int(top + rng.integers(1, 6)), int(left + rng.integers(1, 3000))
        box = (int(top), bottom), (int(left), right)
        free = np.zeros((20, 8000), int)
        for (a, b), (first, end) in places.take(box):
            free[a:b, first:end] += 1
        expected = np.zeros_like(free)
        expected[box[0][0] : box[0][1], box[1][0] : box[1][1]] = 1
        for (a, b), (first, end) in held:
            expected[a:b, first:end] = 0
        np.testing.assert_array_equal(free, expected)
        held.append(box)


def test_what_is_full_is_marked_no_more_and_a_place_that_is_held_is_compared_with_none(c, monkeypatch):
    tile = at(0, 0, (4, 8))
    nisa.memset(tile, 1.0)
    places = tile.storage.arena.places
    (box,) = places._held
    with monkeypatch.context() as patched:
        patched.setattr(tile.storage.arena, "written", None)
        patched.setattr(placement, "_stretches", None)
        nisa.memset(tile[:, 0:2], 2.0)
        tile.wrote_where(np.ones((4, 8), bool))
        assert places.take(box) == []
    places.leave(box)


def test_what_needs_no_cast_is_read_where_it_lies(c):
    tile, low = at(0, 0, (4, 8)), at(0, 64, (4, 8), nl.bfloat16)
    for t, same in ((tile, True), (low, False)):
        nisa.memset(t, 1.5)
        found = t.storage.f32(t.layout)
        assert np.shares_memory(found, t.array) is same and (found == 1.5).all() and found.dtype == np.float32


def test_whether_bytes_came_through_a_tensor_is_a_mask_only_while_a_part_of_them_did(c):
    tile, bank = at(0, 0, (4, 8)), at(0, 2048, (4, 8), buffer=nl.psum)
    assert (tile.storage.mine, bank.storage.mine) == (True, False)
    nisa.memset(bank[:, 0:4], 0.0)
    assert isinstance(bank.storage.mine, Mask)
    nisa.memset(bank, 0.0)
    nisa.memset(bank[:, 0:4], 0.0)
    assert bank.storage.mine is True and not bank.storage.arena.any_started


BOX = ((4, 8), (8, 16))  # rows and bytes


@pytest.mark.parametrize(
    ("other", "left"),
    [
        *[(beside, [BOX]) for beside in (((0, 4), (8, 16)), ((8, 9), (8, 16)), ((5, 9), (0, 8)), ((5, 9), (16, 20)))],
        (((0, 5), (8, 16)), [((5, 8), (8, 16))]),
        (((5, 9), (10, 16)), [((4, 5), (8, 16)), ((5, 8), (8, 10))]),
        (((5, 6), (8, 10)), [((4, 5), (8, 16)), ((6, 8), (8, 16)), ((5, 6), (10, 16))]),
        (((4, 8), (0, 20)), []),
    ],
)
def test_what_a_place_leaves_of_another_is_a_box_for_each_side_that_has_some(other, left):
    places = Places()
    places.take(other)
    assert places.take(BOX) == left and places.take(BOX) == []


def test_matmul_accumulates_in_placed_psum(c):
    x = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
    tile = c.tile(x)
    bank = at(0, 2048, (4, 4), buffer=nl.psum)
    for _ in range(2):
        nisa.nc_matmul(dst=bank, stationary=tile, moving=tile)
    np.testing.assert_allclose(bank.array, 2 * x.T @ x, rtol=1e-6)


def test_a_new_tensor_in_a_used_bank_starts_a_new_sum(c):
    x = np.random.default_rng(0).integers(-4, 5, (8, 4)).astype(np.float32)
    tile = c.tile(x)
    first, second = (at(0, 2048, (4, 4), buffer=nl.psum) for _ in range(2))
    for bank in (first, second, second):
        nisa.nc_matmul(dst=bank, stationary=tile, moving=tile)
    np.testing.assert_array_equal(second.array, 2 * x.T @ x)
    nisa.nc_matmul(dst=at(0, 2048, (4, 4), buffer=nl.psum), stationary=tile, moving=tile, accumulate=True)
    np.testing.assert_array_equal(first.array, 3 * x.T @ x)  # what is there, whoever put it


def test_a_new_tensor_in_a_bank_that_another_engine_filled(c):
    tile = c.tile(np.ones((8, 4), np.float32))
    old, new = (at(0, 2048, (4, 4), buffer=nl.psum) for _ in range(2))
    nisa.memset(dst=old, value=5.0)
    nisa.nc_matmul(dst=new, stationary=tile, moving=tile)
    assert np.all(new.array == 8)
    nisa.memset(dst=new, value=5.0)
    with pytest.raises(NkiValidationError, match="another engine initialised"):
        nisa.nc_matmul(dst=new, stationary=tile, moving=tile)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (((0, 224 * 1024 - 16), (4, 8), "sbuf"), "leave the 229376 bytes"),
        (((0, -4), (4, 8), "sbuf"), "leave the"),
        (((0, 14336), (4, 513), "psum"), "bytes 14336 to 16388 leave the 16384 bytes of a psum partition"),
        (((32, 0), (65, 8), "sbuf"), "starts at partition 0; got 32"),
        (((32, 0), (64, 8), "sbuf"), "starts at partition 0, 64; got 32"),
        (((16, 0), (8, 8), "sbuf"), "starts at partition 0, 32, 64, 96; got 16"),
        (((0, 1024), (4, 8), "psum"), "a multiple of 2048 bytes; got 1024"),
        (((0, 0), (4, 8), "shared_hbm"), r"in HBM is \(byte,\), one integer of 0 or more; got \(0, 0\)"),
        (((-4,), (4, 8), "hbm"), "one integer of 0 or more"),
        ((4, (4, 8), "hbm"), "one integer of 0 or more; got 4"),
        ((("4",), (4, 8), "hbm"), "one integer of 0 or more"),
        ((0, (4, 8), "sbuf"), "two integers; got 0"),
        *[((address, (4, 8), "sbuf"), "two integers") for address in ((0, 0.5), ("0", 0), (0,), (0, 0, 0))],
    ],
)
def test_addresses_that_cannot_be(c, arguments, what):
    address, shape, buffer = arguments
    with pytest.raises(NkiValidationError, match=what):
        nl.ndarray(shape, nl.float32, getattr(nl, buffer), address=address)


def test_in_a_kernel_and_without_rounding():
    def kernel(x):
        out = nl.ndarray(x.shape, x.dtype, nl.shared_hbm)
        tile = nl.ndarray(x.shape, x.dtype, address=(0, 128))
        nisa.dma_copy(dst=tile, src=x)
        nisa.dma_copy(dst=out, src=tile)
        return out

    x = np.random.default_rng(0).standard_normal((16, 5)).astype(ml_dtypes.bfloat16)
    for options in (Options(), Options(round_low_precision=False)):
        run = simulator.run(kernel, x, options=options)
        np.testing.assert_array_equal(run.outputs, x)
    assert [a.address for a in run.trace.allocations] == [None, None, (0, 128)]
