"""When each event of a trace runs, on which track, and what it waited for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from triptych.simulator.trace import Trace


class Issue(NamedTuple):
    """When a transfer was triggered, and what decided that."""

    at_ns: float
    after: int | None
    why: str


class Span(NamedTuple):
    """One event on its track. Times are nanoseconds from the kernel's launch."""

    index: int  # type: ignore[assignment]  # of the event in its trace; a tuple has a method of that name
    core: int
    track: str  # "tensor", "vector", "scalar", "gpsimd", "sync" or "dma"
    start_ns: float  # begins to occupy its track
    busy_ns: float  # occupies its track for so long
    end_ns: float  # others can use its result
    after: int | None  # the event that decided the start, None: the launch
    why: str  # "start", "engine", "issue", "data", "overwrite", "order", "rings", "port", "room" or "meeting"
    rings: int = 0  # DMA rings that it occupies
    issue: Issue | None = None  # of a transfer

    @property
    def free_ns(self) -> float:
        """When the track is free again."""
        return self.start_ns + self.busy_ns


@dataclass(frozen=True)
class LeftOut:
    """Rounds of a steady loop that were not scheduled, and how far off that may be."""

    rounds: int
    of: int
    period: int  # instructions of a round
    error: float  # share of the total by which it changed when twice as many rounds were scheduled

    def __str__(self) -> str:
        return (
            f"{self.rounds:,} of {self.of:,} rounds of {self.period:,} instructions are taken to last as long as the "
            f"{self.of - self.rounds:,} that were scheduled: the total is uncertain by {self.error:.2%}"
        )


@dataclass(frozen=True)
class Timeline:
    """The spans of a trace, in the trace's order."""

    trace: Trace
    order: str  # "program" or "overlapped"
    spans: list[Span]
    total_ns: float  # launch and teardown included
    left_out: LeftOut | None = None  # of a trace that is too long to be scheduled whole

    @cached_property
    def cores(self) -> int:
        """How many cores have events, at least one."""
        return len({event.core for event in self.trace.events}) or 1

    @cached_property
    def busy(self) -> dict[str, float]:
        """Share of the total in which each track is occupied, on the core that occupies it most.

        Each ring of the DMA track is a part of it; tiles of the Tensor Engine that are in use together count once.
        """
        per_core: dict[tuple[str, int], float] = {}
        until: dict[int, float] = {}  # the Tensor Engine of each core is in use
        rings = self.trace.chip.dma_rings.value
        for span in sorted(self.spans, key=lambda span: span.start_ns):
            part = span.rings / rings if span.track == "dma" else 1.0
            if span.track == "tensor":
                before = until.get(span.core, 0.0)
                until[span.core] = max(before, span.free_ns)
                if span.start_ns < before:
                    part = max(0.0, span.free_ns - before) / span.busy_ns
            key = (span.track, span.core)
            per_core[key] = per_core.get(key, 0.0) + span.busy_ns * part
        busy: dict[str, float] = {}
        for (track, _), ns in per_core.items():
            busy[track] = max(busy.get(track, 0.0), ns / self.total_ns)
        return dict(sorted(busy.items(), key=lambda item: -item[1]))
