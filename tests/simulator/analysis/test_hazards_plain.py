"""What events wait for, on traces drawn at random, is what a comparison of each access with all before it says."""

from __future__ import annotations

import pytest
from plainly.accesses import drawn
from plainly.waiting import plain_waits

from triptych.simulator.analysis import hazards as of_hazards
from triptych.simulator.analysis.boxes import box_of
from triptych.simulator.analysis.hazards import hazards
from triptych.simulator.chips import chip_of
from triptych.simulator.dtypes import TABLE
from triptych.simulator.trace import Allocation, Event, Region, Trace


@pytest.mark.parametrize("seed", range(8))
def test_every_event_waits_for_what_it_meets_and_for_nothing_else(seed: int) -> None:
    for trace in map(drawn, range(40 * seed, 40 * seed + 40)):
        assert hazards(trace) == plain_waits(trace)


def test_views_of_tensors_that_one_line_allocates_are_looked_at_once_to_be_read_and_once_to_be_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[Region] = []
    monkeypatch.setattr(of_hazards, "box_of", lambda region: looked.append(region) or box_of(region))
    int8 = TABLE["int8"]
    tensors = [Allocation(number, "t", "sbuf", (8, 16), int8, ("k.py", 1)) for number in (0, 1)]
    events = []
    for tensor in tensors:
        whole, part = Region(tensor, 0, (8, 16), (16, 1), int8), Region(tensor, 4, (8, 4), (16, 1), int8)
        for reads, writes in (((), (whole,)), ((part,), ()), ((part,), (whole,)), ((whole,), (part,))):
            events.append(Event("tensor_copy", "vector", reads, writes, ("k.py", 1), 0, None, {}))
    assert hazards(Trace(chip_of("trn2"), "trn2", events))[7] == {6: "data"}
    assert [(region.allocation.id, region.offset) for region in looked] == [(0, 0), (0, 4)] * 2
