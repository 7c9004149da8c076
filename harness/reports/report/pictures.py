"""The chapter of pictures: a roofline for each chip, speed against size, and the distributions of samples.

A picture holds one kind of evidence of one run; bounds are lines, and nothing is stacked or summed.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from triptych.harness.reports.charts.chart import Axis, Bound, Chart, Mark, Series
from triptych.harness.reports.charts.files import MOST as BARS
from triptych.harness.reports.charts.files import bars
from triptych.harness.reports.figures import tflops, time_evidence
from triptych.harness.reports.formats import plural, short
from triptych.harness.reports.report.data import Entry, ReportData
from triptych.harness.reports.report.limits import KINDS, Limits, caption, limits_of
from triptych.harness.reports.report.speed import Row, speed, timed
from triptych.harness.results.profile import Outcome
from triptych.harness.results.status import Evidence
from triptych.harness.results.timing import Measured

FEWEST = 5  # samples of a distribution
MOST = 24  # distributions of one machine
DIAGRAMS = 6  # of a comment
Entries = list[Entry[Outcome]]


@dataclass(frozen=True)
class Spread:
    """The samples of one case on one backend, in percent of the axis."""

    name: str
    label: str
    family: str
    words: str
    low: str
    whole: str
    first: str
    half: str
    median: str


@dataclass(frozen=True)
class Spreads:
    """The distributions of one machine."""

    title: str
    caption: str
    axis: Axis
    rows: Sequence[Spread]


@dataclass(frozen=True)
class Pictures:
    rooflines: Sequence[Chart]
    sizes: Sequence[Chart]
    spreads: Sequence[Spreads]


def pictures(report: ReportData) -> Pictures | None:
    """Those that there are numbers for; None where there is none."""
    entries = timed(report)
    found = Pictures(rooflines(report, entries), sizes(report, entries), spreads(report, entries))
    return found if found.rooflines or found.sizes or found.spreads else None


def by(entries: Entries, key: Callable[[Entry[Outcome]], object]) -> dict[object, Entries]:
    """The entries in groups, in the order in which they come."""
    groups: dict[object, Entries] = defaultdict(list)
    for entry in entries:
        groups[key(entry)].append(entry)
    return groups


def kind_of(entry: Entry[Outcome]) -> Evidence:
    return time_evidence(entry.result) or Evidence.HOST


def rooflines(report: ReportData, entries: Entries) -> list[Chart]:
    """Rate against intensity, under the roofline of each dtype that was run on a chip."""
    known: dict[tuple[str, int, Evidence], list[tuple[Entry[Outcome], Limits]]] = defaultdict(list)
    for entry in entries:
        timing, limits = entry.result.timing, limits_of(entry, report.environments[entry.run])
        if limits is not None and timing is not None and timing.flops and timing.bytes and timing.us:
            known[limits.name, entry.run, kind_of(entry)].append((entry, limits))
    found = []
    for (name, run, kind), some in known.items():
        members = [entry for entry, _ in some]
        points = [(intensity(entry), tflops(entry.result) or 0.0) for entry in members]
        peaks = {(limits.tflop_per_s, limits.gb_per_s): entry.result.dtype for entry, limits in some}
        ridges = [peak * 1e3 / gb for peak, gb in peaks]
        x = Axis.over("operations a byte of memory traffic, at least", [p[0] for p in points] + ridges)
        y = Axis.over("TFLOP/s", [p[1] for p in points if p[1]] + [peak for peak, _ in peaks])
        bounds = [Bound(f"roofline in {dtype}", roof(x, y, *limit)) for limit, dtype in peaks.items()]
        note = caption(kind, report.environments[run], members)
        found.append(Chart(f"Roofline of {name}, {KINDS[kind]}", note, x, y, series(members, intensity), bounds))
    return found


def roof(x: Axis, y: Axis, peak: float, gb_per_s: float) -> list[tuple[float, float]]:
    """Up along the memory's rate, then level at the peak."""
    start = max(x.low, y.low * 1e3 / gb_per_s)
    return [(start, start * gb_per_s / 1e3), (peak * 1e3 / gb_per_s, peak), (x.high, peak)]


def intensity(entry: Entry[Outcome]) -> float:
    timing = entry.result.timing
    assert timing is not None and timing.flops and timing.bytes
    return timing.flops / timing.bytes


def operations(entry: Entry[Outcome]) -> float:
    return float((entry.result.timing and entry.result.timing.flops) or 0)


def series(entries: Entries, x: Callable[[Entry[Outcome]], float], joined: bool = False) -> list[Series]:
    """The rates of each backend, by `x`."""
    found = []
    for some in by(entries, lambda e: (e.label, e.result.op, kind_of(e))).values():
        marks = [Mark(x(e), rate, words(e)) for e in some if (rate := tflops(e.result))]
        marks.sort(key=lambda mark: mark.x)
        first = some[0]
        name = f"{first.label} {first.result.op}"
        found.append(Series(name, first.family, KINDS[kind_of(first)].partition(" ")[0], marks, joined))
    return [one for one in found if one.marks]


def words(entry: Entry[Outcome]) -> str:
    result = entry.result
    us = result.timing.us if result.timing else 0.0
    return f"{result.case} {result.dtype}, {short(us)} µs, {short(tflops(result))} TFLOP/s"


def sizes(report: ReportData, entries: Entries) -> list[Chart]:
    """Rate against size, for each op, kind of evidence and run with three sizes at least."""
    found = []
    for some in by(entries, lambda e: (e.result.op, kind_of(e), e.run)).values():
        known = [e for e in some if operations(e) and tflops(e.result)]
        if len({operations(e) for e in known}) < 3:
            continue
        first, kind = known[0], kind_of(known[0])
        x = Axis.over("operations of a case", [operations(e) for e in known])
        y = Axis.over("TFLOP/s", [tflops(e.result) or 1.0 for e in known])
        note = caption(kind, report.environments[first.run], known)
        title = f"{first.result.op}: speed against size, {KINDS[kind]}"
        found.append(Chart(title, note, x, y, series(known, operations, joined=True)))
    return found


def spreads(report: ReportData, entries: Entries) -> list[Spreads]:
    """The samples of what was measured; of a machine with many cases, those that vary most."""
    found = []
    measured = [
        e for e in entries if isinstance(e.result.timing, Measured) and len(e.result.timing.samples_us) >= FEWEST
    ]
    for some in by(measured, lambda e: (kind_of(e), e.run)).values():
        shown = sorted(some, key=unsteadiness, reverse=True)[:MOST]
        axis = Axis.over("µs", [x for e in shown for x in samples(e)])
        kind, env = kind_of(some[0]), report.environments[some[0].run]
        more = f"; the {len(shown)} of {len(some)} that vary most" if len(shown) < len(some) else ""
        title = f"Samples, {KINDS[kind]}{more}"
        found.append(Spreads(title, caption(kind, env, shown), axis, [one_spread(e, axis) for e in shown]))
    return found


def samples(entry: Entry[Outcome]) -> list[float]:
    timing = entry.result.timing
    assert isinstance(timing, Measured)
    return [x for x in timing.samples_us if x > 0] or [timing.us or 1.0]


def unsteadiness(entry: Entry[Outcome]) -> float:
    """The middle half over the median."""
    first, median, third = statistics.quantiles(samples(entry), n=4) if len(samples(entry)) > 1 else (1.0, 1.0, 1.0)
    return (third - first) / median


def one_spread(entry: Entry[Outcome], axis: Axis) -> Spread:
    values = samples(entry)
    quartiles = statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
    at = [100 * axis.at(value) for value in (min(values), *quartiles, max(values))]
    low, first, median, third, high = at
    told = f"median {short(quartiles[1])} µs, middle half {short(quartiles[0])} to {short(quartiles[2])}, "
    told += f"all {short(min(values))} to {short(max(values))}, {plural(len(values), 'sample')}"
    result = entry.result
    numbers = (low, high - low, first, max(third - first, 0.3), median)
    return Spread(f"{result.op} {result.case} {result.dtype}", entry.label, entry.family, told, *map(fixed, numbers))


def fixed(value: float) -> str:
    return f"{value:.2f}"


def diagrams(report: ReportData) -> list[str]:
    """Share of the roofline for each op, backend, kind of evidence and run, as diagrams that Markdown draws.

    Of many cases the largest are shown: small ones are all launch.
    """
    found = speed(report)
    groups: dict[tuple[str, str, Evidence], list[Row]] = defaultdict(list)
    for row in found.rows if found else ():
        if row.of_roofline is not None:
            groups[row.entry.result.op, row.entry.label, row.kind].append(row)
    return [
        bars(
            f"{op} on {label}, {KINDS[kind]}",
            "% of the roofline",
            [f"{row.entry.result.case} {row.entry.result.dtype}" for row in largest(rows)],
            [row.of_roofline or 0.0 for row in largest(rows)],
        )
        for (op, label, kind), rows in list(groups.items())[:DIAGRAMS]
    ]


def largest(rows: Sequence[Row]) -> list[Row]:
    """The cases that take longest at best, the longest first."""
    return sorted(rows, key=lambda row: -(row.roofline_us or 0.0))[:BARS]
