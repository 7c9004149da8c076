"""Which event has to wait for which: read after write, write after read, write after write.

Two accesses meet if their boxes do (boxes.py). Tensors with addresses of their own meet where their addresses do.

Two cores that share a tensor in HBM are ordered by what they meet at (`core_barrier`, a collective) and by nothing
else: what they do between two meetings does not wait for the other core, whichever the trace names first.

A program touches the same places again and again. Each place, a box of one memory, knows which others it meets, found
once, when it is first touched; an access then looks at the last accesses to those alone. Places are found among their
neighbours: those of one size stand in strips of that many bytes.
"""

from __future__ import annotations

from collections.abc import Hashable

from triptych.simulator.analysis.boxes import Box, box_of, meet, reach, within
from triptych.simulator.trace import Event, Region, Trace

READ_AFTER_WRITE, WRITE_AFTER_READ, WRITE_AFTER_WRITE = "data", "overwrite", "order"
Edge = tuple[int, str]  # index of the event to wait for, and why

_Who = tuple[int, int] | None  # core and epoch of an access to memory that cores share
_Access = tuple[int, _Who]  # the index of its event


class _Place:
    """A box of one memory, with the accesses to it that a later one may have to wait for."""

    __slots__ = ("box", "hides", "meets", "memory", "readers", "writers")

    def __init__(self, box: Box, memory: _Memory) -> None:
        self.box, self.memory = box, memory
        self.readers: list[_Access] = []
        self.writers: list[_Access] = []
        self.meets: list[_Place] = [self]
        self.hides: list[_Place] = [self]  # those within it, whose accesses a write to it replaces


class _Memory:
    """One memory, with the places in it that are touched."""

    __slots__ = ("last_write", "places", "sizes")

    def __init__(self) -> None:
        self.last_write = -1  # the index of the last event that writes to it
        self.places: dict[Box, _Place] = {}
        # For each n, those of less than 2^n bytes and at least half of that, by the strip of 2^n bytes they begin in.
        self.sizes: dict[int, dict[int, list[_Place]]] = {}

    def place(self, box: Box) -> _Place:
        """The place of that box, introduced to those that it meets when it is new."""
        found = self.places.get(box)
        if found is not None:
            return found
        place = self.places[box] = _Place(box, self)
        low, high = reach(box)
        for other in self._neighbours(low, high):
            theirs = other.box
            if meet(box, theirs):
                place.meets.append(other)
                other.meets.append(place)
                if within(theirs, box):
                    place.hides.append(other)
                if within(box, theirs):
                    other.hides.append(place)
        n = (high - low).bit_length()
        self.sizes.setdefault(n, {}).setdefault(low >> n, []).append(place)
        return place

    def _neighbours(self, low: int, high: int) -> list[_Place]:
        """Those that a new place of these bytes can meet: they begin in one of its strips or in the one before."""
        found: list[_Place] = []
        for n, strips in self.sizes.items():
            first, last = (low >> n) - 1, (high - 1) >> n
            if last - first < len(strips):
                for strip in range(first, last + 1):
                    if strip in strips:
                        found += strips[strip]
            else:
                for strip, places in strips.items():
                    if first <= strip <= last:
                        found += places
        return found


def _key(event: Event, region: Region) -> Hashable:
    allocation = region.allocation
    return allocation.id if allocation.address is None else (allocation.buffer, event.core)


def _written(trace: Trace) -> dict[Hashable, _Memory]:
    """Every memory that an event writes."""
    memories: dict[Hashable, _Memory] = {}
    for index, event in enumerate(trace.events):
        for region in event.writes:
            key = _key(event, region)
            memory = memories.get(key)
            if memory is None:
                memory = memories[key] = _Memory()
            memory.last_write = index
    return memories


def hazards(trace: Trace) -> list[list[Edge]]:
    """For each event, the earlier events that it waits for, with the reason; only those not implied by others."""
    memories = _written(trace)
    places: dict[int, _Place | None] = {}  # by the region's identity: a view that several events use has one region
    position = {id(event): index for index, event in enumerate(trace.events)}
    last_in_block: dict[tuple[int, int], int] = {}  # of nl.no_reorder
    edges: list[list[Edge]] = []
    for index, event in enumerate(trace.events):
        found: dict[int, str] = {}
        shared = "epoch" in event.attributes
        for region in event.reads:
            at = id(region)
            place = places.get(at)
            if place is None:
                if at in places:
                    continue
                memory = memories.get(_key(event, region))
                place = places[at] = None if memory is None else memory.place(box_of(region))
                if place is None:
                    continue
            who = _who(event, region) if shared else None
            for other in place.meets:
                for writer, by in other.writers:
                    if who is None or _ordered(who, by):
                        found[writer] = READ_AFTER_WRITE
            if index < place.memory.last_write:
                place.readers.append((index, who))
        for region in event.writes:
            at = id(region)
            place = places.get(at)
            if place is None:
                place = places[at] = memories[_key(event, region)].place(box_of(region))
            _overwrite(place, index, _who(event, region) if shared else None, found)
        if event.attributes:
            _asked(event, position, last_in_block, found, index)
        found.pop(index, None)
        edges.append(list(found.items()))
    return edges


def _overwrite(place: _Place, index: int, who: _Who, found: dict[int, str]) -> None:
    """Wait for the accesses that a write meets, and forget those that it hides from later ones."""
    for other in place.meets:
        for before, by in other.readers:
            if who is None or _ordered(who, by):
                found.setdefault(before, WRITE_AFTER_READ)
    for other in place.meets:
        for before, by in other.writers:
            if who is None or _ordered(who, by):
                found.setdefault(before, WRITE_AFTER_WRITE)
    for other in place.hides:
        if who is None:
            if other.readers:
                other.readers = []
            if other.writers:
                other.writers = []
        else:
            other.readers = [(before, by) for before, by in other.readers if not _ordered(who, by)]
            other.writers = [(before, by) for before, by in other.writers if not _ordered(who, by)]
    place.writers.append((index, who))


def _asked(
    event: Event, position: dict[int, int], last_in_block: dict[tuple[int, int], int], found: dict[int, str], index: int
) -> None:
    """What a kernel says itself of an event's order, and the registers that it needs."""
    block = event.attributes.get("no_reorder")
    if block is not None:
        before = last_in_block.get((event.core, block))
        if before is not None:
            found.setdefault(before, WRITE_AFTER_WRITE)
        last_in_block[event.core, block] = index
    for producer in event.attributes.get("after", ()):
        found.setdefault(position[id(producer)], READ_AFTER_WRITE)
    for producer in event.attributes.get("registers", ()):
        found.setdefault(position[id(producer)], READ_AFTER_WRITE)


def _who(event: Event, region: Region) -> _Who:
    """The core and its epoch where a tensor is shared by cores; None where one core has it for itself."""
    if region.allocation.buffer != "shared_hbm":
        return None
    return event.core, event.attributes["epoch"]


def _ordered(a: tuple[int, int], b: _Who) -> bool:
    """Whether a core waits for an access of its own, or for one that lies before a meeting of the two."""
    return b is None or a[0] == b[0] or a[1] != b[1]
