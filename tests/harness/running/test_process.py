"""A worker process from outside: what it says and how it ends become results, and a fork has pipes of its own."""

import io
import os
import pickle
import queue
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from triptych.harness import one_thread
from triptych.harness.ops.case import Case
from triptych.harness.results.status import Cause, Status
from triptych.harness.running import process as room
from triptych.harness.running.process import WorkerProcess
from triptych.harness.running.tasks import Settings, Task, result_without_run
from triptych.harness.running.workers import forked
from triptych.harness.running.workers.forked import Forked

TASK = Task("one", None, Case("one", "c", {"M": 3}, "float32"), "numpy", None)
DONE = result_without_run(TASK, Status.PASSED, "done")
JUDGED = result_without_run(TASK, Status.FAILED, "wrong", Cause.MISMATCH)


class Child:
    """In the place of a process, which has ended if it has a code."""

    pid = 123

    def __init__(self, code=None):
        self.code, self.killed, self.stdin, self.stdout = code, 0, io.BytesIO(), io.BytesIO()
        self.waited = []

    def poll(self):
        return self.code

    def wait(self, timeout=None):
        self.waited.append(timeout)
        if self.code is None:
            raise subprocess.TimeoutExpired("child", timeout)
        return self.code

    def kill(self):
        self.killed += 1
        self.code = -9


class Scripted(WorkerProcess):
    """A worker that says what the test has it say, and "late" where it says nothing in time."""

    def __init__(self, *said, code=None):
        super().__init__()
        self.said, self.sent, self.limits, self.started, self.code = list(said), [], [], [], code

    def _start(self):
        self.process = Child(self.code)
        self.started.append(self.process)

    def _listen(self):
        self.pump = SimpleNamespace(join=lambda timeout: None)

    def _send(self, message):
        self.sent.append(message)

    def _reply(self, limit_s):
        self.limits.append(limit_s)
        message = self.said.pop(0)
        if message == "late":
            raise TimeoutError
        if message is None:
            raise EOFError
        return message


READY = ("ready", 1)


@pytest.fixture(autouse=True)
def nothing_is_killed(monkeypatch):
    killed = []
    monkeypatch.setattr(room, "kill_group", killed.append)
    monkeypatch.setattr(room.crash_location, "ask", lambda pid, file: f" (at {pid})")
    return killed


def test_phases_have_the_limit_each_and_the_start_one_of_its_own():
    worker = Scripted(READY, ("phase", "running"), ("verdict", JUDGED), ("result", DONE))
    assert worker.perform(TASK, Settings(), 7.0) is DONE
    assert worker.limits == [300.0, 7.0, 7.0, 7.0] and worker.sent == [(TASK, Settings())]
    assert worker.process is worker.started[0], "which goes on to the next task"
    worker.said = [("result", JUDGED)]
    assert worker.perform(TASK, Settings(), 7.0) is JUDGED and len(worker.started) == 1


def test_after_its_last_result_a_process_is_ended():
    worker = Scripted(READY, ("last result", DONE))
    assert worker.perform(TASK, Settings(), 7.0) is DONE and worker.process is None and worker.pump is None
    worker.said = [READY, ("result", DONE)]
    worker.perform(TASK, Settings(), 7.0)
    assert len(worker.started) == 2


def test_a_process_that_died_between_two_tasks_is_started_again():
    worker = Scripted(READY, ("result", DONE))
    worker.perform(TASK, Settings(), 7.0)
    worker.process.code = 3
    worker.said = [READY, ("result", DONE)]
    assert worker.perform(TASK, Settings(), 7.0) is DONE and len(worker.started) == 2


def test_a_phase_that_takes_too_long_is_a_timeout_of_that_phase():
    for said, phase in (([], "loading the op"), ([("phase", "running the kernel")], "running the kernel")):
        worker = Scripted(READY, *said, "late")
        found = worker.perform(TASK, Settings(), 7.0)
        assert (found.status, found.cause) == (Status.TIMEOUT, Cause.TIME_LIMIT)
        assert found.reason == f"{phase} took longer than the time limit of 7 s (at 123); --timeout sets it"
        assert worker.process is None and worker.started[0].killed == 1


def test_a_process_that_does_not_start_is_no_kernels_fault():
    found = Scripted("late").perform(TASK, Settings(), 7.0)
    assert (
        found.status is Status.TIMEOUT and "did not start within 300 s, which no kernel is to blame for" in found.reason
    )


@pytest.mark.parametrize(
    ("code", "said"),
    [(3, "it exited with code 3"), (-11, "killed by SIGSEGV"), (None, "it closed the pipe that it answers through")],
)
def test_a_process_that_dies_costs_its_task(code, said):
    worker = Scripted(READY, ("phase", "running the kernel"), None, code=code)
    worker._start()
    worker.process.code = None
    worker._listen()
    worker.said.pop(0)
    send = worker._send
    worker._send = lambda message: (send(message), setattr(worker.process, "code", code))
    found = worker.perform(TASK, Settings(), 7.0)
    assert (found.status, found.cause) == (Status.ERROR, Cause.WORKER_DIED) and worker.process is None
    assert found.reason.startswith(f"the worker process died while running the kernel: {said}")
    assert worker.started[0].waited[0] == 5, "which it may take to end"


@pytest.mark.parametrize("end", ["late", None])
def test_a_verdict_survives_what_the_search_for_its_cause_costs(end):
    worker = Scripted(READY, ("verdict", JUDGED), ("phase", "finding the cause"), end)
    found = worker.perform(TASK, Settings(), 7.0)
    assert (found.status, found.reason, found.cause) == (Status.FAILED, "wrong", Cause.MISMATCH)
    assert found.attribution.cause == "unknown" and "finding the cause" in found.attribution.text
    assert JUDGED.attribution is None


def test_a_process_is_stopped_once_and_with_all_that_it_started(nothing_is_killed):
    worker = Scripted()
    worker.stop()
    worker._start()
    worker.stop()  # before it was asked anything
    nothing_is_killed.clear()
    worker._start()
    child, joined, closed = worker.process, [], []
    worker.pump = SimpleNamespace(join=lambda timeout: joined.append(timeout))
    worker.stack = SimpleNamespace(close=lambda: closed.append(1))
    with worker:
        pass
    assert worker.process is None and worker.pump is None and child.stdin.closed and child.killed == 1
    assert nothing_is_killed == [123] and joined == [0.5] and closed == [1]
    assert child.waited == [0.5, None], "it may end by itself first"
    worker.stop()
    assert child.killed == 1


@pytest.mark.parametrize("number", [17, None])
def test_a_fork_keeps_the_file_of_its_stack_where_there_is_one(monkeypatch, number):
    made = []
    file = None if number is None else SimpleNamespace(fileno=lambda: number)
    monkeypatch.setattr(room.crash_location, "open_file", lambda: file)
    monkeypatch.setattr(room, "Forked", lambda main, keep: made.append((main, keep)) or Child())
    worker = WorkerProcess()
    worker.fork({None: {}})
    ((main, keep),) = made
    served = []
    monkeypatch.setattr("triptych.harness.running.worker.serve", lambda *words: served.append(words))
    main()
    assert keep == number and served == [(number, {None: {}})] and worker.stack is file


def test_another_thread_may_end_a_process_and_nothing_else(nothing_is_killed):
    worker = Scripted()
    worker.kill()
    worker._start()
    worker.kill()
    assert worker.process is not None and worker.process.killed == 1 and nothing_is_killed == [123]


def test_a_reply_is_waited_for_and_the_end_of_a_pipe_is_one():
    worker = WorkerProcess()
    for message, error in ((None, EOFError), ("nothing", TimeoutError)):
        if message is None:
            worker.replies.put(None)
        with pytest.raises(error):
            worker._reply(0.01)
    worker.replies.put(("result", DONE))
    assert worker._reply(0.01) == ("result", DONE)


def test_what_is_no_message_ends_the_replies_and_is_read_to_its_end():
    replies = queue.SimpleQueue()
    stream = io.BytesIO(pickle.dumps(READY) + pickle.dumps(("result", 3)) + b"no pickle" + b"x" * 2**18)
    room._pump(stream, replies)
    assert [replies.get_nowait() for _ in range(3)] == [READY, ("result", 3), None] and stream.closed
    assert replies.empty()


# A fork

FORKS = [
    pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone"),
    pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def forks(test):
    for mark in FORKS:
        test = mark(test)
    return test


def ended(made):
    made.stdin.close()
    said = made.stdout.read()
    made.stdout.close()
    return said, made.wait(60)


@forks
def test_a_fork_answers_through_pipes_and_ends_with_its_work():
    def main():
        print(sys.stdin.readline().upper(), end="")

    before = os.listdir("/proc/self/fd")
    made = Forked(main)
    assert made.poll() is None and made.returncode is None
    made.stdin.write(b"words\n")
    assert ended(made) == (b"WORDS\n", 0) and made.returncode == 0 == made.poll() == made.wait()
    assert os.listdir("/proc/self/fd") == before, "no end of a pipe is left open"


@forks
def test_a_fork_whose_work_raises_has_a_code_and_does_not_come_back(capfd):
    def main():
        sys.stderr = os.fdopen(2, "w", closefd=False)  # pytest's own is a file under another number
        raise SystemExit("no")

    assert ended(Forked(main)) == (b"", 1)
    assert "SystemExit: no" in capfd.readouterr().err


@forks
def test_a_fork_is_killed_and_waited_for_with_patience():
    made = Forked(lambda: sys.stdin.read())
    with pytest.raises(subprocess.TimeoutExpired):
        made.wait(0.01)
    made.kill()
    assert made.wait(60) == -signal.SIGKILL
    made.kill()  # which is no error
    made.stdin.close()
    made.stdout.close()


@forks
def test_a_fork_leads_a_session_and_ends_by_signals_as_usual():
    def main():
        usual = [signal.getsignal(number) is signal.SIG_DFL for number in (signal.SIGTERM, signal.SIGINT)]
        print(os.getsid(0) == os.getpid(), *usual, end="")

    assert ended(Forked(main)) == (b"True True True", 0)


@forks
def test_a_fork_lets_go_of_what_its_parent_had_open():
    """Under the same numbers there is nothing; what it is to keep stays."""
    kept_out, kept = os.pipe()
    other_out, other = os.pipe()

    def main():
        os.write(kept, b"kept")
        os.write(other, b"other")
        print(os.fstat(other).st_rdev == os.stat(os.devnull).st_rdev, os.get_inheritable(other), end="")

    assert ended(Forked(main, kept)) == (b"True False", 0)
    for number in (kept, other):
        os.close(number)
    assert os.read(kept_out, 9) == b"kept" and os.read(other_out, 9) == b"", "its end is seen"
    for number in (kept_out, other_out):
        os.close(number)


@forks
def test_what_was_printed_before_is_printed_once(capfd):
    sys.stdout.write("before ")
    assert ended(Forked(lambda: None)) == (b"", 0)
    sys.stdout.flush()
    assert capfd.readouterr().out == "before "


def test_a_fork_is_safe_on_linux_with_one_thread_of_ours_and_no_gpu(monkeypatch):
    def safe(platform="linux", ours=True, threads=1, gpu=None):
        monkeypatch.setattr(forked.sys, "platform", platform)
        monkeypatch.setattr(one_thread, "is_ours", lambda: ours)
        monkeypatch.setattr(forked.os, "listdir", lambda path: ["1"] * threads if path == "/proc/self/task" else 1 / 0)
        torch = None if gpu is None else SimpleNamespace(cuda=SimpleNamespace(is_initialized=lambda: gpu))
        monkeypatch.setitem(sys.modules, "torch", torch)
        found = forked.is_safe()
        monkeypatch.undo()
        return found

    assert safe() and safe(gpu=False)
    assert not safe("darwin") and not safe(ours=False) and not safe(threads=2) and not safe(gpu=True)


def test_where_threads_cannot_be_counted_nothing_is_forked(monkeypatch):
    monkeypatch.setattr(forked.sys, "platform", "linux")
    monkeypatch.setattr(one_thread, "is_ours", lambda: True)
    monkeypatch.setattr(forked, "THREADS", "/proc/none")
    assert not forked.is_safe()
