"""The chapter on speed: one table of every time of a kernel, with its ratio, its roofline and the chip's peak.

A row is compared only with rows of its case, its kind of evidence and its run. Times of the interpreter, the simulator
and the reference say nothing about a kernel's speed and are left to the document.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from triptych.harness.reports.figures import gbytes, host_us, share_of_bound, tflops, time_evidence, time_us
from triptych.harness.reports.formats import plural, short
from triptych.harness.reports.report.data import Entry, ReportData
from triptych.harness.reports.report.limits import KINDS, SPEEDS, limits_of, machine
from triptych.harness.results.profile import Outcome
from triptych.harness.results.result import Result
from triptych.harness.results.status import Evidence
from triptych.harness.results.timing import Measured, Time
from triptych.harness.results.timing_accuracy import LAST_VALIDATION

BASELINE = "torch"  # what a user would pick instead
SAID = 6  # sentences


@dataclass(frozen=True)
class Row:
    """One case on one backend."""

    entry: Entry[Outcome]
    kind: Evidence
    error: float | None  # as a share of its bound; None where nothing was compared
    us: float
    host_us: float | None  # a whole call from the host, beside the device's clock
    spread: str
    over: float | None  # its time over that of the fastest of its case, kind and run; None where it is alone
    tflops: float | None
    gbytes: float | None
    roofline_us: float | None
    of_roofline: float | None  # in percent of the time
    of_peak: float | None  # in percent of the matrix unit's rate

    @property
    def profile(self) -> bool:
        """Whether it is a time alone, of which nothing was compared."""
        return not isinstance(self.entry.result, Result)


@dataclass(frozen=True)
class Speed:
    """The rows, the sentences that they amount to, and what a reader must not take from them."""

    rows: Sequence[Row]
    answers: Sequence[str]
    caveat: str

    @property
    def from_host(self) -> bool:
        """Whether any row has the host's time beside the device's."""
        return any(row.host_us is not None for row in self.rows)


def timed(report: ReportData) -> list[Entry[Outcome]]:
    """Every time of a kernel: those of one case beside each other, the surest kind of evidence first."""
    found = [e for e in report.entries if time_us(e.result) is not None and time_evidence(e.result) in SPEEDS]
    cases = {key: i for i, key in enumerate(dict.fromkeys(map(case_of, report.entries)))}
    return sorted(
        found, key=lambda e: (cases[case_of(e)], SPEEDS.index(time_evidence(e.result) or Evidence.HOST), e.run)
    )


def case_of(entry: Entry[Outcome]) -> tuple[str, str, str]:
    return entry.result.op, entry.result.case, entry.result.dtype


def speed(report: ReportData) -> Speed | None:
    """The table; None where nothing was timed."""
    groups: dict[tuple[object, ...], list[Entry[Outcome]]] = defaultdict(list)
    entries = timed(report)
    for entry in entries:
        groups[group(entry)].append(entry)
    fastest = {key: min(time_us(e.result) or math.inf for e in some) for key, some in groups.items()}
    rows = []
    for entry in entries:
        key = group(entry)
        rows.append(row(entry, report, fastest[key] if len(groups[key]) > 1 else None))
    predicted = any(row.kind is Evidence.PREDICTED for row in rows)
    caveat = f"A prediction is a model of one core of the chip: {LAST_VALIDATION.sentence()}." if predicted else ""
    return Speed(rows, list(answers(report, rows)), caveat) if rows else None


def group(entry: Entry[Outcome]) -> tuple[object, ...]:
    """What a time may be compared with: of a cluster, what was measured on the same node."""
    kind = time_evidence(entry.result)
    return *case_of(entry), kind, entry.run, "" if kind is Evidence.PREDICTED else entry.result.node


def row(entry: Entry[Outcome], report: ReportData, fastest: float | None) -> Row:
    result, timing = entry.result, entry.result.timing
    assert timing is not None
    us, rate = timing.us, tflops(result)
    limits = limits_of(entry, report.environments[entry.run])
    bound = None
    if limits is not None and (timing.flops or timing.bytes):
        bound = limits.bound_us(timing.flops or 0, timing.bytes or 0)
    return Row(
        entry,
        timing.evidence,
        share_of_bound(result) if isinstance(result, Result) else None,
        us,
        host_us(result),
        spread(timing),
        us / fastest if fastest else None,
        rate,
        gbytes(result),
        bound,
        100 * bound / us if bound and us else None,
        100 * rate / limits.tflop_per_s if limits is not None and rate is not None else None,
    )


def spread(timing: Time | None) -> str:
    """The middle half of the samples, and how many there are."""
    if not isinstance(timing, Measured) or len(timing.samples_us) < 4:
        return ""
    low, _, high = statistics.quantiles(timing.samples_us, n=4)
    return f"{short(low)}–{short(high)}, n {len(timing.samples_us)}"


def answers(report: ReportData, rows: Sequence[Row]) -> Iterator[str]:
    """Who is faster, by how much and under which evidence: a sentence for each op, kind of evidence and run."""
    found: dict[tuple[str, Evidence, int], list[Row]] = defaultdict(list)
    for one in rows:
        found[one.entry.result.op, one.kind, one.entry.run].append(one)
    sentences = [sentence for key, some in found.items() for sentence in answer(report, *key, some)]
    yield from sentences[:SAID]
    if len(sentences) > SAID:
        yield f"and {plural(len(sentences) - SAID, 'more comparison')} in the table below"


def answer(report: ReportData, op: str, kind: Evidence, run: int, rows: Sequence[Row]) -> Iterator[str]:
    """How each backend stands to the baseline, or to the first where that was not timed."""
    by_label: dict[str, dict[tuple[str, str], Row]] = defaultdict(dict)
    for one in rows:
        by_label[one.entry.label][one.entry.result.case, one.entry.result.dtype] = one
    where = machine(kind, report.environments[run]) if kind is not Evidence.PREDICTED else ""
    start = f"{op}, {KINDS[kind]}{f' on {where}' if where and kind is Evidence.DEVICE else ''}"
    base = next((label for label in by_label if label.startswith(BASELINE)), next(iter(by_label)))
    others = [label for label in by_label if label != base]
    for label in others:
        shared = by_label[label].keys() & by_label[base].keys()
        ratios = [by_label[label][case].us / by_label[base][case].us for case in shared]
        if ratios:
            mean = math.exp(statistics.fmean(map(math.log, ratios)))
            extent = f", {short(min(ratios))} to {short(max(ratios))}" if len(ratios) > 1 else ""
            yield f"{start}: {label} takes {short(mean)} of {base}'s time ({plural(len(ratios), 'case')}{extent})"
    shares = sorted(one.of_roofline for one in rows if one.of_roofline is not None)
    if not others and shares:
        best, middle = short(shares[-1]), short(statistics.median(shares))
        yield f"{start}: {base} reaches {best} % of its roofline at best and {middle} % in the median"
