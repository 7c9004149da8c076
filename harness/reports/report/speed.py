"""The report's chapter on speed: one chart for each run, kind of evidence and op.

A bar is compared only with bars of its own chart, so that a prediction never stands beside a measurement.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from html import escape
from typing import Any

from triptych.harness.reports import tables
from triptych.harness.reports.report.page import Book, Entry, breakable
from triptych.harness.results.status import Evidence
from triptych.harness.results.timing import Measured, Timing

ORDER = (
    Evidence.DEVICE,
    Evidence.HOST,
    Evidence.PREDICTED,
    Evidence.INTERPRETED,
    Evidence.SIMULATED,
    Evidence.REFERENCE,
)

TITLES = {
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


def speed(book: Book) -> str:
    """Every timed result, in groups that may be ranked."""
    timed = [entry for entry in book.entries if tables.time_evidence(entry.result) is not None]
    parts = []
    for kind in ORDER:
        for run in range(len(book.environments)):
            entries = [e for e in timed if tables.time_evidence(e.result) is kind and e.run == run]
            if entries:
                parts.append(group(kind, entries, machine(kind, book.environments[run]), len(book.environments) > 1))
    if not parts:
        return ""
    return "<p>Compare lengths within one chart only: each chart is one kind of evidence on one machine.</p>" + "".join(
        parts
    )


def machine(kind: Evidence, env: Any) -> str:
    """What a time of this kind was taken on."""
    if kind is Evidence.DEVICE:
        return (
            ", ".join(f"{gpu.get('name')} (driver {gpu.get('driver')})" for gpu in env.get("gpus") or [])
            or "accelerator"
        )
    if kind is Evidence.PREDICTED:
        return "model of the chip"
    return f"{env.get('cpu') or 'CPU'}, {env.get('cores')} cores"


def group(kind: Evidence, entries: Sequence[Entry], where: str, several: bool) -> str:
    title, caveat = TITLES[kind]
    run = f" · run {entries[0].run + 1}" if several else ""
    charts = "".join(
        chart(op, kind, [entry for entry in entries if entry.result.op == op])
        for op in dict.fromkeys(entry.result.op for entry in entries)
    )
    warning = f'<p class="caveat">{escape(caveat)}</p>' if caveat else ""
    return (
        f'<div class="evidence {kind}"><h3><span class="kind">{kind}</span> {escape(title)}'
        f"<small>{escape(where)}{run}</small></h3>{warning}{charts}</div>"
    )


def chart(op: str, kind: Evidence, entries: Sequence[Entry]) -> str:
    """Rows of one op, fastest first within a case; bars are throughput, or time where no flops are known."""
    by_rate = all(tables.tflops(entry.result) is not None for entry in entries)
    fastest = max((tables.tflops(entry.result) or 0.0 for entry in entries), default=0.0)
    unit = "TFLOP/s" if fastest >= 1 else "GFLOP/s"
    longest = max((length(entry, by_rate) for entry in entries), default=0) or 1
    cases: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        cases.setdefault((entry.result.case, entry.result.dtype), []).append(entry)
    body = []
    for (case, dtype), rows in cases.items():
        rows.sort(key=lambda entry: tables.time_us(entry.result) or 0)
        for i, entry in enumerate(rows):
            cells = row(entry, kind, length(entry, by_rate) / longest, unit)
            name = f"{breakable(case)} <span>{escape(dtype)}</span>"
            label = f'<th scope=rowgroup rowspan="{len(rows)}">{name}</th>' if i == 0 else ""
            body.append(f"<tr{' class=first' if i == 0 else ''}>{label}{cells}</tr>")
    measure = f"{unit}, longer is faster" if by_rate else "time, shorter is faster"
    median = "predicted µs" if kind is Evidence.PREDICTED else "median µs"
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="Speed of {escape(op)}, {kind}">'
        f'<table class="speed"><caption><b>{escape(op)}</b> bars: {measure}</caption>'
        f"<thead><tr><th scope=col>case</th><th scope=col>backend</th><th scope=col class=bar>{kind}</th>"
        f"<th scope=col class=num>{unit}</th><th scope=col class=num>{median}</th>"
        f"<th scope=col class=num>GB/s</th></tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def length(entry: Entry, by_rate: bool) -> float:
    return (tables.tflops(entry.result) if by_rate else tables.time_us(entry.result)) or 0.0


def row(entry: Entry, kind: Evidence, share: float, unit: str) -> str:
    result = entry.result
    rate = tables.tflops(result)
    if rate is not None and unit == "GFLOP/s":
        rate *= 1e3
    return (
        f'<th scope=row class="{entry.family}">{escape(entry.place)}</th>'
        f'<td class="bar"><i class="{entry.family} {kind}" style="width:{max(share * 100, 0.4):.1f}%"></i></td>'
        f"<td class=num>{tables.short(rate)}</td>"
        f"<td class=num>{tables.short(tables.time_us(result))}{spread(result.timing)}</td>"
        f"<td class=num>{tables.short(tables.gbytes(result))}</td>"
    )


def spread(timing: Timing | None) -> str:
    """The middle half of the samples, and how many there are."""
    if not isinstance(timing, Measured) or len(timing.samples_us) < 4:
        return ""
    low, _, high = statistics.quantiles(timing.samples_us, n=4)
    return f"<span>{tables.short(low)}–{tables.short(high)}, n {len(timing.samples_us)}</span>"
