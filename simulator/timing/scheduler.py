"""From a trace to a timeline, by simulating the chip event by event.

Every engine issues one instruction at a time from its queue; queues issue DMA, each in the program's order, and rings
move its descriptors, taking the queues in turn. An event starts when what it waits for is there (hazards), its tensors
have room on chip (room), its port is free, and its track is.

    program      each queue runs in the program's order
    overlapped   each runs in the order that a compiler would plan. Loads stand in the order in which they are needed,
                 and each engine takes, of the events that are ready, the one that comes first: what a list scheduler
                 reaches that looks as far ahead as the memories have room. It plans with the whole clock of the Tensor
                 Engine, because nobody knows before it runs when the clock is halved; then an engine can only run its
                 stream of instructions as it stands (nki/guides/architecture/trainium_inferentia2_arch.rst). A
                 compiler that schedules better or worse than greedily will differ

A trace of more than ten million events is not scheduled whole if most of it is a steady loop (steady).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from triptych.simulator.analysis.hazards import READ_AFTER_WRITE, Edges, hazards
from triptych.simulator.built import built
from triptych.simulator.collector import without_collector
from triptych.simulator.errors import KernelError
from triptych.simulator.timing.arrays import Run, Runs
from triptych.simulator.timing.clock import TooLate
from triptych.simulator.timing.order import are_loads, by_need
from triptych.simulator.timing.program import program_of
from triptych.simulator.timing.room import tenants_of
from triptych.simulator.timing.steady import extrapolated
from triptych.simulator.timing.timeline import Timeline
from triptych.simulator.timing.work import loads_of, works_of
from triptych.simulator.trace import Event, Trace

WALKS: Any = built("walks")
ORDERS = ("overlapped", "program")
WHOLE = 10_000_000  # events that are always scheduled whole
WORTH_TRYING = 1.05  # times what the busiest track needs, above which the program's order is tried too
ROUNDING = 1e-9  # share by which sums of times may be off


def schedule(trace: Trace, order: str = "overlapped", whole: int = WHOLE) -> Timeline:
    """The timeline of a trace.

    whole: from more events on, not all rounds of a steady loop are scheduled

    Raises KernelError for an order that does not exist, and where an event waits for room that is never free.
    """
    check_order(order)
    make = _overlapped if order == "overlapped" else _as_written

    def run(trace: Trace) -> Run:
        edges, works = hazards(trace, WALKS), works_of(trace, WALKS)
        if len({event.core for event in works.first}) > 1:
            _join_meetings(trace.events, edges)
        if "core_barrier" in {event.op for event in works.first}:
            _read_after_barriers(trace.events, edges)
        return make(Runs(program_of(trace, works, edges, tenants_of(trace, WALKS))))

    with without_collector():
        found = extrapolated(trace, lambda shorter: run(shorter).spans()) if len(trace.events) > whole else None
        if found is None:
            ran = run(trace)
            end, spans, left_out = ran.end_ns, ran.spans(), None
        else:
            spans, left_out = found
            end = max([span.end_ns for span in spans])
    return Timeline(trace, order, spans, max(trace.chip.launch_ns.value, end) + trace.chip.teardown_ns.value, left_out)


def _overlapped(runs: Runs) -> Run:
    """Each engine in the order in which it would take its instructions if the Tensor Engine had its whole clock."""
    chip = runs.program.trace.chip
    whole = replace(chip, warm_up_ns=replace(chip.warm_up_ns, value=0))
    planned, asked = _planned(runs.on(whole)).plan()
    return runs.asking(asked).run(planned, in_order=True)


def _planned(runs: Runs) -> Run:
    """The sooner of a list scheduler's and the program's: who takes what is ready first can lose by it.

    The program's is not tried where it could not end more than a twentieth sooner, because a track is busy as long. A
    program that fits on chip in one of these orders alone runs in that; one that does in none raises KernelError.
    """
    program = runs.program
    least = program.launch + max(loads_of(program.trace.chip, program.works).values(), default=0.0)
    found: list[Run] = []
    stuck: list[KernelError] = []
    for make in (_by_need, _by_readiness):
        if not found:  # loads fit in order of need
            try:
                found.append(make(runs))
            except KernelError as error:
                stuck.append(error)
    soonest = min([run.end_ns for run in found], default=math.inf)
    if soonest > WORTH_TRYING * least:
        try:
            found.append(_as_written(runs, soonest * (1 + ROUNDING)))
        except TooLate:
            pass
        except KernelError as error:
            stuck.append(error)
    if not found:
        raise stuck[0]
    return min(found, key=lambda run: run.end_ns)


def _as_written(runs: Runs, limit: float = math.inf) -> Run:
    return runs.run(np.arange(len(runs.asked)), in_order=True, limit=limit)


def _by_readiness(runs: Runs) -> Run:
    return runs.run(np.arange(len(runs.asked)), in_order=False)


def _by_need(runs: Runs) -> Run:
    """With loads in order of need."""
    loads = are_loads(runs.program.works.first)[runs.asked]
    return runs.run(by_need(loads, runs.producers, runs.waiting), in_order=False)


def check_order(order: str) -> None:
    """Raise KernelError for an order that does not exist."""
    if order not in ORDERS:
        raise KernelError(f"order {order!r} is unknown; expected one of {', '.join(ORDERS)}")


def _join_meetings(events: list[Event], edges: list[Edges]) -> None:
    """Barriers and exchanges of two cores wait for what their partner waits for, and for its queue."""
    met: dict[tuple[str, object], tuple[list[int], list[int]]] = {}
    last: dict[tuple[int, str], int] = {}
    before: dict[int, int] = {}
    for index, event in enumerate(events):
        if event.op == "core_barrier" or "pipe" in event.attributes:
            met.setdefault((event.op, event.attributes.get("pipe")), ([], []))[event.core].append(index)
            if (event.core, event.engine) in last:
                before[index] = last[event.core, event.engine]
        last[event.core, event.engine] = index
    for pair in met.values():
        for a, b in zip(*pair, strict=False):
            waits = {*edges[a], *edges[b], *[before[i] for i in (a, b) if i in before]}
            for each in (a, b):
                edges[each].update({p: "meeting" for p in waits - edges[each].keys() if p < min(a, b)})


def _read_after_barriers(events: list[Event], edges: list[Edges]) -> None:
    """What reads the data of a barrier behind it waits for its end, as what overwrites them does: it reads them."""
    last: dict[tuple[int, int], int] = {}  # by core and tensor
    for index, event in enumerate(events):
        for region in event.reads if last else ():
            barrier = last.get((event.core, region.allocation.id))
            if barrier is not None:
                edges[index].setdefault(barrier, READ_AFTER_WRITE)
        if event.op == "core_barrier":
            last.update({(event.core, region.allocation.id): index for region in event.reads})
