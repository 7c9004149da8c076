"""A program as arrays, on which the clock that is compiled (simulator/compiled/clock.c) lets time pass.

Each array has the rows of one struct in C, in which a number of a row stands for a pointer and -1 for none. What is
left out here C writes before it reads it. The clock in Python is the one to read, and what runs without a compiler.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from triptych.simulator.built import built
from triptych.simulator.chip.record import Chip
from triptych.simulator.timing.clock import Clock, TooLate
from triptych.simulator.timing.links import coded, numbered
from triptych.simulator.timing.program import Program
from triptych.simulator.timing.throttle import Throttle
from triptych.simulator.timing.timeline import Issue, Span
from triptych.simulator.timing.work import CELLS, PORTS

Rows = NDArray[Any]
CLOCK: Any = built("clock")
WALKS: Any = built("walks")
OTHERS = 2  # engines that may take what Vector leaves open, at most
WHYS = ("data", "start", "engine", "issue", "port", "rings", "room", "overwrite", "order", "meeting")
_CODES = {why: code for code, why in enumerate(WHYS)}
_DONE, _TOO_LATE = 0, 1  # how a run ends
_span: Any = partial(tuple.__new__, Span)  # `Span._make`, without a call of Python's
_issue: Any = partial(tuple.__new__, Issue)


def _struct(doubles: str, integers: str, **sizes: int) -> np.dtype[Any]:
    """A struct of these fields; those with a size are arrays."""
    fields = [(name, np.double) for name in doubles.split()] + [(name, np.intc) for name in integers.split()]
    return np.dtype([(name, kind, sizes.get(name, ())) for name, kind in fields], align=True)


ASK = _struct("busy latency issue lead least", "queue first behind port cells multiplies elsewhere", elsewhere=OTHERS)
QUEUE = _struct(
    "rest wake",
    "core issuer moves adds keeps_order next first_issued last_issued turn others is_touched",
    others=OTHERS,
)
ISSUER = _struct("free", "last")
CORE = _struct(
    "ends used seen port_free cells",
    "port_user last_moved turn is_warm has_begun",
    port_free=len(PORTS),
    cells=CELLS,
    port_user=len(PORTS),
)
TENANT = _struct("end size", "memory uses until touches next")
MEMORY = _struct("free", "held first last")  # bytes as doubles, which hold any size
WAIT = _struct("", "producer event why next")
TOUCH = _struct("", "tenant event next next_of_tenant")
EVENT = _struct(
    "ready_at visible_at start busy end issued_at",
    "ask queue missing waits touches leaving next_issued next_in_queue after why issued_after issued_why has_run",
)
TIMES = _struct("launch between_tiles limit window cold hot warms cools", "")


class Run(NamedTuple):
    """How a program ran in one order."""

    end_ns: float  # of the last event
    spans: Callable[[], list[Span]]  # which are made for the run that is taken
    plan: Callable[[], tuple[Rows, Rows]]  # the events as they were issued or began, and what each asked for


class Runs:
    """Runs of one program in different orders, compiled where they can be."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.asked = np.array(program.asked, np.intc)
        self.producers, self.waiting = numbered(program.waits, WALKS)
        if CLOCK is None:
            return
        self.asks = _asks(program)
        self.whys = coded(program.waits, _CODES, WALKS)
        self.tenants, self.touching = numbered(program.tenants.of_event, WALKS)

    def on(self, chip: Chip) -> Runs:
        """Runs of the same program on another chip."""
        other = copy(self)
        other.program = self.program._replace(trace=replace(self.program.trace, chip=chip))
        return other

    def asking(self, asked: Rows) -> Runs:
        """Runs of the same events where they ask for the same of other engines."""
        other = copy(self)
        other.asked = asked
        return other

    def run(self, order: Rows, in_order: bool, limit: float = math.inf) -> Run:
        """What `Clock(program, order, in_order, limit).run()` gives or raises."""
        program = self.program
        if CLOCK is None or not len(order):
            return self._in_python(order, in_order, limit)
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        events = _rows(EVENT, order, ask=self.asked[order], ready_at=program.launch, why=_CODES["start"])
        for name in ("waits", "touches", "leaving", "next_issued", "next_in_queue", "after"):
            events[name] = -1
        outcome = CLOCK.run(
            self.asks,
            self._queues(order, in_order),
            _rows(ISSUER, program.issuers, free=program.issuers, last=-1),
            _rows(CORE, range(program.cores), cells=program.launch, last_moved=-1, turn=len(program.lines)),
            *_memory(program),
            _rows(WAIT, self.whys, producer=place[self.producers], event=place[self.waiting], why=self.whys),
            self._touches(place),
            events,
            _times(program, limit),
            np.zeros(program.cores * int(program.trace.chip.dma_rings.value)),
            in_order,
        )
        if outcome == _TOO_LATE:
            raise TooLate
        if outcome != _DONE:
            return self._in_python(order, in_order, limit)  # which says what waits for room
        end = float(events["end"].max())
        return Run(end, lambda: _spans(program, events, place, order), lambda: _plan(program, events, place))

    def _in_python(self, order: Rows, in_order: bool, limit: float) -> Run:
        clock = Clock(self.program._replace(asked=self.asked.tolist()), order.tolist(), in_order, limit)
        spans = clock.run()

        def plan() -> tuple[Rows, Rows]:
            planned, asked = clock.plan()
            return np.array(planned, np.intc), np.array(asked, np.intc)

        return Run(max([span.end_ns for span in spans], default=0.0), lambda: spans, plan)

    def _touches(self, place: Rows) -> Rows:
        """Which tensors that need room each event touches, in the events' order."""
        events = place[self.touching]
        ordered = np.argsort(events, kind="stable")
        return _rows(TOUCH, events, tenant=self.tenants[ordered], event=events[ordered])

    def _queues(self, order: Rows, in_order: bool) -> Rows:
        lines, asks = self.program.lines, self.program.asks
        core, issuer, moves, adds = zip(*lines, strict=True)
        queues = _rows(
            QUEUE, lines, core=core, issuer=issuer, moves=moves, adds=adds, wake=-1.0, turn=range(len(lines))
        )
        for name in ("next", "first_issued", "others"):
            queues[name] = -1
        if not in_order and any([ask.elsewhere for ask in asks]):
            for asked in dict.fromkeys(self.asked[order].tolist()):
                others = queues["others"][asks[asked].queue]
                for other in asks[asked].elsewhere:
                    if asks[other].queue not in others:
                        others[others.argmin()] = asks[other].queue
        return queues


def _rows(struct: np.dtype[Any], of: Sequence[Any] | Rows, **fields: Any) -> Rows:
    """A row for each, with these values."""
    rows = np.zeros(len(of), struct)
    for name, values in fields.items():
        rows[name] = values
    return rows


def _asks(program: Program) -> Rows:
    none = (-1,) * OTHERS
    return np.array([(*ask[:-1], (*ask.elsewhere, *none)[:OTHERS]) for ask in program.asks], ASK)


def _memory(program: Program) -> tuple[Rows, Rows]:
    """Tensors that need room, and memories."""
    _, sizes, memories, _, capacities = program.tenants
    return (
        _rows(TENANT, sizes, size=sizes, memory=memories, touches=-1, next=-1),
        _rows(MEMORY, capacities, free=capacities, first=-1),
    )


def _times(program: Program, limit: float) -> Rows:
    t = Throttle(program.trace.chip)
    times = program.launch, program.between_tiles, limit, t.window, t.cold, t.hot, t.warms, t.cools
    return np.array(times, TIMES)


def _plan(program: Program, events: Rows, place: Rows) -> tuple[Rows, Rows]:
    """What `Clock.plan` gives. The row of each event stands at its place."""
    moves = np.array([line.moves for line in program.lines])[events["queue"]]
    begun = np.where(moves, events["issued_at"], events["start"])[place]
    return begun.argsort(kind="stable"), events["ask"][place]


def _spans(program: Program, events: Rows, place: Rows, numbers: Rows) -> list[Span]:
    """The spans of events. The row of each stands at its place, and names others by their places in `numbers`."""
    n = len(events)
    known, whys, behind = np.array([*range(n), None], object), np.array(WHYS, object), np.append(numbers, -1)
    start, busy, end = (events[name][place].tolist() for name in ("start", "busy", "end"))
    after, why = known[behind[events["after"][place]]].tolist(), whys[events["why"][place]].tolist()
    labels, asked = zip(*program.labels, strict=True), events["ask"][place]
    core, track, rings = (np.array(column, object)[asked].tolist() for column in labels)
    issues: list[Issue | None] = [None] * n
    moves = np.flatnonzero(np.array([line.moves for line in program.lines])[events["queue"][place]])
    at, by, because = (events[name][place[moves]] for name in ("issued_at", "issued_after", "issued_why"))
    issued = map(_issue, zip(at.tolist(), known[behind[by]].tolist(), whys[because].tolist(), strict=True))
    for index, issue in zip(moves.tolist(), issued, strict=True):
        issues[index] = issue
    return list(map(_span, zip(range(n), core, track, start, busy, end, after, why, rings, issues, strict=True)))
