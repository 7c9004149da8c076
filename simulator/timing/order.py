"""The order in which a compiler's scheduler puts a program: each load stands before the first event that needs it.

A program may load all its operands before it computes. The scheduler of AWS's compiler does not leave it at that: of
nki-autotune's matmuls, compiled with it, three load both operands, 16 MiB in 320 transfers, before the first product,
and take as long as if each had been issued in the order of need.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from triptych.simulator.timing.links import Numbers
from triptych.simulator.trace import Event

_LOADS = ("dma_copy", "dma_transpose")


def are_loads(events: Sequence[Event]) -> NDArray[np.bool_]:
    """Which of these may be moved."""
    return np.array([event.op in _LOADS for event in events], bool)


def by_need(loads: NDArray[np.bool_], producers: Numbers, waiting: Numbers) -> Numbers:
    """The indices of the events in that order: a transfer just before the first event that waits for it.

    loads: which events are transfers
    producers, waiting: what is waited for, and beside it the event that waits, the first of all first

    Whatever its edges say stands behind what it waits for, and everything else stays where it is: what a transfer is
    moved past neither waits for it nor does it wait for what it is moved past. A transfer that nothing waits for, as a
    last store, stays.
    """
    n = len(loads)
    of_load = loads[producers]
    producers, waiting = producers[of_load], waiting[of_load]
    moved = loads[waiting]
    first = np.full(n, n)  # the place of the first that waits for each load
    first[producers[~moved][::-1]] = waiting[~moved][::-1]  # the one that is written last stays
    for producer, load in zip(producers[moved][::-1].tolist(), waiting[moved][::-1].tolist(), strict=True):
        first[producer] = min(first[producer], first[load] if first[load] < n else load)
    keys = np.arange(1, 2 * n, 2)
    needed = first < n
    keys[needed] = 2 * first[needed]
    return keys.argsort(kind="stable")
