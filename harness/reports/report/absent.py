"""The chapter on what did not run: skipped backends and unsupported cases, one line a reason."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from triptych.harness.reports.figures import note
from triptych.harness.reports.report.data import ReportData
from triptych.harness.results.status import Status


class Group(NamedTuple):
    """Cases that did not run on a backend, all for one reason."""

    label: str
    status: Status
    reason: str
    cases: int


def absent(report: ReportData) -> list[Group]:
    """How many cases of which backend did not run, and why."""
    groups = Counter(
        (entry.label, entry.result.status, note(entry.result) or "no reason given")
        for entry in report.entries
        if entry.result.status in (Status.SKIPPED, Status.UNSUPPORTED)
    )
    return [Group(*key, cases) for key, cases in groups.items()]
