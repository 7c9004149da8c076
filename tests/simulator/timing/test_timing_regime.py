"""What a prediction says of a timeline that is given: regime, shares, peaks, what cores have together."""

import pytest

from triptych.simulator.chips import chip_of
from triptych.simulator.dtypes import TABLE
from triptych.simulator.timing import Prediction, Span, Timeline, predict_trace
from triptych.simulator.trace import Allocation, Event, Region, Trace


def transfer(number, buffer, core=0, n=4):
    """A load into a tile of n bytes a partition, by hand; it has 603 ns of its trigger."""
    tile, outside = (
        Region(Allocation(i, "t", b, (128, n), TABLE["int8"], ("k.py", 1)), 0, (128, n), (n, 1), TABLE["int8"])
        for i, b in ((number, buffer), (-number, "private_hbm"))
    )
    return Event("dma_copy", "dma", (outside,), (tile,), ("k.py", 1), core, None, {})


def by_hand(total_ns, events, busy=()):
    """A prediction of a timeline that is given: how long each track is busy."""
    spans = [Span(0, 0, track, 0.0, ns, ns, None, "start", 16) for track, ns in busy]
    return Prediction(Timeline(Trace(chip_of("trn2"), "trn2", list(events)), "program", spans, total_ns), "trn2")


@pytest.mark.parametrize(
    ("total_ns", "transfers", "busy", "regime"),
    [
        (75_700, 0, {}, "short"),  # 15.14 us for launch and teardown are a fifth
        (75_701, 0, {"dma": 1.0, "tensor": 0.5}, "dma"),
        (75_701, 0, {"dma": 1.0, "tensor": 2.0}, "tensor"),
        (75_701, 0, {"dma": 1.0, "vector": 2.0}, "engines"),
        (75_701, 0, {"scalar": 2.0}, "engines"),
        (120_600, 100, {"vector": 30_150.0}, "issue"),  # half of the time, and twice as long as Vector
        (120_601, 100, {"vector": 30_150.0}, "engines"),
        (120_600, 100, {"vector": 30_151.0}, "engines"),
        (1_206, 1, {"vector": 1.0}, "issue"),
    ],
)
def test_the_regime_is_what_decides_most_of_the_time(total_ns, transfers, busy, regime):
    assert by_hand(total_ns, [transfer(1, "sbuf")] * transfers, busy.items()).regime == regime


@pytest.mark.parametrize(("cores", "memories"), [(1, 1), (2, 1), (3, 2), (4, 2)])
def test_what_cores_have_together(cores, memories):
    """Two of them share an HBM of 716 GB/s; each has 78.64 TFLOP/s. Every load moves 512 bytes."""
    p = by_hand(1000, [transfer(1, "sbuf", core) for core in range(cores)])
    assert (p.hbm_gb_per_s, p.hbm_bytes) == (716 * memories, 512 * cores)
    assert p.bandwidth_use == pytest.approx(512 * cores / (1000 * 716 * memories))
    p.flops = 10**9
    assert p.mfu == pytest.approx(10**9 / (1e-6 * cores * 78.64e12)) and p.intensity == 10**9 / (512 * cores)


def test_a_ring_is_a_part_of_its_track():
    """A transfer on 4 of 16 rings, beside tiles of the Tensor Engine of which the second begins in the first."""
    p = by_hand(1000, [])
    tiles = [("tensor", at, ns, 0) for at, ns in ((0, 100), (60, 80), (70, 20))]
    rows = [("dma", 0, 400, 4), *tiles, ("vector", 0, 9, 0)]
    p.timeline.spans.extend(Span(0, 0, t, float(at), float(ns), 0.0, None, "start", n) for t, at, ns, n in rows)
    assert list(p.busy.items()) == [("tensor", 0.14), ("dma", 0.1), ("vector", 0.009)]


def test_a_transfer_that_moves_nothing_has_no_rows():
    """As one whose index is out of bounds under `oob_mode.skip`."""
    nothing = transfer(1, "sbuf")
    nothing.writes = ()
    assert predict_trace(Trace(chip_of("trn2"), "trn2", [nothing])).advice == []


def test_peaks_are_those_of_the_core_that_needs_most():
    for sizes in ((8, 24), (24, 8)):
        p = by_hand(1000, [transfer(core + 1, "sbuf", core, n) for core, n in enumerate(sizes)])
        assert p.peaks == {"sbuf": (24, 224 * 1024), "psum": (0, 16384)}
