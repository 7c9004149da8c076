"""A trace as the compiler's stack allocator lays it out: what a line allocates in each round of a loop has one place.

A stack takes back at the end of a scope what was allocated in it, so that the next round gets the same addresses and
waits for what the last one does with them. An allocator that gives each tensor room of its own, as soon as there is
some, is what the timing model assumes. A kernel does not show with which AWS compiled it; its page may say so.
"""

from __future__ import annotations

import dataclasses

from triptych.simulator.analysis.capacity import partition_bytes
from triptych.simulator.trace import Allocation, Event, Region, Trace


def stacked(trace: Trace) -> Trace:
    """The trace with an address for each tensor in SBUF, the same for all of one line and core.

    PSUM stays as it is: AWS's page has the compiler give each round a bank of its own there
    (nki/library/specs/design-rmsnorm-quant.rst, multi_buffer).

    Raises ValueError where two tensors of one line are in use at once, or one has an address already.
    """
    moved: dict[int, Allocation] = {}
    places: dict[tuple[object, ...], int] = {}  # of a core and a line: the first byte
    of_place: dict[tuple[object, ...], int] = {}  # and the tensor that is there
    taken: dict[int, int] = {}  # bytes of a partition of each core
    for event in trace.events:
        for region in (*event.reads, *event.writes):
            tensor = region.allocation
            if tensor.buffer != "sbuf":
                continue
            key = (event.core, tensor.line, tensor.shape, tensor.dtype)
            if tensor.id not in moved:
                if tensor.address is not None:
                    raise ValueError(f"{tensor.name!r} has an address of its own, {tensor.address}")
                if key not in places:
                    places[key] = taken.get(event.core, 0)
                    taken[event.core] = places[key] + partition_bytes(tensor, trace.chip)
                moved[tensor.id] = tensor._replace(address=(0, places[key]))
                of_place[key] = tensor.id
            elif of_place[key] != tensor.id:
                raise ValueError(f"{tensor.name!r} is used after its line has allocated the next one")

    def lies(region: Region) -> Region:
        return region.of(moved.get(region.allocation.id, region.allocation))

    events = [
        Event(
            e.op, e.engine, tuple(map(lies, e.reads)), tuple(map(lies, e.writes)), e.line, e.core, e.name, e.attributes
        )
        for e in trace.events
    ]
    return dataclasses.replace(trace, events=events)
