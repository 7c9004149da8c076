"""Results and profiles as rows: one list of columns, three ways to write it (text, Markdown, CSV).

The text table drops columns that say nothing for these results (no time was taken, nothing to note) and collapses the
cases of a backend that is not here into one line, so that a skip is seen but does not drown what ran. CSV keeps every
column and every row, with unrounded numbers and units in the column names.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from msgspec import structs

from triptych.harness.reports import figures, parity_table
from triptych.harness.reports.formats import short
from triptych.harness.reports.markdown import escape, fence, markdown_table
from triptych.harness.reports.problems import absent, summary
from triptych.harness.reports.terminal import STYLES, cut, paint
from triptych.harness.reports.text_table import GAP, column_widths, text_table
from triptych.harness.results.profile import Outcome
from triptych.harness.results.result import Result
from triptych.harness.results.status import BAD

T = TypeVar("T")


def of_verdict(value: Callable[[Result], T]) -> Callable[[Outcome], T | None]:
    """A value of a verdict; a profile, which judges nothing, has none."""
    return lambda outcome: value(outcome) if isinstance(outcome, Result) else None


@dataclass(frozen=True)
class Column:
    """A column of the text and Markdown tables; a number is written in so many significant digits."""

    title: str
    value: Callable[[Outcome], str | float | None]
    digits: int = 3
    right: bool = False

    def text(self, outcome: Outcome) -> str:
        value = self.value(outcome)
        return short(value, self.digits) if isinstance(value, (int, float)) else str(value or "")


COLUMNS = (
    Column("op", lambda o: o.op),
    Column("case", lambda o: o.case),
    Column("dtype", lambda o: o.dtype),
    Column("backend", lambda o: o.backend_label),
    Column("evidence", lambda o: str(o.evidence)),
    Column("status", lambda o: str(o.status)),
    Column("error ULP", of_verdict(lambda r: r.metrics.max_abs_ulp if r.metrics else None), 2, right=True),
    Column("rel L2", of_verdict(lambda r: r.metrics.rel_l2 if r.metrics else None), 2, right=True),
    Column("error/bound", of_verdict(figures.share_of_bound), 2, right=True),
    Column("same bits", of_verdict(figures.same_bits)),
    Column("median µs", figures.time_text, right=True),
    Column("host µs", figures.host_us, right=True),
    Column("TFLOP/s", figures.tflops, right=True),
    Column("GB/s", figures.gbytes, right=True),
    Column("% of peak", lambda o: o.timing.percent_of_peak if o.timing else None, 2, right=True),
    Column("x torch", lambda o: o.timing.speed_over_torch if o.timing else None, right=True),
    Column("note", figures.note),
)

# On a narrow terminal, in this order: the status is never cut, and the backend implies the evidence.
DROPPABLE = ("rel L2", "same bits", "host µs", "GB/s", "error ULP", "TFLOP/s", "error/bound", "evidence")

CSV_COLUMNS: tuple[tuple[str, Callable[[Outcome], Any]], ...] = (
    ("op", lambda o: o.op),
    ("case", lambda o: o.case),
    ("dtype", lambda o: o.dtype),
    ("backend", lambda o: o.backend),
    ("target", lambda o: o.target),
    ("evidence", lambda o: str(o.evidence)),
    ("status", lambda o: str(o.status)),
    ("max_ulp", of_verdict(lambda r: r.metrics and r.metrics.max_ulp)),
    ("max_abs_ulp", of_verdict(lambda r: r.metrics and r.metrics.max_abs_ulp)),
    ("max_abs", of_verdict(lambda r: r.metrics and r.metrics.max_abs)),
    ("rel_l2", of_verdict(lambda r: r.metrics and r.metrics.rel_l2)),
    ("error_over_bound", of_verdict(figures.share_of_bound)),
    ("runs_identical", of_verdict(lambda r: r.invariance.runs and r.invariance.runs.identical)),
    ("alone_identical", of_verdict(lambda r: r.invariance.alone and r.invariance.alone.identical)),
    ("time_evidence", figures.time_evidence),
    ("median_us", figures.measured_us),
    ("host_us", figures.host_us),
    ("predicted_us", figures.predicted_us),
    ("tflop_per_s", figures.tflops),
    ("gb_per_s", figures.gbytes),
    ("percent_of_peak", lambda o: o.timing and o.timing.percent_of_peak),
    ("speed_over_torch", lambda o: o.timing and o.timing.speed_over_torch),
    ("note", figures.note),
    ("repro", lambda o: o.repro),
    ("node", lambda o: o.node),
    ("device", lambda o: o.device),
)


def cells(outcomes: Sequence[Outcome]) -> tuple[list[Column], list[list[str]]]:
    """The columns that say something, and the text of each row."""
    rows = [[column.text(outcome) for column in COLUMNS] for outcome in outcomes]
    keep = [i for i, column in enumerate(COLUMNS) if any(row[i] for row in rows) or column.title == "status"]
    return [COLUMNS[i] for i in keep], [[row[i] for i in keep] for row in rows]


def text(outcomes: Sequence[Outcome], *, width: int | None = None, colour: bool = False) -> str:
    """An aligned table. On a terminal of `width` the least telling columns go first, then the end of each line."""
    away = absent(outcomes)
    here = [outcome for outcome in outcomes if (outcome.op, outcome.backend_label) not in away]
    if not here:
        return ""
    # `problems` tells the reason of what failed.
    columns, rows = cells([structs.replace(o, reason=None) if o.status in BAD else o for o in here])
    keep = visible_columns([[column.title for column in columns], *rows], width)
    titles = [columns[i].title for i in keep]
    table = [titles, *([row[i] for i in keep] for row in rows)]
    right = [at for at, i in enumerate(keep) if columns[i].right]
    lines = [cut(line, width) for line in text_table(table, right=right, rule=True)]
    start = sum(size + len(GAP) for size in column_widths(table)[: titles.index("status")])
    for at, outcome in enumerate(here, 2):
        end = start + len(outcome.status)
        lines[at] = lines[at][:start] + paint(lines[at][start:end], STYLES[outcome.status], colour) + lines[at][end:]
    if "same bits" in titles:
        axes = dict.fromkeys(o.invariance.alone.axis for o in here if isinstance(o, Result) and o.invariance.alone)
        lines += ["", "same bits: runs: of two runs on the same inputs"]
        lines += [f"  {', '.join(axes)}: of a part of that axis alone, and within its batch"] if axes else []
    return "\n".join(lines) + "\n"


def visible_columns(table: Sequence[Sequence[str]], width: int | None) -> list[int]:
    """Which columns to show: all, or fewer of the droppable ones until the line fits (the note may be cut instead)."""
    titles, widths = table[0], column_widths(table)
    keep = list(range(len(titles)))
    for title in DROPPABLE:
        needed = sum(widths[i] + len(GAP) for i in keep if titles[i] != "note") - len(GAP)
        if width is None or needed <= width:
            break
        keep = [i for i in keep if titles[i] != title]
    return keep


def markdown(
    outcomes: Sequence[Outcome], seed: int | None = None, warnings: Sequence[str] = (), pictures: Sequence[str] = ()
) -> str:
    """A table for a pull request, pictures, the one-line summary; before all, what a reader must be warned of."""
    columns, rows = cells(outcomes)
    right = [i for i, column in enumerate(columns) if column.right]
    table = markdown_table([column.title for column in columns], rows, right=right)
    pairs = parity_table.text(outcomes)
    first = "".join(f"> **{escape(line)}**\n\n" for line in warnings)
    drawn = "".join(pictures)
    return f"{first}{table}\n{drawn}{fence(pairs) if pairs else ''}{escape(summary(outcomes, seed))}\n"


def inert(value: Any) -> str:
    """A value as a cell that no spreadsheet takes for a formula: text that begins like one gets an apostrophe."""
    text = str(value)
    return f"'{text}" if isinstance(value, str) and text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def comma_separated(outcomes: Sequence[Outcome]) -> str:
    """RFC 4180 with a header row; empty where there is no value."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([name for name, _ in CSV_COLUMNS])
    for outcome in outcomes:
        values = [value(outcome) for _, value in CSV_COLUMNS]
        writer.writerow(["" if value is None else inert(value) for value in values])
    return buffer.getvalue()
