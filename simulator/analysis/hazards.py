"""Which event has to wait for which: read after write, write after read, write after write.

Two accesses meet if their boxes do (boxes.py). Tensors with addresses of their own meet where their addresses do.

Two cores that share a tensor in HBM are ordered by what they meet at (`core_barrier`, a collective) and by nothing
else: what they do between two meetings does not wait for the other core, whichever the trace names first.

A program touches the same places again and again, and in each of many tiles that one line allocates the same ones. Each
place, a box, knows which others it meets, found once, when it is first touched (`_Map`); what each tensor keeps of them
are the last accesses (`_Memory`). Places are found among their neighbours: those of one size stand in strips of that
many bytes.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from functools import cached_property
from typing import Any

from triptych.simulator.analysis.boxes import Box, box_of, meet, reach, within
from triptych.simulator.trace import Allocation, Event, Region, Trace

READ_AFTER_WRITE, WRITE_AFTER_READ, WRITE_AFTER_WRITE = "data", "overwrite", "order"
Edges = dict[int, str]  # what an event waits for: the indices of earlier ones, and why

_AT_ONCE = 4096  # events that are walked over before the first of them is given
_ASKED = ("no_reorder", "after", "registers")  # attributes by which a kernel says itself what waits for what


class _Map:
    """The places that are touched in a memory, by number, or in all tensors that one line of the kernel allocates."""

    __slots__ = ("boxes", "hides", "meets", "numbers", "sizes", "sources", "views", "written")

    def __init__(self) -> None:
        self.views: dict[Hashable, _Views] = {}  # of tensors that lie alike
        self.numbers: dict[Box, int] = {}
        self.boxes: list[Box] = []
        self.meets: list[list[int]] = []  # of each place, the others that share a byte with it
        self.hides: list[list[int]] = []  # and of them those within it, whose accesses a write to it replaces, too
        self.sources: list[list[int]] = []  # those of the others that it meets that are ever written
        self.written: set[int] = set()
        # For each n, those of less than 2^n bytes and at least half of that, by the strip of 2^n bytes they begin in.
        self.sizes: dict[int, dict[int, list[int]]] = {}

    def place(self, box: Box) -> int:
        """The place of that box, introduced to those that it meets when it is new."""
        found = self.numbers.get(box)
        if found is not None:
            return found
        number = self.numbers[box] = len(self.boxes)
        meets: list[int] = []
        hides: list[int] = []
        low, high = reach(box)
        for other in self._neighbours(low, high):
            theirs = self.boxes[other]
            if meet(box, theirs):
                meets.append(other)
                self.meets[other].append(number)
                if within(theirs, box):
                    hides.append(other)
                if within(box, theirs):
                    self.hides[other].append(number)
        self.boxes.append(box)
        self.meets.append(meets)
        self.hides.append(hides)
        self.sources.append([other for other in meets if other in self.written])
        n = (high - low).bit_length()
        self.sizes.setdefault(n, {}).setdefault(low >> n, []).append(number)
        return number

    def see_read(self, views: dict[Hashable, _Read], region: Region) -> _Read:
        """The place of a view that is read for the first time."""
        number = self.place(box_of(region))
        found = views[region[1:]] = number, self.sources[number]
        return found

    def see_written(self, views: dict[Hashable, _Written], region: Region) -> _Written:
        """The place of a view that is written for the first time."""
        number = self.place(box_of(region))
        if number not in self.written:
            self.written.add(number)
            for other in self.meets[number]:
                self.sources[other].append(number)
        found = views[region[1:]] = number, self.meets[number], self.hides[number]
        return found

    def _neighbours(self, low: int, high: int) -> list[int]:
        """Those that a new place of these bytes can meet: they begin in one of its strips or in the one before."""
        found: list[int] = []
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


_Read = tuple[int, list[int]]  # a place by its number, and those of the others that it meets that are ever written
_Written = tuple[int, list[int], list[int]]  # its number, and those of the others that it meets and that it hides
_Views = tuple[dict[Hashable, _Read], dict[Hashable, _Written]]  # the places of views that are read, and written


# A tensor as one core sees it, with the accesses to its memory that a later one may have to wait for; the memory is its
# own, or where it has an address that of all that have one. A plain tuple, which Python takes apart twice as fast:
#   the index of the last event that writes to the memory
#   the readers by place, and the writers
#   the writers where two cores may share it: each can have one
#   the places of views that are read, and of those that are written, by all that a region says beside its tensor
_Tensor = tuple[
    int,
    dict[int, list[int]],
    dict[int, int],
    dict[int, list[int]] | None,
    dict[Hashable, _Read],
    dict[Hashable, _Written],
    _Map,
]


class _Tensors:
    def __init__(self, trace: Trace, compiled: Any) -> None:
        # By core and identity; None where nothing is ever written.
        self.of: dict[int, dict[int, _Tensor | None]] = {core: {} for core in {event.core for event in trace.events}}
        self.memories: dict[Hashable, _Tensor] = {}  # any tensor of each
        self.maps: dict[Hashable, _Map] = {}
        self.last_writes = (last_writes if compiled is None else compiled.last_writes)(trace.events)

    def see(self, event: Event, allocation: Allocation) -> _Tensor | None:
        """A tensor that this core has not touched before."""
        key, address = _key(event, allocation), allocation[6]
        found = self.memories.get(key)
        if found is None and key in self.last_writes:
            alike = allocation[3:6] if address is None else key  # shape, dtype and line
            layout = self.maps.get(alike)
            if layout is None:
                layout = self.maps[alike] = _Map()
                layout.views[None] = {}, {}
            shared: dict[int, list[int]] | None = {} if allocation[2] == "shared_hbm" else None
            found = self.memories[key] = self.last_writes[key], {}, {}, shared, *layout.views[None], layout
        if found is not None and address is not None:  # those of one memory may be of different widths
            layout, lies = found[-1], (allocation.shape, allocation.dtype, address)
            found = *found[:4], *layout.views.setdefault(lies, ({}, {})), layout
        self.of[event.core][id(allocation)] = found
        return found


def last_writes(events: list[Event]) -> dict[Hashable, int]:
    """The last event that writes to each memory."""
    return {_key(event, region[0]): index for index, event in enumerate(events) for region in event.writes}


def _key(event: Event, allocation: Allocation) -> Hashable:
    return allocation[0] if allocation[6] is None else (allocation[2], event.core)


def hazards(trace: Trace, compiled: Any = None) -> list[Edges]:
    """For each event, the earlier events that it waits for, with the reason; only those not implied by others.

    compiled: simulator/compiled/walks.c, or None where it is not built
    """
    found: list[Edges] = []
    for some in waits(trace, compiled):
        found += some
    return found


def waits(trace: Trace, compiled: Any = None) -> Iterator[list[Edges]]:
    """The same, some events after the others."""
    tensors, cores, asked = _Tensors(trace, compiled), _Cores(trace), _Asked(trace)
    edges = edges_of if compiled is None else compiled.edges_of
    for first in range(0, len(trace.events), _AT_ONCE):
        yield edges(trace.events[first : first + _AT_ONCE], first, tensors, cores, asked)


def edges_of(events: list[Event], first: int, tensors: _Tensors, cores: _Cores, asked: _Asked) -> list[Edges]:
    """What each of these events waits for, the first of which has that index; all before it have been asked about."""
    edges: list[Edges] = []
    for index, event in enumerate(events, first):
        found: Edges = {}
        known = tensors.of[event.core]
        for region in event.reads:
            at = id(region[0])
            tensor = known[at] if at in known else tensors.see(event, region[0])
            if tensor is None:
                continue
            last_write, readers, writers, shared, views, _, layout = tensor
            place, sources = views.get(region[1:]) or layout.see_read(views, region)
            if shared is not None:
                cores.read(shared, place, sources, index, found)
            else:
                if place in writers:
                    found[writers[place]] = READ_AFTER_WRITE
                for other in sources:
                    if other in writers:
                        found[writers[other]] = READ_AFTER_WRITE
            if index < last_write:
                if place in readers:
                    readers[place].append(index)
                else:
                    readers[place] = [index]
        for region in event.writes:
            at = id(region[0])
            tensor = known[at] if at in known else tensors.see(event, region[0])
            assert tensor is not None  # as it is written
            _, readers, writers, shared, _, written, layout = tensor
            place, meets, hides = written.get(region[1:]) or layout.see_written(written, region)
            if shared is not None:
                cores.overwrite(readers, shared, place, meets, hides, index, found)
                continue
            if place in readers:
                before = readers.pop(place)
                if found:
                    for reader in before:
                        if reader not in found:
                            found[reader] = WRITE_AFTER_READ
                else:
                    found = dict.fromkeys(before, WRITE_AFTER_READ)
            if meets:
                for other in meets:
                    if other in readers:
                        for reader in readers[other]:
                            if reader not in found:
                                found[reader] = WRITE_AFTER_READ
                for other in meets:
                    if other in writers and writers[other] not in found:
                        found[writers[other]] = WRITE_AFTER_WRITE
                for other in hides:
                    readers.pop(other, None)
                    writers.pop(other, None)
            if place in writers and writers[place] not in found:
                found[writers[place]] = WRITE_AFTER_WRITE
            writers[place] = index
        if not event.attributes.keys().isdisjoint(_ASKED):
            asked.add(event, index, found)
        if index in found:
            del found[index]
        edges.append(found)
    return edges


class _Cores:
    """The accesses of two cores to what they share: one waits for those of the other before their last meeting."""

    def __init__(self, trace: Trace) -> None:
        self.events = trace.events

    def _ordered(self, index: int, before: int) -> bool:
        """Whether an event waits for an earlier access: one of its own core, or of another epoch."""
        a, b = self.events[index], self.events[before]
        return a.core == b.core or a.attributes.get("epoch") != b.attributes.get("epoch")

    def read(self, writers: dict[int, list[int]], place: int, sources: list[int], index: int, found: Edges) -> None:
        """Wait for the writes that a read meets."""
        for other in (place, *sources):
            for writer in writers.get(other, ()):
                if self._ordered(index, writer):
                    found[writer] = READ_AFTER_WRITE

    def overwrite(
        self,
        readers: dict[int, list[int]],
        writers: dict[int, list[int]],
        place: int,
        meets: list[int],
        hides: list[int],
        index: int,
        found: Edges,
    ) -> None:
        """Wait for the accesses that a write meets, and forget those that it hides from later ones."""
        for accesses, why in ((readers, WRITE_AFTER_READ), (writers, WRITE_AFTER_WRITE)):
            for other in (place, *meets):
                for before in accesses.get(other, ()):
                    if self._ordered(index, before):
                        found.setdefault(before, why)
            for other in (place, *hides):
                if other in accesses:
                    accesses[other] = [before for before in accesses[other] if not self._ordered(index, before)]
        writers.setdefault(place, []).append(index)


class _Asked:
    """What a kernel says itself of the order of events, and the registers that they need."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.last_in_block: dict[tuple[int, int], int] = {}  # of nl.no_reorder

    @cached_property
    def position(self) -> dict[int, int]:
        """Where each event stands, by its identity."""
        return {id(event): index for index, event in enumerate(self.trace.events)}

    def add(self, event: Event, index: int, found: Edges) -> None:
        """What an event waits for on that account."""
        attributes = event.attributes
        block = attributes.get("no_reorder")
        if block is not None:
            before = self.last_in_block.get((event.core, block))
            if before is not None:
                found.setdefault(before, WRITE_AFTER_WRITE)
            self.last_in_block[event.core, block] = index
        for producer in (*attributes.get("after", ()), *attributes.get("registers", ())):
            found.setdefault(self.position[id(producer)], READ_AFTER_WRITE)
