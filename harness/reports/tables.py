"""Results as rows: one list of columns, three ways to write it (text, Markdown, CSV).

The text table drops columns that say nothing for these results (no time was taken, nothing to note) and collapses the
cases of a backend that is not here into one line, so that a skip is seen but does not drown what ran. CSV keeps every
column and every row, with unrounded numbers and units in the column names.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msgspec import structs

from triptych.harness.reports import failures, parity_table
from triptych.harness.reports.markdown import escaped, fenced, markdown_table
from triptych.harness.reports.terminal import cut, paint
from triptych.harness.reports.text_table import GAP, column_widths, text_table
from triptych.harness.results.measures import Derived
from triptych.harness.results.result import Result
from triptych.harness.results.status import BAD, Evidence, Status
from triptych.harness.results.timing import Measured, Predicted

if TYPE_CHECKING:
    from triptych.harness.judge.verdict import Verdict

STYLES = {
    Status.PASSED: "green",
    Status.FAILED: "bold red",
    Status.ERROR: "bold red",
    Status.TIMEOUT: "bold red",
    Status.UNSUPPORTED: "dim",
    Status.SKIPPED: "yellow",
}
MAPS = 3  # of failures of one op on one backend that are drawn in text


def short(value: float | None, digits: int = 3) -> str:
    """Two to three significant digits and no exponent where it can be read without one."""
    if value is None:
        return ""
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 1e6:
        decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
        text = f"{value:,.{decimals}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.{digits - 1}e}"


def share_of_bound(judged: Result | Verdict) -> float | None:
    """The error as a share of what the tolerance allows: 1 is the limit. The largest of the measures counts."""
    metrics, tolerance = judged.metrics, judged.tolerance
    if metrics is None or not isinstance(tolerance, Derived):
        return None
    shares = []
    for error, bound in (
        (metrics.max_abs, tolerance.max_abs),
        (metrics.rel_l2, tolerance.rel_l2),
        (metrics.max_local, tolerance.max_local),
    ):
        if error is None or bound is None:
            continue
        shares.append(error / bound if bound else (0.0 if error == 0 else math.inf))
    if any(math.isnan(share) for share in shares):
        return math.nan
    return max(shares)


def time_us(result: Result) -> float | None:
    """The measured median, else the predicted time."""
    return result.timing.us if result.timing else None


def time_evidence(result: Result) -> Evidence | None:
    """What kind of machine the time comes from; None if nothing was timed."""
    return result.timing.evidence if result.timing else None


def rate(amount: int | None, time_us: float, unit: float) -> float | None:
    """`amount` (operations or bytes) per second, in `unit`s."""
    return None if amount is None or not time_us else amount / (time_us * 1e-6) / unit


def tflops(result: Result) -> float | None:
    return rate(result.timing.flops, result.timing.us, 1e12) if result.timing else None


def gbytes(result: Result) -> float | None:
    return rate(result.timing.bytes, result.timing.us, 1e9) if result.timing else None


def measured_us(result: Result) -> float | None:
    return result.timing.us if isinstance(result.timing, Measured) else None


def predicted_us(result: Result) -> float | None:
    return result.timing.us if isinstance(result.timing, Predicted) else None


def time_text(result: Result) -> str:
    """The median; a time of another kind than the verdict, as a prediction, carries its kind in the cell."""
    text = short(time_us(result))
    kind = time_evidence(result)
    return text if kind in (None, result.evidence) else f"{text} {kind}"


def note(result: Result) -> str:
    """The reason on one line."""
    return printable(result.reason or "")


def printable(text: str) -> str:
    """`text` on one line; an error message may hold escape sequences."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


def blame(result: Result) -> str:
    """The cause of a disagreement and why it is held to be that, on one line; empty if none was sought."""
    about = result.attribution
    return printable(f"cause: {about.cause}: {about.text}") if about else ""


def same_bits(result: Result) -> str:
    """Where the kernel repeated its bits: over runs, and for a part of its batch alone; DIFFER where it must not."""
    runs, alone = result.invariance.runs, result.invariance.alone
    said = []
    for name, found in (("runs", runs), (alone.axis if alone else "", alone)):
        if found and found.identical:
            said.append(name)
        elif found and found.promised:
            said.append(f"{name} DIFFER")
    return ", ".join(said)


@dataclass(frozen=True)
class Column:
    title: str
    text: Callable[[Result], str]
    right: bool = False


COLUMNS = (
    Column("op", lambda r: r.op),
    Column("case", lambda r: r.case),
    Column("dtype", lambda r: r.dtype),
    Column("backend", lambda r: r.backend_label),
    Column("evidence", lambda r: str(r.evidence)),
    Column("status", lambda r: str(r.status)),
    Column("error ULP", lambda r: short(r.metrics.max_abs_ulp if r.metrics else None, 2), right=True),
    Column("rel L2", lambda r: short(r.metrics.rel_l2 if r.metrics else None, 2), right=True),
    Column("error/bound", lambda r: short(share_of_bound(r), 2), right=True),
    Column("same bits", same_bits),
    Column("median µs", time_text, right=True),
    Column("TFLOP/s", lambda r: short(tflops(r)), right=True),
    Column("GB/s", lambda r: short(gbytes(r)), right=True),
    Column("% of peak", lambda r: short(r.timing.percent_of_peak if r.timing else None, 2), right=True),
    Column("x torch", lambda r: short(r.timing.speed_over_torch if r.timing else None), right=True),
    Column("note", note),
)

# On a narrow terminal, in this order: the status is never cut, and the backend implies the evidence.
DROPPABLE = ("rel L2", "same bits", "GB/s", "error ULP", "TFLOP/s", "error/bound", "evidence")

CSV_COLUMNS: tuple[tuple[str, Callable[[Result], Any]], ...] = (
    ("op", lambda r: r.op),
    ("case", lambda r: r.case),
    ("dtype", lambda r: r.dtype),
    ("backend", lambda r: r.backend),
    ("target", lambda r: r.target),
    ("evidence", lambda r: str(r.evidence)),
    ("status", lambda r: str(r.status)),
    ("max_ulp", lambda r: r.metrics and r.metrics.max_ulp),
    ("max_abs_ulp", lambda r: r.metrics and r.metrics.max_abs_ulp),
    ("max_abs", lambda r: r.metrics and r.metrics.max_abs),
    ("rel_l2", lambda r: r.metrics and r.metrics.rel_l2),
    ("error_over_bound", share_of_bound),
    ("runs_identical", lambda r: r.invariance.runs and r.invariance.runs.identical),
    ("alone_identical", lambda r: r.invariance.alone and r.invariance.alone.identical),
    ("time_evidence", time_evidence),
    ("median_us", measured_us),
    ("predicted_us", predicted_us),
    ("tflop_per_s", tflops),
    ("gb_per_s", gbytes),
    ("percent_of_peak", lambda r: r.timing and r.timing.percent_of_peak),
    ("speed_over_torch", lambda r: r.timing and r.timing.speed_over_torch),
    ("note", note),
    ("repro", lambda r: r.repro),
)


def absent(results: Sequence[Result]) -> dict[tuple[str, str], Result]:
    """(op, backend) of which no case ran, all for one reason: no such backend here, or no such panel in the op."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result.op, result.backend_label), []).append(result)
    return {
        key: group[0]
        for key, group in groups.items()
        if group[0].status in (Status.SKIPPED, Status.UNSUPPORTED) and len({(r.status, r.reason) for r in group}) == 1
    }


def shown(results: Sequence[Result]) -> list[Result]:
    """The rows of the text table: what is absent as a whole is said once, below it."""
    away = absent(results)
    return [result for result in results if (result.op, result.backend_label) not in away]


def cells(results: Sequence[Result]) -> tuple[list[Column], list[list[str]]]:
    """The columns that say something, and the text of each row."""
    rows = [[column.text(result) for column in COLUMNS] for result in results]
    keep = [i for i, column in enumerate(COLUMNS) if any(row[i] for row in rows) or column.title == "status"]
    return [COLUMNS[i] for i in keep], [[row[i] for i in keep] for row in rows]


def text(results: Sequence[Result], *, width: int | None = None, colour: bool = False) -> str:
    """An aligned table. On a terminal of `width` the least telling columns go first, then the end of each line."""
    results = shown(results)
    if not results:
        return ""
    columns, rows = cells(
        [structs.replace(r, reason=None) if r.status in BAD else r for r in results]
    )  # `problems` tells them
    keep = fitting([[column.title for column in columns], *rows], width)
    titles = [columns[i].title for i in keep]
    table = [titles, *([row[i] for i in keep] for row in rows)]
    right = [at for at, i in enumerate(keep) if columns[i].right]
    lines = [cut(line, width) for line in text_table(table, right=right, rule=True)]
    start = sum(size + len(GAP) for size in column_widths(table)[: titles.index("status")])
    for at, result in enumerate(results, 2):
        end = start + len(result.status)
        lines[at] = lines[at][:start] + paint(lines[at][start:end], STYLES[result.status], colour) + lines[at][end:]
    if "same bits" in titles:
        axes = dict.fromkeys(r.invariance.alone.axis for r in results if r.invariance.alone)
        lines += ["", "same bits: runs: of two runs on the same inputs"]
        lines += [f"  {', '.join(axes)}: of a part of that axis alone, and within its batch"] if axes else []
    return "\n".join(lines) + "\n"


def fitting(table: Sequence[Sequence[str]], width: int | None) -> list[int]:
    """Which columns to show: all, or fewer of the droppable ones until the line fits (the note may be cut instead)."""
    titles, widths = table[0], column_widths(table)
    keep = list(range(len(titles)))
    for title in DROPPABLE:
        needed = sum(widths[i] + len(GAP) for i in keep if titles[i] != "note") - len(GAP)
        if width is None or needed <= width:
            break
        keep = [i for i in keep if titles[i] != title]
    return keep


def unsupported(results: Sequence[Result]) -> str:
    """What ops have no panel for; what is skipped is in the last line."""
    lines = [
        f"unsupported: {op} on {backend}: {note(result)}"
        for (op, backend), result in absent(results).items()
        if result.status is Status.UNSUPPORTED
    ]
    return "\n".join(lines) + "\n" if lines else ""


def problems(results: Iterable[Result], *, colour: bool = False) -> str:
    """Everything that failed: the whole reason, where it fails, and the command that repeats it.

    The map of a failure is drawn for the first few ways in which a backend fails at an op.
    """
    lines = []
    drawn: dict[tuple[str, str], set[str]] = {}
    for result in results:
        if result.status in BAD:
            word = paint(str(result.status), STYLES[result.status], colour)
            what = " ".join(filter(None, (result.op, result.case, result.dtype)))
            lines.append(f"{word}: {what} on {result.backend_label}: {note(result)}")
            ways = drawn.setdefault((result.op, result.backend_label), set())
            way = result.failure.diagnosis.partition(":")[0] if result.failure else ""
            lines += [f"    {line}" for line in failures.lines(result.failure, way not in ways and len(ways) < MAPS)]
            ways.add(way)
            if result.attribution:
                lines.append(f"    {blame(result)}")
            if result.repro:
                lines.append(f"    {result.repro}")
    return "\n".join(lines) + "\n" if lines else ""


def summary(results: Sequence[Result], seed: int | None = None) -> str:
    """One line: how many ended how, and why some did not run."""
    profiles = [r for r in results if r.status is Status.PASSED and r.evidence is Evidence.PREDICTED]
    counts = Counter(result.status for result in results if result not in profiles)
    line = ", ".join(f"{counts[status]} {status}" for status in Status)
    if profiles:
        line += f", {len(profiles)} predicted and not compared"
    reasons = skip_reasons(results)
    if reasons:
        why = "; ".join(f"{backend}: {reason.rstrip('.')}" for backend, reason in reasons.items())
        line += f" ({why})"
    return line + (f" · seed {seed}" if seed is not None else "")


def skip_reasons(results: Iterable[Result]) -> dict[str, str]:
    """Backend -> why it was skipped."""
    return {r.backend: note(r) or "no reason given" for r in results if r.status is Status.SKIPPED}


def markdown(results: Sequence[Result], seed: int | None = None) -> str:
    """A table for a pull request, then the one-line summary."""

    columns, rows = cells(results)
    right = [i for i, column in enumerate(columns) if column.right]
    table = markdown_table([column.title for column in columns], rows, right=right)
    pairs = parity_table.text(results)
    return f"{table}\n{fenced(pairs) if pairs else ''}{escaped(summary(results, seed))}\n"


def comma_separated(results: Sequence[Result]) -> str:
    """RFC 4180 with a header row; empty where there is no value."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([name for name, _ in CSV_COLUMNS])
    for result in results:
        values = [value(result) for _, value in CSV_COLUMNS]
        writer.writerow(["" if value is None else str(value) for value in values])
    return buffer.getvalue()
