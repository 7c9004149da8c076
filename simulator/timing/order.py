"""The order in which a compiler's scheduler puts a program: each load stands before the first event that needs it.

A program may load all its operands before it computes. The scheduler of AWS's compiler does not leave it at that: of
nki-autotune's matmuls, compiled with it, three load both operands, 16 MiB in 320 transfers, before the first product,
and take as long as if each had been issued in the order of need.
"""

from __future__ import annotations

from triptych.simulator.analysis.hazards import Edges
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
    keys = list(range(1, 2 * n, 2))
    for index in range(n - 1, -1, -1):
        place = first[index]
        if place < n and events[index].op in _LOADS:
            keys[index] = 2 * place
        else:
            place = index
        for producer in edges[index]:
            if place < first[producer]:
                first[producer] = place
    return sorted(range(n), key=keys.__getitem__)
