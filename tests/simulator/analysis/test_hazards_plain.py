"""What events wait for, on traces drawn at random, is what a comparison of each access with all before it says."""

from __future__ import annotations

import random

import pytest
from plainly.waiting import plain_waits

from triptych.simulator.analysis import hazards as of_hazards
from triptych.simulator.analysis.boxes import box_of
from triptych.simulator.analysis.hazards import hazards
from triptych.simulator.chips import chip_of
from triptych.simulator.dtypes import TABLE
from triptych.simulator.trace import Allocation, Event, Region, Trace

DTYPES = [TABLE[name] for name in ("int8", "bfloat16", "float32")]


def allocations(rng: random.Random, cores: int) -> list[tuple[Allocation, set[int]]]:
    """Tensors of 8 rows of up to 64 bytes, many of one line, and the cores that touch them."""
    found = []
    for number in range(rng.randint(2, 6)):
        buffer = rng.choice(("sbuf", "sbuf", "psum", "private_hbm", "shared_hbm"))
        on_chip = buffer in ("sbuf", "psum")
        address = (rng.choice((0, 4)), rng.choice((0, 32))) if on_chip and rng.random() < 0.4 else None
        dtype = rng.choice(DTYPES)
        shape = (8, rng.choice((32, 64)) // dtype.itemsize)
        owners = set(range(cores)) if buffer == "shared_hbm" else {rng.randrange(cores)}
        line = ("k.py", rng.randint(1, 2))
        found.append((Allocation(number, f"t{number}", buffer, shape, dtype, line, address), owners))
    return found


def view(rng: random.Random, allocation: Allocation) -> Region:
    """Some rows and some bytes of each, maybe every other element, maybe backwards, maybe of another dtype."""
    dtype = rng.choice((allocation.dtype, allocation.dtype, *DTYPES))
    row = allocation.shape[1] * allocation.dtype.itemsize // dtype.itemsize
    height = rng.choice((1, 2, 4, 8))
    first = rng.randrange(0, 9 - height)
    step = rng.choice((1, 1, 2, 4))
    n = rng.randint(1, max(1, row // step // rng.choice((1, 2, 4))))
    low = rng.randrange(0, row - (n - 1) * step)
    if rng.random() < 0.2:
        low, step = low + (n - 1) * step, -step
    return Region(allocation, first * row + low, (height, n), (row, step), dtype)


def drawn(seed: int) -> Trace:
    rng = random.Random(seed)
    cores = rng.randint(1, 2)
    tensors = allocations(rng, cores)
    views = [(view(rng, allocation), owners) for allocation, owners in tensors for _ in range(rng.randint(1, 5))]
    events: list[Event] = []
    epochs = sorted(rng.randrange(3) for _ in range(40))
    for index in range(rng.randint(10, 40)):
        core = rng.randrange(cores)
        mine = [region for region, owners in views if core in owners]
        reads = tuple(rng.sample(mine, min(len(mine), rng.randint(0, 2))))
        writes = tuple(rng.sample(mine, min(len(mine), rng.choice((0, 1, 1, 2)))))
        attributes: dict[str, object] = {"epoch": epochs[index]}
        if events and rng.random() < 0.1:
            attributes[rng.choice(("after", "registers"))] = (rng.choice(events),)
        if rng.random() < 0.2:
            attributes["no_reorder"] = rng.randint(1, 2)
        events.append(Event("tensor_copy", "vector", reads, writes, ("k.py", 1), core, None, attributes))
    return Trace(chip_of("trn2"), "trn2", events)


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
