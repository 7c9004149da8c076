"""When there is room on chip for a tensor.

A tensor needs its bytes of SBUF, or its banks of PSUM, from the first event that touches it until the last one that
does has ended. Room is given in the order in which the program first touches tensors: that is what a compiler which
assigns addresses in program order, and reuses them round and round, would reach, and it cannot deadlock. So the room
decides how far loads run ahead of their use. Tensors with addresses of their own wait by their hazards alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from triptych.simulator.analysis.capacity import capacity_of, partition_bytes
from triptych.simulator.trace import Trace

Place = tuple[int, str]  # core and memory


@dataclass(eq=False, slots=True)
class Tenant:
    """A tensor that needs room."""

    place: Place
    size: int
    uses: int = 0  # events that touch it and have not begun
    until: tuple[float, int] = (0.0, 0)  # when the last of those that have begun ends, and which that is
    placed: bool = False
    waiting: list[int] = field(default_factory=list)  # events held back until it has room


@dataclass
class Memory:
    """One memory of one core."""

    free: int
    queue: list[Tenant] = field(default_factory=list)  # in the order of their first use
    next: int = 0  # in line for room
    held: int = 0  # tenants that have room

    def admit(self) -> Iterator[Tenant]:
        """Give room to the next tenants as long as it lasts; too large a one gets it alone."""
        while self.next < len(self.queue):
            tenant = self.queue[self.next]
            if tenant.size > self.free and self.held:
                return
            self.free -= tenant.size
            self.held += 1
            self.next += 1
            tenant.placed = True
            yield tenant


@dataclass
class Room:
    """What is free in the memories of all cores while events run."""

    memories: dict[Place, Memory]
    of_event: list[list[Tenant]]  # the tenants that each event touches

    def leave(self, tenant: Tenant) -> Memory:
        """A tensor has been used for the last time; returns the memory in which that made room."""
        memory = self.memories[tenant.place]
        memory.free += tenant.size
        memory.held -= 1
        return memory


def room_for(trace: Trace) -> Room:
    """All memories empty, with the tenants of a trace in line."""
    tenants: dict[int, dict[int, Tenant | None]] = defaultdict(dict)  # of each core, by allocation; None elsewhere
    room = Room({}, [])
    for event in trace.events:
        known = tenants[event.core]
        mine: list[Tenant] = []
        for region in event.reads + event.writes:
            allocation = region[0]
            number = allocation[0]
            if number in known:
                tenant = known[number]
            elif allocation.address is not None or allocation.buffer not in ("sbuf", "psum"):
                tenant = known[number] = None
            else:
                place = (event.core, allocation.buffer)
                tenant = known[number] = Tenant(place, partition_bytes(allocation, trace.chip))
                if place not in room.memories:
                    room.memories[place] = Memory(capacity_of(trace.chip, allocation.buffer))
                room.memories[place].queue.append(tenant)
            if tenant is not None and tenant not in mine:
                tenant.uses += 1
                mine.append(tenant)
        room.of_event.append(mine)
    return room
