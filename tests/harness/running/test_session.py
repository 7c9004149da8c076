"""A request is carried out as it says: what is planned, who looks on, and what is left when it ends early."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from triptych.harness.backends import BACKENDS
from triptych.harness.collection import builtin
from triptych.harness.errors import RequiredMissing, UsageError
from triptych.harness.ops.op import Op
from triptych.harness.reports.progress import Progress
from triptych.harness.results.result import Result
from triptych.harness.results.status import Cause, Status
from triptych.harness.running import session as room
from triptych.harness.running.plan import plan
from triptych.harness.running.request import Request
from triptych.harness.running.session import Observer, Run, Session, StopAtFirst, StopRun
from triptych.harness.running.tasks import Settings, Task, result_without_run

OP = Op("one", {"x": ("M",)}, lambda x: 2 * x, {"smoke": [{"M": 3}, {"M": 4}]}, dtypes=("float32",))
REQUEST = Request(backends=["numpy", "torch"], timeout_s=7.0)


class Passing:
    """Runs nothing: every task passes, but those of which `ends` says otherwise."""

    def __init__(self, ends: Callable[[Task], Status] = lambda task: Status.PASSED) -> None:
        self.ends = ends
        self.tasks: list[Task] = []

    def __call__(
        self, tasks: Sequence[Task], settings: Settings, *, timeout_s: float, on_result: Callable[[Result], None]
    ) -> None:
        self.settings, self.timeout_s = settings, timeout_s
        for task in tasks:
            self.tasks.append(task)
            status = self.ends(task)
            on_result(result_without_run(task, status, "", None if status is Status.PASSED else Cause.KERNEL_ERROR))


class Witness(Observer):
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def started(self, run: Run) -> None:
        self.seen.append(("started", len(run.left)))

    def on_result(self, run: Run, result: Result) -> None:
        self.seen.append((result.case, result.backend, len(run.left)))

    def ended(self, run: Run) -> None:
        self.seen.append("ended")


def session(runner: Passing) -> Session:
    return Session(runner, {"one": OP})


class Refusing(Observer):
    def started(self, run: Run) -> None:
        raise UsageError("not now")


def test_who_has_started_ends_though_another_refuses_to_start() -> None:
    first, last = Witness(), Witness()
    with pytest.raises(UsageError, match="not now"):
        session(Passing()).run(REQUEST, [first, Refusing(), last])
    assert first.seen == [("started", 4), "ended"] and last.seen == []


def test_every_result_is_seen_as_it_comes() -> None:
    witness, runner = Witness(), Passing()
    run = session(runner).run(REQUEST, [witness])
    expected = [("3", "numpy", 3), ("3", "torch", 2), ("4", "numpy", 1), ("4", "torch", 0)]
    assert witness.seen == [("started", 4), *expected, "ended"]
    assert [(r.case, r.backend) for r in run.results] == [(case, backend) for case, backend, _ in expected]
    assert runner.timeout_s == 7.0 and run.env == {} and not run.interrupted


@pytest.mark.parametrize("error", [StopRun, KeyboardInterrupt])
def test_a_run_that_ends_early_keeps_what_came(error: type[BaseException]) -> None:
    class Impatient(Observer):
        def on_result(self, run: Run, result: Result) -> None:
            if result.case == "4":
                raise error

    witness = Witness()
    run = session(Passing()).run(REQUEST, [Impatient(), witness])
    assert len(run.results) == 3 and len(run.left) == 1 and witness.seen[-1] == "ended"
    assert run.interrupted is (error is KeyboardInterrupt)


def test_stop_at_first_is_for_what_is_bad() -> None:
    ends = {"numpy": Status.UNSUPPORTED, "torch": Status.ERROR}
    run = session(Passing(lambda task: ends[task.backend])).run(REQUEST, [StopAtFirst()])
    assert [result.status for result in run.results] == [Status.UNSUPPORTED, Status.ERROR]


def test_what_is_there_at_the_start_is_not_run_again_and_keeps_its_place() -> None:
    class Remembers(Observer):
        def started(self, run: Run) -> None:
            run.add(result_without_run(run.plan.tasks[2], Status.FAILED, "before", Cause.MISMATCH))

    runner = Passing()
    run = session(runner).run(REQUEST, [Remembers()])
    assert len(runner.tasks) == 3 and [result.reason for result in run.results] == ["", "", "before", ""]


def test_settings_are_what_the_request_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRIPTYCH_BUDGET", raising=False)
    runner = Passing()
    session(runner).run(Request(no_check=True, memory=2**30, paranoid=True))
    assert runner.settings == Settings(no_check=True, memory=2**30, paranoid=True)


def test_a_backend_that_must_be_here_stops_a_run_before_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(BACKENDS["torch"]), "missing", lambda self: "it is not here")
    runner, witness = Passing(), Witness()
    with pytest.raises(RequiredMissing, match="the required backend torch is missing: it is not here"):
        session(runner).run(Request(required=["torch"]), [witness])
    assert runner.tasks == [] and witness.seen == []


def test_a_plan_without_sets_that_exist_takes_what_there_is() -> None:
    edge = Op("two", {"x": ("M",)}, lambda x: 2 * x, {"edge": [{"M": 1}]}, dtypes=("float32",))
    assert plan(Request(), {"two": edge}).selection.sets == ["edge", "adversarial"]
    assert plan(Request(specs=["M=5"]), {"two": edge}).selection.sets == []
    with pytest.raises(UsageError, match="-a is for the cases of a set"):
        plan(Request(specs=["M=5"], axes={"M": [1]}), {"two": edge})


def test_an_op_of_no_file_has_no_command_that_repeats_it() -> None:
    ours = plan(Request(ops=["matmul"], names="64*", backends=["numpy"])).tasks
    assert all(task.repro.startswith("triptych check matmul --cases smoke -k 64x128x96") for task in ours)
    assert {task.repro for task in plan(Request(), {"one": OP}).tasks} == {""}
    assert {task.repro for task in plan(Request(), {"matmul": builtin()["matmul"]}).tasks} != {""}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_says_what_runs_now_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    runner = Passing(lambda task: Status.ERROR if task.case.name == "3" else Status.PASSED)
    session(runner).run(REQUEST, [Progress()])
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue())
    assert "[0/4] one 3 float32 numpy" in shown and "[3/4, 2 not passed] one 4 float32 torch" in shown
    assert terminal.getvalue().rstrip().endswith("\x1b[2K"), "the line is taken away"


class Hired:
    """In the place of `runner.Workers`: keeps what it was made for."""

    asked: tuple[Any, ...] = ()

    def __init__(self) -> None:
        self.workers, self.open = [1, 2, 3], 0

    @classmethod
    def for_tasks(cls, tasks: Any, ops: Any, jobs: int, may_fork: bool) -> Hired:
        Hired.asked = (list(tasks), ops, jobs, may_fork)
        return cls()

    def __enter__(self) -> Hired:
        self.open += 1
        return self

    def __exit__(self, *_: object) -> None:
        self.open -= 1

    def __call__(self, tasks: Any, settings: Any, *, timeout_s: float, on_result: Callable[[Result], None]) -> None:
        assert self.open == 1
        for task in tasks:
            on_result(result_without_run(task, Status.PASSED, ""))


@pytest.mark.parametrize(("jobs", "paranoid", "expected"), [(None, False, (5, True)), (2, True, (2, False))])
def test_workers_are_as_many_as_asked_for_or_one_a_core(
    monkeypatch: pytest.MonkeyPatch, jobs: int | None, paranoid: bool, expected: tuple[int, bool]
) -> None:
    monkeypatch.setattr(room, "Workers", Hired)
    monkeypatch.setattr(room.cores, "usable", lambda: 5)
    seen: list[int] = []

    class Looks(Observer):
        def ready(self, run: Run) -> None:
            seen.append(run.jobs)

    request = Request(backends=["numpy"], jobs=jobs, paranoid=paranoid)
    run = Session(ops={"one": OP}).run(request, [Looks()])
    tasks, ops, *rest = Hired.asked
    assert tuple(rest) == expected and tasks == run.plan.tasks and ops == {None: {"one": OP}}
    assert run.jobs == 3 == seen[0] and len(run.results) == 2 and not run.left


def test_whoever_hands_in_a_runner_has_one_job() -> None:
    assert session(Passing()).run(REQUEST).jobs == 1


def test_every_observer_is_ready_after_all_have_started_and_ends_whatever_happens() -> None:
    order: list[str] = []

    class Says(Observer):
        def __init__(self, name: str) -> None:
            self.name = name

        def started(self, run: Run) -> None:
            order.append(f"{self.name} starts")

        def ready(self, run: Run) -> None:
            order.append(f"{self.name} is ready")

        def ended(self, run: Run) -> None:
            order.append(f"{self.name} ends")

    def breaks(task: Task) -> Status:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        session(Passing(breaks)).run(REQUEST, [Says("a"), Says("b")])
    assert order == ["a starts", "b starts", "a is ready", "b is ready", "a ends", "b ends"]
