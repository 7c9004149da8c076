"""The profile as one HTML file without a network: what it says, the timeline to zoom into, memory over time."""

from __future__ import annotations

import json
import linecache
import statistics
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from triptych.harness.profiling.lanes import lanes, operands, when
from triptych.harness.profiling.numbers import place
from triptych.harness.reports.profile import text as words
from triptych.harness.reports.profile.controls import CONTROLS
from triptych.harness.reports.profile.style import PROFILE_STYLE
from triptych.harness.reports.profile.timeline import DRAWING
from triptych.harness.reports.report.style import MARK, STYLE
from triptych.simulator.timing import Prediction, Timeline
from triptych.simulator.timing.occupancy import occupancy

if TYPE_CHECKING:
    from triptych.harness.commands.profile import Profile
    from triptych.harness.results.timing import Profiled

EVENT_PIXELS = 8  # how wide the median event is when the page opens
COLOURS = 10


def page(profiles: Sequence[Profile]) -> str:
    """The predictions of one case, one above the other on one axis of time."""
    first = profiles[0].result
    title = words.headline(first)
    chips = ", ".join(dict.fromkeys(f"{p.result.target} ({p.timing.chip})" for p in profiles))
    drawn = data(profiles)
    packed = json.dumps(drawn, separators=(",", ":"), ensure_ascii=False).replace("</", "<\\/")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)} · Triptych profile</title>\n<style>{STYLE}{PROFILE_STYLE}</style>\n</head>\n<body>\n"
        f'<header class="mast"><p class="name">{MARK}Triptych</p><h1>{escape(title)}</h1>'
        f"<p>{escape(chips)}</p><span>predicted, not measured</span></header>\n<main>\n"
        f"{figures(profiles)}\n{picture(drawn)}\n{why(profiles)}\n</main>\n"
        "<footer><p>Written by Triptych: one kernel, three panels.</p></footer>\n"
        f'<script type="application/json" id="data">{packed}</script>\n<script>{DRAWING}{CONTROLS}</script>\n'
        "</body>\n</html>\n"
    )


def figures(profiles: Sequence[Profile]) -> str:
    """One prediction: a figure a cell with its remark. Several: the table of the text, side by side."""
    if len(profiles) == 1:
        cells = "".join(
            f"<li><span>{escape(name)}</span><b>{escape(value)}</b><small>{escape(remark)}</small></li>"
            for name, value, remark in words.facts(profiles[0].timing)
        )
        return f'<ul class="figures">{cells}</ul>'
    head, *rows = words.table(profiles, profiles)
    above = "".join(f"<th scope=col class=num>{escape(cell)}</th>" for cell in head[1:])
    body = "".join(
        f"<tr><th scope=row>{escape(row[0])}</th>"
        + "".join(f"<td class=num>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    note = "".join(f"<p>{escape(line)}</p>" for line in words.what_if(profiles))
    table = f'<table class="compare"><thead><tr><th></th>{above}</tr></thead><tbody>{body}</tbody></table>'
    return f'{note}<div class="scroll fit">{table}</div>'


def picture(drawn: Mapping[str, Any]) -> str:
    """The canvas with its controls and the key to its colours."""
    key = "".join(
        f'<li><i style="background:var(--op{min(i, COLOURS - 1)})"></i>{escape(op)}</li>'
        for i, op in enumerate(drawn["ops"])
    )
    events = sum(len(run["op"]) for run in drawn["runs"])
    return (
        '<section id="picture" aria-labelledby="picture-title"><div class="bar"><h2 id="picture-title">Timeline</h2>'
        '<p id="stretch" aria-live="polite"></p><button id="in">zoom in</button><button id="out">zoom out</button>'
        '<button id="whole">whole</button></div>'
        '<canvas id="map" role="img" aria-label="The whole timeline; drag to move"></canvas>'
        f'<canvas id="timeline" tabindex="0" role="img" aria-label="{events:,} events on the tracks of each engine, '
        'and memory in use below them"></canvas>'
        f'<ul class="ops">{key}<li><i class="critical"></i>on the critical path</li></ul>'
        '<p class="hint">Wheel, <kbd>+</kbd> <kbd>−</kbd> zoom · drag, <kbd>←</kbd> <kbd>→</kbd> move · <kbd>0</kbd> '
        "whole · point at an event for its line and what it waited for, click to keep it and see what led to it</p>"
        '<div id="tip" hidden></div><noscript><p>The timeline needs JavaScript.</p></noscript></section>'
    )


def why(profiles: Sequence[Profile]) -> str:
    """What decides each time."""
    parts = []
    for p in profiles:
        t = p.timing
        title = f"<h2>{escape(p.label)}</h2>" if len(profiles) > 1 else ""
        parts.append(f'{title}<div class="reasons"><div>{busy(t)}{advice(t)}</div>{critical(t)}{stalls(t)}</div>')
    return f'<section id="reasons">{"".join(parts)}</section>'


def busy(t: Profiled) -> str:
    rows = "".join(
        f'<tr><th scope=row>{track}</th><td class=num>{words.percent(share)}</td><td class="bar"><i style="width:'
        f'{100 * share:.1f}%"></i></td></tr>'
        for track, share in t.busy_share.items()
    )
    return f"<h3>Busy share</h3><table><tbody>{rows}</tbody></table>"


def critical(t: Profiled) -> str:
    rows = "".join(
        f"<tr>{amounts(step.share, step.us)}<td>{escape(step.op)}<span>{step.count:,} x on {escape(step.engine)}</span>"
        f"<code>{escape(step.line)}</code></td></tr>"
        for step in t.critical
    )
    others = t.critical_others
    if others.lines:
        rows += f"<tr>{amounts(others.share, others.us)}<td>{others.lines} other lines</td></tr>"
    rows += f"<tr>{amounts(t.launch_us / t.predicted_us, t.launch_us)}<td>launch and teardown</td></tr>"
    return f"<div><h3>Critical path</h3><table><tbody>{rows}</tbody></table></div>"


def stalls(t: Profiled) -> str:
    rows = "".join(
        f"<tr>{amounts(stall.share, stall.us)}<td>{escape(stall.op)}<span>{stall.count:,} x</span>"
        f"<code>{escape(stall.line)}</code><small>waits for {escape(words.stall_waits_for(stall))}</small></td></tr>"
        for stall in t.stalls
    )
    if not rows:
        return ""
    return f"<div><h3>Longest stalls of {escape(t.stalls[0].engine)}</h3><table><tbody>{rows}</tbody></table></div>"


def advice(t: Profiled) -> str:
    items = "".join(f"<li>{escape(sentence)}.</li>" for sentence in t.advice)
    return f"<h3>Advice</h3><ul>{items}</ul>" if items else ""


def amounts(share: float, us: float) -> str:
    return f"<td class=num>{words.percent(share)}</td><td class=num>{words.us(us)} us</td>"


class Strings:
    """Strings by number, each kept once."""

    def __init__(self) -> None:
        self.numbers: dict[Any, int] = {}

    def number(self, value: Any) -> int:
        return self.numbers.setdefault(value, len(self.numbers))


def data(profiles: Sequence[Profile]) -> dict[str, Any]:
    """What the script draws: columns of numbers, and the strings that they stand for."""
    shown = [(p.label, p.prediction) for p in profiles if p.prediction]
    timelines = [prediction.timeline for _, prediction in shown]
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
    runs = [columns(label, prediction, ops, lines, waits, details) for label, prediction in shown]
    return {
        "runs": runs,
        "ops": list(ops.numbers),
        "lines": [(place(line), linecache.getline(*line).strip()[:160]) for line in lines.numbers],
        "waits": [words.WAITS[why] for why in waits.numbers],
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
    times = [when(span) for span in spans]
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


def opening(timelines: Sequence[Timeline]) -> tuple[float, float]:
    """What is shown first, in nanoseconds: the middle of one run, with its median event wide enough; all of several."""
    total = max(timeline.total_ns for timeline in timelines)
    busy = [span.busy_ns for span in timelines[0].spans if span.busy_ns]
    if len(timelines) > 1 or not busy:
        return 0.0, total
    span = min(total, 1100 / EVENT_PIXELS * statistics.median(busy))
    return (total - span) / 2, (total + span) / 2
