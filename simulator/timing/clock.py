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
import math
import operator
from collections import deque
from collections.abc import Sequence

from triptych.simulator.analysis.hazards import READ_AFTER_WRITE
from triptych.simulator.errors import KernelError
from triptych.simulator.timing.program import Ask, Line, Program
from triptych.simulator.timing.room import Memory, Tenant, room_for
from triptych.simulator.timing.throttle import Throttle
from triptych.simulator.timing.timeline import Issue, Span
from triptych.simulator.timing.work import CELLS, PORTS

_LEAVE, _ISSUED, _READY, _FREE = range(4)
_BY_NUMBER = operator.attrgetter("number")  # the order of queues at one moment


class _Issuer:
    """An engine that runs its instructions, or triggers the transfers of some queues."""

    __slots__ = ("free", "last")

    def __init__(self, free: float) -> None:
        self.free = free  # when it can issue the next
        self.last: int | None = None  # that it issued


class _Queue:
    """What one engine has to run, or what is issued as DMA in one order."""

    __slots__ = ("adds", "core", "issuer", "issued", "left", "number", "others", "ready", "rest", "touched", "wake")

    def __init__(self, number: int, line: Line, core: _Core, issuer: _Issuer) -> None:
        self.number, self.core, self.issuer, self.adds = number, core, issuer, line.adds
        self.ready: list[int] = []  # a heap: what can be issued
        self.issued: deque[int] | None = deque() if line.moves else None  # waits for rings
        self.left: list[int] | None = None  # of a queue that keeps the program's order: what is left, last first
        self.rest = 0.0  # how long that keeps the issuer at least
        self.others: list[_Queue] = []  # of Vector's: engines that may take what is left open
        self.touched = False  # by what happens at this moment
        self.wake: float | None = None  # when it was last asked to be looked at again


class _Core:
    """What the queues of a core share."""

    def __init__(self, program: Program) -> None:
        chip = program.trace.chip
        self.rings = [0.0] * int(chip.dma_rings.value)  # when each is free
        self.transfers: dict[int, _Queue] = {}  # queues of DMA by number, the next in turn first
        self.last_moved: int | None = None
        self.ports = [(0.0, 0)] * len(PORTS)  # when each is free, and who has it until then; the first stands for none
        self.cells = [program.launch] * CELLS  # when each is free
        self.throttle = Throttle(chip)


class TooLate(Exception):
    """A program in its own order cannot end by the time that was given."""


class Clock:
    """The state of the chip at one moment. Events go by their place in the order that is given."""

    def __init__(
        self,
        program: Program,
        order: Sequence[int],  # the events' numbers, as they shall stand
        in_order: bool,
        limit: float = math.inf,  # ns, by which a run in order has to end
    ) -> None:
        n = len(order)
        self.program, self.order, self.limit = program, order, limit
        self.asks, self.launch, self.between_tiles = program.asks, program.launch, program.between_tiles
        self.asked = [program.asked[event] for event in order]
        self.room = room_for(program.tenants, order)
        self.spans: list[Span | None] = [None] * n  # by the events' numbers
        self.missing = [len(tenants) for tenants in self.room.of_event]
        self.ready_at = [self.launch] * n
        self.reason: list[tuple[int | None, str]] = [(None, "start")] * n
        self.issues: dict[int, Issue] = {}  # of transfers that have not begun to move
        self.successors: list[list[tuple[int, str]]] = [[] for _ in range(n)]
        self.agenda: list[tuple[float, int, int]] = []  # (time, what happens, event)
        self.leaving: dict[int, list[Tenant]] = {}  # whose last use is that of an event
        self.visible_at: dict[int, float] = {}  # when other engines than Vector see what an event waits for
        self._link()
        self._set_up(in_order)

    def _link(self) -> None:
        """What waits for each event."""
        place = [0] * len(self.order)
        for index, event in enumerate(self.order):
            place[event] = index
        waits, successors, missing = self.program.waits, self.successors, self.missing
        for index, event in enumerate(self.order):
            for producer, why in waits[event].items():
                successors[place[producer]].append((index, why))
            missing[index] += len(waits[event])

    def _set_up(self, in_order: bool) -> None:
        """The queue of each event, and what is left of each that runs in program order."""
        program, asks = self.program, self.asks
        cores = [_Core(program) for _ in range(program.cores)]
        issuers = [_Issuer(free) for free in program.issuers]
        lines = [_Queue(i, line, cores[line.core], issuers[line.issuer]) for i, line in enumerate(program.lines)]
        self.queues = [lines[asks[asked].queue] for asked in self.asked]
        if not in_order and any([ask.elsewhere for ask in asks]):
            for asked, queue in zip(self.asked, self.queues, strict=True):
                for other in asks[asked].elsewhere:
                    its = lines[asks[other].queue]
                    if its not in queue.others:
                        queue.others.append(its)
        self.lenders = [queue for queue in lines if queue.others]
        for queue in lines:
            if queue.issued is not None:
                queue.core.transfers[queue.number] = queue
        for index in range(len(self.order) - 1, -1, -1):
            queue = self.queues[index]
            if in_order or queue.issued is not None:
                if queue.left is None:
                    queue.left = []
                queue.left.append(index)
                queue.rest += asks[self.asked[index]].least

    def run(self) -> list[Span]:
        """Let time pass until every event has run.

        Raises TooLate as soon as the last cannot end by the limit, and KernelError where some can never run.
        """
        for index, missing in enumerate(self.missing):
            if missing == 0:
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
            if len(touched) > 1:
                touched.sort(key=_BY_NUMBER)
            for queue in touched:
                queue.touched = False
                if queue.issued:
                    self._move(queue.core, now)
                self._dispatch(queue, now)
            for queue in self.lenders:
                if queue.ready and queue.issuer.free > now:
                    self._spread(queue, now)
        done = [span for span in self.spans if span is not None]
        if len(done) < len(self.spans):
            raise self._deadlock()
        return done

    def plan(self) -> tuple[list[int], list[int]]:
        """The events as they were issued or began, and what each asked for, when all have run."""
        spans = [span for span in self.spans if span is not None]
        begun = [span.issue.at_ns if span.issue else span.start_ns for span in spans]
        asked = dict(zip(self.order, self.asked, strict=True))
        return sorted(range(len(begun)), key=begun.__getitem__), [asked[event] for event in range(len(begun))]

    def _deadlock(self) -> KernelError:
        """What waits for room that never comes: tensors whose lives overlap need more than there is."""
        waiting = [index for index, event in enumerate(self.order) if self.spans[event] is None]
        event = self.program.trace.events[self.order[waiting[0]]]
        asked = [t for t in self.room.of_event[waiting[0]] if not t.placed]
        needs = " and ".join(f"{t.size} bytes a partition of {t.place[1]}" for t in asked)
        free = ", ".join(f"{m.free} of {place[1]} on core {place[0]}" for place, m in self.room.memories.items())
        return KernelError(
            f"{len(waiting)} of {len(self.spans)} instructions can never run, the first {event.label}: it needs "
            f"{needs}, and the tensors in use leave {free}; use fewer or smaller tensors at a time, or reuse them",
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
            ask = self.asks[self.asked[index]]
            blocker, why = issuer.last, "engine"
            taken, user = queue.core.ports[ask.port]
            if taken > now:
                self._wake(queue, taken, index)
                return
            if taken == now:
                blocker, why = user, "port"
            if ask.cells:
                taken = max([free for cell, free in enumerate(queue.core.cells) if ask.cells >> cell & 1])
                if taken > now:
                    self._wake(queue, taken, index)
                    return
            heapq.heappop(ready)
            if left is not None:
                if now + queue.rest > self.limit:
                    raise TooLate
                queue.rest -= ask.least
                left.pop()
            if now > self.ready_at[index] and blocker is not None:
                if why == "engine" and self.queues[blocker].issued is not None:
                    why = "issue"
                self.reason[index] = (blocker, why)
            issuer.last = index
            if queue.issued is None:
                self._execute(index, queue, ask, now)
            else:
                after, why = self.reason[index]
                self.issues[index] = Issue(now, after if after is None else self.order[after], why)
                issuer.free = now + ask.issue
                heapq.heappush(self.agenda, (now + ask.lead, _ISSUED, index))
                if self.lenders:  # Scalar can take what is left open as soon as it has issued its last
                    heapq.heappush(self.agenda, (issuer.free, _FREE, index))

    def _spread(self, lender: _Queue, now: float) -> None:
        """Let idle engines take what waits for a busy one, is left open and is done sooner by them."""
        ports, asks = lender.core.ports, self.asks
        for other in lender.others:
            if other.issuer.free > now or other.ready:
                continue
            for index in sorted(lender.ready):
                ask = asks[self.asked[index]]
                taken = next((number for number in ask.elsewhere if asks[number].queue == other.number), None)
                if taken is None or self.visible_at.get(index, 0.0) > now:
                    continue  # Vector need not wait until its own results can be seen by others
                mine = asks[taken]
                if now + mine.busy + mine.latency > lender.issuer.free + ask.busy + ask.latency:
                    continue
                if ports[mine.port][0] > now:
                    continue
                lender.ready.remove(index)
                heapq.heapify(lender.ready)
                self.asked[index], self.queues[index] = taken, other
                other.issuer.last = index
                self._execute(index, other, mine, now)
                break

    def _execute(self, index: int, queue: _Queue, ask: Ask, now: float) -> None:
        core = queue.core
        busy = core.throttle.time(now, ask.busy) if ask.multiplies else ask.busy
        queue.issuer.free = free = now + busy
        if ask.cells:
            for cell in range(CELLS):
                if ask.cells >> cell & 1:
                    core.cells[cell] = free
            queue.issuer.free = now + min(busy, self.between_tiles)
        if ask.port:
            core.ports[ask.port] = (free, index)
        end = self._start(index, ask, now, busy)
        # An engine works in order: what follows on it and does not need the result need not wait for its latency.
        # Nor does a matmul that adds to what the last one left in PSUM.
        adds, queues, ready_at, missing = queue.adds, self.queues, self.ready_at, self.missing
        for successor, edge in self.successors[index]:
            at = end
            if queues[successor] is queue and (adds or edge != READ_AFTER_WRITE):
                at = free
                if self.asks[self.asked[successor]].elsewhere:
                    self.visible_at[successor] = max(end, self.visible_at.get(successor, 0.0))
                    heapq.heappush(self.agenda, (end, _FREE, index))
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
        while True:
            queue = next((each for each in queues.values() if each.issued), None)
            if queue is None or not queue.issued:
                break
            index = queue.issued[0]
            ask = self.asks[self.asked[index]]
            each = rings[ask.first : ask.behind]
            free = min(each)
            if free > now:
                self._wake(queue, free, index)
                break
            queue.issued.popleft()
            queues[queue.number] = queues.pop(queue.number)  # it is the last in line now
            start = max(each)
            if start > now or free == now:  # which are never free so late but after another transfer
                self.reason[index] = (core.last_moved, "rings")
            core.last_moved = index
            if start <= now:
                rings[ask.first : ask.behind] = [now + ask.busy] * len(each)
            else:
                rings[ask.first : ask.behind] = [(ring if ring > now else now) + ask.busy for ring in each]
            self._transfer(index, ask, max(start, now))

    def _transfer(self, index: int, ask: Ask, now: float) -> None:
        """A transfer begins to occupy its rings."""
        end = self._start(index, ask, now, ask.busy)
        ready_at, missing = self.ready_at, self.missing
        for successor, edge in self.successors[index]:
            if end > ready_at[successor]:
                ready_at[successor] = end
                self.reason[successor] = (index, edge)
            missing[successor] -= 1
            if missing[successor] == 0:
                heapq.heappush(self.agenda, (ready_at[successor], _READY, successor))

    def _start(self, index: int, ask: Ask, now: float, busy: float) -> float:
        """An event begins to occupy its engine or rings; from now on its times are known. Returns when it ends."""
        end = now + busy + ask.latency
        after, why = self.reason[index]
        event, (core, track, rings) = self.order[index], self.program.labels[self.asked[index]]
        by = after if after is None else self.order[after]
        issue = self.issues.pop(index, None)
        self.spans[event] = Span(event, core, track, now, busy, end, by, why, rings, issue)
        for tenant in self.room.of_event[index]:
            tenant.uses -= 1
            if (end, index) > tenant.until:
                tenant.until = end, index
            if tenant.uses == 0:
                until, last = tenant.until
                self.leaving.setdefault(last, []).append(tenant)
                heapq.heappush(self.agenda, (until, _LEAVE, last))
        if self.lenders:  # an idle engine looks for work whenever anything ends
            heapq.heappush(self.agenda, (now + busy, _FREE, index))
        return end
