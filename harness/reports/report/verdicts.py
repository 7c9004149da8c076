"""The chapter of every verdict: a row for each case and dtype, a column for each backend that is here."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from triptych.harness.reports.figures import note, share_of_bound
from triptych.harness.reports.report.data import Entry, ReportData
from triptych.harness.results.result import Result
from triptych.harness.results.status import Evidence, Status


@dataclass(frozen=True)
class Column:
    """A backend."""

    label: str
    family: str
    evidence: Evidence


@dataclass(frozen=True)
class Cell:
    """How a case ended on a backend, with its error as a number and as the length of a rule."""

    status: Status
    note: str
    share: float | None  # of the bound
    percent: float


@dataclass(frozen=True)
class Matrix:
    """The verdicts of one op, by case, dtype and label of the backend."""

    op: str
    columns: Sequence[Column]
    cases: Mapping[str, Mapping[str, Mapping[str, Cell]]]


def verdicts(report: ReportData) -> list[Matrix]:
    """One table for each op of which anything ran; a backend that was always skipped has no column."""
    here = {entry.label for entry in report.verdicts if entry.result.status is not Status.SKIPPED}
    by_op: dict[str, list[Entry[Result]]] = defaultdict(list)
    for entry in report.verdicts:
        if entry.label in here:
            by_op[entry.result.op].append(entry)
    return [_matrix(op, entries) for op, entries in by_op.items()]


def _matrix(op: str, entries: Sequence[Entry[Result]]) -> Matrix:
    columns = {entry.label: Column(entry.label, entry.family, entry.result.evidence) for entry in entries}
    cases: dict[str, dict[str, dict[str, Cell]]] = defaultdict(lambda: defaultdict(dict))
    for entry in entries:
        cases[entry.result.case][entry.result.dtype][entry.label] = _cell(entry)
    return Matrix(op, list(columns.values()), cases)


def _cell(entry: Entry[Result]) -> Cell:
    result = entry.result
    share = None if result.evidence is Evidence.REFERENCE else share_of_bound(result)
    percent = 100 * min(share, 1.0) if share is not None and math.isfinite(share) else 100.0
    return Cell(result.status, note(result), share, percent)
