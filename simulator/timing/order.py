"""The order in which a compiler's scheduler puts a program: each load stands before the first event that needs it.

A program may load all its operands before it computes. The scheduler of AWS's compiler does not leave it at that: of
nki-autotune's matmuls, compiled with it, three load both operands, 16 MiB in 320 transfers, before the first product,
and take as long as if each had been issued in the order of need.
"""

from __future__ import annotations

from dataclasses import replace

from triptych.simulator.analysis.hazards import Edges
from triptych.simulator.timing.work import Work
from triptych.simulator.trace import Trace

_LOADS = ("dma_copy", "dma_transpose")


def by_need(trace: Trace, edges: list[Edges]) -> list[int]:
    """The indices of the events in that order: a transfer just before the first event that waits for it.

    Whatever its edges say stands behind what it waits for, and everything else stays where it is: what a transfer is
    moved past neither waits for it nor does it wait for what it is moved past. A transfer that nothing waits for, as a
    last store, stays.
    """
    events = trace.events
    n = len(events)
    first = [n] * n  # the place of the first that waits for each
    moved = []
    for index in range(n - 1, -1, -1):
        place = index
        if first[index] < n and events[index].op in _LOADS:
            place = first[index]
            moved.append((place, index))
        for producer in edges[index]:
            first[producer] = min(first[producer], place)
    away = {index for _, index in moved}
    moved.sort(reverse=True)
    order = []
    for index in range(n):
        while moved and moved[-1][0] == index:
            order.append(moved.pop()[1])
        if index not in away:
            order.append(index)
    return order


def arranged(
    trace: Trace, work: list[Work], edges: list[Edges], order: list[int]
) -> tuple[Trace, list[Work], list[Edges]]:
    """A trace with its work and edges in another order."""
    place = [0] * len(order)
    for new, old in enumerate(order):
        place[old] = new
    return (
        replace(trace, events=[trace.events[old] for old in order]),
        [work[old] for old in order],
        [{place[producer]: why for producer, why in edges[old].items()} for old in order],
    )
