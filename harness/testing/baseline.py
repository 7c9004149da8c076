"""The gate of `triptych compare` for tests: what a document says that a case took, and how much longer it may take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from triptych.harness.comparing.changes import Comparison, change
from triptych.harness.comparing.gate import Limits, gate, limits
from triptych.harness.reports.comparison.cells import beyond
from triptych.harness.results import environment
from triptych.harness.results.document import read
from triptych.harness.results.origin import origin
from triptych.harness.results.profile import Outcome
from triptych.harness.results.result import Result
from triptych.harness.results.timing import Predicted
from triptych.harness.running.tasks import Key, Task, key

RATIO = "new_over_base"  # the property of a test that was held against the baseline


@dataclass(frozen=True)
class Baseline:
    """The results of a document that have a time, and the limits that hold for the tests of the same cases."""

    rows: Mapping[Key, Result]
    limits: Limits
    elsewhere: str  # why its measured times say nothing here

    @classmethod
    def read(cls, path: str, words: str | None) -> Baseline:
        """The document at `path`; UsageError if it is none, or if the limits are none."""
        saved = read(path)
        rows = {key(r): r for r in saved.results if isinstance(r, Result) and r.timing is not None}
        here = origin({"cpu": environment.cpu(), "gpus": environment.gpus()}).machine
        there = saved.origin.machine
        elsewhere = "" if here == there else f"measured on {there} and on {here}"
        return cls(rows, limits(words) if words else {}, elsewhere)

    def times(self, task: Task) -> bool:
        """Whether a test takes a time: one that has nothing to be compared with takes none."""
        return key(task) in self.rows

    def held(self, result: Result) -> tuple[list[tuple[str, Any]], str]:
        """The properties of a test that took a time, and why it fails; empty if it does not."""
        base = self.rows[key(result)]
        found = change(base, result, self.elsewhere)
        told: list[tuple[str, Any]] = []
        for name, outcome in (("", result), ("baseline_", base)):
            told += [(f"{name}{metric}", value) for metric, value in time_of(outcome)]
        if found.ratio is None or not found.trusted:
            return told, ""
        told.append((RATIO, round(found.ratio.value, 4)))
        verdict = gate(Comparison("baseline", "now", [found]), self.limits)
        if not verdict.regressed:
            return told, ""
        return told, f"slower than the baseline: {beyond(found, verdict)}"


def time_of(outcome: Outcome) -> list[tuple[str, float]]:
    """`predicted_us` or `median_us`, with its value."""
    if outcome.timing is None:
        return []
    return [("predicted_us" if isinstance(outcome.timing, Predicted) else "median_us", outcome.timing.us)]
