"""From a trace to a timeline, by simulating the chip event by event.

Every engine issues one instruction at a time from its queue; DMA moves descriptors on its rings. An event starts when
what it waits for is there (hazards), its tensors have room on chip (room), its port is free, and its track is.

    program      each queue runs in the program's order; loads and stores of DMA have a queue each
    overlapped   each track takes, of the events that are ready, the one that comes first in the program: what a list
                 scheduler reaches that looks as far ahead as the memories have room. A compiler that schedules better
                 or worse than greedily will differ
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable

from triptych.simulator.errors import KernelError
from triptych.simulator.timing.hazards import READ_AFTER_WRITE, Edge, hazards
from triptych.simulator.timing.room import Room, room_for
from triptych.simulator.timing.timeline import Span, Timeline
from triptych.simulator.timing.work import Work, works
from triptych.simulator.trace import Event, Trace

ORDERS = ("overlapped", "program")
_Track = tuple[int, str]
_LEAVE, _READY, _FREE = range(3)


def schedule(trace: Trace, order: str = "overlapped") -> Timeline:
    """The timeline of a trace. Raises KernelError for an order that does not exist."""
    if order not in ORDERS:
        raise KernelError(f"order {order!r} is unknown; expected one of {', '.join(ORDERS)}")
    edges = hazards(trace)
    _join_meetings(trace.events, edges)
    spans = _Clock(trace, works(trace), edges, room_for(trace), order == "program").run()
    chip = trace.chip
    end = max((span.end_ns for span in spans), default=chip.launch_ns.value)
    return Timeline(trace, order, spans, edges, end + chip.teardown_ns.value)


def _join_meetings(events: list[Event], edges: list[list[Edge]]) -> None:
    """Barriers and exchanges of two cores wait for what their partner waits for, and for its queue."""
    met: dict[tuple[str, object], list[list[int]]] = {}
    last: dict[_Track, int] = {}
    before: dict[int, int] = {}
    for index, event in enumerate(events):
        if event.op in ("core_barrier", "sendrecv"):
            lists = met.setdefault((event.op, event.attributes.get("pipe")), [[], []])
            lists[event.core].append(index)
            if (event.core, event.engine) in last:
                before[index] = last[event.core, event.engine]
        last[event.core, event.engine] = index
    for first, second in met.values():
        for a, b in zip(first, second, strict=False):
            mine = {producer for producer, _ in (*edges[a], *edges[b])}
            mine.update(before[i] for i in (a, b) if i in before)
            for each in (a, b):
                known = {producer for producer, _ in edges[each]}
                edges[each].extend((p, "meeting") for p in mine - known - {a, b} if p < min(a, b))


class _Clock:
    """The state of the chip at one moment."""

    def __init__(self, trace: Trace, work: list[Work], edges: list[list[Edge]], room: Room, in_order: bool) -> None:
        n = len(trace.events)
        self.trace, self.work, self.room, self.in_order = trace, work, room, in_order
        self.chip = trace.chip
        self.launch = self.chip.launch_ns.value
        self.spans: list[Span | None] = [None] * n
        self.tracks: list[_Track] = [(e.core, w.track) for e, w in zip(trace.events, work, strict=True)]
        self.missing = [len(e) for e in edges]
        self.ready_at = [self.launch] * n
        self.reason: list[tuple[int | None, str]] = [(None, "start")] * n
        self.successors: list[list[Edge]] = [[] for _ in range(n)]
        for index, waits in enumerate(edges):
            for producer, why in waits:
                self.successors[producer].append((index, why))
        self.agenda: list[tuple[float, int, int]] = []  # (time, what, event)
        self.ready: dict[_Track, list[int]] = {track: [] for track in self.tracks}
        self.busy_until: dict[_Track, float] = {}
        self.last_on: dict[_Track, int] = {}
        self.rings: dict[int, list[float]] = {}
        self.ports: dict[tuple[int, str], tuple[float, int]] = {}
        self.use: dict[int, tuple[float, float]] = {}  # of the Tensor Engine: (share of the last window, when)
        self.queues: dict[tuple[int, str], list[int]] = {}
        self.position: dict[tuple[int, str], int] = {}
        if in_order:
            for index in range(n):
                self.queues.setdefault(self._queue(index), []).append(index)
            self.position = dict.fromkeys(self.queues, 0)

    def run(self) -> list[Span]:
        """Let time pass until every event has run."""
        for index, tenants in enumerate(self.room.of_event):
            for tenant in tenants:
                tenant.waiting.append(index)
            self.missing[index] += len(tenants)
        for place in self.room.memories:
            self._admit(place, self.launch, None)
        for index, missing in enumerate(self.missing):
            if missing == 0 and not self.room.of_event[index]:
                self._push_ready(index)
        agenda = self.agenda
        while agenda:
            now = agenda[0][0]
            touched: set[_Track] = set()
            while agenda and agenda[0][0] == now:
                _, what, index = heapq.heappop(agenda)
                track = self.tracks[index]
                if what == _LEAVE:
                    for place in self.room.leave(index):
                        self._admit(place, now, index)
                    continue
                if what == _READY:
                    heapq.heappush(self.ready[track], index)
                touched.add(track)
            for track in touched:
                self._dispatch(track, now)
        return [span for span in self.spans if span is not None]

    def _queue(self, index: int) -> tuple[int, str]:
        core, track = self.tracks[index]
        if track == "dma":
            event = self.trace.events[index]
            stores = bool(event.writes) and event.writes[0].allocation.buffer.endswith("hbm")
            return core, "dma stores" if stores else "dma loads"
        return core, track

    def _admit(self, place: tuple[int, str], now: float, left: int | None) -> None:
        for tenant in self.room.admit(place):
            for index in tenant.waiting:
                self._release(index, now, left, "room")
            tenant.waiting = []

    def _release(self, index: int, at: float, by: int | None, why: str) -> None:
        """One thing that `index` waits for is there at time `at`."""
        if at > self.ready_at[index]:
            self.ready_at[index] = at
            self.reason[index] = (by, why)
        self.missing[index] -= 1
        if self.missing[index] == 0:
            self._push_ready(index)

    def _push_ready(self, index: int) -> None:
        heapq.heappush(self.agenda, (self.ready_at[index] + self.work[index].lead, _READY, index))

    def _dispatch(self, track: _Track, now: float) -> None:
        """Start on a track what can start now."""
        ready = self.ready[track]
        while ready:
            index = self._choose(track, ready)
            if index is None:
                return
            work = self.work[index]
            free, blocker, why = self._free(track, work)
            if free > now:
                heapq.heappush(self.agenda, (free, _FREE, index))
                return
            if self.in_order:
                self.position[self._queue(index)] += 1
                ready.remove(index)
                heapq.heapify(ready)
            else:
                heapq.heappop(ready)
            self._start(index, track, work, now, blocker, why)

    def _choose(self, track: _Track, ready: list[int]) -> int | None:
        if not self.in_order:
            return ready[0]
        for queue in {self._queue(index) for index in ready}:
            index = self.queues[queue][self.position[queue]]
            if index in ready:
                return index
        return None

    def _free(self, track: _Track, work: Work) -> tuple[float, int | None, str]:
        """When a track, its rings and its port have room for some work; the last event there, and which it was."""
        core, name = track
        last = self.last_on.get(track)
        if name == "dma":
            rings = self.rings.setdefault(core, [0.0] * int(self.chip.dma_rings.value))
            return rings[work.rings - 1], last, "rings"
        free, why = self.busy_until.get(track, 0.0), "engine"
        if work.port is not None:
            taken, user = self.ports.get((core, work.port), (0.0, 0))
            if taken > free:
                return taken, user, "port"
        return free, last, why

    def _start(self, index: int, track: _Track, work: Work, now: float, blocker: int | None, why: str) -> None:
        core, name = track
        busy = work.busy
        if name == "tensor":
            busy = self._throttled(core, now, busy)
        after, reason = self.reason[index]
        if blocker is not None and now > self.ready_at[index] + work.lead:
            after, reason = blocker, why
        end = now + busy + work.latency
        self.spans[index] = Span(index, core, name, now, busy, end, after, reason, work.rings)
        free = now + busy
        if name == "dma":
            rings = self.rings[core]
            rings[: work.rings] = [free] * work.rings
            rings.sort()
        else:
            self.busy_until[track] = free
            if work.port is not None:
                self.ports[core, work.port] = (free, index)
        self.last_on[track] = index
        heapq.heappush(self.agenda, (free, _FREE, index))
        heapq.heappush(self.agenda, (end, _LEAVE, index))
        for successor, edge in self.successors[index]:
            # An engine works in order: what follows on it and does not need the result need not wait for its latency.
            # Nor does a matmul that adds to what the last one left in PSUM.
            pipelined = (
                self.tracks[successor] == track and name != "dma" and (edge != READ_AFTER_WRITE or name == "tensor")
            )
            self._release(successor, free if pipelined else end, index, edge)

    def _throttled(self, core: int, now: float, busy: float) -> float:
        """The time of a matmul: longer while the Tensor Engine's use of the last few microseconds is low."""
        chip = self.chip
        if chip.warm_up_ns.value == 0:
            return busy
        # An exponential average that crosses a half when a window of that length does, from idle and from full use.
        decay = chip.warm_up_ns.value / 2 / math.log(2)
        share, when = self.use.get(core, (0.0, self.launch))
        share *= math.exp(-(now - when) / decay)
        if share < chip.warm_up_use.value:
            busy *= chip.warm_up_slowdown.value
        self.use[core] = (1 - (1 - share) * math.exp(-busy / decay), now + busy)
        return busy


def tracks(spans: Iterable[Span]) -> list[_Track]:
    """The tracks that are used, by core."""
    return sorted({(span.core, span.track) for span in spans})
