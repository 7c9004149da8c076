"""When there is room on chip for a tensor.

A tensor needs its bytes of SBUF, or its banks of PSUM, from the first event that touches it until the last one that
does has ended. Room is given in the order in which the program first touches tensors: that is what a compiler which
assigns addresses in program order, and reuses them round and round, would reach, and it cannot deadlock. So the room
decides how far loads run ahead of their use. Tensors with addresses of their own wait by their hazards alone.
"""

from __future__ import annotations

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
    uses: int = 0  # events that touch it and have not ended
    placed: bool = False
    waiting: list[int] = field(default_factory=list)  # events held back until it has room


@dataclass
class Memory:
    """One memory of one core."""

    free: int
    queue: list[Tenant] = field(default_factory=list)  # in the order of their first use
    next: int = 0  # in line for room
    held: int = 0  # tenants that have room


@dataclass
class Room:
    """What is free in the memories of all cores while events run."""

    memories: dict[Place, Memory]
    of_event: list[list[Tenant]]  # the tenants that each event touches

    def admit(self, place: Place) -> Iterator[Tenant]:
        """Give room to the next tenants of a memory as long as it lasts; too large a one gets it alone."""
        memory = self.memories[place]
        while memory.next < len(memory.queue):
            tenant = memory.queue[memory.next]
            if tenant.size > memory.free and memory.held:
                return
            memory.free -= tenant.size
            memory.held += 1
            memory.next += 1
            tenant.placed = True
            yield tenant

    def leave(self, index: int) -> list[Place]:
        """The event `index` has ended; returns the memories in which that made room."""
        places = []
        for tenant in self.of_event[index]:
            tenant.uses -= 1
            if tenant.uses == 0:
                memory = self.memories[tenant.place]
                memory.free += tenant.size
                memory.held -= 1
                places.append(tenant.place)
        return places


def room_for(trace: Trace) -> Room:
    """All memories empty, with the tenants of a trace in line."""
    tenants: dict[tuple[int, int], Tenant] = {}
    room = Room({}, [])
    for event in trace.events:
        mine: list[Tenant] = []
        for region in (*event.reads, *event.writes):
            allocation = region.allocation
            if allocation.address is not None or allocation.buffer not in ("sbuf", "psum"):
                continue
            key = (event.core, allocation.id)
            tenant = tenants.get(key)
            if tenant is None:
                place = (event.core, allocation.buffer)
                tenant = tenants[key] = Tenant(place, partition_bytes(allocation, trace.chip))
                if place not in room.memories:
                    room.memories[place] = Memory(capacity_of(trace.chip, allocation.buffer))
                room.memories[place].queue.append(tenant)
            if tenant not in mine:
                tenant.uses += 1
                mine.append(tenant)
        room.of_event.append(mine)
    return room
