"""Run tasks in a worker process, or in this one; those of one case together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from triptych.harness.backends import BACKENDS
from triptych.harness.ops.op import Op
from triptych.harness.results.result import Result
from triptych.harness.results.status import Cause, Status
from triptych.harness.running.process import WorkerProcess
from triptych.harness.running.tasks import TIMEOUT_S, Settings, Task, result_without_run


def run(
    tasks: Sequence[Task],
    settings: Settings | None = None,
    *,
    timeout_s: float = TIMEOUT_S,
    on_result: Callable[[Result], None] = lambda _: None,
) -> list[Result]:
    """A result for every task, in their order.

    Tasks of one case run one after the other, wherever they stand, because they share inputs and reference.

    timeout_s: the limit of each phase of a task
    on_result: sees each result as it comes
    """
    check_backends(tasks)
    settings = settings or Settings()
    with WorkerProcess() as worker:
        return perform_all(tasks, lambda task: worker.perform(task, settings, timeout_s), on_result)


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

        bench = Bench(lambda phase: None)
        bench.sources = {source: dict(self.ops) for source in {task.source for task in tasks}}
        return perform_all(tasks, lambda task: bench.perform(task, settings), on_result)


def check_backends(tasks: Sequence[Task]) -> None:
    """ValueError for a backend that does not exist."""
    for task in tasks:
        if task.backend not in BACKENDS:
            raise ValueError(f"there is no backend {task.backend!r}; there is {', '.join(BACKENDS)}")


def perform_all(
    tasks: Sequence[Task], perform: Callable[[Task], Result], on_result: Callable[[Result], None]
) -> list[Result]:
    """The results of tasks in their order; those whose backend is not here are not performed."""
    missing = {name: BACKENDS[name].missing() for name in dict.fromkeys(task.backend for task in tasks)}
    results: dict[int, Result] = {}
    for i in by_case(tasks):
        why = missing[tasks[i].backend]
        if why:
            results[i] = result_without_run(tasks[i], Status.SKIPPED, why, Cause.BACKEND_MISSING)
        else:
            results[i] = perform(tasks[i])
        on_result(results[i])
    return [results[i] for i in range(len(tasks))]


def by_case(tasks: Sequence[Task]) -> Iterator[int]:
    """The positions of the tasks, those of one case together."""
    groups: dict[str, list[int]] = {}
    for i, task in enumerate(tasks):
        groups.setdefault(repr((task.source, task.op, task.case)), []).append(i)
    return (i for group in groups.values() for i in group)
