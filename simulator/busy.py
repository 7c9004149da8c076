"""A lower bound of a kernel's time: how long its busiest engine is busy, if all engines overlapped perfectly.

    predicted_us = max over engines of the sum of their instructions' costs

It knows no dependencies, no queues and no fixed overheads, so a real run is slower. It has not been validated against
devices; it tells which engine a kernel leans on.
"""

from __future__ import annotations

from typing import Any

from triptych.simulator.instructions import row_of
from triptych.simulator.trace import Trace


def engine_bound_us(trace: Trace) -> dict[str, Any]:
    """{"predicted_us", "bound_by", "busy_us": {engine: us}} of a trace; per core, the slowest core counts."""
    busy: dict[tuple[int, str], float] = {}
    for event in trace.events:
        key = (event.core, event.engine)
        busy[key] = busy.get(key, 0.0) + row_of(event.op).cost(event, trace.chip) / 1e3
    if not busy:
        return {"predicted_us": 0.0, "bound_by": None, "busy_us": {}}
    (core, bound_by), longest = max(busy.items(), key=lambda item: item[1])
    return {
        "predicted_us": longest,
        "bound_by": bound_by,
        "busy_us": {engine: us for (c, engine), us in sorted(busy.items()) if c == core},
    }
