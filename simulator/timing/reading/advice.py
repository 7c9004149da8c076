"""What a timeline shows could be better. Each rule says nothing where it shows nothing."""

from __future__ import annotations

from collections.abc import Sequence

from triptych.simulator.analysis.descriptors import descriptors
from triptych.simulator.timing.queues import most_issued
from triptych.simulator.timing.reading.flops import is_float32_matmul
from triptych.simulator.timing.timeline import Span, Timeline
from triptych.simulator.timing.work import Work, works

EFFICIENT_ROW = 2048  # bytes a descriptor, from which DMA is near its peak (nki/deep-dives/nki-dma-bandwidth-guide.rst)


def advice(timeline: Timeline, path: Sequence[Span]) -> list[str]:
    """Sentences without their full stop, on a timeline and its critical path."""
    asked = works(timeline.trace)
    found = (_rows(timeline), _issue(timeline), _single(timeline), _throttled(timeline, path, asked))
    return [text for text in found if text]


def _rows(timeline: Timeline) -> str | None:
    """Descriptors whose fixed time is long beside that of their bytes."""
    chip = timeline.trace.chip
    copies = [e for e in timeline.trace.events if e.op == "dma_copy" and e.reads and e.writes]
    moved = [descriptors(e.reads, e.writes, chip) for e in copies]
    short = [d for d in moved if d.nbytes < EFFICIENT_ROW]
    lost = sum(d.busy_ns(chip) for d in short)
    ideal = sum(d.count * d.nbytes for d in short) / chip.dma_gb_per_s.value
    if timeline.busy.get("dma", 0.0) < 0.5 or lost < 1.2 * ideal or lost < 0.2 * sum(d.busy_ns(chip) for d in moved):
        return None
    size = sum(d.count * d.nbytes for d in short) / sum(d.count for d in short)
    return (
        f"DMA moves rows of {size:.0f} bytes on average in {len(short)} transfers, which take {lost / ideal:.1f} "
        f"times as long as their bytes at full rate; {EFFICIENT_ROW} bytes or more a row would be near peak"
    )


def _issue(timeline: Timeline) -> str | None:
    """Transfers so small that issuing them takes longer than moving them, on the trigger that has most to issue."""
    chip = timeline.trace.chip
    total, most = most_issued(timeline.trace)
    if total < max(0.5, timeline.busy.get("dma", 0.0)) * timeline.total_ns:
        return None
    issue = total / len(most)
    size = sum(event.writes[0].nbytes for event in most) / len(most) / 1024
    return (
        f"{len(most)} transfers are issued {issue:.0f} ns apart and move {size:.0f} KiB each; transfers of "
        f"{issue * chip.dma_gb_per_s.value / 1024:.0f} KiB or more would keep the rings busy"
    )


def _single(timeline: Timeline) -> str | None:
    """Matmuls in float32."""
    single = sum(s.busy_ns for s in timeline.spans if is_float32_matmul(timeline.trace.events[s.index]))
    if single < 0.5 * timeline.total_ns:
        return None
    return f"float32 matmuls take {single / timeline.total_ns:.0%} of the time; in bfloat16 each takes a quarter"


def _throttled(timeline: Timeline, path: Sequence[Span], asked: Sequence[Work]) -> str | None:
    """Matmuls on the critical path at half the clock: elsewhere it costs nothing.

    Where the engine is slower once it is kept busy there is no remedy.
    """
    chip = timeline.trace.chip
    if chip.warm_up_slowdown.value <= chip.sustained_slowdown.value:
        return None
    lost = sum(s.busy_ns - asked[s.index].busy for s in path if s.track == "tensor")
    if lost < 0.05 * timeline.total_ns:
        return None
    return (
        f"throttling of the Tensor Engine costs {lost / 1e3:.1f} us: its clock is halved until it is busy for "
        f"{chip.warm_up_use.value:.1%} of {chip.warm_up_ns.value / 1e3:.1f} us; keep it fed without gaps"
    )
