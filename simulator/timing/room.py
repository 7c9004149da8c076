"""When there is room on chip for a tensor.

A tensor needs its bytes of SBUF, or its banks of PSUM, from the first event that touches it until the last one that
does has ended. Room is given in the order in which the program first touches tensors: that is what a compiler which
assigns addresses in program order, and reuses them round and round, would reach, and it cannot deadlock. So the room
decides how far loads run ahead of their use. Tensors with addresses of their own wait by their hazards alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from triptych.simulator.analysis.capacity import bytes_of, capacity_of
from triptych.simulator.dtypes import DType
from triptych.simulator.trace import Event, Trace

Place = tuple[int, str]  # core and memory
Kinds = dict[tuple[int, str, tuple[int, ...], DType], int]  # of tensors: core, memory, shape and dtype, by number


class Tenants(NamedTuple):
    """The tensors of a trace that need room, by number, and the memories in which they do."""

    of_event: list[list[int]]  # those that each event touches
    sizes: list[int]  # bytes of a partition that each needs
    memories: list[int]  # of each, by number
    places: list[Place]  # of each memory
    capacities: list[int]


def tenants_of(trace: Trace, compiled: Any = None) -> Tenants:
    """The tensors of a trace that need room.

    compiled: simulator/compiled/walks.c, or None where it is not built
    """
    kinds: Kinds = {}
    of_tensors: list[int] = []
    of_event = (touched if compiled is None else compiled.touched)(trace.events, kinds, of_tensors)
    places = list(dict.fromkeys([(core, buffer) for core, buffer, _, _ in kinds]))
    memories = [places.index((core, buffer)) for core, buffer, _, _ in kinds]
    sizes = [bytes_of(shape, dtype.itemsize, buffer, trace.chip) for _, buffer, shape, dtype in kinds]
    return Tenants(
        of_event,
        [sizes[kind] for kind in of_tensors],
        [memories[kind] for kind in of_tensors],
        places,
        [capacity_of(trace.chip, buffer) for _, buffer in places],
    )


def touched(events: list[Event], kinds: Kinds, of_tensors: list[int]) -> list[list[int]]:
    """Which of the tensors that need room each event touches, by number; notes the kind of each of them."""
    # Of each core, by allocation: its number, or -1 where it needs no room.
    known: dict[int, dict[int, int]] = defaultdict(dict)
    of_event = []
    for event in events:
        numbers = known[event.core]
        mine: list[int] = []
        for region in event.reads + event.writes:
            allocation = region[0]
            number = numbers.get(allocation[0])
            if number is None:
                number = -1
                if allocation[6] is None and allocation[2] in ("sbuf", "psum"):
                    number = len(of_tensors)
                    of_tensors.append(kinds.setdefault((event.core, *allocation[2:5]), len(kinds)))
                numbers[allocation[0]] = number
            if number >= 0 and number not in mine:
                mine.append(number)
        of_event.append(mine)
    return of_event


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


def room_for(tenants: Tenants, order: Sequence[int]) -> Room:
    """All memories empty, with the tenants of events that come in that order in line, and the events held back."""
    places = tenants.places
    memories = {place: Memory(capacity) for place, capacity in zip(places, tenants.capacities, strict=True)}
    each = [Tenant(places[memory], size) for memory, size in zip(tenants.memories, tenants.sizes, strict=True)]
    room = Room(memories, [[each[number] for number in tenants.of_event[event]] for event in order])
    for index, mine in enumerate(room.of_event):
        for tenant in mine:
            if not tenant.uses:
                memories[tenant.place].queue.append(tenant)
            tenant.uses += 1
            tenant.waiting.append(index)
    return room
