"""How transfers are cut, counted by hand: by gaps, by rings, by dtypes of two sizes."""

import math

import pytest

from triptych.simulator.analysis.descriptors import Descriptors, descriptors, run_of, transposed
from triptych.simulator.chips import chip_of
from triptych.simulator.dtypes import TABLE
from triptych.simulator.trace import Allocation, Region

TRN2 = chip_of("trn2")


def view(buffer, shape, strides=None, dtype="bfloat16", first=0):
    """A view of an allocation that is wide enough, dense unless `strides` are given, from partition `first`."""
    dense = tuple(math.prod(shape[dim + 1 :]) for dim in range(len(shape)))
    strides = strides or dense
    whole = (128, strides[0])
    return Region(Allocation(0, "t", buffer, whole, TABLE[dtype], ("k.py", 1)), first * strides[0], shape, strides,
                  TABLE[dtype])  # fmt: skip


@pytest.mark.parametrize(
    ("buffer", "shape", "strides", "run"),
    [
        ("sbuf", (128, 4, 8), (32, 8, 1), 32),  # never across partitions
        ("private_hbm", (128, 4, 8), (32, 8, 1), 128 * 32),
        ("shared_hbm", (2, 4, 8), (40, 8, 1), 32),
        ("private_hbm", (2, 4, 8), (40, 9, 1), 8),
        ("private_hbm", (2, 4, 8), (64, 16, 2), 1),
        ("private_hbm", (4, 1, 8), (8, 99, 1), 32),  # a dimension of one element has no gap
        ("private_hbm", (4, 8, 1), (8, 1, 99), 32),
        ("private_hbm", (4, 2, 8), (8, 99, 1), 8),  # one of two has
        ("psum", (128, 8, 4), (32, 1, 8), 1),
    ],
)
def test_elements_that_lie_side_by_side(buffer, shape, strides, run):
    assert run_of(view(buffer, shape, strides)) == run


@pytest.mark.parametrize(
    ("first", "p", "rings", "most"),
    [
        (0, 128, range(16), 8),
        (3, 4, range(1), 4),  # eight partitions a ring
        (0, 8, range(1), 8),
        (8, 8, range(1, 2), 8),
        (6, 4, range(2), 2),
        (7, 6, range(2), 5),
        (1, 8, range(2), 7),
        (5, 12, range(3), 8),
        (100, 28, range(12, 16), 8),
    ],
)
def test_the_rings_of_partitions(first, p, rings, most):
    on_chip = view("sbuf", (p, 512), first=first)
    outside = view("private_hbm", (p, 512))
    for src, dst in ((outside, on_chip), (on_chip, outside)):
        assert descriptors((src,), (dst,), TRN2) == Descriptors(p, 1024, rings, most)


def test_gaps_on_either_side_cut_rows():
    tile = view("sbuf", (128, 4, 32))
    for other in (view("private_hbm", (128, 4, 32), (256, 64, 1)), view("sbuf", (128, 4, 32), (256, 64, 1))):
        assert descriptors((other,), (tile,), TRN2) == Descriptors(512, 64, range(16), 32)
        assert descriptors((tile,), (other,), TRN2) == Descriptors(512, 64, range(16), 32)


def test_between_two_places_on_chip_the_destination_has_the_rings():
    src, dst = view("sbuf", (4, 512), first=64), view("sbuf", (4, 512), first=8)
    assert descriptors((src,), (dst,), TRN2) == Descriptors(4, 1024, range(1, 2), 4)


def test_a_transfer_that_casts_counts_the_bytes_of_the_wider_side():
    wide, narrow = view("sbuf", (128, 512), dtype="float32"), view("private_hbm", (128, 512))
    for src, dst in ((narrow, wide), (wide, narrow)):
        assert descriptors((src,), (dst,), TRN2) == Descriptors(128, 2048, range(16), 8)


@pytest.mark.parametrize(
    ("shape", "strides", "expected"),
    [
        ((1, 50), None, Descriptors(1, 100, range(1), 1)),
        ((1, 512), None, Descriptors(2, 512, range(2), 1)),  # down to 512 bytes
        ((1, 767), None, Descriptors(2, 767, range(2), 1)),
        ((64, 512), None, Descriptors(16, 4096, range(16), 1)),
        ((8, 256), (300, 1), Descriptors(8, 512, range(8), 1)),
        ((8, 512), (600, 1), Descriptors(16, 512, range(16), 1)),
        ((8, 128), (600, 1), Descriptors(8, 256, range(8), 1)),
        ((16, 512), (600, 1), Descriptors(16, 1024, range(16), 1)),
        ((24, 512), (600, 1), Descriptors(24, 1024, range(16), 2)),
        ((33, 4), (600, 1), Descriptors(33, 8, range(16), 3)),
    ],
)
def test_what_touches_hbm_alone_is_cut_for_all_rings(shape, strides, expected):
    dense = view("private_hbm", shape)
    assert descriptors((view("private_hbm", shape, strides),), (dense,), TRN2) == expected
    assert descriptors((dense,), (view("shared_hbm", shape, strides),), TRN2) == expected


@pytest.mark.parametrize(
    ("shape", "dtype", "blocks", "nbytes"),
    [
        ((128, 32), "bfloat16", 2, 256),
        ((128, 33), "bfloat16", 3, 256),
        ((128, 3, 20), "float32", 6, 512),
        ((32, 16), "bfloat16", 1, 256),  # a whole block though of fewer partitions
    ],
)
def test_a_transpose_is_written_in_whole_blocks(shape, dtype, blocks, nbytes):
    assert transposed(view("sbuf", shape, dtype=dtype), TRN2) == Descriptors(16 * blocks, nbytes, range(16), blocks)


def test_how_long_the_ring_with_most_is_busy():
    some = Descriptors(40, 460, range(16), 3)
    assert some.busy_ns(TRN2) == pytest.approx(3 * (5.9 + 460 / 24.375))
    assert some.busy_ns(TRN2, 0.5) == pytest.approx(3 * (5.9 + 460 / 12.1875))
