"""What a test under `triptych.parametrize` gets: one case on one backend, to be run in the session's worker."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from triptych.harness.backends import BACKENDS
from triptych.harness.reports import failures, figures
from triptych.harness.results.result import Result
from triptych.harness.results.status import Status
from triptych.harness.running.process import WorkerProcess
from triptych.harness.running.tasks import TIMEOUT_S, Settings, Task
from triptych.harness.testing.baseline import Baseline

RAN = "triptych_backend"  # the property of a test that ran, by which --triptych-require counts


class KernelCase:
    """A case of an op on a backend.

    properties: of the test, which a JUnit report shows
    required: whether the backend's absence is a failure
    baseline: what it took before, if times are asked for
    """

    def __init__(
        self,
        task: Task,
        worker: WorkerProcess,
        properties: list[tuple[str, object]],
        required: bool,
        baseline: Baseline | None = None,
    ) -> None:
        self.task = replace(task, bench=True) if baseline and baseline.times(task) else task
        self.baseline = baseline
        self.worker = worker
        self.properties = properties
        self.required = required

    def check(self) -> Result:
        """Run the case; the test fails or is skipped unless it passes."""
        __tracebackhide__ = True
        backend = self.task.backend
        missing = BACKENDS[backend].missing()
        if missing and self.required:
            pytest.fail(f"the required backend {backend} is missing: {missing}", pytrace=False)
        if missing:
            pytest.skip(f"{backend}: {missing}")
        result = self.worker.perform(self.task, Settings(), TIMEOUT_S)
        if result.status is Status.UNSUPPORTED:
            pytest.skip(f"{backend}: {result.reason}")
        self.properties += [(RAN, backend), *properties(result)]
        if result.status is not Status.PASSED:
            pytest.fail(message(result), pytrace=False)
        if self.baseline and result.timing:
            times, slower = self.baseline.held(result)
            self.properties += times
            if slower:
                pytest.fail(
                    f"{slower}\n\nrepeat it alone: {result.repro.replace(' check ', ' bench ', 1)}", pytrace=False
                )
        return result


def properties(result: Result) -> list[tuple[str, Any]]:
    """What goes into a JUnit report beside the outcome."""
    metrics = result.metrics
    numbers = [("max_abs_ulp", metrics.max_abs_ulp), ("rel_l2", metrics.rel_l2)] if metrics else []
    return [("evidence", str(result.evidence)), *numbers]


def message(result: Result) -> str:
    """What a failed test says: how it disagrees, where, why, and the command that repeats it.

    The reason comes first: of the whole message pytest's summary shows the first line, beside the name of the test.
    """
    paragraphs = [
        str(result.reason),
        "\n".join(failures.lines(result.failure)),
        figures.blame(result),
        f"repeat it alone: {result.repro}",
    ]
    return "\n\n".join(filter(None, paragraphs))
