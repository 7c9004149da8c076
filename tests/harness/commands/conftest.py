"""A runner that runs nothing: what the command line makes of results does not depend on where they come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from triptych.harness.backends import BACKENDS
from triptych.harness.commands import check
from triptych.harness.results.result import Result, Status
from triptych.harness.running.runner import Task, ended

Outcome = Callable[[Task], tuple[Status, str | None]]


def passing(task: Task) -> tuple[Status, str | None]:
    return Status.PASSED, None


class Runner:
    """Stands in for `runner.run`; keeps the tasks and settings that it was given."""

    def __init__(self) -> None:
        self.outcome: Outcome = passing
        self.tasks: list[Task] = []
        self.settings: dict[str, Any] = {}

    def __call__(self, tasks: list[Task], *, on_result: Callable[[Result], None], **settings: Any) -> list[Result]:
        self.tasks, self.settings = list(tasks), settings
        for task in tasks:
            away = BACKENDS[task.backend].missing()
            status, reason = (Status.SKIPPED, away) if away else self.outcome(task)
            result = ended(task, status, reason or "")
            result.reason = reason
            if status is Status.PASSED:
                result.metrics = {"max_abs": 1e-3, "rel_l2": float("nan"), "max_ulp": 1, "max_abs_ulp": 0.5}
                result.tolerance = {
                    "source": "default",
                    "rule": "derived",
                    "factor": 2.0,
                    "max_abs": 2e-3,
                    "rel_l2": 1e-3,
                }
                if task.bench:
                    simulated = task.backend == "nki-sim"
                    time = {"predicted_us": 2.0, "evidence": "predicted"} if simulated else {"median_us": 5.0}
                    result.timing = {**time, "samples_us": [] if simulated else [4.0, 5.0, 6.0], "flops": 10**6}
            on_result(result)
        return []


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Runner:
    made = Runner()
    monkeypatch.setattr(check, "run", made)
    return made


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make backends look missing."""

    def hide(*names: str) -> None:
        for name in names:
            monkeypatch.setattr(type(BACKENDS[name]), "missing", lambda self: "it is not here")

    return hide
