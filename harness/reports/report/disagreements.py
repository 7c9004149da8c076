"""The chapter on what disagreed: the same reason on many cases is one problem, with its first case's command."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from triptych.harness.judge.failure import maps
from triptych.harness.reports import failures
from triptych.harness.reports.figures import blame, note
from triptych.harness.reports.report.data import Entry, ReportData
from triptych.harness.results.findings import Failure
from triptych.harness.results.profile import Outcome
from triptych.harness.results.result import Result
from triptych.harness.results.status import Status


@dataclass(frozen=True)
class Bin:
    """A bar of the histogram of errors."""

    label: str
    count: int
    percent: float  # of the longest bar


@dataclass(frozen=True)
class Shape:
    """Where and by how much a kernel fails."""

    diagnosis: str
    bins: Sequence[Bin]
    caption: str
    picture: str


@dataclass(frozen=True)
class Card:
    """One reason, and the cases that have it; all but the reason is of the first of them."""

    op: str
    status: Status
    reason: str
    names: Sequence[str]
    failure: Shape | None
    cause: str
    repro: str


def disagreements(report: ReportData) -> list[Card]:
    """A card for each op, status and reason."""
    groups: dict[tuple[str, Status, str], list[Entry[Outcome]]] = defaultdict(list)
    for entry in report.bad():
        groups[entry.result.op, entry.result.status, note(entry.result) or "no reason given"].append(entry)
    return [_card(*key, entries) for key, entries in groups.items()]


def _card(op: str, status: Status, reason: str, entries: Sequence[Entry[Outcome]]) -> Card:
    names = [f"{e.result.case} · {e.result.dtype} · {e.label}" for e in entries]
    first = entries[0].result
    if not isinstance(first, Result):
        return Card(op, status, reason, names, None, "", first.repro)
    shape = _shape(first.failure) if first.failure else None
    return Card(op, status, reason, names, shape, blame(first), first.repro)


def _shape(failure: Failure) -> Shape:
    found = failures.bins(failure.histogram)
    most = max(count for _, count in found)
    return Shape(
        failure.diagnosis,
        [Bin(label, count, max(1.0, 100 * count / most)) for label, count in found],
        failures.caption(failure.map),
        "\n".join([*failure.map.lines, "", maps.LEGEND]),
    )
