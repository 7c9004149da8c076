"""The chapter on backends against each other: one matrix an op and run."""

from __future__ import annotations

from triptych.harness.judge.parity import Matrix, matrices
from triptych.harness.reports.report.data import ReportData


def parity(report: ReportData) -> list[tuple[str, Matrix]]:
    """Each matrix with its title: the largest difference of each pair of backends."""
    found = []
    for run, name in enumerate(report.run_names):
        results = [entry.result for entry in report.verdicts if entry.run == run]
        more = f" · {name}" if name else ""
        found += [(op + more, matrix) for op, matrix in matrices(results).items()]
    return found
