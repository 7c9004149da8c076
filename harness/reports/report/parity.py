"""The chapter on backends against each other: one matrix an op and run."""

from __future__ import annotations

from triptych.harness.judge.parity import Matrix, matrices
from triptych.harness.reports.report.data import ReportData


def parity(report: ReportData) -> list[tuple[str, Matrix]]:
    """Each matrix with its title: the largest difference of each pair of backends."""
    found = []
    runs = len(report.environments)
    for run in range(runs):
        results = [entry.result for entry in report.verdicts if entry.run == run]
        more = f" · run {run + 1}" if runs > 1 else ""
        found += [(op + more, matrix) for op, matrix in matrices(results).items()]
    return found
