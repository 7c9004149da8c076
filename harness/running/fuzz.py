"""`check --fuzz SECONDS`: search for a case that fails, and shrink it to the smallest that fails in the same way.

Hypothesis draws the op, its sizes, params, dtype, regime and seed; every chosen backend runs the case. The first
disagreement is shrunk to the smallest case that ends in the same way on the same backend. The sequence of cases depends
on --seed alone, its length on the time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from triptych.harness import extras
from triptych.harness.backends import REFERENCES
from triptych.harness.errors import UsageError
from triptych.harness.ops.case import Case, carried
from triptych.harness.ops.drawn_cases import drawing
from triptych.harness.results.result import Result
from triptych.harness.results.status import BAD, Cause, Status
from triptych.harness.running.plan import Plan, targets_of
from triptych.harness.running.process import WorkerProcess
from triptych.harness.running.tasks import Settings, Task

LEAST_TO_SHRINK_S = 10.0
UNTELLING = (Cause.REFUSED_INPUTS, Cause.UNINFORMATIVE_CASE)  # no kernel is to blame


class TimeUp(BaseException):
    """Leaves hypothesis's loop, which takes an Exception for a failure of the case."""


class Disagreement(Exception):
    """What hypothesis shrinks."""


@dataclass
class Search:
    """What a search has found so far."""

    cases: int = 0
    compared: int = 0  # pairs of a case and a backend that ran; the reference counts if it is alone
    failure: Result | None = None  # of the smallest case
    first: Case | None = None  # the case that failed first
    smallest: Case | None = None
    whole: bool = True  # whether shrinking came to its end
    missing: dict[str, str] = field(default_factory=dict)  # backend -> why it is not here


class Searcher:
    """Runs what hypothesis draws, until the time is up.

    seconds: for the search; a failure is shrunk for at most as long again, or ten seconds
    on_case: sees the search after each case
    """

    def __init__(
        self,
        plan: Plan,
        worker: WorkerProcess,
        settings: Settings,
        *,
        seconds: float,
        timeout_s: float,
        on_case: Callable[[Search], None],
    ) -> None:
        self.plan, self.worker, self.settings = plan, worker, settings
        self.seconds, self.timeout_s, self.on_case = seconds, timeout_s, on_case
        self.search = Search(missing={b.name: why for b in plan.backends if (why := b.missing())})
        self.backends = [backend for backend in plan.backends if backend.name not in self.search.missing]
        self.end = time.monotonic() + seconds
        self.kind: tuple[str, str, str | None, Status] | None = None  # of the first failure, as are its shrunk forms

    def run(self, case: Case) -> None:
        """`case` on every backend; Disagreement where it fails, in the way of the first failure if there is one."""
        if time.monotonic() > self.end:
            self.search.whole = False
            raise TimeUp
        self.search.cases += self.kind is None
        for task in self.tasks(case):
            result = self.worker.perform(task, self.settings, self.timeout_s)
            if result.status is Status.UNSUPPORTED or result.cause in UNTELLING:
                continue
            self.search.compared += self.kind is None and (task.backend not in REFERENCES or len(self.backends) == 1)
            kind = (task.op, task.backend, task.target, result.status)
            if result.status in BAD and self.kind in (None, kind):
                self.failed(case, result, kind)
        self.on_case(self.search)

    def tasks(self, case: Case) -> list[Task]:
        """Those of a case; of the backend that failed alone, once one has."""
        op = self.plan.ops[case.op]
        return [
            Task(
                op.name,
                self.plan.sources.get(op.name),
                carried(case, op.declared_sets),
                b.name,
                target,
                repro=self.plan.repro(op, "", case, b, target),
            )
            for b in self.backends
            for target in targets_of(b, self.plan.targets)
            if self.kind is None or (op.name, b.name, target) == self.kind[:3]
        ]

    def failed(self, case: Case, result: Result, kind: tuple[str, str, str | None, Status]) -> None:
        if self.kind is None:
            self.kind, self.search.first = kind, case
            self.end = time.monotonic() + max(self.seconds, LEAST_TO_SHRINK_S)
        self.search.failure, self.search.smallest = result, case
        raise Disagreement


def search(
    plan: Plan,
    settings: Settings,
    *,
    seconds: float,
    timeout_s: float,
    on_case: Callable[[Search], None] = lambda _: None,
) -> Search:
    """Draw and run cases of a plan's ops on its backends for `seconds`, and shrink what fails."""
    if why := extras.why_not("hypothesis"):
        raise UsageError(f"--fuzz searches with hypothesis, and {why}")
    import hypothesis
    from hypothesis import HealthCheck, Phase, Verbosity

    with WorkerProcess() as worker:
        searcher = Searcher(plan, worker, settings, seconds=seconds, timeout_s=timeout_s, on_case=on_case)
        if not searcher.backends:
            return searcher.search
        given: Any = hypothesis.given(drawing(plan.ops, plan.selection))
        seeded: Any = hypothesis.seed(plan.selection.seed)
        test: Any = hypothesis.settings(
            max_examples=10**7,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            report_multiple_bugs=False,
            print_blob=False,
            verbosity=Verbosity.quiet,
            suppress_health_check=list(HealthCheck),
        )(seeded(given(lambda case: searcher.run(case))))
        try:
            test()
        except (TimeUp, Disagreement):
            pass
        except hypothesis.errors.FlakyFailure:  # seen once and not again: the case itself is kept and told
            searcher.search.whole = False
    return searcher.search


def summary(found: Search, plan: Plan, seconds: float) -> str:
    """The last line: how much was tried, and what came of it."""
    ops, seed = ", ".join(plan.ops), plan.selection.seed
    tried = f"{found.cases} case{'s' * (found.cases != 1)}, {found.compared} comparison{'s' * (found.compared != 1)}"
    if not found.compared:
        return f"fuzz: {found.cases} cases of {ops}, and nothing could be compared: no chosen backend runs them"
    if found.failure is None:
        return f"fuzz: {tried} of {ops} in {seconds:g} s, and none fails · seed {seed}"
    assert found.first is not None and found.smallest is not None
    if found.first == found.smallest:
        how = "which is as small as it gets" if found.whole else "which was not shrunk in the time"
    else:
        how = f"shrunk from {found.first.name}" + ("" if found.whole else ", not to the end for lack of time")
    return f"fuzz: a failure after {tried}, {how} · seed {seed}"
