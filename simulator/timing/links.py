"""What events wait for and touch, as arrays: all numbers one behind the other, and beside each the event's."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triptych.simulator.analysis.hazards import Edges

Numbers = NDArray[Any]


def numbered(of_events: Sequence[Collection[int]], compiled: Any = None) -> tuple[Numbers, Numbers]:
    """All numbers that events have, and beside each the event's.

    compiled: simulator/compiled/walks.c, or None where it is not built
    """
    if compiled is not None:
        numbers, events = compiled.numbered(of_events)
        return np.frombuffer(numbers, np.intc), np.frombuffer(events, np.intc)
    counts = np.fromiter(map(len, of_events), np.intc, len(of_events))
    numbers = np.fromiter(chain.from_iterable(of_events), np.intc, counts.sum())
    return numbers, np.repeat(np.arange(len(counts), dtype=np.intc), counts)


def coded(waits: Sequence[Edges], codes: Mapping[str, int], compiled: Any = None) -> Numbers:
    """The codes of all reasons to wait, in the order of `numbered`.

    compiled: simulator/compiled/walks.c, or None where it is not built
    """
    if compiled is not None:
        return np.frombuffer(compiled.coded(waits, codes), np.intc)
    return np.array([codes[why] for edges in waits for why in edges.values()], np.intc)
