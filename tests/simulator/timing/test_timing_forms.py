"""Which events are alike to the timing model."""

import pytest

from triptych.simulator.chips import chip_of
from triptych.simulator.dtypes import TABLE
from triptych.simulator.timing.forms import forms
from triptych.simulator.timing.work import works
from triptych.simulator.trace import Allocation, Event, IndirectRegion, Region, Trace

FLOAT32 = TABLE["float32"]


def tile(n=512, dtype="float32", buffer="sbuf", p=128, number=0, offset=0, address=None):
    tensor = Allocation(number, f"t{number}", buffer, (128, 512), TABLE["float32"], ("k.py", number), address)
    return Region(tensor, offset, (p, n), (512, 1), TABLE[dtype])


def copy(read, write, engine="vector", core=0, op="tensor_copy", **attributes):
    return Event(op, engine, (read,), (write,), ("k.py", 1), core, None, attributes)


def numbers(*events):
    return forms(Trace(chip_of("trn2"), "", list(events))).of_event


def test_where_operands_lie_and_when_an_event_runs_is_no_part_of_its_form():
    first = copy(tile(8), tile(8, number=1), registers=(), epoch=0, loop=((0, 0),), pipe=1)
    other = copy(tile(8, number=2, offset=16), tile(8, number=3), registers=(first,), epoch=1, loop=((0, 1),), pipe=2)
    assert numbers(first, other) == [0, 0]


@pytest.mark.parametrize(
    "other",
    [
        copy(tile(8), tile(8), op="reciprocal"),
        copy(tile(8), tile(8), engine="scalar"),
        copy(tile(8), tile(8), core=1),
        copy(tile(8), tile(8), open=True),
        copy(tile(8), tile(8), pipe=None),
        copy(tile(9), tile(8)),
        copy(tile(8), tile(8, dtype="bfloat16")),
        copy(tile(8, buffer="psum"), tile(8)),
        copy(tile(8, p=64), tile(8)),
        Event("tensor_copy", "vector", (tile(8), tile(8)), (), ("k.py", 1), 0, None, {}),
        copy(IndirectRegion(*tile(8)), tile(8)),
    ],
)
def test_what_is_part_of_a_form(other):
    for region in other.reads:
        if isinstance(region, IndirectRegion):
            region.offsets = (0, 3)
    assert numbers(copy(tile(8), tile(8)), other) == [0, 1]


def test_of_what_is_read_through_indices_their_number_counts():
    regions = [IndirectRegion(*tile(8)) for _ in range(3)]
    for region, offsets in zip(regions, ((0, 3), (1, 4), (0, 3, 5)), strict=True):
        region.offsets = offsets
    assert numbers(*[copy(region, tile(8)) for region in regions]) == [0, 0, 1]


def test_a_transfer_is_also_told_by_its_first_partition():
    outside = tile(p=8, buffer="private_hbm")
    events = [
        copy(outside, tile(p=8, offset=offset, address=address, number=i), "dma", op="dma_copy")
        for i, (offset, address) in enumerate([(0, None), (8 * 512, None), (0, (8, 0)), (0, (0, 0))])
    ]
    assert numbers(*events) == [0, 1, 1, 0]
    rings = [work.rings for work in works(Trace(chip_of("trn2"), "", events))]
    assert rings == [range(1), range(1, 2), range(1, 2), range(1)]


def test_attributes_without_a_hash_are_like_no_others():
    first, second = (copy(tile(8), tile(8), ranks=[0, 1]) for _ in range(2))
    assert numbers(first, second, first) == [0, 1, 0]
