"""A loop whose rounds are all alike: some are scheduled, the others take as long as those.

A trace of tens of millions of events is mostly one loop. Its rounds are alike if their events have the same forms, wait
for the same events of this round and the one before, or for the same ones of long ago, and use tensors that came as
many events before. All of that is compared, for every event. Such a loop is scheduled with as many rounds as fill the
memories, for as far loads run ahead, with twice, four times and eight times as many, until the total no longer depends
on how many there were; the rounds that were left out are then put into the timeline, each so much later than the one
before. What is not steady, or hardly shorter so, is scheduled whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from triptych.simulator.analysis.capacity import capacity_of, partition_bytes
from triptych.simulator.analysis.hazards import waits
from triptych.simulator.built import built
from triptych.simulator.timing.forms import forms
from triptych.simulator.timing.timeline import Issue, LeftOut, Span
from triptych.simulator.trace import Allocation, Event, Region, Trace

WALKS: Any = built("walks")
FIRST, STEADY = 2, 1e-3  # rounds of the first schedule at least; share by which the total may change in the end
_WINDOW = 8  # events by which places in the trace are compared, where periods are looked for
_PERIODS = 32  # that are tried
_Numbers = NDArray[Any]


class Loop(NamedTuple):
    """Rounds of `period` events each, from the event `start` on."""

    start: int
    period: int
    rounds: int


def extrapolated(trace: Trace, spans_of: Callable[[Trace], list[Span]]) -> tuple[list[Span], LeftOut] | None:
    """The spans of all events from schedules of few rounds; None if no loop is steady or long enough for that."""
    loop = steady_loop(trace)
    if loop is None:
        return None
    firsts = _first_uses(trace)
    totals: list[float] = []
    rounds = _filling(trace, loop, firsts)
    while rounds <= loop.rounds // 2:
        spans = spans_of(shortened(trace, loop, rounds, firsts))
        totals.append(max([span.end_ns for span in spans]))
        if len(totals) > 2:
            each, before = (totals[-1] - totals[-2]) / (rounds // 2), (totals[-2] - totals[-3]) / (rounds // 4)
            left = loop.rounds - rounds
            error = abs(each - before) * left / (totals[-1] + left * each)
            if error <= STEADY:
                return _with_rounds(spans, loop, rounds, each), LeftOut(left, loop.rounds, loop.period, error)
        rounds *= 2
    return None


def steady_loop(trace: Trace) -> Loop | None:
    """The loop that holds most events, from the last round on that is not like the one before; None without a loop."""
    if any(["after" in e.attributes or "registers" in e.attributes for e in trace.events]):
        return None  # what a kernel orders itself names single events
    found = _repeated(np.fromiter(forms(trace, WALKS).of_event, np.int64, len(trace.events)))
    if found is None:
        return None
    start, period, rounds = found
    end = start + period * rounds
    signs = np.fromiter(_signs(trace, 2 * period), np.int64, len(trace.events))
    others = np.flatnonzero(signs[start : end - period] != signs[start + period : end])
    first = int(others[-1]) // period + 1 if len(others) else 0  # rounds that are not yet like the next
    return Loop(start + first * period, period, rounds - first)


def _repeated(numbers: _Numbers) -> Loop | None:
    """The stretch of equal rounds in which most would be left out."""
    n = len(numbers) - _WINDOW + 1
    if n < 2:
        return None
    windows = np.zeros(n, np.int64)
    for i in range(_WINDOW):
        windows = windows * 6364136223846793005 ^ numbers[i : i + n]
    order = np.argsort(windows, kind="stable")
    again = windows[order[1:]] == windows[order[:-1]]
    distances, counts = np.unique((order[1:] - order[:-1])[again], return_counts=True)
    best, most = None, 0
    for period in distances[np.argsort(-distances * counts, kind="stable")][:_PERIODS].tolist():
        breaks = np.flatnonzero(numbers[:-period] != numbers[period:])
        bounds = np.concatenate([[-1], breaks, [len(numbers) - period]])
        longest = int(np.argmax(np.diff(bounds)))
        loop = Loop(int(bounds[longest]) + 1, period, int(bounds[longest + 1] - bounds[longest] - 1) // period + 1)
        saved = (loop.rounds - 4 * FIRST) * period
        if saved > most:
            best, most = loop, saved
    return best


def _signs(trace: Trace, near: int) -> Iterator[int]:
    """For each event what it waits for and when its tensors were first used.

    Up to `near` events ago it is counted back from the event, below zero; what lies further back is the same place of
    the trace for every round, or the loop is not steady.
    """
    first: dict[int, int] = {}
    for index, (event, edges) in enumerate(zip(trace.events, chain.from_iterable(waits(trace, WALKS)), strict=True)):
        sign = frozenset([(at if index - at > near else at - index, why) for at, why in edges.items()])
        uses = [first.setdefault(region[0][0], index) for region in event.reads + event.writes]
        yield hash((sign, tuple([at if index - at > near else at - index for at in uses])))


_Uses = dict[int, tuple[int, int]]  # of an allocation: the event that uses it first, and as which of its operands


def _first_uses(trace: Trace) -> _Uses:
    """Where each tensor is first used."""
    found: _Uses = {}
    for index, event in enumerate(trace.events):
        for number, region in enumerate(event.reads + event.writes):
            found.setdefault(region[0][0], (index, number))
    return found


def _filling(trace: Trace, loop: Loop, firsts: _Uses) -> int:
    """How many rounds fill each memory in which a round allocates tensors."""
    sizes: dict[str, int] = {}
    for event in trace.events[loop.start : loop.start + loop.period]:
        for allocation in {region.allocation for region in event.reads + event.writes}:
            index, _ = firsts[allocation.id]
            if trace.events[index] is event and allocation.buffer in ("sbuf", "psum"):
                size = partition_bytes(allocation, trace.chip)
                sizes[allocation.buffer] = sizes.get(allocation.buffer, 0) + size
    return max([FIRST, *(-(-capacity_of(trace.chip, buffer) // size) for buffer, size in sizes.items())])


def shortened(trace: Trace, loop: Loop, rounds: int, firsts: _Uses) -> Trace:
    """The trace with so many rounds of the loop. What comes after it uses the tensors of the last that is left."""
    events, (start, period, _) = trace.events, loop
    kept, end = start + period * rounds, start + period * loop.rounds

    def in_time(allocation: Allocation) -> Allocation:
        index, number = firsts[allocation.id]
        if not kept <= index < end:
            return allocation
        event = events[index - (end - kept)]
        return (event.reads + event.writes)[number].allocation

    def moved(region: Region) -> Region:
        return region.of(in_time(region.allocation))

    def follows(event: Event) -> Event:
        reads, writes = (tuple([moved(region) for region in some]) for some in (event.reads, event.writes))
        return Event(event.op, event.engine, reads, writes, event.line, event.core, event.name, event.attributes)

    return replace(trace, events=events[:kept] + [follows(event) for event in events[end:]])


def _with_rounds(spans: list[Span], loop: Loop, rounds: int, each: float) -> list[Span]:
    """The spans of all rounds from those of some: the others like that in the middle, each so much later."""
    start, period, _ = loop
    left = loop.rounds - rounds
    middle = start + period * (rounds // 2)

    def moved(after: int | None, by: int) -> int | None:
        return after if after is None or after < start else after + by * period

    def later(span: Span, by: int) -> Span:
        issue = span.issue and Issue(span.issue.at_ns + by * each, moved(span.issue.after, by), span.issue.why)
        return span._replace(index=span.index + by * period, start_ns=span.start_ns + by * each,
                             end_ns=span.end_ns + by * each, after=moved(span.after, by), issue=issue)  # fmt: skip

    like = spans[middle - period : middle]
    inserted = [later(span, by) for by in range(1, left + 1) for span in like]
    return spans[:middle] + inserted + [later(span, left) for span in spans[middle:]]
