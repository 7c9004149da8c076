"""Who runs a task: how many workers there are, who has the machine alone, and who is without a backend."""

import types
from dataclasses import replace

import pytest

from triptych.harness.backends import BACKENDS
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Op
from triptych.harness.results.status import Cause, Evidence, Status
from triptych.harness.results.timing import Measured, Predicted
from triptych.harness.running import memory_limit, runner
from triptych.harness.running.runner import InThisProcess, TaskRun, Workers
from triptych.harness.running.tasks import Settings, Task, key, result_without_run

OP = Op("one", {"x": ("M",)}, lambda x: 2 * x, {"smoke": [{"M": 4}]}, dtypes=("float32",), torch="mine.py:kernel")


def task(backend="numpy", m=4, source=None, **options):
    return Task("one", source, Case("one", str(m), {"M": m}, "float32"), backend, None, **options)


def away(monkeypatch, *names):
    for name in BACKENDS:
        monkeypatch.setattr(
            BACKENDS[name], "missing", lambda name=name: "away" if name in names else None, raising=False
        )


@pytest.fixture
def forked(monkeypatch):
    """What is forked and imported, where forking is safe for as long as the test says."""
    told = types.SimpleNamespace(safe=[True] * 9, forks=0, imported=[])
    monkeypatch.setattr(runner.forked, "is_safe", lambda: told.safe.pop(0))
    monkeypatch.setattr(runner.cores, "bearable", lambda jobs: jobs)
    monkeypatch.setattr(runner.importlib, "import_module", told.imported.append)

    def fork(self, ops):
        told.forks += 1
        if told.forks == 2:
            raise OSError("no process")

    monkeypatch.setattr(runner.WorkerProcess, "fork", fork)
    return told


OPS = {None: {"one": OP}}


def cases(count, *backends):
    return [task(backend, m) for m in range(1, count + 1) for backend in backends or ("numpy",)]


@pytest.mark.parametrize(("count", "jobs", "workers"), [(3, 8, 3), (3, 2, 2), (1, 8, 1)])
def test_a_forked_worker_for_each_case(forked, monkeypatch, count, jobs, workers):
    away(monkeypatch)
    made = Workers.for_tasks(cases(count, "numpy", "torch"), OPS, jobs, may_fork=True)
    assert len(made.workers) == workers == forked.forks, "and one that cannot be had is no error"


@pytest.mark.parametrize(("count", "workers"), [(1, 1), (15, 1), (16, 2), (24, 3), (99, 4)])
def test_a_worker_that_is_started_anew_is_worth_eight_cases(forked, monkeypatch, count, workers):
    away(monkeypatch)
    made = Workers.for_tasks(cases(count), OPS, 4, may_fork=False)
    assert len(made.workers) == workers and forked.forks == 0 and forked.imported == []


def test_nothing_is_forked_where_that_is_not_safe_or_no_longer(forked, monkeypatch):
    away(monkeypatch)
    forked.safe[:] = [False, False]
    assert len(Workers.for_tasks(cases(16), OPS, 4, may_fork=True).workers) == 2 and forked.forks == 0
    forked.safe[:] = [True, False]
    assert len(Workers.for_tasks(cases(16), OPS, 4, may_fork=True).workers) == 2 and forked.forks == 0


def test_a_backend_that_is_not_here_needs_no_worker(forked, monkeypatch):
    away(monkeypatch, "torch")
    assert len(Workers.for_tasks(cases(3, "torch"), OPS, 4, may_fork=True).workers) == 1 and forked.forks == 0
    both = [task("torch", 1), task("numpy", 2), task("torch", 3)]
    assert len(Workers.for_tasks(both, OPS, 4, may_fork=True).workers) == 1 and forked.forks == 1


def test_what_backends_need_is_imported_before_where_the_op_has_a_panel_for_them(forked, monkeypatch):
    away(monkeypatch)
    for name, modules in (("torch", ("b", "a")), ("nki-sim", ("c",))):
        monkeypatch.setattr(BACKENDS[name], "imports", modules)
    monkeypatch.setattr(BACKENDS["numpy"], "imports", ())
    runner.import_for(cases(2, "numpy", "torch", "nki-sim"), OPS)
    assert forked.imported == ["a", "b"], "each once"
    forked.imported.clear()
    runner.import_for([task("torch", source="other.py")], OPS)
    assert forked.imported == []

    def fails(name):
        forked.imported.append(name)
        raise ImportError(name)

    monkeypatch.setattr(runner.importlib, "import_module", fails)
    runner.import_for([task("torch")], OPS)
    assert forked.imported == ["a", "b"]


# In worker processes


class Worker:
    """In the place of a worker process: keeps what it is asked, and ends a task as `ends` says."""

    made = []

    def __init__(self):
        self.asked, self.stopped = [], 0
        Worker.made.append(self)

    def perform(self, task, settings, timeout_s):
        self.asked.append((task, settings, timeout_s))
        cause = Worker.ends(self, task)
        return result_without_run(task, Status.ERROR if cause else Status.PASSED, "", cause)

    def stop(self):
        self.stopped += 1

    kill = stop


@pytest.fixture
def workers(monkeypatch):
    away(monkeypatch, "torch")
    monkeypatch.setattr(runner, "WorkerProcess", Worker)
    monkeypatch.setattr(Worker, "made", [])
    monkeypatch.setattr(Worker, "ends", staticmethod(lambda worker, task: None), raising=False)
    monkeypatch.setattr(memory_limit, "default", lambda: 800)
    return Worker


def test_results_stand_in_the_order_of_the_tasks_and_are_seen_as_they_come(workers):
    tasks = [task("numpy", 1), task("numpy", 2), task("nki-sim", 1), task("torch", 2)]
    came = []
    results = Workers(1)(tasks, Settings(), timeout_s=3.0, on_result=came.append)
    assert list(map(key, results)) == list(map(key, tasks))
    assert [(r.case, r.backend) for r in came] == [("1", "numpy"), ("1", "nki-sim"), ("2", "numpy"), ("2", "torch")]
    assert (results[3].status, results[3].reason, results[3].cause) == (Status.SKIPPED, "away", Cause.BACKEND_MISSING)
    (worker,) = workers.made
    assert [asked[1:] for asked in worker.asked] == [(Settings(), 3.0)] * 3 and worker.stopped == 1


@pytest.mark.parametrize(("jobs", "memory", "share"), [(1, None, None), (4, None, 200), (4, 50, 50), (1, 50, 50)])
def test_workers_share_the_memory_unless_somebody_says_how_much_each_may_take(workers, jobs, memory, share):
    Workers(jobs)(cases(6), Settings(memory=memory))
    assert {asked[1].memory for worker in workers.made for asked in worker.asked} == {share}


def test_where_memory_is_unknown_it_is_not_shared(workers, monkeypatch):
    monkeypatch.setattr(memory_limit, "default", lambda: None)
    monkeypatch.setattr(workers, "ends", staticmethod(lambda worker, task: Cause.OUT_OF_MEMORY))
    results = Workers(2)(cases(2), Settings())
    assert [result.cause for result in results] == [Cause.OUT_OF_MEMORY] * 2 and len(workers.made) == 2


def test_what_is_left_of_a_case_stays_with_the_worker_that_has_all_memory(workers, monkeypatch):
    """The chain's earlier tasks are done there first, without being timed, and its later ones after it."""

    def ends(worker, task):
        return Cause.OUT_OF_MEMORY if worker in shares and task.backend == "nki-sim" and task.case.name == "1" else None

    monkeypatch.setattr(workers, "ends", staticmethod(ends))
    order = ("numpy", "torch", "nki-sim", "triton-cpu")
    made = Workers(2)
    shares = list(workers.made)
    tasks = [task(backend, 1, bench=True) for backend in order] + [task("nki-sim", 2), task("nki-sim", 3)]
    results = made(tasks, Settings())
    assert [result.status for result in results] == [Status.PASSED, Status.SKIPPED, *[Status.PASSED] * 4]
    (whole,) = [worker for worker in workers.made if worker not in shares]
    asked = [(one.backend, one.bench, settings.memory) for one, settings, _ in whole.asked]
    assert asked == [("numpy", False, 800), ("nki-sim", True, 800), ("triton-cpu", True, 800)]
    assert whole.stopped == 1, "when the case is over"
    assert sorted(one.case.name for worker in shares for one, *_ in worker.asked) == ["1", "1", "2", "3"]


def test_an_unknown_backend_is_told_before_anything_runs(workers):
    for run in (Workers(1), InThisProcess({"one": OP})):
        with pytest.raises(ValueError, match=r"there is no backend 'gpu'; there is numpy, nki-sim"):
            run([task("numpy"), task("gpu")], Settings())
    assert all(not worker.asked for worker in workers.made)


def test_all_workers_are_stopped_at_the_end(workers):
    with Workers(3):
        pass
    assert [worker.stopped for worker in workers.made] == [1, 1, 1]


# Who has the machine alone


@pytest.mark.parametrize(
    ("evidence", "bench", "alone"),
    [
        (Evidence.DEVICE, False, True),
        (Evidence.DEVICE, True, True),
        (Evidence.HOST, True, True),
        (Evidence.HOST, False, False),
        (Evidence.SIMULATED, True, False),
        (Evidence.SIMULATED, False, False),
    ],
)
def test_a_device_and_a_clock_of_this_machine_are_used_alone(monkeypatch, evidence, bench, alone):
    monkeypatch.setitem(BACKENDS, "fake", types.SimpleNamespace(evidence=evidence))
    run = TaskRun([], Settings(), 1.0, {}, None, 1)
    assert run.wants_machine(task("fake", bench=bench)) is alone


def measured():
    us = dict.fromkeys(("median_us", "p10_us", "p90_us", "min_us", "max_us"), 1.0)
    return Measured(timer="t", cache="c", evidence=Evidence.HOST, **us, warmups=0, samples_us=[1.0])


def test_a_measured_time_says_that_it_was_alone():
    result = result_without_run(task(), Status.PASSED, "")
    result.timing = measured()
    assert result.timing.alone is not True and runner.timed_alone(result).timing.alone is True
    assert runner.timed_alone(result_without_run(task(), Status.PASSED, "")).timing is None
    assert not hasattr(Predicted, "alone")


# In this process


def test_tasks_run_in_this_process_case_by_case(monkeypatch):
    away(monkeypatch, "triton-cpu")
    ops = {"one": replace(OP, torch=lambda x: 2 * x)}
    tasks = [task("numpy", 5), task("numpy", 6), task("triton-cpu", 5), task("numpy", 5, source="mine.py")]
    came = []
    results = InThisProcess(ops)(tasks, Settings(), on_result=came.append)
    assert list(map(key, results)) == list(map(key, tasks))
    assert [result.status for result in results] == [Status.PASSED, Status.PASSED, Status.SKIPPED, Status.PASSED]
    assert (results[2].reason, results[2].cause) == ("away", Cause.BACKEND_MISSING)
    assert [[one is result for result in results].index(True) for one in came] == [0, 2, 1, 3]


def test_a_time_that_is_taken_in_this_process_is_alone(monkeypatch):
    away(monkeypatch)
    monkeypatch.setattr(BACKENDS["numpy"], "time", lambda *words: measured(), raising=False)
    (result,) = InThisProcess({"one": OP})([task("numpy", bench=True)], Settings())
    assert result.timing.alone is True
