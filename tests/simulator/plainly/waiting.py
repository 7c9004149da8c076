"""What waits for what, as plainly as it can be said: each access is compared with all before it."""

from __future__ import annotations

from typing import Any, NamedTuple

from triptych.simulator.analysis.boxes import Box, box_of, meet, within
from triptych.simulator.trace import Allocation, Event, Trace


class Access(NamedTuple):
    index: int
    memory: Any
    box: Box
    write: bool


def memory_of(event: Event, allocation: Allocation) -> Any:
    """A tensor's own, or that of all tensors of its core with addresses there."""
    return allocation.id if allocation.address is None else (allocation.buffer, event.core)


def plain_waits(trace: Trace) -> list[dict[int, str]]:
    """For each event what it waits for and why: every access that it meets and that no later write has replaced."""
    events = trace.events
    kept: list[Access] = []
    blocks: dict[Any, int] = {}
    waits = []

    def ordered(index: int, before: int, shared: bool) -> bool:
        a, b = events[index], events[before]
        return not shared or a.core == b.core or a.attributes.get("epoch") != b.attributes.get("epoch")

    for index, event in enumerate(events):
        found: dict[int, str] = {}
        for write, regions in ((False, event.reads), (True, event.writes)):
            for region in regions:
                shared = region.allocation.buffer == "shared_hbm" and region.allocation.address is None
                memory, box = memory_of(event, region.allocation), box_of(region)
                met = [a for a in kept if a.memory == memory and meet(a.box, box) and ordered(index, a.index, shared)]
                if not write:
                    found.update({a.index: "data" for a in met if a.write})
                for kind, why in ((False, "overwrite"), (True, "order")) if write else ():
                    for a in met:
                        if a.write is kind:
                            found.setdefault(a.index, why)
                if write:
                    kept = [a for a in kept if a not in met or not within(a.box, box)]
                kept.append(Access(index, memory, box, write))
        block = event.attributes.get("no_reorder")
        if block is not None:
            if (event.core, block) in blocks:
                found.setdefault(blocks[event.core, block], "order")
            blocks[event.core, block] = index
        for producer in (*event.attributes.get("after", ()), *event.attributes.get("registers", ())):
            found.setdefault(next(i for i, other in enumerate(events) if other is producer), "data")
        found.pop(index, None)
        waits.append(found)
    return waits
