"""A runner that runs nothing: what the command line makes of results does not depend on where they come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from msgspec import structs

from triptych.harness.backends import BACKENDS
from triptych.harness.backends.clocks import summary
from triptych.harness.commands import cli
from triptych.harness.results.measures import Derived, Kinds, Metrics, Nonfinite
from triptych.harness.results.result import Result
from triptych.harness.results.status import Evidence, Status
from triptych.harness.results.timing import Measured, Predicted
from triptych.harness.results.timing_accuracy import LAST_VALIDATION
from triptych.harness.running.session import Session
from triptych.harness.running.tasks import Settings, Task, result_without_run

Outcome = Callable[[Task], tuple[Any, ...]]  # status, reason and, where it matters, the cause


NO_NUMBER = Kinds(nan=0, inf=0, minus_inf=0)
METRICS = Metrics(
    max_abs=1e-3,
    max_rel=1e-3,
    rel_l2=float("nan"),
    cosine=1.0,
    max_abs_ulp=0.5,
    max_ulp=1,
    worst_index=[0],
    expected=1.0,
    got=1.0,
    mismatches=0,
    nonfinite=Nonfinite(expected=NO_NUMBER, got=NO_NUMBER, misplaced=0, at=[]),
)
TOLERANCE = Derived(
    source="default",
    regime="normal",
    factor=2.0,
    baseline="plain",
    baselines=["plain"],
    draws=1,
    max_abs=2e-3,
    rel_l2=1e-3,
    floor=0.0,
)
PREDICTED = Predicted(
    timer="timing model",
    evidence=Evidence.PREDICTED,
    predicted_us=2.0,
    accuracy=LAST_VALIDATION,
    mfu=0.0,
    busy_share={},
    flops=10**6,
)


def measured(evidence: Evidence) -> Measured:
    timing = summary([4.0, 5.0, 6.0], 0, evidence, timer="host clock", cache="warm")
    return structs.replace(timing, flops=10**6)


def made(**changes: Any) -> Result:
    """A result that passed, with changes."""
    result = Result(
        op="matmul",
        case="1",
        dtype="float32",
        backend="numpy",
        target=None,
        evidence=Evidence.REFERENCE,
        status=Status.PASSED,
        metrics=METRICS,
        tolerance=TOLERANCE,
    )
    return structs.replace(result, **changes)


@pytest.fixture(name="made")
def made_result() -> Callable[..., Result]:
    return made


def passing(task: Task) -> tuple[Status, str | None]:
    return Status.PASSED, None


class Runner:
    """Stands in for `runner.run`; keeps the tasks and settings that it was given."""

    def __init__(self) -> None:
        self.outcome: Outcome = passing
        self.tasks: list[Task] = []
        self.settings = Settings()
        self.timeout_s = 0.0

    def main(self, words: Sequence[str]) -> int:
        """The command line, with this for what runs tasks."""
        return cli.main(words, Session(self))

    def __call__(
        self, tasks: Sequence[Task], settings: Settings, *, timeout_s: float, on_result: Callable[[Result], None]
    ) -> None:
        self.tasks, self.settings, self.timeout_s = list(tasks), settings, timeout_s
        for task in tasks:
            away = BACKENDS[task.backend].missing()
            status, reason, *cause = (Status.SKIPPED, away) if away else self.outcome(task)
            result = result_without_run(task, status, reason or "", *cause)
            result.reason = reason
            if status is Status.PASSED:
                result.metrics, result.tolerance = METRICS, TOLERANCE
                if task.bench:
                    result.timing = PREDICTED if task.backend == "nki-sim" else measured(result.evidence)
            on_result(result)


@pytest.fixture(name="measured")
def measured_timing() -> Callable[[Evidence], Measured]:
    return measured


@pytest.fixture
def runner() -> Runner:
    return Runner()


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make backends look missing."""

    def hide(*names: str) -> None:
        for name in names:
            monkeypatch.setattr(type(BACKENDS[name]), "missing", lambda self: "it is not here")

    return hide
