"""The worker process from outside: a kernel that hangs or kills its process costs its own task alone.

One process serves task after task and is replaced when it dies or overruns. It announces each phase of a task; the time
limit holds for each phase, so that a slow reference is not charged to the kernel.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import IO, Any, BinaryIO

from msgspec import structs

from triptych.harness.one_thread import ONE_THREAD
from triptych.harness.ops.op import Op
from triptych.harness.results.findings import Attribution
from triptych.harness.results.result import Result
from triptych.harness.results.status import Cause, Status
from triptych.harness.running import crash_location
from triptych.harness.running.tasks import Settings, Task, result_without_run
from triptych.harness.running.workers.ended import in_words, kill_group
from triptych.harness.running.workers.forked import Forked

START_LIMIT_S = 300.0  # a loaded machine may take a minute, which is no fault of a kernel
BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop()); "
    "from triptych.harness.running.worker import main; main()"
)


def without_cause(result: Result, why: str) -> Result:
    """A verdict whose cause could not be found."""
    return structs.replace(result, attribution=Attribution(cause="unknown", text=why))


class WorkerProcess:
    """A child process that performs tasks; started at the first one and again after it died.

    While it performs one, another thread may `kill` it, and do nothing else with it.
    """

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | Forked | None = None
        self.replies: queue.SimpleQueue[tuple[str, Any] | None] = queue.SimpleQueue()
        self.pump: threading.Thread | None = None  # of the process that runs; started when it is first asked something
        self.stack: IO[bytes] | None = None  # where it writes its stack when it crashes or is asked

    def __enter__(self) -> WorkerProcess:
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
            if self.pump is None:
                self._listen()
                self._reply(limit)  # that it is ready
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
            why = overrun(phase, limit, crash_location.ask(self.process.pid, self.stack))
            self.stop()
            late = result_without_run(task, Status.TIMEOUT, why, Cause.TIME_LIMIT)
            return late if settled is None else without_cause(settled, why)
        except (EOFError, BrokenPipeError):
            why = f"the worker process died while {phase}: {self._end_in_words()}"
            self.stop()
            died = result_without_run(task, Status.ERROR, why, Cause.WORKER_DIED)
            return died if settled is None else without_cause(settled, why)

    def fork(self, ops: Mapping[str | None, Mapping[str, Op]]) -> None:
        """Start the first process now, as a copy of this one, which has loaded these `ops`, by their files.

        Only where `forked.is_safe`. Kernels and references that this process has run may have left something in it.
        """
        from triptych.harness.running import worker

        self.stack = crash_location.open_file()
        stack = None if self.stack is None else self.stack.fileno()
        self.process = Forked(lambda: worker.serve(stack, ops), keep=stack)

    def _start(self) -> None:
        self.stack = crash_location.open_file()
        inherited = () if self.stack is None else (self.stack.fileno(),)
        self.process = subprocess.Popen(
            [sys.executable, "-c", BOOT, *map(str, inherited), json.dumps(sys.path)],
            pass_fds=inherited,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**ONE_THREAD, **os.environ},
            start_new_session=os.name == "posix",  # so that what a kernel starts dies with it
        )

    def _listen(self) -> None:
        assert self.process is not None and self.process.stdout is not None
        self.replies = queue.SimpleQueue()
        self.pump = threading.Thread(target=_pump, args=(self.process.stdout, self.replies), daemon=True)
        self.pump.start()

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
        pump, self.pump = self.pump, None
        if process is None:
            return
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()  # which a worker that still lives takes as the sign to end
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        if os.name == "posix":
            kill_group(process.pid)
        process.kill()
        process.wait()
        if pump is not None:
            pump.join(timeout=0.5)
        if self.stack is not None:
            self.stack.close()

    def kill(self) -> None:
        """End the process that runs, for another thread: who waits for its reply sees that it died."""
        process = self.process
        if process is not None:
            if os.name == "posix":
                kill_group(process.pid)
            process.kill()

    def _end_in_words(self) -> str:
        """How a worker ended that no longer answers, and where."""
        assert self.process is not None
        try:
            code = self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "it closed the pipe that it answers through, or wrote into it"
        return in_words(code) + crash_location.read(self.stack)


def overrun(phase: str, limit_s: float, place: str) -> str:
    """The sentence on a phase that overran."""
    if phase == "starting":
        return (
            f"the worker process did not start within {limit_s:g} s, which no kernel is to blame for: run it again "
            "when the machine is less busy"
        )
    return f"{phase} took longer than the time limit of {limit_s:g} s{place}; --timeout sets it"


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
