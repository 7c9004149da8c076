"""Traces drawn at random in which accesses meet: views of any kind of tensors that share lines, addresses and cores."""

from __future__ import annotations

import random

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
