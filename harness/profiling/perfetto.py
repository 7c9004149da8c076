"""A timeline as a file for Perfetto's UI (ui.perfetto.dev): Chrome's JSON trace format.

A process is a core, a thread a lane of one of its tracks, because slices of one thread may not overlap. Times are
microseconds with three decimals: Perfetto keeps whole nanoseconds. Arrows lead from the event that decided a start to
the one that started; where a track was only busy with the one before it there is none. Events are sorted by time, at
one time a slice before the arrows that are fastened to it. There is no displayTimeUnit: older versions of Perfetto took
it for the unit of all times
(https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU, Trace Event Format; how it is read:
src/trace_processor/importers/json of google/perfetto).
"""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from triptych.harness.profiling.lanes import Lane, bytes_moved, cause, interval, lanes, operands
from triptych.harness.profiling.numbers import location
from triptych.harness.profiling.waits import wait_in_words
from triptych.simulator.timing import Timeline
from triptych.simulator.timing.reading.occupancy import occupancy

QUEUED = ("engine", "issue", "rings")  # a start that waited for its track or its trigger alone
ORDER = {"M": 0, "C": 1, "X": 2, "s": 3, "f": 4}  # of events at one time
LANES = 100  # room for the lanes of a process among thread numbers


def document(timelines: Mapping[str, Timeline], about: Mapping[str, Any]) -> str:
    """The timelines by label, each with its own processes."""
    flows = itertools.count(1)
    processes = itertools.count(1)
    events: list[dict[str, Any]] = []
    for label, timeline in timelines.items():
        pids = {core: next(processes) for core in sorted({span.core for span in timeline.spans})}
        for core, pid in pids.items():
            name = f"{label} core {core}"
            events.append({"ph": "M", "name": "process_name", "pid": pid, "tid": pid * LANES, "args": {"name": name}})
        events += _slices(timeline, pids, flows)
        events += _counters(timeline, pids)
    events.sort(key=lambda event: (event.get("ts", 0.0), ORDER[event["ph"]]))
    lines = ",\n".join(json.dumps(event, separators=(",", ":"), ensure_ascii=False) for event in events)
    return f'{{"traceEvents": [\n{lines}\n],\n"otherData": {json.dumps(dict(about), ensure_ascii=False)}}}\n'


def encode(path: str, text: str) -> str | bytes:
    """The text as `path` asks for: compressed if it ends in .gz."""
    return gzip.compress(text.encode("utf-8"), mtime=0) if path.endswith(".gz") else text


def _slices(timeline: Timeline, pids: Mapping[int, int], flows: Iterator[int]) -> Iterator[dict[str, Any]]:
    rows = lanes(timeline)
    where: dict[int, tuple[int, int]] = {}  # (pid, tid) of an event
    numbers: dict[int, Iterator[int]] = {core: itertools.count(pid * LANES + 1) for core, pid in pids.items()}
    for lane in rows:
        pid, tid = pids[lane.core], next(numbers[lane.core])
        yield {"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": {"name": lane_name(lane, rows)}}
        where.update((span.index, (pid, tid)) for span in lane.spans)
    for span in timeline.spans:
        pid, tid = where[span.index]
        start, end = interval(span)
        event = timeline.trace.events[span.index]
        at = {"pid": pid, "tid": tid, "ts": start / 1e3}
        yield {
            "ph": "X",
            "name": event.op,
            "cat": span.track,
            **at,
            "dur": (end - start) / 1e3,
            "args": _about(timeline, span.index),
        }
        if span.after is None or span.why in QUEUED:
            continue
        before = timeline.spans[span.after]
        first, last = interval(before)
        if last > first and end > start:  # Perfetto closes a slice of no length at once
            flow = {"name": span.why, "cat": "waits", "id": next(flows)}
            giver, thread = where[span.after]
            yield {"ph": "s", **flow, "pid": giver, "tid": thread, "ts": first / 1e3}
            yield {"ph": "f", "bp": "e", **flow, **at}


def lane_name(lane: Lane, rows: Sequence[Lane]) -> str:
    """The track, with a number where it has several lanes."""
    several = any(other.number for other in rows if (other.core, other.track) == (lane.core, lane.track))
    return f"{lane.track} {lane.number + 1}" if several else lane.track


def _about(timeline: Timeline, index: int) -> dict[str, Any]:
    """What the details of a slice show."""
    span, event = timeline.spans[index], timeline.trace.events[index]
    why, op, line = cause(timeline, span)
    args = {
        "number": index,
        "line": location(event.line),
        "name": event.name,
        "reads": operands(event.reads),
        "writes": operands(event.writes),
        "bytes": bytes_moved(event),
        "rings": span.rings or None,
        "waited for": wait_in_words(why, f"{op} {line}"),
        "result at us": round(span.end_ns / 1e3, 3),
    }
    return {key: value for key, value in args.items() if value not in (None, "")}


def _counters(timeline: Timeline, pids: Mapping[int, int]) -> Iterator[dict[str, Any]]:
    for memory in occupancy(timeline):
        for time, used in memory.steps:
            at = {"pid": pids[memory.core], "tid": pids[memory.core] * LANES, "ts": round(time) / 1e3}
            yield {"ph": "C", "name": memory.buffer.upper(), **at, "args": {"KiB a partition": used / 1024}}
