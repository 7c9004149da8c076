"""The chapter on the same bits again: which kernels repeat them, over runs and for a part of their batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from triptych.harness.reports.report.data import ReportData
from triptych.harness.results.findings import Alone, Invariance, Runs


class Repeated(NamedTuple):
    """How many cases repeat their bits, and whether they must."""

    same: int
    cases: int
    axes: str  # along which a part of the batch was run alone
    promised: bool
    broken: bool  # a promise that was not kept


class Row(NamedTuple):
    """One op on one backend; None where it was not tried."""

    op: str
    label: str
    runs: Repeated | None
    alone: Repeated | None


def invariance(report: ReportData) -> list[Row]:
    """A row for each op and backend that was run again."""
    groups: dict[tuple[str, str], list[Invariance]] = defaultdict(list)
    for entry in report.verdicts:
        if entry.result.invariance.runs:
            groups[entry.result.op, entry.label].append(entry.result.invariance)
    return [
        Row(*key, count_repeated([i.runs for i in some if i.runs]), count_repeated([i.alone for i in some if i.alone]))
        for key, some in groups.items()
    ]


def count_repeated(found: Sequence[Runs | Alone]) -> Repeated | None:
    """What these say together; None if there are none."""
    if not found:
        return None
    return Repeated(
        sum(one.identical for one in found),
        len(found),
        ", ".join(dict.fromkeys(one.axis for one in found if isinstance(one, Alone))),
        any(one.promised for one in found),
        any(one.promised and not one.identical for one in found),
    )
