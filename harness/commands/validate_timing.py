"""`triptych validate-timing`: what the timing model predicts against what others measured.

A report, not a test: whatever the errors are, the exit code says only that it ran. Kernels of public repositories are
taken from the checkouts that are given; without any, the points whose kernels are ours remain.
"""

from __future__ import annotations

import contextlib
import io
import json
import statistics
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import Any

from triptych import simulator
from triptych.harness import files
from triptych.harness.commands import cli
from triptych.harness.measured import GROUPS
from triptych.harness.measured.records import Call, Point, Tensor, resolve
from triptych.harness.measured.sources import NotHere, Public
from triptych.harness.ops.selection import UsageError
from triptych.harness.reports.formats import short
from triptych.harness.reports.markdown import escape, markdown_table
from triptych.harness.reports.text_table import text_table
from triptych.harness.results.document import SCHEMA_VERSION
from triptych.simulator import Options, Prediction, ShapeDtype

# Times are asked for, not whether a kernel obeys rules that are newer than it, or checks of data that is not there.
OPTIONS = Options(
    check_uninitialized=False, check_races=False, check_capacity=False, check_operands=False, lint=False, api="0.3"
)


@dataclass(frozen=True)
class Outcome:
    """A point with its prediction, or with why there is none."""

    point: Point
    predicted_us: float | None
    reason: str = ""
    mfu: float | None = None  # of the whole call, as are the next two
    hbm_bytes: int | None = None
    busy: Mapping[str, float] = field(default_factory=dict)

    @property
    def error(self) -> float:
        """Relative, of a point that has a prediction."""
        assert self.predicted_us is not None
        return self.predicted_us / self.point.measured_us - 1


def run(arguments: Namespace) -> int:
    try:
        for path in (arguments.json, arguments.md):
            if path:
                files.check_writable(path)
        if arguments.json == arguments.md == "-":
            raise UsageError("stdout takes one document: only one of --json and --md can be `-`.")
        public = Public([Path(path) for path in arguments.paths])
        outcomes = [outcome for points in GROUPS.values() for outcome in predicted(points, public)]
        if arguments.json:
            files.write(arguments.json, document(outcomes))
        if arguments.md:
            files.write(arguments.md, page(outcomes))
    except (NotHere, files.OutputError) as error:
        raise UsageError(f"{str(error).rstrip('.')}.") from error
    if "-" not in (arguments.json, arguments.md):
        print(text(outcomes), end="")
    return cli.OK


def predicted(points: Iterable[Point], public: Public) -> Iterator[Outcome]:
    """Each point's outcome; those of one call, which stand together, share its prediction."""
    for call, group in groupby(points, key=lambda point: point.call):
        outcome = prediction_of(call, public)
        for point in group:
            if isinstance(outcome, Prediction):
                yield Outcome(point, point.predicted_us(outcome), "", outcome.mfu, outcome.hbm_bytes, outcome.busy)
            else:
                yield Outcome(point, None, outcome)


def prediction_of(call: Call, public: Public) -> Prediction | str:
    """The prediction, or why there is none."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # libraries of kernels report on what they allocate
            kernel = call.kernel.load(public)
            if call.cores > 1:
                kernel = kernel[call.cores]
            arguments = [stand_in(value, public) for value in call.arguments]
            keywords = {name: stand_in(value, public) for name, value in call.keywords.items()}
            return simulator.predict(kernel, *arguments, target=call.target, options=OPTIONS, **keywords)
    except NotHere as error:
        return str(error)
    except Exception as error:  # whatever a public kernel does is a row of the report
        return f"{type(error).__name__}: {' '.join(str(error).split())}"


def stand_in(value: Any, public: Public) -> Any:
    """An argument as the kernel gets it."""
    if isinstance(value, Tensor):
        return ShapeDtype(value.shape, value.dtype)
    return resolve(value, public)


@dataclass(frozen=True)
class Summary:
    """How far some predictions are from the measurements."""

    count: int
    median: float  # of the absolute relative errors
    worst: float
    worst_point: Point
    rank_correlation: float  # Spearman's; nan for fewer than two


def summary(outcomes: Sequence[Outcome]) -> Summary | None:
    """Of the outcomes with a prediction; None if there is none."""
    ran = [outcome for outcome in outcomes if outcome.predicted_us is not None]
    if not ran:
        return None
    worst = max(ran, key=lambda outcome: abs(outcome.error))
    return Summary(
        len(ran),
        statistics.median(abs(outcome.error) for outcome in ran),
        abs(worst.error),
        worst.point,
        spearman([o.point.measured_us for o in ran], [o.predicted_us or 0.0 for o in ran]),
    )


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Pearson's correlation of the ranks, where equals share their mean rank; nan where one side is all alike."""
    if len(set(a)) < 2 or len(set(b)) < 2:
        return float("nan")
    return statistics.correlation(ranks(a), ranks(b))


def ranks(values: Sequence[float]) -> list[float]:
    ordered = sorted(values)
    return [ordered.index(value) + (ordered.count(value) - 1) / 2 for value in values]


def summaries(outcomes: Sequence[Outcome]) -> dict[str, Summary]:
    """For each group of points, for the points of each use, and for all."""
    groups = {name: [o for o in outcomes if o.point in points] for name, points in GROUPS.items()}
    groups |= {f"all for {use}": [o for o in outcomes if o.point.use == use] for use in ("calibration", "validation")}
    groups["all"] = list(outcomes)
    return {name: found for name, group in groups.items() if (found := summary(group)) is not None}


HEADER = ("chip", "kernel", "case", "time", "measured µs", "predicted µs", "error", "use", "grade")


def row(outcome: Outcome) -> list[str]:
    point = outcome.point
    assert outcome.predicted_us is not None
    return [
        point.call.target,
        point.call.name,
        point.case,
        point.what,
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


SUMMARY = ("points", "count", "median error", "worst", "rank correlation", "the worst")


def summary_rows(outcomes: Sequence[Outcome]) -> list[list[str]]:
    return [
        [
            name,
            str(s.count),
            f"{s.median:.1%}",
            f"{s.worst:.1%}",
            f"{s.rank_correlation:.3f}",
            f"{s.worst_point.call.name}, {s.worst_point.case}, {s.worst_point.what}",
        ]
        for name, s in summaries(outcomes).items()
    ]


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
        text_table([SUMMARY, *summary_rows(outcomes)], right=range(1, 5)),
        not_run(outcomes),
    ]
    return "\n".join("".join(f"{line}\n" for line in lines) for lines in parts)


PAGE = """# Predicted against measured times

Written by `triptych validate-timing --md` on {date}; [the page on timing](timing.md) says what the model is, what is
left out here and how to repeat it.

A point is for *calibration* if a constant of a chip record was taken from it or from the picture that it stands in; by
the others the model can be judged. Grades: A the source of the number states kernel, chip and method; B one of them is
inferred, or the number is read off a picture; C the kernel is our own rendering of the one that was measured. MFU and
the busy shares are predicted, and those of the whole kernel.
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
        PAGE.format(date=date.today().isoformat()),
        markdown_table(SUMMARY, summary_rows(outcomes)),
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
                "error": None if outcome.predicted_us is None else outcome.error,
                "reason": outcome.reason or None,
                "mfu": outcome.mfu,
                "hbm_bytes": outcome.hbm_bytes,
                "busy": dict(outcome.busy),
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
                "worst_error": s.worst,
                "rank_correlation": s.rank_correlation if s.rank_correlation == s.rank_correlation else None,
            }
            for name, s in summaries(outcomes).items()
        },
    }
    return json.dumps(body, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
