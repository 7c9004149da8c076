"""`triptych validate-timing`: what the timing model predicts against what others measured.

A report, not a test: whatever the errors are, the exit code says only that it ran. Kernels of public repositories are
taken from the checkouts that are given; without any, the points whose kernels are ours remain.
"""

from __future__ import annotations

import json
import os
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

from triptych.harness import files
from triptych.harness.commands.arguments.outputs import Outputs
from triptych.harness.commands.runs.places import place
from triptych.harness.errors import UsageError
from triptych.harness.exit_codes import ExitCode
from triptych.harness.measured import GROUPS
from triptych.harness.measured.records import LATENCY_LESS_US, Point
from triptych.harness.measured.sources import NotHere, Public
from triptych.harness.profiling.validation import (
    Families,
    Outcome,
    Summary,
    by_call,
    by_family,
    coverage,
    intervals,
    predicted_together,
    summary,
)
from triptych.harness.reports.formats import short
from triptych.harness.reports.markdown import escape, markdown_table
from triptych.harness.reports.text_table import text_table
from triptych.harness.results.document import SCHEMA_VERSION
from triptych.harness.results.timing_accuracy import REGIMES
from triptych.harness.running.workers.each import Each, Maker


def run(arguments: Namespace) -> int:
    outputs = Outputs.from_arguments(arguments)
    outputs.check()
    try:
        public = Public([Path(path) for path in arguments.paths])
    except NotHere as error:
        raise UsageError(f"{str(error).rstrip('.')}.") from error
    with place(arguments) as found:
        outcomes = predicted(public, arguments.paths, found.each)
    if outputs.json:
        files.write(outputs.json, document(outcomes))
    if outputs.md:
        files.write(outputs.md, page(outcomes))
    if not outputs.stdout_taken:
        print(text(outcomes), end="")
    return ExitCode.OK


def calls_of_all() -> list[list[Point]]:
    """The points of each call that was measured."""
    return [some for points in GROUPS.values() for some in by_call(points)]


def prediction(sources: Sequence[str], paths: Sequence[str]) -> Callable[[int], list[dict[str, Any]]]:
    """What a process elsewhere predicts of a call by its number; it has the checkouts at the same paths."""
    try:
        public = Public([Path(path) for path in paths])
    except NotHere as error:
        raise UsageError(f"on a node of the cluster {str(error).rstrip('.')}; checkouts do not travel.") from error
    calls = calls_of_all()
    return lambda number: predicted_together(calls[number], public)


def predicted(public: Public, paths: Sequence[str], every: Each) -> list[Outcome]:
    """The outcome of every point; `every` makes the predictions of several calls at once."""
    calls = calls_of_all()

    def died(number: int, why: str) -> list[dict[str, Any]]:
        return [{"predicted_us": None, "reason": why} for _ in calls[number]]

    maker = Maker(prediction, arguments=([os.path.abspath(path) for path in paths],))
    with closing(every(lambda i: predicted_together(calls[i], public), len(calls), died, maker)) as coming:
        found = dict(coming)
    return [
        Outcome(point, **one)
        for number, some in enumerate(calls)
        for point, one in zip(some, found[number], strict=True)
    ]


def summaries(outcomes: Sequence[Outcome]) -> dict[str, Summary]:
    """For each group of points, for the points of each use, and for all."""
    groups = {name: [o for o in outcomes if o.point in points] for name, points in GROUPS.items()}
    groups |= {f"all for {use}": [o for o in outcomes if o.point.use == use] for use in ("calibration", "validation")}
    groups["all"] = list(outcomes)
    return {name: found for name, group in groups.items() if (found := summary(group)) is not None}


def families(outcomes: Sequence[Outcome], use: str = "validation") -> Families | None:
    """What the families of points say together, of one use, where each counts once."""
    group = {id(point): name for name, points in GROUPS.items() for point in points}
    found: dict[str | None, list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.point.use == use:
            found.setdefault(group.get(id(outcome.point)), []).append(outcome)
    return by_family(found.values())


HEADER = ("chip", "kernel", "case", "time", "measured µs", "predicted µs", "error", "use", "grade")


def row(outcome: Outcome) -> list[str]:
    point = outcome.point
    assert outcome.predicted_us is not None
    return [
        point.call.target,
        point.call.name,
        point.case,
        f"{point.what}, latency" if point.latency else point.what,
        short(point.measured_us, 4),
        short(outcome.predicted_us, 4),
        f"{outcome.error:+.1%}",
        point.use,
        point.grade,
    ]


def missing(outcomes: Sequence[Outcome]) -> dict[str, list[Point]]:
    """The points without a prediction, by the reason."""
    found: dict[str, list[Point]] = {}
    for outcome in outcomes:
        if outcome.predicted_us is None:
            found.setdefault(outcome.reason, []).append(outcome.point)
    return found


SUMMARY = (
    "points", "count", "median error", "90th percentile", "bias", "worst", "naive roofline's median error",
    "rank correlation", "pairs in order", "the worst",
)  # fmt: skip


def summary_rows(outcomes: Sequence[Outcome]) -> list[list[str]]:
    rows = [
        [
            name,
            str(s.count),
            f"{s.median:.1%}",
            f"{s.percentile_90:.1%}",
            f"{s.bias:+.1%}",
            f"{s.worst:.1%}",
            "" if s.naive_median is None else f"{s.naive_median:.1%}",
            f"{s.rank_correlation:.3f}",
            "" if s.ordered is None else f"{s.ordered[0]:.0%} of {s.ordered[1]}",
            f"{s.worst_point.call.name}, {s.worst_point.case}, {s.worst_point.what}",
        ]
        for name, s in summaries(outcomes).items()
    ]
    found = families(outcomes)
    if found is not None:
        figures = [f"{found.median:.1%}", f"{found.percentile_90:.1%}", f"{found.bias:+.1%}"]
        rows.append(["families for validation", str(found.count), *figures, *[""] * (len(SUMMARY) - 5)])
    return rows


INTERVALS = (
    "validation", "count", "measured over predicted, 4 of 5", "inside what all others give",
    "inside what the other families give",
)  # fmt: skip


def interval_rows(outcomes: Sequence[Outcome]) -> list[list[str]]:
    """For each regime its interval of the totals for validation, and how many of them the intervals of others cover."""
    judged = [o for o in outcomes if o.point.use == "validation" and o.point.what == "total" and o.predicted_us]
    family = {id(point): name for name, points in GROUPS.items() for point in points}
    alone, apart = coverage(judged), coverage(judged, lambda o: family.get(id(o.point)))
    rows = [
        [REGIMES[name], str(len(alone.get(name, ()))), f"{low:.2f} to {high:.2f}", *_shares(alone, apart, name)]
        for name, (low, high) in intervals(judged).items()
    ]
    if rows:
        rows.append(["all of them", str(len(judged)), "", *_shares(alone, apart, *alone)])
    return rows


def _shares(alone: dict[str, list[bool]], apart: dict[str, list[bool]], *regimes: str) -> list[str]:
    """How many of the totals of some regimes lie inside, by both ways to leave points out."""
    found = []
    for inside in (alone, apart):
        some = [one for regime in regimes for one in inside.get(regime, ())]
        found.append(f"{sum(some) / len(some):.0%}" if some else "")
    return found


def not_run(outcomes: Sequence[Outcome]) -> list[str]:
    """What did not run, and why."""
    return [
        f"not run: {len(points)} points of {', '.join(dict.fromkeys(point.call.name for point in points))}: {reason}"
        for reason, points in missing(outcomes).items()
    ]


def text(outcomes: Sequence[Outcome]) -> str:
    """The tables for a terminal."""
    rows = [row(outcome) for outcome in outcomes if outcome.predicted_us is not None]
    parts = [
        text_table([HEADER, *rows], right=range(4, 7)),
        text_table([SUMMARY, *summary_rows(outcomes)], right=range(1, 9)),
        text_table([INTERVALS, *interval_rows(outcomes)], right=range(1, 5)),
        not_run(outcomes),
    ]
    return "\n".join("".join(f"{line}\n" for line in lines) for lines in parts)


PAGE = """# Predicted against measured times

Written by `triptych validate-timing --md` on {date}; [the page on timing](timing.md) says what the model is, what is
left out here and how to repeat it.

The points are split by their source: all of a page or a profile are for *calibration* if any constant of a chip record
was ever taken from it; by the others, to which nothing was fitted, the model can be judged. *Bias* is the median of the
errors with their sign. The *naive roofline* is launch and teardown and the longer of matmuls at the peak and HBM
traffic at full bandwidth, of total times. *Pairs in order* are those of one kernel that were measured more than a tenth
apart, and how many of them the model ranks as they were measured. The last row counts each family once, however many
points it has: the medians over families of their points for validation. A *latency* is what the runtime reports of a
core on Trn2, {less} us less than the total of a profile, in the median of eight kernels of which both are on record; it
stands beside a prediction without them.

The second table says how far a measured total is from the predicted one in four of five kernels, by what decides most
of the time: in short ones launch and teardown, a fifth of it or more; where a trigger of DMA is busiest it issues for
half of it and twice as long as anything else is busy. Of fewer than five points it holds that of all too. These
intervals stand beside each prediction; a sweep of one kernel's settings, and sums of two times, take no part in them.
The last columns hold each point against the intervals that others give: all others, and those of other families alone.

Grades: A the source of the number states kernel, chip and method; B one of them is inferred, or the number is read off
a picture; C the kernel is our own rendering of the one that was measured. MFU and the busy shares are predicted, and
those of the whole kernel.
"""
SHARES = ("tensor", "vector", "scalar", "dma")


def page(outcomes: Sequence[Outcome]) -> str:
    """The tables for the documentation, dated, with the source of each number."""
    sources: dict[str, int] = {}
    notes: dict[str, int] = {}
    rows = []
    for outcome in outcomes:
        if outcome.predicted_us is None:
            continue
        point = outcome.point
        marks = [f"[{sources.setdefault(point.source, len(sources) + 1)}]"]
        if point.note:
            marks.append(chr(96 + notes.setdefault(point.note, len(notes) + 1)))
        shares = [f"{outcome.busy.get(track, 0.0):.0%}" for track in SHARES]
        rows.append([*row(outcome), f"{outcome.mfu:.1%}", *shares, point.printed, " ".join(marks)])
    parts = [
        PAGE.format(date=date.today().isoformat(), less=LATENCY_LESS_US),
        markdown_table(SUMMARY, summary_rows(outcomes)),
        markdown_table(INTERVALS, interval_rows(outcomes)),
        "".join(f"* {escape(line)}\n" for line in not_run(outcomes)),
        markdown_table([*HEADER, "MFU", *SHARES, "as printed", "source"], rows),
        "".join(f"{number}. {source}\n" for source, number in sources.items()),
        "".join(f"* {chr(96 + number)}: {note}\n" for note, number in notes.items()),
    ]
    return "\n".join(part for part in parts if part)


def document(outcomes: Sequence[Outcome]) -> str:
    """Everything, for programs: no NaN, units in key names."""
    body = {
        "schema_version": SCHEMA_VERSION,
        "date": date.today().isoformat(),
        "points": [
            {
                "target": outcome.point.call.target,
                "cores": outcome.point.call.cores,
                "kernel": outcome.point.call.name,
                "case": outcome.point.case,
                "time": outcome.point.what,
                "measured_us": outcome.point.measured_us,
                "predicted_us": outcome.predicted_us,
                "naive_us": outcome.naive_us,
                "error": None if outcome.predicted_us is None else outcome.error,
                "reason": outcome.reason or None,
                "mfu": outcome.mfu,
                "hbm_bytes": outcome.hbm_bytes,
                "busy": dict(outcome.busy),
                "regime": outcome.regime or None,
                "use": outcome.point.use,
                "grade": outcome.point.grade,
                "printed": outcome.point.printed,
                "source": outcome.point.source,
                "note": outcome.point.note or None,
            }
            for outcome in outcomes
        ],
        "summary": {
            name: {
                "points": s.count,
                "median_error": s.median,
                "percentile_90_error": s.percentile_90,
                "bias": s.bias,
                "worst_error": s.worst,
                "naive_median_error": s.naive_median,
                "rank_correlation": s.rank_correlation if s.rank_correlation == s.rank_correlation else None,
                "pairs_in_order": None if s.ordered is None else s.ordered[0],
            }
            for name, s in summaries(outcomes).items()
        },
        "families_for_validation": None
        if (found := families(outcomes)) is None
        else {
            "families": found.count,
            "median_error": found.median,
            "percentile_90_error": found.percentile_90,
            "bias": found.bias,
        },
    }
    return json.dumps(body, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
