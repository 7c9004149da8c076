"""How full SBUF and PSUM are while a timeline passes.

A tensor is there from the start of the first event that touches it to the end of the last. What tensors take together:
triptych.simulator.analysis.capacity.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from triptych.simulator.analysis.capacity import Taken, capacity_of
from triptych.simulator.chip.record import Chip
from triptych.simulator.timing.timeline import Timeline
from triptych.simulator.trace import Allocation

MEMORIES = ("sbuf", "psum")


@dataclass(frozen=True)
class Occupancy:
    """Bytes of a partition in use in one memory of one core: steps (from when in ns, how many)."""

    buffer: str  # "sbuf" or "psum"
    core: int
    capacity: int
    steps: list[tuple[float, int]]

    @property
    def peak(self) -> int:
        return max((used for _, used in self.steps), default=0)


@dataclass
class _Life:
    allocation: Allocation
    start: float
    end: float


def occupancy(timeline: Timeline) -> list[Occupancy]:
    """The use of each memory of each core over a timeline."""
    lives: dict[tuple[int, str], dict[int, _Life]] = {}
    for event, span in zip(timeline.trace.events, timeline.spans, strict=True):
        for region in (*event.reads, *event.writes):
            allocation = region.allocation
            mine = lives.setdefault((event.core, allocation.buffer), {})
            life = mine.get(allocation.id)
            if life is None:
                mine[allocation.id] = _Life(allocation, span.start_ns, span.end_ns)
            else:
                life.start = min(life.start, span.start_ns)
                life.end = max(life.end, span.end_ns)
    chip = timeline.trace.chip
    return [
        Occupancy(buffer, core, capacity_of(chip, buffer), _steps(chip, lives.get((core, buffer), {}).values()))
        for core in sorted({span.core for span in timeline.spans})
        for buffer in MEMORIES
    ]


def _steps(chip: Chip, lives: Iterable[_Life]) -> list[tuple[float, int]]:
    """(time, bytes in use from it on) at every change."""
    lives = list(lives)
    taken = Taken(chip, [life.allocation for life in lives])
    changes = sorted(
        [(life.end, 0, life.allocation) for life in lives] + [(life.start, 1, life.allocation) for life in lives],
        key=lambda change: change[:2],
    )
    steps: list[tuple[float, int]] = []
    for time, some in itertools.groupby(changes, key=lambda change: change[0]):
        for _, begins, allocation in some:
            (taken.begin if begins else taken.end)(allocation)
        steps.append((time, taken.bytes))
    return steps
