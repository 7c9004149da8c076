"""The timeline as rows for a picture: one for each engine of a core, and as many for DMA as transfers overlap."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass

from triptych.harness.profiling.numbers import location
from triptych.simulator.timing import Span, Timeline
from triptych.simulator.trace import Allocation, Event, Region

TRACKS = ("tensor", "vector", "scalar", "gpsimd", "sync", "dma")  # from the top down


@dataclass(frozen=True)
class Lane:
    """Spans of one track of one core that do not overlap, by start."""

    core: int
    track: str
    number: int  # among the lanes of the track
    spans: list[Span]


def lanes(timeline: Timeline) -> list[Lane]:
    """Every span in the first lane of its track that is free."""
    tracks: dict[tuple[int, int], list[Span]] = {}
    for span in timeline.spans:
        tracks.setdefault((span.core, TRACKS.index(span.track)), []).append(span)
    found = []
    for (core, track), spans in sorted(tracks.items()):
        rows: list[list[Span]] = []
        free: list[int] = []  # numbers of the rows that are, the smallest first
        busy: list[tuple[int, int]] = []  # (until, number) of the others
        for span in sorted(spans, key=lambda s: (s.start_ns, s.index)):
            start, end = interval(span)
            while busy and busy[0][0] <= start:
                heapq.heappush(free, heapq.heappop(busy)[1])
            if not free:
                free.append(len(rows))
                rows.append([])
            number = heapq.heappop(free)
            rows[number].append(span)
            heapq.heappush(busy, (end, number))
        found += [Lane(core, TRACKS[track], number, row) for number, row in enumerate(rows)]
    return found


def interval(span: Span) -> tuple[int, int]:
    """Start and end on the track, in whole nanoseconds, so that rounding makes nothing overlap."""
    return round(span.start_ns), round(span.free_ns)


def operands(regions: Iterable[Region]) -> str:
    """`lhsT bfloat16[128, 512] in sbuf, ...`; a tensor that the kernel gave no name has none."""
    return ", ".join(
        f"{_name(r.allocation)}{r.dtype}[{', '.join(map(str, r.shape))}] in {r.allocation.buffer}" for r in regions
    )


def _name(allocation: Allocation) -> str:
    return "" if allocation.name == f"t{allocation.id}" else f"{allocation.name} "


def bytes_moved(event: Event) -> int:
    """The bytes that an event writes, or reads if it writes none."""
    return sum(r.nbytes for r in event.writes) or sum(r.nbytes for r in event.reads)


def cause(timeline: Timeline, span: Span) -> tuple[str, str, str]:
    """(why, instruction, line) of what decided a span's start."""
    if span.after is None:
        return span.why, "", ""
    event = timeline.trace.events[span.after]
    return span.why, event.op, location(event.line)
