"""What a prediction's numbers show could be better. Each rule says nothing where they show nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from triptych.simulator.analysis.descriptors import descriptors
from triptych.simulator.timing.flops import is_float32_matmul
from triptych.simulator.timing.work import works

if TYPE_CHECKING:
    from triptych.simulator.timing.prediction import Prediction

EFFICIENT_ROW = 2048  # bytes a descriptor, from which DMA is near its peak (nki/deep-dives/nki-dma-bandwidth-guide.rst)


def advice(p: Prediction) -> list[str]:
    """Sentences without their full stop."""
    return [text for text in (_rows(p), _issue(p), _single(p), _throttled(p)) if text]


def _rows(p: Prediction) -> str | None:
    """Descriptors whose fixed time is long beside that of their bytes."""
    moved = [descriptors(e.reads, e.writes, p.chip) for e in p.events if e.op == "dma_copy"]
    short = [d for d in moved if d.nbytes < EFFICIENT_ROW]
    lost = sum(d.busy_ns(p.chip) for d in short)
    ideal = sum(d.count * d.nbytes for d in short) / p.chip.dma_gb_per_s.value
    if p.busy.get("dma", 0.0) < 0.5 or lost < 1.2 * ideal or lost < 0.2 * sum(d.busy_ns(p.chip) for d in moved):
        return None
    size = sum(d.count * d.nbytes for d in short) / sum(d.count for d in short)
    return (
        f"DMA moves rows of {size:.0f} bytes on average in {len(short)} transfers, which take {lost / ideal:.1f} "
        f"times as long as their bytes at full rate; {EFFICIENT_ROW} bytes or more a row would be near peak"
    )


def _issue(p: Prediction) -> str | None:
    """Transfers so small that issuing them takes longer than moving them."""
    moved = [e for e in p.events if e.engine == "dma" and e.reads and e.writes]
    issue = p.chip.dma_issue_ns.value
    if len(moved) * issue / p.cores < max(0.5, p.busy.get("dma", 0.0)) * p.timeline.total_ns:
        return None
    size = sum(e.writes[0].nbytes for e in moved) / len(moved) / 1024
    return (
        f"{len(moved)} transfers are issued {issue:.0f} ns apart and move {size:.0f} KiB each; transfers of "
        f"{issue * p.chip.dma_gb_per_s.value / 1024:.0f} KiB or more would keep the rings busy"
    )


def _single(p: Prediction) -> str | None:
    """Matmuls in float32."""
    single = sum(s.busy_ns for s in p.timeline.spans if is_float32_matmul(p.events[s.index]))
    if single < 0.5 * p.timeline.total_ns:
        return None
    return f"float32 matmuls take {single / p.timeline.total_ns:.0%} of the time; in bfloat16 each takes a quarter"


def _throttled(p: Prediction) -> str | None:
    """Matmuls on the critical path at half the clock: elsewhere it costs nothing."""
    asked = works(p.timeline.trace)
    lost = sum(s.busy_ns - asked[s.index].busy for s in p.chain if s.track == "tensor")
    if lost < 0.05 * p.timeline.total_ns:
        return None
    return (
        f"throttling of the Tensor Engine costs {lost / 1e3:.1f} us: it was idle for more than half of the "
        f"{p.chip.warm_up_ns.value / 1e3:.0f} us before; keep it fed without gaps"
    )
