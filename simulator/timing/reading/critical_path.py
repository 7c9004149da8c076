"""What decides a timeline's length: its critical path, and where its busiest track stands idle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from triptych.simulator.timing.timeline import Issue, Span, Timeline

Line = tuple[str, int]  # file and number


@dataclass(frozen=True)
class Step:
    """Events of one source line on the critical path."""

    op: str
    line: Line
    track: str
    count: int
    us: float
    share: float  # of the total


@dataclass(frozen=True)
class Stall:
    """Time that a track stands idle for one reason."""

    track: str
    op: str  # what stands still
    line: Line
    waits_for: str
    waits_line: Line | None
    why: str
    count: int
    us: float
    share: float  # of the total


def critical_path(timeline: Timeline) -> list[Span]:
    """The last event to end, what decided its start, and so on, back to the launch."""
    spans = timeline.spans
    span: Span | None = max(spans, key=lambda s: s.end_ns) if spans else None
    found, why = [], ""
    while span is not None:
        found.append(span)
        _, after, why = _decided(span, why)
        span = spans[after] if after is not None else None
    return found


def _decided(span: Span, why: str) -> Issue:
    """When a span on the critical path could go on, and what decided that.

    why: what the one after it waited for: if for its issue, it is no matter when its rings were free
    """
    if span.issue is not None and (why == "issue" or span.why != "rings"):
        return span.issue
    return Issue(span.start_ns, span.after, span.why)


def steps(timeline: Timeline, path: list[Span]) -> list[Step]:
    """The critical path, summed by source line, the longest first."""
    if not path:
        return []
    sums: dict[tuple[str, Line, str], tuple[int, float]] = {}
    until, why = path[0].end_ns, ""
    for span in path:
        event = timeline.trace.events[span.index]
        key = (event.op, event.line, span.track)
        count, ns = sums.get(key, (0, 0.0))
        begin, after, why = _decided(span, why)
        if after is None:
            begin = timeline.trace.chip.launch_ns.value
        sums[key] = (count + 1, ns + until - begin)
        until = begin
    total = timeline.total_ns
    found = [Step(op, line, track, n, ns / 1e3, ns / total) for (op, line, track), (n, ns) in sums.items()]
    return sorted(found, key=lambda step: -step.us)


def stalls(timeline: Timeline) -> list[Stall]:
    """Idle time on the busiest track, by what stood still and what it waited for, the longest first."""
    if not timeline.busy:
        return []
    track = next(iter(timeline.busy))
    events = timeline.trace.events
    sums: dict[tuple[Any, ...], tuple[int, float]] = {}
    free: dict[int, float] = {}
    for span in sorted((s for s in timeline.spans if s.track == track), key=lambda s: s.start_ns):
        since = free.get(span.core, timeline.trace.chip.launch_ns.value)
        free[span.core] = max(since, span.free_ns)
        idle = span.start_ns - since
        if idle <= 0:
            continue
        event = events[span.index]
        other = events[span.after] if span.after is not None else None
        key = (event.op, event.line, other.op if other else "the launch", other.line if other else None, span.why)
        count, ns = sums.get(key, (0, 0.0))
        sums[key] = (count + 1, ns + idle / timeline.cores)
    total = timeline.total_ns
    found = [
        Stall(track, op, line, waits, waits_line, why, n, ns / 1e3, ns / total)
        for (op, line, waits, waits_line, why), (n, ns) in sums.items()
    ]
    return sorted(found, key=lambda stall: -stall.us)
