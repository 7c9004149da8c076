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
import operator
from collections import deque

from triptych.simulator.analysis.hazards import READ_AFTER_WRITE, Edges
from triptych.simulator.chip.record import Chip
from triptych.simulator.errors import KernelError
from triptych.simulator.timing.queues import issuer_of
from triptych.simulator.timing.room import Memory, Room, Tenant
from triptych.simulator.timing.throttle import Throttle
from triptych.simulator.timing.timeline import Issue, Span
from triptych.simulator.timing.work import CELLS, Work
from triptych.simulator.trace import Trace

Track = tuple[int, str]
_LEAVE, _ISSUED, _READY, _FREE = range(4)
_BY_NAME = operator.attrgetter("core", "name")  # the order of queues at one moment


class _Issuer:
    """An engine that runs its instructions, or triggers the transfers of some queues."""

    __slots__ = ("free", "last")

    def __init__(self) -> None:
        self.free = 0.0  # when it can issue the next
        self.last: int | None = None  # that it issued


class _Queue:
    """What one engine has to run, or what is issued as DMA in one order."""

    __slots__ = ("core", "issuer", "issued", "left", "name", "others", "ready", "rest", "touched", "wake")

    def __init__(self, track: Track, issuer: _Issuer) -> None:
        self.core, self.name = track
        self.issuer = issuer
        self.ready: list[int] = []  # a heap: what can be issued
        self.issued: deque[int] | None = deque() if self.name.startswith("dma") else None  # waits for rings
        self.left: list[int] | None = None  # of a queue that keeps the program's order: what is left, last first
        self.rest = 0.0  # how long that keeps the issuer at least
        self.others: list[_Queue] = []  # of Vector's: engines that may take what is left open
        self.touched = False  # by what happens at this moment
        self.wake: float | None = None  # when it was last asked to be looked at again


class _Core:
    """What the queues of a core share."""

    def __init__(self, chip: Chip) -> None:
        self.rings = [0.0] * int(chip.dma_rings.value)  # when each is free
        self.transfers: dict[str, _Queue] = {}  # queues of DMA, the next in turn first
        self.last_moved: int | None = None
        self.ports: dict[str, tuple[float, int]] = {}  # when each is free, and who has it until then
        self.cells = [chip.launch_ns.value] * CELLS  # when each is free
        self.throttle = Throttle(chip)


class TooLate(Exception):
    """A program in its own order cannot end by the time that was given."""


class Clock:
    """The state of the chip at one moment."""

    def __init__(
        self,
        trace: Trace,
        work: list[Work],
        edges: list[Edges],
        room: Room,
        in_order: bool,
        limit: float = math.inf,  # ns, by which a run in order has to end
    ) -> None:
        n = len(trace.events)
        self.trace, self.chip, self.work, self.room = trace, trace.chip, list(work), room
        self.launch, self.limit = self.chip.launch_ns.value, limit
        self.spans: list[Span | None] = [None] * n
        self.missing = [len(e) for e in edges]
        self.ready_at = [self.launch] * n
        self.reason: list[tuple[int | None, str]] = [(None, "start")] * n
        self.issues: dict[int, Issue] = {}  # of transfers that have not begun to move
        self.successors: list[list[tuple[int, str]]] = [[] for _ in range(n)]
        for index, waits in enumerate(edges):
            for producer, why in waits.items():
                self.successors[producer].append((index, why))
        self.agenda: list[tuple[float, int, int]] = []  # (time, what happens, event)
        self.between_tiles = self.chip.min_cycles.value / self.chip.tensor_ghz.value
        self._set_up(in_order)
        self.leaving: dict[int, list[Tenant]] = {}  # whose last use is that of an event
        self.visible_at: dict[int, float] = {}  # when other engines than Vector see what an event waits for

    def _set_up(self, in_order: bool) -> None:
        """The queue of each event, and what is left of each that runs in program order."""
        events, work = self.trace.events, self.work
        found: dict[Track, _Queue] = {}
        triggers: dict[Track, _Issuer] = {}  # queues of one trigger are issued by one, Scalar's by Scalar itself

        def queue_of(track: Track) -> _Queue:
            if track not in found:
                core, name = track
                issuer = issuer_of(name)
                trigger = core, "scalar" if issuer == "dma by scalar" else issuer
                found[track] = _Queue(track, triggers.setdefault(trigger, _Issuer()))
                if issuer == "dma by gpsimd":
                    triggers[trigger].free = self.launch + self.chip.gpsimd_launch_ns.value
            return found[track]

        self.queues = [queue_of((e.core, w.queue or w.track)) for e, w in zip(events, work, strict=True)]
        for event, each, queue in zip(events, work, self.queues, strict=True):
            for other in () if in_order else each.elsewhere:
                its = queue_of((event.core, other.track))
                if its not in queue.others:
                    queue.others.append(its)
        self.lenders = [queue for queue in found.values() if queue.others]
        for index in range(len(events) - 1, -1, -1):
            queue = self.queues[index]
            if in_order or queue.issued is not None:
                if queue.left is None:
                    queue.left = []
                queue.left.append(index)
                queue.rest += self._at_least(work[index])
        self.cores = {core: _Core(self.chip) for core, _ in found}
        for core, name in sorted(found):
            if name.startswith("dma"):
                self.cores[core].transfers[name] = found[core, name]

    def _at_least(self, work: Work) -> float:
        """How long an event keeps its issuer at least."""
        if work.queue:
            return work.issue
        return min(work.busy, self.between_tiles) if work.cells else work.busy

    def run(self) -> list[Span]:
        """Let time pass until every event has run. Raises TooLate as soon as the last cannot end by the limit."""
        for index, tenants in enumerate(self.room.of_event):
            for tenant in tenants:
                tenant.waiting.append(index)
            self.missing[index] += len(tenants)
            if self.missing[index] == 0:
                heapq.heappush(self.agenda, (self.launch, _READY, index))
        for memory in self.room.memories.values():
            self._admit(memory, self.launch, None)
        agenda, queues, pop, push = self.agenda, self.queues, heapq.heappop, heapq.heappush
        while agenda:
            now = agenda[0][0]
            touched: list[_Queue] = []
            while agenda and agenda[0][0] == now:
                _, what, index = pop(agenda)
                if what == _LEAVE:
                    self._leave(index, now)
                    continue
                queue = queues[index]
                if what == _READY:
                    push(queue.ready, index)
                elif what == _ISSUED:
                    assert queue.issued is not None
                    queue.issued.append(index)
                if not queue.touched:
                    queue.touched = True
                    touched.append(queue)
            touched.sort(key=_BY_NAME)
            for queue in touched:
                queue.touched = False
                if queue.issued:
                    self._move(self.cores[queue.core], now)
                self._dispatch(queue, now)
            for queue in self.lenders:
                if queue.ready and queue.issuer.free > now:
                    self._spread(queue, now)
        if None in self.spans:
            raise self._deadlock()
        return [span for span in self.spans if span is not None]

    def _deadlock(self) -> KernelError:
        """What waits for room that never comes: tensors whose lives overlap need more than there is."""
        stuck = next(i for i, span in enumerate(self.spans) if span is None)
        event = self.trace.events[stuck]
        left = sum(span is None for span in self.spans)
        asked = [t for t in self.room.of_event[stuck] if not t.placed]
        needs = " and ".join(f"{t.size} bytes a partition of {t.place[1]}" for t in asked)
        free = ", ".join(f"{m.free} of {place[1]} on core {place[0]}" for place, m in self.room.memories.items())
        return KernelError(
            f"{left} of {len(self.spans)} instructions can never run, the first {event.label}: it needs {needs}, and "
            f"the tensors in use leave {free}; use fewer or smaller tensors at a time, or reuse them",
            line=event.line,
        )

    def _leave(self, index: int, now: float) -> None:
        """The event that uses some tensors last has ended."""
        for tenant in self.leaving.pop(index, ()):
            self._admit(self.room.leave(tenant), now, index)

    def _admit(self, memory: Memory, now: float, left: int | None) -> None:
        """Give room to the next in line, and let go on what waits for it."""
        ready_at, missing = self.ready_at, self.missing
        for tenant in memory.admit():
            for index in tenant.waiting:
                if now > ready_at[index]:
                    ready_at[index] = now
                    self.reason[index] = (left, "room")
                missing[index] -= 1
                if missing[index] == 0:
                    heapq.heappush(self.agenda, (ready_at[index], _READY, index))
            tenant.waiting = []

    def _wake(self, queue: _Queue, at: float, index: int) -> None:
        """Look at a queue again."""
        if queue.wake != at:
            queue.wake = at
            heapq.heappush(self.agenda, (at, _FREE, index))

    def _dispatch(self, queue: _Queue, now: float) -> None:
        """Issue from a queue what can be issued now."""
        ready, left, issuer = queue.ready, queue.left, queue.issuer
        while ready:
            index = ready[0]
            if issuer.free > now:
                self._wake(queue, issuer.free, index)
                return
            if left is not None and index != left[-1]:
                return  # the smallest that is ready is not the next of the program
            work = self.work[index]
            blocker, why = issuer.last, "engine"
            if work.port is not None:
                taken, user = self.cores[queue.core].ports.get(work.port, (0.0, 0))
                if taken > now:
                    self._wake(queue, taken, index)
                    return
                if taken == now:
                    blocker, why = user, "port"
            if work.cells:
                cells = self.cores[queue.core].cells
                taken = max([free for cell, free in enumerate(cells) if work.cells >> cell & 1])
                if taken > now:
                    self._wake(queue, taken, index)
                    return
            heapq.heappop(ready)
            if left is not None:
                if now + queue.rest > self.limit:
                    raise TooLate
                queue.rest -= self._at_least(work)
                left.pop()
            if now > self.ready_at[index] and blocker is not None:
                if why == "engine" and self.work[blocker].queue:
                    why = "issue"
                self.reason[index] = (blocker, why)
            issuer.last = index
            if queue.issued is None:
                self._execute(index, queue, work, now)
            else:
                self.issues[index] = Issue(now, *self.reason[index])
                issuer.free = now + work.issue
                heapq.heappush(self.agenda, (now + work.lead, _ISSUED, index))

    def _spread(self, lender: _Queue, now: float) -> None:
        """Let idle engines take what waits for a busy one, is left open and is done sooner by them."""
        ports = self.cores[lender.core].ports
        for other in lender.others:
            if other.issuer.free > now or other.ready:
                continue
            for index in sorted(lender.ready):
                work = self.work[index]
                mine = next((w for w in work.elsewhere if w.track == other.name), None)
                if self.visible_at.get(index, 0.0) > now:
                    continue  # Vector need not wait until its own results can be seen by others
                if mine is None or now + mine.busy + mine.latency > lender.issuer.free + work.busy + work.latency:
                    continue
                if mine.port is not None and ports.get(mine.port, (0.0, 0))[0] > now:
                    continue
                lender.ready.remove(index)
                heapq.heapify(lender.ready)
                self.work[index], self.queues[index] = mine, other
                other.issuer.last = index
                self._execute(index, other, mine, now)
                break

    def _execute(self, index: int, queue: _Queue, work: Work, now: float) -> None:
        core = self.cores[queue.core]
        busy = core.throttle.time(now, work.busy) if work.multiplies else work.busy
        queue.issuer.free = now + busy
        if work.cells:
            for cell in range(CELLS):
                if work.cells >> cell & 1:
                    core.cells[cell] = now + busy
            queue.issuer.free = now + min(busy, self.between_tiles)
        if work.port is not None:
            core.ports[work.port] = (now + busy, index)
        end = self._start(index, queue.core, queue.name, work, now, busy)
        # An engine works in order: what follows on it and does not need the result need not wait for its latency.
        # Nor does a matmul that adds to what the last one left in PSUM.
        free, adds = now + busy, queue.name == "tensor"
        queues, ready_at, missing = self.queues, self.ready_at, self.missing
        for successor, edge in self.successors[index]:
            at = end
            if queues[successor] is queue and (adds or edge != READ_AFTER_WRITE):
                at = free
                if self.work[successor].elsewhere:
                    self.visible_at[successor] = max(end, self.visible_at.get(successor, 0.0))
            if at > ready_at[successor]:
                ready_at[successor] = at
                self.reason[successor] = (index, edge)
            missing[successor] -= 1
            if missing[successor] == 0:
                heapq.heappush(self.agenda, (ready_at[successor], _READY, successor))

    def _move(self, core: _Core, now: float) -> None:
        """Give the transfers that have been issued their rings: one of each queue in turn, each queue in its order.

        A transfer begins on each of its rings when that is free. Its span is that of the ring that is free last.
        """
        queues, rings = core.transfers, core.rings
        waiting = [queue for queue in queues.values() if queue.issued]
        for queue in itertools.cycle(waiting):
            issued = queue.issued
            if not issued:
                if not any([each.issued for each in waiting]):
                    break
                continue
            index = issued[0]
            work = self.work[index]
            mine = work.rings
            each = rings[mine.start : mine.stop]
            free = min(each)
            if free > now:
                self._wake(queue, free, index)
                break
            issued.popleft()
            queues[queue.name] = queues.pop(queue.name)  # it is the last in line now
            start = max(each)
            if start > now or free == now:  # which are never free so late but after another transfer
                self.reason[index] = (core.last_moved, "rings")
            core.last_moved = index
            if start <= now:
                rings[mine.start : mine.stop] = [now + work.busy] * len(mine)
            else:
                rings[mine.start : mine.stop] = [(ring if ring > now else now) + work.busy for ring in each]
            self._transfer(index, queue, work, max(start, now))

    def _transfer(self, index: int, queue: _Queue, work: Work, now: float) -> None:
        """A transfer begins to occupy its rings."""
        end = self._start(index, queue.core, "dma", work, now, work.busy)
        ready_at, missing = self.ready_at, self.missing
        for successor, edge in self.successors[index]:
            if end > ready_at[successor]:
                ready_at[successor] = end
                self.reason[successor] = (index, edge)
            missing[successor] -= 1
            if missing[successor] == 0:
                heapq.heappush(self.agenda, (ready_at[successor], _READY, successor))

    def _start(self, index: int, core: int, name: str, work: Work, now: float, busy: float) -> float:
        """An event begins to occupy its engine or rings; from now on its times are known. Returns when it ends."""
        end = now + busy + work.latency
        after, why = self.reason[index]
        issue = self.issues.pop(index, None)
        self.spans[index] = Span(index, core, name, now, busy, end, after, why, len(work.rings), issue)
        tenants = self.room.of_event[index]
        for tenant in tenants:
            tenant.uses -= 1
            if (end, index) > tenant.until:
                tenant.until = end, index
            if tenant.uses == 0:
                until, last = tenant.until
                self.leaving.setdefault(last, []).append(tenant)
                heapq.heappush(self.agenda, (until, _LEAVE, last))
        if self.lenders:  # an idle engine looks for work whenever anything ends
            heapq.heappush(self.agenda, (now + busy, _FREE, index))
            if tenants:
                heapq.heappush(self.agenda, (end, _FREE, index))
        return end
