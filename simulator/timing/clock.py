"""The chip, event by event: what happens at one moment, and what follows from it.

Every engine issues one instruction at a time from its queue; queues issue DMA, each in its order, and rings
move its descriptors, taking the queues in turn. An event starts when what it waits for is there (hazards), its tensors
have room on chip (room), its port is free, and its track is.

Where Vector has more to do than any other part of its core, an engine that has nothing to do takes the first copy that
waits for Vector, that the kernel left to the compiler and that it can have done sooner: the compiler chooses by the
engines' workload (nki/api/nki/isa/__init__.py, tensor_copy).
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque

from triptych.simulator.analysis.hazards import READ_AFTER_WRITE, Edges
from triptych.simulator.errors import KernelError
from triptych.simulator.timing.queues import issuer_of
from triptych.simulator.timing.room import Place, Room
from triptych.simulator.timing.timeline import Span
from triptych.simulator.timing.work import CELLS, Work
from triptych.simulator.trace import Trace

Track = tuple[int, str]
_LEAVE, _ISSUED, _READY, _FREE = range(4)


class Clock:
    """The state of the chip at one moment."""

    def __init__(self, trace: Trace, work: list[Work], edges: list[Edges], room: Room, in_order: bool) -> None:
        n = len(trace.events)
        self.trace, self.chip, self.work, self.room = trace, trace.chip, list(work), room
        self.launch = self.chip.launch_ns.value
        self.spans: list[Span | None] = [None] * n
        self.tracks: list[Track] = [(e.core, w.queue or w.track) for e, w in zip(trace.events, work, strict=True)]
        self.missing = [len(e) for e in edges]
        self.ready_at = [self.launch] * n
        self.reason: list[tuple[int | None, str]] = [(None, "start")] * n
        self.successors: list[list[tuple[int, str]]] = [[] for _ in range(n)]
        for index, waits in enumerate(edges):
            for producer, why in waits.items():
                self.successors[producer].append((index, why))
        self.agenda: list[tuple[float, int, int]] = []  # (time, what happens, event)
        self.ready: dict[Track, list[int]] = {track: [] for track in self.tracks}
        self.others: dict[Track, list[Track]] = {}  # engines that may take what is left open, of each Vector
        for event, each in zip(trace.events, work, strict=True):
            for other in () if in_order else each.elsewhere:
                mine, its = (event.core, each.track), (event.core, other.track)
                self.ready.setdefault(its, [])
                if its not in self.others.setdefault(mine, []):
                    self.others[mine].append(its)
        self.free: dict[Track, float] = dict.fromkeys(self.ready, 0.0)  # when a queue can issue
        self.issuers: dict[Track, Track] = {  # queues of one trigger are issued by one
            track: (track[0], "issue of " + issuer_of(track[1])) for track in self.ready if track[1][:3] == "dma"
        }
        self.free.update(dict.fromkeys(self.issuers.values(), 0.0))
        self.last_on: dict[Track, int | None] = dict.fromkeys(self.ready)
        self.issued: dict[int, dict[str, deque[int]]] = {core: {} for core, _ in self.ready}  # wait for rings
        for core, name in sorted(self.ready):
            if name.startswith("dma"):
                self.issued[core][name] = deque()
        rings = int(self.chip.dma_rings.value)
        self.rings: dict[int, list[float]] = {core: [0.0] * rings for core in self.issued}
        self.last_moved: dict[int, int | None] = dict.fromkeys(self.issued)
        self.ports: dict[tuple[int, str], tuple[float, int]] = {}
        self.cells: dict[int, list[float]] = {core: [0.0] * CELLS for core in self.issued}  # when each is free
        self.visible_at: dict[int, float] = {}  # when other engines than Vector see what an event waits for
        self.use: dict[int, tuple[float, float]] = {}  # of the Tensor Engine: (share of the last window, when)
        self.queues: dict[Track, list[int]] = {}  # what is left of each that runs in program order, last first
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
            touched: set[Track] = set()
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
            for track, others in self.others.items():
                if ready[track] and self.free[track] > now:
                    self._spread(track, others, now)
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

    def _dispatch(self, track: Track, now: float) -> None:
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

    def _spread(self, track: Track, others: list[Track], now: float) -> None:
        """Let idle engines take what waits for a busy one, is left open and is done sooner by them."""
        for other in others:
            if self.free[other] > now or self.ready[other]:
                continue
            for index in sorted(self.ready[track]):
                work = self.work[index]
                mine = next((w for w in work.elsewhere if w.track == other[1]), None)
                if self.visible_at.get(index, 0.0) > now:
                    continue  # Vector need not wait until its own results can be seen by others
                if mine is None or now + mine.busy + mine.latency > self.free[track] + work.busy + work.latency:
                    continue
                if mine.port is not None and self.ports.get((other[0], mine.port), (0.0, 0))[0] > now:
                    continue
                self.ready[track].remove(index)
                heapq.heapify(self.ready[track])
                self.work[index], self.tracks[index] = mine, other
                self.last_on[other] = index
                self._execute(index, other, mine, now)
                break

    def _execute(self, index: int, track: Track, work: Work, now: float) -> None:
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

    def _start(self, index: int, track: Track, work: Work, now: float, busy: float) -> None:
        """An event begins to occupy its engine or rings; from now on all its times are known."""
        core, name = track
        free, end = now + busy, now + busy + work.latency
        after, why = self.reason[index]
        self.spans[index] = Span(index, core, name, now, busy, end, after, why, len(work.rings))
        agenda = self.agenda
        heapq.heappush(agenda, (free, _FREE, index))
        if self.room.of_event[index]:
            heapq.heappush(agenda, (end, _LEAVE, index))
        if name == "dma":
            for successor, edge in self.successors[index]:
                self._release(successor, end, index, edge)
            return
        tracks, ready_at, missing = self.tracks, self.ready_at, self.missing
        for successor, edge in self.successors[index]:
            # An engine works in order: what follows on it and does not need the result need not wait for its latency.
            # Nor does a matmul that adds to what the last one left in PSUM.
            pipelined = tracks[successor] == track and (edge != READ_AFTER_WRITE or name == "tensor")
            at = free if pipelined else end
            if pipelined and self.work[successor].elsewhere:
                self.visible_at[successor] = max(end, self.visible_at.get(successor, 0.0))
            if at > ready_at[successor]:
                ready_at[successor] = at
                self.reason[successor] = (index, edge)
            missing[successor] -= 1
            if missing[successor] == 0:
                heapq.heappush(agenda, (ready_at[successor], _READY, successor))

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
