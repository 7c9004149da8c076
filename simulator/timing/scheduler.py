"""From a trace to a timeline, by simulating the chip event by event.

Every engine issues one instruction at a time from its queue; queues issue DMA, each in the program's order, and rings
move its descriptors, taking the queues in turn. An event starts when what it waits for is there (hazards), its tensors
have room on chip (room), its port is free, and its track is.

    program      each queue runs in the program's order
    overlapped   loads stand in the order in which they are needed, and each engine takes, of the events that are ready,
                 the one that comes first: what a list scheduler reaches that looks as far ahead as the memories have
                 room. A compiler that schedules better or worse than greedily will differ
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import math
from collections import deque

from triptych.simulator.analysis.hazards import READ_AFTER_WRITE, Edge, hazards
from triptych.simulator.collector import without_collector
from triptych.simulator.errors import KernelError
from triptych.simulator.timing.order import arranged, by_need
from triptych.simulator.timing.queues import issuer_of
from triptych.simulator.timing.room import Place, Room, room_for
from triptych.simulator.timing.timeline import Span, Timeline
from triptych.simulator.timing.work import CELLS, Work, works
from triptych.simulator.trace import Event, Trace

ORDERS = ("overlapped", "program")
_Track = tuple[int, str]
_LEAVE, _ISSUED, _READY, _FREE = range(4)


def schedule(trace: Trace, order: str = "overlapped") -> Timeline:
    """The timeline of a trace.

    Raises KernelError for an order that does not exist, and where an event waits for room that is never free.
    """
    check_order(order)
    with without_collector():
        edges = hazards(trace)
        _join_meetings(trace.events, edges)
        work = works(trace)
        spans = _by_need(trace, work, edges) if order == "overlapped" else _timed(trace, work, edges, True)
        if order == "overlapped":
            # Who takes what is ready first can lose by it; a compiler could still leave the queues as they are.
            with contextlib.suppress(KernelError):  # a program that fits on chip in another order alone
                spans = min(spans, _timed(trace, work, edges, True), key=_end)
    return Timeline(
        trace, order, spans, edges, max(_end(spans), trace.chip.launch_ns.value) + trace.chip.teardown_ns.value
    )


def _timed(trace: Trace, work: list[Work], edges: list[list[Edge]], in_order: bool) -> list[Span]:
    return _Clock(trace, work, edges, room_for(trace), in_order).run()


def _by_need(trace: Trace, work: list[Work], edges: list[list[Edge]]) -> list[Span]:
    """The spans, in the trace's order, of what a list scheduler makes of it with its loads in order of need."""
    order = by_need(trace, edges)
    spans = _timed(*arranged(trace, work, edges, order), False)
    for span in spans:
        span.index = order[span.index]
        if span.after is not None:
            span.after = order[span.after]
    return sorted(spans, key=lambda span: span.index)


def _end(spans: list[Span]) -> float:
    return max((span.end_ns for span in spans), default=0.0)


def check_order(order: str) -> None:
    """Raise KernelError for an order that does not exist."""
    if order not in ORDERS:
        raise KernelError(f"order {order!r} is unknown; expected one of {', '.join(ORDERS)}")


def _join_meetings(events: list[Event], edges: list[list[Edge]]) -> None:
    """Barriers and exchanges of two cores wait for what their partner waits for, and for its queue."""
    met: dict[tuple[str, object], tuple[list[int], list[int]]] = {}
    last: dict[_Track, int] = {}
    before: dict[int, int] = {}
    for index, event in enumerate(events):
        if event.op in ("core_barrier", "sendrecv"):
            met.setdefault((event.op, event.attributes.get("pipe")), ([], []))[event.core].append(index)
            if (event.core, event.engine) in last:
                before[index] = last[event.core, event.engine]
        last[event.core, event.engine] = index
    for pair in met.values():
        for a, b in zip(*pair, strict=False):
            waits = {producer for producer, _ in (*edges[a], *edges[b])}
            waits.update(before[i] for i in (a, b) if i in before)
            for each in (a, b):
                known = {producer for producer, _ in edges[each]}
                edges[each].extend((p, "meeting") for p in waits - known if p < min(a, b))


class _Clock:
    """The state of the chip at one moment."""

    def __init__(self, trace: Trace, work: list[Work], edges: list[list[Edge]], room: Room, in_order: bool) -> None:
        n = len(trace.events)
        self.trace, self.chip, self.work, self.room = trace, trace.chip, work, room
        self.launch = self.chip.launch_ns.value
        self.spans: list[Span | None] = [None] * n
        self.tracks: list[_Track] = [(e.core, w.queue or w.track) for e, w in zip(trace.events, work, strict=True)]
        self.missing = [len(e) for e in edges]
        self.ready_at = [self.launch] * n
        self.reason: list[tuple[int | None, str]] = [(None, "start")] * n
        self.successors: list[list[Edge]] = [[] for _ in range(n)]
        for index, waits in enumerate(edges):
            for producer, why in waits:
                self.successors[producer].append((index, why))
        self.agenda: list[tuple[float, int, int]] = []  # (time, what happens, event)
        self.ready: dict[_Track, list[int]] = {track: [] for track in self.tracks}
        self.free: dict[_Track, float] = dict.fromkeys(self.ready, 0.0)  # when a queue can issue
        self.issuers: dict[_Track, _Track] = {  # queues of one trigger are issued by one
            track: (track[0], "issue of " + issuer_of(track[1])) for track in self.ready if track[1][:3] == "dma"
        }
        self.free.update(dict.fromkeys(self.issuers.values(), 0.0))
        self.last_on: dict[_Track, int | None] = dict.fromkeys(self.ready)
        self.issued: dict[int, dict[str, deque[int]]] = {core: {} for core, _ in self.ready}  # wait for rings
        for core, name in sorted(self.ready):
            if name.startswith("dma"):
                self.issued[core][name] = deque()
        rings = int(self.chip.dma_rings.value)
        self.rings: dict[int, list[float]] = {core: [0.0] * rings for core in self.issued}
        self.last_moved: dict[int, int | None] = dict.fromkeys(self.issued)
        self.ports: dict[tuple[int, str], tuple[float, int]] = {}
        self.cells: dict[int, list[float]] = {core: [0.0] * CELLS for core in self.issued}  # when each is free
        self.use: dict[int, tuple[float, float]] = {}  # of the Tensor Engine: (share of the last window, when)
        self.queues: dict[_Track, list[int]] = {}  # what is left of each that runs in program order, last first
        for index in range(n - 1, -1, -1):
            if in_order or work[index].queue:
                self.queues.setdefault(self.tracks[index], []).append(index)

    def run(self) -> list[Span]:
        """Let time pass until every event has run."""
        for index, tenants in enumerate(self.room.of_event):
            for tenant in tenants:
                tenant.waiting.append(index)
            self.missing[index] += len(tenants)
            if self.missing[index] == 0:
                heapq.heappush(self.agenda, (self.launch, _READY, index))
        for place in self.room.memories:
            self._admit(place, self.launch, None)
        agenda, tracks, ready = self.agenda, self.tracks, self.ready
        while agenda:
            now = agenda[0][0]
            touched: set[_Track] = set()
            while agenda and agenda[0][0] == now:
                _, what, index = heapq.heappop(agenda)
                if what == _LEAVE:
                    for place in self.room.leave(index):
                        self._admit(place, now, index)
                    continue
                track = tracks[index]
                if what == _READY:
                    heapq.heappush(ready[track], index)
                elif what == _ISSUED:
                    self.issued[track[0]][track[1]].append(index)
                touched.add(track)
            for track in sorted(touched):  # a set's own order changes from run to run
                if track[1] in self.issued[track[0]]:
                    self._move(track[0], now)
                self._dispatch(track, now)
        if None in self.spans:
            raise self._deadlock()
        return [span for span in self.spans if span is not None]

    def _deadlock(self) -> KernelError:
        """What waits for room that never comes: tensors whose lives overlap need more than there is."""
        stuck = next(i for i, span in enumerate(self.spans) if span is None)
        event = self.trace.events[stuck]
        left = sum(span is None for span in self.spans)
        asked = [t for t in self.room.of_event[stuck] if not t.placed]
        needs = " and ".join(f"{t.size} bytes a partition of {t.place[1]}" for t in asked) or "others that wait"
        free = ", ".join(f"{m.free} of {place[1]} on core {place[0]}" for place, m in self.room.memories.items())
        return KernelError(
            f"{left} of {len(self.spans)} instructions can never run, the first {event.label}: it needs {needs}, and "
            f"the tensors in use leave {free}; use fewer or smaller tensors at a time, or reuse them",
            line=event.line,
        )

    def _admit(self, place: Place, now: float, left: int | None) -> None:
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
            heapq.heappush(self.agenda, (self.ready_at[index], _READY, index))

    def _dispatch(self, track: _Track, now: float) -> None:
        """Issue from a queue what can be issued now."""
        ready, queue = self.ready[track], self.queues.get(track)
        issuer = self.issuers.get(track, track)
        while ready:
            index = ready[0]
            if self.free[issuer] > now:
                if issuer is not track:
                    heapq.heappush(self.agenda, (self.free[issuer], _FREE, index))
                return
            if queue is not None and index != queue[-1]:
                return  # the smallest that is ready is not the next of the program
            work = self.work[index]
            blocker, why = self.last_on[track], "engine"
            if work.port is not None:
                taken, user = self.ports.get((track[0], work.port), (0.0, 0))
                if taken > now:
                    heapq.heappush(self.agenda, (taken, _FREE, index))
                    return
                if taken == now:
                    blocker, why = user, "port"
            if work.cells:
                taken = max([free for cell, free in enumerate(self.cells[track[0]]) if work.cells >> cell & 1])
                if taken > now:
                    heapq.heappush(self.agenda, (taken, _FREE, index))
                    return
            heapq.heappop(ready)
            if queue is not None:
                queue.pop()
            if now > self.ready_at[index] and blocker is not None:
                self.reason[index] = (blocker, why)
            self.last_on[track] = index
            if work.queue:
                self.free[issuer] = now + work.issue
                heapq.heappush(self.agenda, (now + work.lead, _ISSUED, index))
                heapq.heappush(self.agenda, (now + work.issue, _FREE, index))
            else:
                self._execute(index, track, work, now)

    def _execute(self, index: int, track: _Track, work: Work, now: float) -> None:
        busy = self._throttled(track[0], now, work.busy) if track[1] == "tensor" else work.busy
        self.free[track] = now + busy
        if work.cells:
            cells = self.cells[track[0]]
            for cell in range(CELLS):
                if work.cells >> cell & 1:
                    cells[cell] = now + busy
            self.free[track] = now + min(busy, self.chip.min_cycles.value / self.chip.tensor_ghz.value)
            heapq.heappush(self.agenda, (self.free[track], _FREE, index))
        if work.port is not None:
            self.ports[track[0], work.port] = (now + busy, index)
        self._start(index, track, work, now, busy)

    def _move(self, core: int, now: float) -> None:
        """Give the transfers that have been issued their rings: one of each queue in turn, each queue in its order.

        A transfer begins on each of its rings when that is free. Its span is that of the ring that is free last.
        """
        queues, rings = self.issued[core], self.rings[core]
        for name in itertools.cycle(list(queues)):
            waiting = queues[name]
            if not waiting:
                if not any(queues.values()):
                    break
                continue
            index = waiting[0]
            work = self.work[index]
            mine = work.rings
            free = min([rings[ring] for ring in mine])
            if free > now:
                heapq.heappush(self.agenda, (free, _FREE, index))
                break
            waiting.popleft()
            queues[name] = queues.pop(name)  # it is the last in line now
            start = max([rings[ring] for ring in mine])
            last = self.last_moved[core]
            if start >= now and last is not None and (start > now or free == now):
                self.reason[index] = (last, "rings")
            self.last_moved[core] = index
            for ring in mine:
                rings[ring] = max(rings[ring], now) + work.busy
            self._start(index, (core, "dma"), work, max(start, now), work.busy)

    def _start(self, index: int, track: _Track, work: Work, now: float, busy: float) -> None:
        """An event begins to occupy its engine or rings; from now on all its times are known."""
        core, name = track
        free, end = now + busy, now + busy + work.latency
        after, why = self.reason[index]
        self.spans[index] = Span(index, core, name, now, busy, end, after, why, len(work.rings))
        agenda = self.agenda
        heapq.heappush(agenda, (free, _FREE, index))
        if self.room.of_event[index]:
            heapq.heappush(agenda, (end, _LEAVE, index))
        for successor, edge in self.successors[index]:
            # An engine works in order: what follows on it and does not need the result need not wait for its latency.
            # Nor does a matmul that adds to what the last one left in PSUM.
            in_order = name != "dma" and self.tracks[successor] == track
            pipelined = in_order and (edge != READ_AFTER_WRITE or name == "tensor")
            self._release(successor, free if pipelined else end, index, edge)

    def _throttled(self, core: int, now: float, busy: float) -> float:
        """The time of a matmul: longer while the Tensor Engine's use of the last few microseconds is low."""
        chip = self.chip
        if chip.warm_up_ns.value == 0:
            return busy
        # An exponential average that crosses a half when a window of that length does, from idle and from full use.
        decay = chip.warm_up_ns.value / 2 / math.log(2)
        share, when = self.use.get(core, (0.0, self.launch))
        if when < now:
            share, when = share * math.exp(-(now - when) / decay), now
        if share < chip.warm_up_use.value:
            busy *= chip.warm_up_slowdown.value
        until = max(when, now + busy)  # tiles of the array that are in use together count once
        self.use[core] = (1 - (1 - share) * math.exp(-(until - when) / decay), until)
        return busy
