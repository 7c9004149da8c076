"""Run tasks in worker processes, or in this one; those of one case together."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Protocol

from msgspec import structs

from triptych.harness.backends import BACKENDS
from triptych.harness.ops.op import Op
from triptych.harness.results.result import Result
from triptych.harness.results.status import Cause, Evidence, Status
from triptych.harness.results.timing import Measured
from triptych.harness.running import memory_limit
from triptych.harness.running.process import WorkerProcess
from triptych.harness.running.tasks import TIMEOUT_S, Settings, Task, result_without_run
from triptych.harness.running.workers import cores, forked
from triptych.harness.running.workers.handing_out import hand_out
from triptych.harness.running.workers.machine import Machine

WORTH_A_START = 8  # cases: a process that is not forked takes about as long to start as so many small ones to run
Chain = Sequence[int]  # positions of tasks that one worker runs, in this order


class Workers:
    """Runs tasks in worker processes, `jobs` of them at once.

    What is timed by a clock of this machine, or runs on a device, has the machine to itself meanwhile. Results do not
    depend on `jobs`: a worker has its share of the memory, and what that does not suffice for is run again, alone and
    with all of it.
    """

    def __init__(self, jobs: int = 1) -> None:
        self.workers = [WorkerProcess() for _ in range(jobs)]

    @classmethod
    def for_tasks(
        cls, tasks: Sequence[Task], ops: Mapping[str | None, Mapping[str, Op]], jobs: int, may_fork: bool
    ) -> Workers:
        """As many workers as such tasks keep busy; where that is safe they are forked, with the ops that are loaded.

        ops: by their file
        """
        here = [task for task in tasks if not BACKENDS[task.backend].missing()]
        chains = len(chains_of(here))
        warm = may_fork and bool(here) and forked.is_safe()
        if warm:
            import_for(here, ops)
            warm = forked.is_safe()
        workers = cls(max(1, min(cores.bearable(jobs), chains if warm else chains // WORTH_A_START)))
        if warm:
            for worker in workers.workers:
                with contextlib.suppress(OSError):  # no further process can be had; it is started when it is needed
                    worker.fork(ops)
        return workers

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.stop()

    def __call__(
        self,
        tasks: Sequence[Task],
        settings: Settings,
        *,
        timeout_s: float = TIMEOUT_S,
        on_result: Callable[[Result], None] = lambda _: None,
    ) -> list[Result]:
        """A result for every task, in their order.

        timeout_s: the limit of each phase of a task
        on_result: sees each result as it comes
        """
        check_backends(tasks)
        missing = {name: BACKENDS[name].missing() for name in dict.fromkeys(task.backend for task in tasks)}
        run = TaskRun(tasks, settings, timeout_s, missing, memory_limit.default(), len(self.workers))
        results: dict[int, Result] = {}
        with closing(
            hand_out(chains_of(tasks), [TaskHand(worker, run, WorkerProcess) for worker in self.workers])
        ) as coming:
            for i, result in coming:
                results[i] = result
                on_result(result)
        return [results[i] for i in range(len(tasks))]


class Performer(Protocol):
    """What performs tasks within limits, as a `WorkerProcess` does."""

    def perform(self, task: Task, settings: Settings, timeout_s: float) -> Result:
        """The task's result, whatever it does to the process."""

    def kill(self) -> None:
        """End the process, for another thread."""

    def stop(self) -> None:
        """End the process; a further task starts another."""


class TaskRun:
    """What the hands of one run share that work on one machine.

    missing: why backends are not there, by name
    memory: bytes that the hands may take together; None: not known
    among: how many hands these are
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        settings: Settings,
        timeout_s: float,
        missing: Mapping[str, str | None],
        memory: int | None,
        among: int,
    ) -> None:
        self.tasks, self.timeout_s, self.missing = tasks, timeout_s, missing
        self.machine = Machine()
        self.settings = self.whole = settings
        self.shares_memory = False
        if among > 1 and settings.memory is None and memory is not None:
            self.settings, self.whole = replace(settings, memory=memory // among), replace(settings, memory=memory)
            self.shares_memory = True

    def wants_machine(self, task: Task) -> bool:
        """Whether a task is to run alone: it runs on a device, or is timed by a clock and not by a model."""
        evidence = BACKENDS[task.backend].evidence
        return evidence is Evidence.DEVICE or (task.bench and evidence is not Evidence.SIMULATED)


class TaskHand:
    """One worker in a run, which is started again after a task that it did not survive.

    another: makes what has all of the memory, when a share of it was too little
    """

    def __init__(self, worker: Performer, run: TaskRun, another: Callable[[], Performer]) -> None:
        self.worker, self.run, self.another = worker, run, another
        self.in_its_stead: Performer | None = None  # with all of the memory, for the rest of a chain
        self.chain: Chain = ()

    @property
    def is_fit(self) -> bool:
        return True

    def mend(self) -> bool:
        return True

    def takes(self, number: int) -> bool:
        return True

    def do(self, number: int, chain: Chain) -> Result:
        task = self.run.tasks[number]
        why = self.run.missing[task.backend]
        if why:
            return result_without_run(task, Status.SKIPPED, why, Cause.BACKEND_MISSING)
        if chain is not self.chain:
            self.chain = chain
            self._let_go()
        if self.in_its_stead is not None:
            with self.run.machine.alone():
                return timed_alone(self._with_all_memory(task, self.in_its_stead))
        alone = self.run.wants_machine(task)
        with self.run.machine.alone() if alone else self.run.machine.shared():
            result = self.worker.perform(task, self.run.settings, self.run.timeout_s)
        if result.cause is Cause.OUT_OF_MEMORY and self.run.shares_memory:
            return self._once_more(number, chain)
        return timed_alone(result)

    def _once_more(self, number: int, chain: Chain) -> Result:
        """A task for which a share of the memory was too little, with all of it, after what comes before it."""
        self.worker.stop()
        self.in_its_stead = self.another()
        with self.run.machine.alone():
            self.repeat(chain[: chain.index(number)])
            return timed_alone(self._with_all_memory(self.run.tasks[number], self.in_its_stead))

    def repeat(self, numbers: Chain) -> None:
        """Run what comes before a task in its chain again, untimed, for what the task shares with it."""
        for task in (self.run.tasks[i] for i in numbers):
            if not self.run.missing[task.backend]:
                untimed = replace(task, bench=False)
                if self.in_its_stead is not None:
                    self._with_all_memory(untimed, self.in_its_stead)
                else:
                    self.worker.perform(untimed, self.run.settings, self.run.timeout_s)

    def _with_all_memory(self, task: Task, worker: Performer) -> Result:
        return worker.perform(task, self.run.whole, self.run.timeout_s)

    def _let_go(self) -> None:
        if self.in_its_stead is not None:
            self.in_its_stead.stop()
            self.in_its_stead = None

    def kill(self) -> None:
        for worker in (self.worker, self.in_its_stead):
            if worker is not None:
                worker.kill()

    def stop(self) -> None:
        self.worker.stop()
        self._let_go()


class InThisProcess:
    """Runs tasks of some ops without a worker process, and without its limits of time and memory.

    ops: by name; their kernels may be functions, which no other process could load
    """

    def __init__(self, ops: Mapping[str, Op]) -> None:
        self.ops = ops

    def __call__(
        self,
        tasks: Sequence[Task],
        settings: Settings,
        *,
        timeout_s: float = TIMEOUT_S,
        on_result: Callable[[Result], None] = lambda _: None,
    ) -> list[Result]:
        """A result for every task, in their order."""
        from triptych.harness.running.bench import Bench

        check_backends(tasks)
        bench = Bench(lambda phase: None)
        bench.sources = {source: dict(self.ops) for source in {task.source for task in tasks}}
        results: dict[int, Result] = {}
        for i in (i for chain in by_case(tasks) for i in chain):
            why = BACKENDS[tasks[i].backend].missing()
            if why:
                results[i] = result_without_run(tasks[i], Status.SKIPPED, why, Cause.BACKEND_MISSING)
            else:
                results[i] = timed_alone(bench.perform(tasks[i], settings))
            on_result(results[i])
        return [results[i] for i in range(len(tasks))]


def run(
    tasks: Sequence[Task],
    settings: Settings | None = None,
    *,
    timeout_s: float = TIMEOUT_S,
    on_result: Callable[[Result], None] = lambda _: None,
) -> list[Result]:
    """A result for every task, in their order, by one worker."""
    with Workers() as workers:
        return workers(tasks, settings or Settings(), timeout_s=timeout_s, on_result=on_result)


def check_backends(tasks: Sequence[Task]) -> None:
    """ValueError for a backend that does not exist."""
    for task in tasks:
        if task.backend not in BACKENDS:
            raise ValueError(f"there is no backend {task.backend!r}; there is {', '.join(BACKENDS)}")


def timed_alone(result: Result) -> Result:
    """A result whose measured time, if it has one, says that nothing else of the run was at work meanwhile."""
    if isinstance(result.timing, Measured):
        result.timing = structs.replace(result.timing, alone=True)
    return result


def import_for(tasks: Sequence[Task], ops: Mapping[str | None, Mapping[str, Op]]) -> None:
    """Import what tasks need, for the processes that are forked off this one; what cannot be is for a worker to say."""
    wanted = {
        module
        for task in tasks
        if getattr(ops.get(task.source, {}).get(task.op), BACKENDS[task.backend].panel, None) is not None
        for module in BACKENDS[task.backend].imports
    }
    for module in sorted(wanted):
        with contextlib.suppress(Exception):
            importlib.import_module(module)


def by_case(tasks: Sequence[Task]) -> list[Chain]:
    """The positions of the tasks, those of one case together."""
    groups: dict[str, list[int]] = {}
    for i, task in enumerate(tasks):
        groups.setdefault(repr((task.source, task.op, task.case)), []).append(i)
    return list(groups.values())


def chains_of(tasks: Sequence[Task]) -> list[Chain]:
    """What one worker does at a stretch: the tasks of a case; all cases that use a device, which has one user."""
    here = {name: not BACKENDS[name].missing() for name in dict.fromkeys(task.backend for task in tasks)}
    apart: list[Chain] = []
    on_device: list[int] = []
    for group in by_case(tasks):
        names = {tasks[i].backend for i in group}
        if any(here[name] and BACKENDS[name].evidence is Evidence.DEVICE for name in names):
            on_device += group
        else:
            apart.append(group)
    return [on_device, *apart] if on_device else apart
