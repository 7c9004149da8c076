"""What the script of a profile's page draws: columns of numbers, and the strings that they stand for."""

from __future__ import annotations

import linecache
import statistics
from collections.abc import Sequence
from typing import Any

from triptych.harness.profiling.lanes import interval, lanes, operands
from triptych.harness.profiling.numbers import location
from triptych.harness.profiling.waits import WAITS
from triptych.simulator.timing import Prediction, Timeline
from triptych.simulator.timing.reading.occupancy import occupancy
from triptych.simulator.timing.timeline import Issue

EVENT_PIXELS = 8  # how wide the median event is when the page opens


class Strings:
    """Strings by number, each kept once."""

    def __init__(self) -> None:
        self.numbers: dict[Any, int] = {}

    def number(self, value: Any) -> int:
        return self.numbers.setdefault(value, len(self.numbers))


def drawing(labels: Sequence[str], predictions: Sequence[Prediction]) -> dict[str, Any]:
    """The `data` of timeline.js: a run for each prediction, and the tables of strings that all share."""
    timelines = [prediction.timeline for prediction in predictions]
    spent: dict[str, float] = {}
    for timeline in timelines:
        for span in timeline.spans:
            op = timeline.trace.events[span.index].op
            spent[op] = spent.get(op, 0.0) + span.busy_ns
    ops = Strings()
    for op in sorted(spent, key=lambda op: -spent[op]):  # the first have colours of their own
        ops.number(op)
    lines, waits, details = Strings(), Strings(), Strings()
    details.number("")
    runs = [
        columns(label, prediction, ops, lines, waits, details)
        for label, prediction in zip(labels, predictions, strict=True)
    ]
    return {
        "runs": runs,
        "ops": list(ops.numbers),
        "lines": [(location(line), linecache.getline(*line).strip()[:160]) for line in lines.numbers],
        "waits": [WAITS[why] for why in waits.numbers],
        "issue": waits.numbers.get("issue", -1),
        "details": list(details.numbers),
        "view": opening(timelines),
    }


def columns(
    label: str, prediction: Prediction, ops: Strings, lines: Strings, waits: Strings, details: Strings
) -> dict[str, Any]:
    """One run: a list for each thing that is known of its events, its lanes, its memories."""
    timeline, events = prediction.timeline, prediction.events
    spans = timeline.spans
    path = {span.index for span in prediction.chain}
    rows = lanes(timeline)
    several = {(lane.core, lane.track) for lane in rows if lane.number}
    cores = len({lane.core for lane in rows})
    times = [interval(span) for span in spans]
    return {
        "label": label,
        "total": timeline.total_ns,
        "op": [ops.number(event.op) for event in events],
        "line": [lines.number(event.line) for event in events],
        "names": [event.name or 0 for event in events],
        "reads": [details.number(operands(event.reads)) for event in events],
        "writes": [details.number(operands(event.writes)) for event in events],
        "start": [start for start, _ in times],
        "end": [end for _, end in times],
        "done": [round(span.end_ns) for span in spans],
        "after": [-1 if span.after is None else span.after for span in spans],
        "why": [waits.number(span.why) for span in spans],
        "issues": {span.index: issue(span.issue, waits) for span in spans if span.issue is not None},
        "critical": [int(span.index in path) for span in spans],
        "lanes": [
            {
                "name": lane.track + (f" {lane.core}" if cores > 1 else ""),
                "number": lane.number,
                "several": (lane.core, lane.track) in several,
                "events": [span.index for span in lane.spans],
            }
            for lane in rows
        ],
        "memory": [
            {
                "name": memory.buffer.upper() + (f" {memory.core}" if cores > 1 else ""),
                "buffer": memory.buffer,
                "capacity": memory.capacity,
                "times": [round(time) for time, _ in memory.steps],
                "bytes": [used for _, used in memory.steps],
            }
            for memory in occupancy(timeline)
            if memory.peak
        ],
    }


def issue(of: Issue, waits: Strings) -> tuple[int, int, int]:
    """When a transfer was triggered, after which event and why."""
    return round(of.at_ns), -1 if of.after is None else of.after, waits.number(of.why)


def opening(timelines: Sequence[Timeline]) -> tuple[float, float]:
    """What is shown first, in nanoseconds: the middle of one run, with its median event wide enough; all of several."""
    total = max(timeline.total_ns for timeline in timelines)
    busy = [span.busy_ns for span in timelines[0].spans if span.busy_ns]
    if len(timelines) > 1 or not busy:
        return 0.0, total
    span = min(total, 1100 / EVENT_PIXELS * statistics.median(busy))
    return (total - span) / 2, (total + span) / 2
