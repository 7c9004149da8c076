"""Run tasks in a worker process, so that one that hangs or kills its process costs itself alone.

One worker serves task after task and is replaced when it dies or overruns. It announces each phase of a task; the time
limit holds for each phase, so that a slow reference is not charged to the kernel.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, BinaryIO

from msgspec import structs

from triptych.harness.backends import BACKENDS
from triptych.harness.backends.clocks import TimingBudget
from triptych.harness.judge.tolerance import Bounds
from triptych.harness.ops.case import Case
from triptych.harness.results.environment import ONE_THREAD
from triptych.harness.results.findings import Attribution
from triptych.harness.results.result import Result
from triptych.harness.results.status import Cause, Evidence, Status
from triptych.harness.running import crash_location

START_LIMIT_S = 300.0  # a loaded machine may take a minute, which is no fault of a kernel
BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop()); "
    "from triptych.harness.running.worker import main; main()"
)


@dataclass(frozen=True)
class Task:
    """One case on one backend, to be checked, timed, or both."""

    op: str
    source: str | None  # the user's file that declares the op; None for an op of this repository
    case: Case
    backend: str
    target: str | None
    check: bool = True
    bench: bool = False
    repro: str = ""  # the command line that runs this task alone, carried into the result


@dataclass(frozen=True)
class Settings:
    """What holds for every task of a run."""

    no_check: bool = False  # time a kernel even if its check fails
    wanted: Bounds | None = None  # the tolerance that the command line or the environment asks for
    budget: TimingBudget = field(default_factory=TimingBudget)
    memory: int | None = None  # bytes that the worker may take; None: a share of what is free
    repeat: bool = True  # run what passed again, on other inputs and on these


def run(
    tasks: Sequence[Task],
    *,
    timeout_s: float,
    no_check: bool = False,
    wanted: Bounds | None = None,
    budget: TimingBudget | None = None,
    memory: int | None = None,
    on_result: Callable[[Result], None] | None = None,
) -> list[Result]:
    """A result for every task, in their order; `on_result` sees each as it comes.

    Tasks of one case run one after the other, wherever they stand, because they share inputs and reference.
    """
    for task in tasks:
        if task.backend not in BACKENDS:
            raise ValueError(f"there is no backend {task.backend!r}; there is {', '.join(BACKENDS)}")
    settings = Settings(no_check, wanted, budget or TimingBudget(), memory)
    missing = {name: BACKENDS[name].missing() for name in dict.fromkeys(task.backend for task in tasks)}
    groups: dict[str, list[int]] = {}
    for i, task in enumerate(tasks):
        groups.setdefault(repr((task.source, task.op, task.case)), []).append(i)
    results: dict[int, Result] = {}
    with Worker() as worker:
        for i in (i for group in groups.values() for i in group):
            why = missing[tasks[i].backend]
            if why:
                results[i] = ended(tasks[i], Status.SKIPPED, why, Cause.BACKEND_MISSING)
            else:
                results[i] = worker.perform(tasks[i], settings, timeout_s)
            if on_result:
                on_result(results[i])
    return [results[i] for i in range(len(tasks))]


def ended(
    task: Task, status: Status, reason: str, cause: Cause | None = None, evidence: Evidence | None = None
) -> Result:
    """The result of a task that has no numbers."""
    if evidence is None:
        evidence = BACKENDS[task.backend].evidence
    return Result(
        op=task.op,
        case=task.case.name,
        dtype=task.case.dtype,
        regime=task.case.regime,
        backend=task.backend,
        target=task.target,
        evidence=evidence,
        status=status,
        reason=reason,
        cause=cause,
        repro=task.repro,
    )


def without_cause(result: Result, why: str) -> Result:
    """A verdict whose cause could not be found."""
    return structs.replace(result, attribution=Attribution(cause="unknown", text=why))


class Worker:
    """A child process that performs tasks; started at the first one and again after it died."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.replies: queue.SimpleQueue[tuple[str, Any] | None] = queue.SimpleQueue()
        self.stack: IO[bytes] | None = None  # where it writes its stack when it crashes or is asked

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def perform(self, task: Task, settings: Settings, timeout_s: float) -> Result:
        """The task's result, whatever it does to the worker."""
        phase = "starting"
        limit = START_LIMIT_S
        settled: Result | None = None  # judged, while its cause is still sought
        try:
            if self.process is not None and self.process.poll() is not None:
                self.stop()  # it died after its last reply, which is no fault of this task
            if self.process is None:
                self._start()
                self._reply(limit)
            phase, limit = "loading the op", timeout_s
            self._send((task, settings))
            while True:
                kind, value = self._reply(limit)
                if kind in ("result", "last result"):
                    assert isinstance(value, Result)
                    if kind == "last result":
                        self.stop()
                    return value
                if kind == "verdict":
                    settled = value
                else:
                    phase = value
        except TimeoutError:
            assert self.process is not None
            why = late(phase, limit, crash_location.asked_for(self.process.pid, self.stack))
            self.stop()
            return (
                ended(task, Status.TIMEOUT, why, Cause.TIME_LIMIT) if settled is None else without_cause(settled, why)
            )
        except (EOFError, BrokenPipeError):
            why = f"the worker process died while {phase}: {self._end_in_words()}"
            self.stop()
            died = ended(task, Status.ERROR, why, Cause.WORKER_DIED)
            return died if settled is None else without_cause(settled, why)

    def _start(self) -> None:
        self.stack = crash_location.opened()
        inherited = () if self.stack is None else (self.stack.fileno(),)
        self.process = subprocess.Popen(
            [sys.executable, "-c", BOOT, *map(str, inherited), json.dumps(sys.path)],
            pass_fds=inherited,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**ONE_THREAD, **os.environ},
            start_new_session=os.name == "posix",  # so that what a kernel starts dies with it
        )
        self.replies = queue.SimpleQueue()
        assert self.process.stdout is not None
        threading.Thread(target=_pump, args=(self.process.stdout, self.replies), daemon=True).start()

    def _send(self, message: object) -> None:
        assert self.process is not None and self.process.stdin is not None
        pickle.dump(message, self.process.stdin)
        self.process.stdin.flush()

    def _reply(self, limit_s: float) -> tuple[str, Any]:
        """The next message; TimeoutError after the limit, EOFError if the worker is gone."""
        try:
            message = self.replies.get(timeout=limit_s)
        except queue.Empty:
            raise TimeoutError from None
        if message is None:
            raise EOFError
        return message

    def stop(self) -> None:
        """End the worker and all that it started."""
        process, self.process = self.process, None
        if process is None:
            return
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()  # which a worker that still lives takes as the sign to end
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        if os.name == "posix":
            _kill_group(process.pid)
        process.kill()
        process.wait()
        if self.stack is not None:
            self.stack.close()

    def _end_in_words(self) -> str:
        """How a worker ended that no longer answers, and where."""
        assert self.process is not None
        try:
            code = self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "it closed the pipe that it answers through, or wrote into it"
        return _in_words(code) + crash_location.place(self.stack)


def late(phase: str, limit_s: float, place: str) -> str:
    """The sentence on a phase that overran."""
    if phase == "starting":
        return (
            f"the worker process did not start within {limit_s:g} s, which no kernel is to blame for: run it again "
            "when the machine is less busy"
        )
    return f"{phase} took longer than the time limit of {limit_s:g} s{place}; --timeout sets it"


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _in_words(code: int) -> str:
    """How a process with this exit code ended."""
    if code >= 0:
        return f"it exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    if name == "SIGKILL":
        return "killed by SIGKILL, as the system does when memory runs out: free some, or take a smaller case"
    return f"killed by {name}"


def _pump(stream: BinaryIO, replies: queue.SimpleQueue[tuple[str, Any] | None]) -> None:
    """Move messages from the worker's pipe to a queue, which can be waited for with a limit on every system."""
    with stream:
        try:
            while True:
                replies.put(pickle.load(stream))
        except Exception:  # the pipe closed, perhaps in the middle of a message, or a kernel wrote into it
            replies.put(None)
            while stream.read(2**16):
                pass
