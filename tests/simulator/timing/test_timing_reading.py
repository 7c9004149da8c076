"""What a timeline made by hand says: its stalls to the nanosecond, and its picture to the letter."""

from __future__ import annotations

import pytest

from triptych.simulator.chips import chip_of
from triptych.simulator.dtypes import TABLE
from triptych.simulator.timing import Span, Timeline
from triptych.simulator.timing.reading.advice import advice
from triptych.simulator.timing.reading.critical_path import Stall, critical_path, stalls, steps
from triptych.simulator.timing.reading.picture import svg
from triptych.simulator.timing.timeline import Issue
from triptych.simulator.timing.work import works
from triptych.simulator.trace import Allocation, Event, Region, Trace

TRN2 = chip_of("trn2")
LAUNCH = TRN2.launch_ns.value


def timeline(*spans: Span, total_ns: float = 100_000.0) -> Timeline:
    """Each span an instruction of its own line."""
    events = [
        Event(f"op{span.index}", span.track, (), (), ("k.py", span.index), span.core, None, {})
        for span in sorted(spans, key=lambda span: span.index)
    ]
    return Timeline(Trace(TRN2, "trn2", events), "program", list(spans), total_ns)


def on_vector(index: int, start: float, busy: float, core: int = 0, after: int | None = None) -> Span:
    return Span(index, core, "vector", LAUNCH + start, busy, LAUNCH + start + busy + 50, after, "data")


def test_every_idle_moment_is_a_stall_and_work_that_follows_at_once_is_none() -> None:
    found = stalls(timeline(on_vector(0, 0, 100), on_vector(1, 100.5, 100, after=0), on_vector(2, 200.5, 100, after=1)))
    assert found == [
        Stall("vector", "op1", ("k.py", 1), "op0", ("k.py", 0), "data", 1, pytest.approx(5e-4), pytest.approx(5e-6))
    ]


def test_idle_time_is_the_mean_of_the_cores_that_have_events() -> None:
    spans = [on_vector(0, 30, 100), on_vector(1, 10, 90, core=1), on_vector(2, 160, 10, core=1, after=0)]
    found = stalls(timeline(*spans))
    assert [(stall.op, stall.waits_for, stall.us * 1e3) for stall in found] == [
        ("op2", "op0", pytest.approx(60 / 2)),
        ("op0", "the launch", pytest.approx(30 / 2)),
        ("op1", "the launch", pytest.approx(10 / 2)),
    ]
    assert [stall.share for stall in found] == pytest.approx([stall.us * 1e3 / 100_000 for stall in found])


def test_a_span_within_another_leaves_no_idle_time_behind() -> None:
    found = stalls(timeline(on_vector(0, 0, 100), on_vector(1, 10, 20, after=0), on_vector(2, 110, 10, after=1)))
    assert [(stall.op, stall.us * 1e3) for stall in found] == [("op2", pytest.approx(10))]


def test_steps_last_until_the_next_on_the_path_could_go_on() -> None:
    transfer = Span(
        0, 0, "dma", LAUNCH + 900, 100, LAUNCH + 1200, None, "rings", 16, Issue(LAUNCH + 200, None, "start")
    )
    later = Span(1, 0, "dma", LAUNCH + 1000, 100, LAUNCH + 1300, 0, "rings", 16, Issue(LAUNCH + 500, 0, "issue"))
    last = on_vector(2, 1300, 100, after=1)
    found = timeline(transfer, later, last)
    path = critical_path(found)
    assert [span.index for span in path] == [2, 1, 0]
    assert [(step.op, step.us * 1e3) for step in steps(found, path)] == [
        ("op0", pytest.approx(1000)),
        ("op1", pytest.approx(300)),
        ("op2", pytest.approx(150)),
    ]
    assert steps(timeline(), []) == [] == critical_path(timeline())


@pytest.mark.parametrize(("ns", "said"), [(49_999, False), (50_000, True)])
def test_float32_matmuls_are_named_from_half_of_the_time_on(ns: float, said: bool) -> None:
    tile = Allocation(0, "t", "sbuf", (128, 128), TABLE["float32"], ("k.py", 1))
    operand = Region(tile, 0, (128, 128), (128, 1), TABLE["float32"])
    found = timeline(Span(0, 0, "tensor", LAUNCH, ns, LAUNCH + ns, None, "start"))
    matmul = Event("nc_matmul", "tensor", (operand, operand), (operand,), ("k.py", 1), 0, None, {"rows": 1})
    found.trace.events[:] = [matmul]
    texts = advice(found, [])
    assert texts == ["float32 matmuls take 50% of the time; in bfloat16 each takes a quarter"] * said


@pytest.mark.parametrize(("total_ns", "said"), [(3679, True), (3680, True), (3681, False)])
def test_issuing_is_named_from_half_of_the_time_on(total_ns: float, said: bool) -> None:
    """Ten transfers of 8 rows of 128 bytes, whose descriptors lie in HBM: 184 ns each."""
    tensors = [
        Allocation(i, "t", buffer, (8, 128), TABLE["int8"], ("k.py", 1))
        for i, buffer in enumerate(("private_hbm", "sbuf"))
    ]
    src, dst = (Region(tensor, 0, (8, 128), (128, 1), TABLE["int8"]) for tensor in tensors)
    spans = [Span(i, 0, "dma", 100.0 * i, 10, 100.0 * i + 50, None, "start", 1) for i in range(10)]
    found = timeline(*spans, total_ns=total_ns)
    found.trace.events[:] = [
        Event("dma_copy", "dma", (src,), (dst,), ("k.py", 1), 0, None, {"dge": "none"}) for _ in spans
    ]
    issued = "10 transfers are issued 184 ns apart and move 1 KiB each"
    assert advice(found, []) == [f"{issued}; transfers of 70 KiB or more would keep the rings busy"] * said


@pytest.mark.parametrize(("total_ns", "said"), [(1999, True), (2000, True), (2001, False)])
def test_short_rows_are_named_where_dma_is_busy_from_half_of_the_time_on(total_ns: float, said: bool) -> None:
    tile, column = (Allocation(0, "t", kind, (128, 8), TABLE["int8"], ("k.py", 1)) for kind in ("sbuf", "private_hbm"))
    src, dst = Region(column, 0, (128, 8), (1, 128), TABLE["int8"]), Region(tile, 0, (128, 8), (8, 1), TABLE["int8"])
    found = timeline(Span(0, 0, "dma", LAUNCH, 1000, LAUNCH + 1000, None, "start", 16), total_ns=total_ns)
    found.trace.events[:] = [Event("dma_copy", "dma", (src,), (dst,), ("k.py", 1), 0, None, {"dge": "none"})]
    assert [text.startswith("DMA moves rows of 1 bytes") for text in advice(found, [])] == [True] * said


@pytest.mark.parametrize(("total_ns", "said"), [(10_239, True), (10_240, True), (10_241, False)])
def test_throttling_is_named_from_a_twentieth_of_the_time_on(total_ns: float, said: bool) -> None:
    tile = Allocation(0, "t", "sbuf", (128, 512), TABLE["bfloat16"], ("k.py", 1))
    operand = Region(tile, 0, (128, 512), (512, 1), TABLE["bfloat16"])
    matmul = Event("nc_matmul", "tensor", (operand, operand), (operand,), ("k.py", 1), 0, None, {"rows": 512})
    (asked,) = works(Trace(TRN2, "trn2", [matmul]))
    span = Span(0, 0, "tensor", LAUNCH, asked.busy + 512, LAUNCH + asked.busy + 512, None, "start")
    found = timeline(span, total_ns=total_ns)
    found.trace.events[:] = [matmul]
    assert span.busy_ns - asked.busy == 512
    assert [text.startswith("throttling of the Tensor Engine costs 0.5 us") for text in advice(found, [span])] == (
        [True] * said
    )
    assert advice(found, []) == []


PICTURE = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 886 120" role="img" aria-label="a &amp; b" \
font-family="system-ui,sans-serif" font-size="12">
<rect width="886" height="120" fill="#fff"/>
<text x="70" y="20" fill="#1a1d24">a &amp; b</text>
<text x="62" y="49" text-anchor="end" fill="#565d6b">vector 0</text>
<rect x="70" y="34" width="800" height="22" fill="#eceef2"/>
<rect x="70" y="34" width="200" height="22" fill="#8a2f6b" fill-opacity="1"/>
<text x="62" y="77" text-anchor="end" fill="#565d6b">dma 1</text>
<rect x="70" y="62" width="800" height="22" fill="#eceef2"/>
<rect x="470" y="62" width="400" height="22" fill="#2a7f8f" fill-opacity="0.5"/>
<path d="M70.0 90v5" stroke="#565d6b"/>
<text x="70.0" y="108" text-anchor="middle" fill="#565d6b">0 µs</text>
<path d="M270.0 90v5" stroke="#565d6b"/>
<text x="270.0" y="108" text-anchor="middle" fill="#565d6b">5</text>
<path d="M470.0 90v5" stroke="#565d6b"/>
<text x="470.0" y="108" text-anchor="middle" fill="#565d6b">10</text>
<path d="M670.0 90v5" stroke="#565d6b"/>
<text x="670.0" y="108" text-anchor="middle" fill="#565d6b">15</text>
<path d="M870.0 90v5" stroke="#565d6b"/>
<text x="870.0" y="108" text-anchor="middle" fill="#565d6b">20</text>
</svg>
"""


def test_a_small_picture_to_the_letter() -> None:
    spans = Span(0, 0, "vector", 0, 5e3, 5e3, None, "start"), Span(1, 1, "dma", 1e4, 1e4, 2e4, None, "start", 8)
    assert svg(timeline(*spans, total_ns=2e4), "a & b") == PICTURE
