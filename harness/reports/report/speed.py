"""The chapter on speed: one chart for each kind of evidence, run and op.

A bar is compared only with bars of its own chart, so that a prediction never stands beside a measurement.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from triptych.harness.reports.figures import gbytes, tflops, time_evidence, time_us
from triptych.harness.reports.formats import short
from triptych.harness.reports.report.data import Entry, Environment, ReportData
from triptych.harness.results.profile import Outcome
from triptych.harness.results.status import Evidence
from triptych.harness.results.timing import Measured, Time

TITLES = {  # in the order of the page; with what a reader must not take from it
    Evidence.DEVICE: ("Measured on the accelerator", ""),
    Evidence.HOST: ("Measured on this CPU", ""),
    Evidence.PREDICTED: (
        "Predicted for the chip",
        "A model of the chip; docs/timing.md says how far it is from what was measured. Nothing here was measured.",
    ),
    Evidence.INTERPRETED: (
        "Time of Triton's interpreter",
        "How long a check takes on this CPU. It says nothing about the kernel's speed on a GPU.",
    ),
    Evidence.SIMULATED: (
        "Time of the simulator",
        "How long a simulation takes on this CPU. It says nothing about a chip.",
    ),
    Evidence.REFERENCE: ("Time of the reference", "The float64 definition on this CPU; it is written to be read."),
}


@dataclass(frozen=True)
class Row:
    """The time of a case on a backend, and its bar."""

    label: str
    family: str
    percent: float  # of the longest bar
    rate: float | None  # in the chart's unit
    us: float
    spread: str
    gbytes: float | None


@dataclass(frozen=True)
class Chart:
    """The rows of one op by case and dtype, the fastest first."""

    op: str
    by_rate: bool  # bars are throughput; else time, since the flops of a row are not known
    unit: str
    cases: Mapping[tuple[str, str], Sequence[Row]]


@dataclass(frozen=True)
class Group:
    """The charts of one kind of evidence on one machine."""

    kind: Evidence
    title: str
    caveat: str
    machine: str
    median: str
    charts: Sequence[Chart]


def speed(report: ReportData) -> list[Group]:
    """Every time, in groups that may be ranked."""
    timed = [entry for entry in report.entries if time_us(entry.result) is not None]
    groups = []
    for kind in TITLES:
        for run, env in enumerate(report.environments):
            entries = [e for e in timed if time_evidence(e.result) is kind and e.run == run]
            if entries:
                groups.append(_group(kind, entries, env))
    return groups


def _group(kind: Evidence, entries: Sequence[Entry[Outcome]], env: Environment) -> Group:
    title, caveat = TITLES[kind]
    run = f" · run {entries[0].run + 1}" if entries[0].runs > 1 else ""
    by_op: dict[str, list[Entry[Outcome]]] = defaultdict(list)
    for entry in entries:
        by_op[entry.result.op].append(entry)
    return Group(
        kind,
        title,
        caveat,
        machine(kind, env) + run,
        "predicted µs" if kind is Evidence.PREDICTED else "median µs",
        [_chart(op, some) for op, some in by_op.items()],
    )


def machine(kind: Evidence, env: Environment) -> str:
    """What a time of this kind was taken on."""
    if kind is Evidence.DEVICE:
        gpus = [f"{gpu.get('name')} (driver {gpu.get('driver')})" for gpu in env.get("gpus") or []]
        return ", ".join(gpus) or "accelerator"
    if kind is Evidence.PREDICTED:
        return "model of the chip"
    return f"{env.get('cpu') or 'CPU'}, {env.get('cores')} cores"


def _chart(op: str, entries: Sequence[Entry[Outcome]]) -> Chart:
    rates = [tflops(entry.result) for entry in entries]
    by_rate = None not in rates
    factor, unit = (1.0, "TFLOP/s") if max(rate or 0.0 for rate in rates) >= 1 else (1e3, "GFLOP/s")
    longest = max(_length(entry, by_rate) for entry in entries) or 1.0
    cases: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for entry in sorted(entries, key=lambda entry: time_us(entry.result) or 0.0):
        rate = tflops(entry.result)
        row = Row(
            entry.label,
            entry.family,
            max(100 * _length(entry, by_rate) / longest, 0.4),
            None if rate is None else rate * factor,
            time_us(entry.result) or 0.0,
            spread(entry.result.timing),
            gbytes(entry.result),
        )
        cases[entry.result.case, entry.result.dtype].append(row)
    order = dict.fromkeys((entry.result.case, entry.result.dtype) for entry in entries)
    return Chart(op, by_rate, unit, {key: cases[key] for key in order})


def _length(entry: Entry[Outcome], by_rate: bool) -> float:
    return (tflops(entry.result) if by_rate else time_us(entry.result)) or 0.0


def spread(timing: Time | None) -> str:
    """The middle half of the samples, and how many there are."""
    if not isinstance(timing, Measured) or len(timing.samples_us) < 4:
        return ""
    low, _, high = statistics.quantiles(timing.samples_us, n=4)
    return f"{short(low)}–{short(high)}, n {len(timing.samples_us)}"
