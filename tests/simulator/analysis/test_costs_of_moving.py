"""What each formula gives for what moves data: transfers on rings, and collectives of ranks. Nanoseconds by hand."""

import math

import pytest

from triptych.simulator.analysis import costs
from triptych.simulator.chips import chip_of
from triptych.simulator.dtypes import TABLE
from triptych.simulator.trace import Allocation, Event, Region


def tile(n, dtype="bfloat16", buffer="sbuf", p=128):
    allocation = Allocation(0, "t", buffer, (p, n), TABLE[dtype], ("k.py", 1))
    return Region(allocation, 0, (p, n), (n, 1), TABLE[dtype])


B, F = tile(512), tile(512, "float32")  # two bytes an element, and four
RATE, DESCRIPTOR = 24.375, 5.9  # trn2: bytes a nanosecond of a ring, and nanoseconds


@pytest.mark.parametrize(
    ("op", "reads", "writes", "ns"),
    [
        ("dma_copy", [tile(512, buffer="private_hbm")], [B], 8 * (DESCRIPTOR + 1024 / RATE)),
        ("dma_transpose", [tile(128, buffer="private_hbm", p=32)], [tile(32)], 2 * (DESCRIPTOR + 256 / (0.9 * RATE))),
        ("dma_transpose", [tile(128, p=32)], [tile(32)], 2 * (DESCRIPTOR + 256 / (0.5 * RATE))),
        ("dma_copy", [], [B], 0),
        ("dma_copy", [B], [], 0),
    ],
)
def test_a_transfer(op, reads, writes, ns):
    event = Event(op, "dma", tuple(reads), tuple(writes), ("k.py", 1), 0, None, {})
    assert costs.dma(event, chip_of("trn2")) == pytest.approx(ns)


def test_a_transfer_that_computes_reads_both():
    event = Event("dma_compute", "dma", (B, F), (F,), ("k.py", 1), 0, None, {})
    assert costs.dma_compute(event, chip_of("trn2")) == pytest.approx(128 * 512 * (2 + 4) / 390)


KB, MB = 1000, 1_000_000
STEP = 1500  # ns


@pytest.mark.parametrize(
    ("op", "ranks", "size", "steps"),
    [
        ("all_gather", 8, 4 * KB, 2),  # over a mesh
        ("all_reduce", 8, 4 * KB, 4),
        ("all_gather", 8, 1 * MB, 4),  # from 1 MB by doubling: log2(8) + 1
        ("all_gather", 8, 55 * MB, 4),
        ("all_gather", 8, 56 * MB, 4),  # around a ring, 8 / 2
        ("all_gather", 32, 56 * MB, 16),
        ("all_reduce", 32, 56 * MB, 32),
        ("all_gather", 32, 55 * MB, math.log2(32) + 1),
        ("all_to_all", 32, 56 * MB, 2),
        ("collective_permute", 32, 56 * MB, 1),
    ],
)
@pytest.mark.parametrize(("joint", "share"), [(False, 1280 / 8), (True, 2 * 1280 / 8)])
def test_a_collective_takes_its_steps_and_sends_its_bytes(op, ranks, size, steps, joint, share):
    large, small = (tile(n, "uint8", "private_hbm", p=1) for n in (size, 4))
    attributes = {"ranks": range(ranks), "joint": joint, "moved": 7 * KB}
    for reads, writes in (((large,), (small,)), ((small, small), (large,))):
        event = Event(op, "dma", reads, writes, ("k.py", 1), 0, None, attributes)
        assert costs.collective(event, chip_of("trn2")) == pytest.approx(steps * STEP + 7 * KB / share)


def test_a_collective_of_one_rank_is_a_copy():
    large = tile(4 * MB, "uint8", "private_hbm", p=1)
    event = Event("all_gather", "dma", (large,), (large,), ("k.py", 1), 0, None, {"ranks": [0]})
    assert costs.collective(event, chip_of("trn2")) == pytest.approx(4 * MB / 390)
