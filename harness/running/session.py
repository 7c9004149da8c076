"""Carry a request out: plan it, run its tasks, keep what comes.

A session prints nothing. Whoever wants to see, keep or stop a run as it goes hands in an `Observer`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

from triptych.harness.backends import BACKENDS
from triptych.harness.errors import RequiredMissing, UsageError
from triptych.harness.ops.op import Op
from triptych.harness.results.result import Result
from triptych.harness.results.status import BAD, Cause, Status
from triptych.harness.running.plan import Plan, plan
from triptych.harness.running.request import Request
from triptych.harness.running.runner import Workers
from triptych.harness.running.tasks import Key, Settings, Task, key, result_without_run
from triptych.harness.running.workers import cores

TUNED = "triton"  # the backend whose launchers offer configurations


class Runner(Protocol):
    """What runs tasks: `runner.Workers`, or something in its place."""

    def __call__(
        self, tasks: Sequence[Task], settings: Settings, *, timeout_s: float, on_result: Callable[[Result], None]
    ) -> object: ...


class Run:
    """A request that is under way, and what came of it so far."""

    def __init__(self, plan: Plan, settings: Settings) -> None:
        self.plan = plan
        self.settings = settings
        self.env: dict[str, Any] = {}  # of the document, if one is to be written
        self.interrupted = False
        self.jobs = 1  # how many tasks run at once
        self._results: list[Result] = []

    @cached_property
    def _order(self) -> dict[Key, int]:
        return {key(task): i for i, task in enumerate(self.plan.tasks)}

    def add(self, result: Result) -> None:
        self._results.append(result)

    @property
    def results(self) -> list[Result]:
        """Those that are there, in the order of their tasks."""
        return sorted(self._results, key=lambda result: self._order[key(result)])

    @property
    def left(self) -> list[Task]:
        """The tasks that have no result."""
        done = {key(result) for result in self._results}
        return [task for task in self.plan.tasks if key(task) not in done]


class Observer:
    """Something that looks on while a run goes; it may raise `StopRun` on a result."""

    def started(self, run: Run) -> None:
        """Nothing has run yet; results that are added now are not run again."""

    def ready(self, run: Run) -> None:
        """All observers have started, and the first task is next."""

    def on_result(self, run: Run, result: Result) -> None:
        """`result` has just been added to `run`."""

    def ended(self, run: Run) -> None:
        """Nothing runs any more, whatever the reason."""


class StopRun(Exception):
    """An observer has seen enough."""


class StopAtFirst(Observer):
    """Ends the run at the first case that does not pass."""

    def on_result(self, run: Run, result: Result) -> None:
        if result.status in BAD:
            raise StopRun


class Session:
    """Carries out one request after the other.

    runner: what runs the tasks; without it worker processes, as many as a request says
    ops: those to choose from, by name; without them a request's own file or ours
    missing: why a backend is not where the runner is, None if it is; without it, of this process
    """

    def __init__(
        self,
        runner: Runner | None = None,
        ops: Mapping[str, Op] | None = None,
        missing: Callable[[str], str | None] = lambda name: BACKENDS[name].missing(),
    ) -> None:
        self.runner = runner
        self.ops = ops
        self.missing = missing

    def run(self, request: Request, observers: Sequence[Observer] = ()) -> Run:
        """Everything that is asked for, or as much as came before an interrupt or an observer's `StopRun`.

        UsageError for what does not exist, RequiredMissing for a backend that must be here and is not.
        """
        made = plan(request, self.ops)
        check_tuning(request, self.missing)
        check_required(request.required, self.missing)
        settings = Settings(
            no_check=request.no_check,
            wanted=made.tolerance,
            tune_s=request.tune_s,
            memory=request.memory,
            paranoid=request.paranoid,
            cluster=request.cluster,
        )
        run = Run(made, settings)
        if self.runner is not None:
            self._carry_out(request, run, self.runner, observers)
            return run
        ops: dict[str | None, dict[str, Op]] = {}
        tasks = [task for task in made.tasks if not task.left_out]
        for task in tasks:
            ops.setdefault(task.source, {})[task.op] = made.ops[task.op]
        jobs = made.jobs or cores.usable()
        with Workers.for_tasks(tasks, ops, jobs, may_fork=not request.paranoid) as workers:
            run.jobs = len(workers.workers)
            self._carry_out(request, run, workers, observers)
        return run

    def _carry_out(self, request: Request, run: Run, runner: Runner, observers: Sequence[Observer]) -> None:
        """Run what is left, while the observers look on."""

        def finished(result: Result) -> None:
            run.add(result)
            for observer in observers:
                observer.on_result(run, result)

        for number, observer in enumerate(observers):
            try:
                observer.started(run)
            except BaseException:
                for earlier in observers[:number]:
                    earlier.ended(run)
                raise
        for task in run.left:
            if task.left_out:
                run.add(result_without_run(task, Status.SKIPPED, task.left_out, Cause.LEFT_OUT))
        for observer in observers:
            observer.ready(run)
        try:
            runner(run.left, run.settings, timeout_s=request.timeout_s, on_result=finished)
        except StopRun:
            pass
        except KeyboardInterrupt:
            run.interrupted = True
        finally:
            for observer in observers:
                observer.ended(run)


def check_tuning(request: Request, missing: Callable[[str], str | None]) -> None:
    """RequiredMissing if configurations are to be timed where no GPU is, UsageError where that makes no sense."""
    if request.tune_s is None:
        return
    if request.cluster:
        raise UsageError("--tune keeps what it finds on the machine that it runs on: run it there, without --cluster.")
    if request.backends and TUNED not in request.backends:
        raise UsageError(f"--tune is for the backend {TUNED}, which is not among those that are named.")
    if request.tune_s >= request.timeout_s:
        raise UsageError(
            f"--tune {request.tune_s:g} is for each case, and must end before --timeout {request.timeout_s:g} does."
        )
    reason = missing(TUNED)
    if reason:
        raise RequiredMissing(f"--tune times configurations of Triton kernels on a GPU: {reason}")


def check_required(
    names: Sequence[str], missing: Callable[[str], str | None] = lambda name: BACKENDS[name].missing()
) -> None:
    """RequiredMissing unless all of these backends are here, or where `missing` says."""
    for name in names:
        reason = missing(name)
        if reason:
            raise RequiredMissing(f"the required backend {name} is missing: {reason}")
