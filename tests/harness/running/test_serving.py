"""Inside a worker: what it says over its pipes, and what forks that evaluate a function answer."""

import io
import os
import pickle
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from triptych.harness.ops.case import Case
from triptych.harness.results.status import Status
from triptych.harness.running import worker
from triptych.harness.running.tasks import Settings, Task, result_without_run
from triptych.harness.running.workers import cores, forked, pipes
from triptych.harness.running.workers import each as room
from triptych.harness.running.workers.each import each
from triptych.harness.running.workers.forked import Forked

TASK = Task("one", None, Case("one", "c", {"M": 3}, "float32"), "numpy", None)
DONE = result_without_run(TASK, Status.PASSED, "done")
JUDGED = result_without_run(TASK, Status.FAILED, "wrong")
OPS = {None: {"one": "op"}}


class Left(BaseException):
    """The process has ended."""


class Bench:
    """In the place of `bench.Bench`: announces, settles, and is unfit after its second task."""

    def __init__(self, announce, settle):
        self.announce, self.settle = announce, settle
        self.sources, self.memory, self.unfit, self.asked = {}, None, False, []
        Bench.made = self

    def perform(self, task, settings):
        self.asked.append((task, settings))
        self.announce("running")
        self.settle(JUDGED)
        self.unfit = len(self.asked) == 2
        return DONE


@pytest.fixture
def served(monkeypatch):
    """What a worker said of some requests before it ended, and what it did to its process."""
    did = []
    monkeypatch.setattr(worker, "Bench", Bench)
    monkeypatch.setattr(worker, "end_with_parent", lambda: did.append("end with parent"))
    monkeypatch.setattr(worker.crash_location, "enable", lambda stack: did.append(("stack", stack)))
    monkeypatch.setattr(worker.memory_limit, "keep_freed", lambda: did.append("keep freed"))
    monkeypatch.setattr(worker.memory_limit, "apply", lambda limit: did.append(("limit", limit)))
    monkeypatch.setattr(worker.memory_limit, "default", lambda: 77)
    monkeypatch.setattr(
        worker, "threading", SimpleNamespace(Thread=lambda target, args, daemon: SimpleNamespace(start=lambda: None))
    )

    def serve(*requests, replies=None):
        did.clear()
        jobs = list(requests)

        def get():
            if not jobs:
                raise Left
            return jobs.pop(0)

        monkeypatch.setattr(worker.queue, "SimpleQueue", lambda: SimpleNamespace(get=get))
        out = replies or io.BytesIO()
        monkeypatch.setattr(worker, "private_pipes", lambda: (io.BytesIO(), out))
        with pytest.raises(Left):
            worker.serve(5, OPS)
        stream, said = io.BytesIO(out.getvalue()), []
        while stream.tell() < len(out.getvalue()):
            said.append(pickle.load(stream))
        return said, did

    return serve


def test_a_worker_says_that_it_is_ready_and_then_all_that_happens(served):
    said, did = served((TASK, Settings()), (TASK, Settings(memory=9)), (TASK, Settings()))
    assert said[0] == ("ready", os.getpid()) and did[:3] == ["end with parent", ("stack", 5), "keep freed"]
    assert [kind for kind, _ in said[1:]] == [
        *("phase", "verdict", "result"), *("phase", "verdict", "last result"), *("phase", "verdict", "result"),
    ]  # fmt: skip
    assert said[1] == ("phase", "running") and said[3][1].reason == "done" and said[2][1].reason == "wrong"
    assert did[3:] == [("limit", 77)], "the limit is set once"
    assert Bench.made.memory == 77 and Bench.made.sources == OPS and Bench.made.sources[None] is not OPS[None]


def test_the_limit_is_that_of_the_first_task(served):
    _, did = served((TASK, Settings(memory=9)), (TASK, Settings()))
    assert did[3:] == [("limit", 9)]


@pytest.mark.parametrize(("another", "code"), [(True, 0), (False, 1)])
def test_who_has_no_pipe_or_is_a_child_that_came_back_ends(served, monkeypatch, another, code):
    class Closed(io.BytesIO):
        def write(self, _):
            raise BrokenPipeError

    codes = []

    def leave(code):
        codes.append(code)
        raise Left

    pids = iter([1, 1, 2] if another else [1, 1, 1])
    monkeypatch.setattr(worker, "os", SimpleNamespace(getpid=lambda: next(pids), _exit=leave))
    said, _ = served((TASK, Settings()), replies=io.BytesIO() if another else Closed())
    assert codes == [code] and said == []


def test_requests_are_received_until_the_pipe_closes(monkeypatch):
    codes, jobs = [], []
    monkeypatch.setattr(worker, "os", SimpleNamespace(_exit=codes.append))
    stream = io.BytesIO(pickle.dumps((TASK, 1)) + pickle.dumps((TASK, 2)))
    with pytest.raises(EOFError):
        worker._receive(stream, SimpleNamespace(put=jobs.append))
    assert jobs == [(TASK, 1), (TASK, 2)] and codes == [0]


FORKS = (
    pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone"),
    pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
)


def forks(test):
    for mark in FORKS:
        test = mark(test)
    return test


@forks
def test_pipes_to_the_parent_are_out_of_reach_of_what_is_printed():
    def main():
        requests, replies = pipes.private_pipes()
        same = os.fstat(1).st_ino == os.fstat(2).st_ino
        replies.write(b"%r %r %r" % (os.read(0, 9), same, requests.readline()))
        replies.close()

    child = Forked(main)
    child.stdin.write(b"words\n")
    child.stdin.close()
    assert child.stdout.read() == b"b'' True b'words\\n'" and child.wait(60) == 0
    child.stdout.close()


# A function, evaluated by forks of this process


@pytest.fixture
def safe(monkeypatch):
    monkeypatch.setattr(forked, "is_safe", lambda: True)
    monkeypatch.setattr(cores, "bearable", lambda jobs: jobs)
    monkeypatch.setattr(pipes, "end_with_parent", lambda: None)  # a fork's parent is the thread that forked it


def died(number, why):
    return f"{number}: {why}"


@forks
def test_each_number_is_answered_by_another_process(safe):
    found = dict(each(lambda number: (number * number, os.getpid()), 7, 3, died))
    assert {number: square for number, (square, _) in found.items()} == {n: n * n for n in range(7)}
    assert os.getpid() not in {pid for _, pid in found.values()}


@forks
@pytest.mark.parametrize(("count", "jobs", "here"), [(1, 4, True), (2, 1, True), (2, 2, False), (0, 4, True)])
def test_one_worker_is_this_process(safe, count, jobs, here):
    found = [pid for _, pid in each(lambda number: os.getpid(), count, jobs, died)]
    assert len(found) == count and all((pid == os.getpid()) is here for pid in found)


@forks
def test_there_are_as_many_workers_as_usable_cores_unless_somebody_says_so(safe, monkeypatch):
    monkeypatch.setattr(cores, "usable", lambda: 1)
    assert {pid for _, pid in each(lambda number: os.getpid(), 3, None, died)} == {os.getpid()}
    monkeypatch.setattr(forked, "is_safe", lambda: False)
    assert {pid for _, pid in each(lambda number: os.getpid(), 3, 2, died)} == {os.getpid()}


class Odd:
    """Can be sent and not received."""

    def __reduce__(self):
        return (int, ("words",))


@forks
def test_what_cannot_be_sent_is_evaluated_here(safe):
    def function(number):
        return {0: os.getpid, 1: lambda: number, 2: Odd()}.get(number, os.getpid())

    found = dict(each(function, 4, 2, died))
    assert callable(found[1]) and isinstance(found[2], Odd) and found[3] != os.getpid() and len(found) == 4


@forks
def test_what_is_raised_in_a_fork_is_raised_here(safe):
    def function(number):
        raise KeyError(number)

    with pytest.raises(KeyError):
        list(each(function, 2, 2, died))


@forks
def test_a_number_that_costs_its_process_has_a_sentence_and_the_rest_is_done(safe):
    def function(number):
        if number == 1:
            os._exit(3)
        return number

    assert dict(each(function, 5, 2, died)) == {
        0: 0, 1: "1: the worker process died: it exited with code 3", 2: 2, 3: 3, 4: 4,
    }  # fmt: skip
    nobody = dict(each(lambda number: os._exit(3) if number < 2 and os.getpid() != here else -number, 4, 2, died))
    assert [nobody[i] for i in (2, 3)] == [-2, -3] and "code 3" in nobody[0] and "code 3" in nobody[1]


here = os.getpid()


def is_gone(pid):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            with open(f"/proc/{pid}/stat") as stat:
                if stat.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


@forks
def test_what_a_worker_started_ends_with_it(safe):
    def function(number):
        return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], stdout=subprocess.DEVNULL).pid

    found = [pid for _, pid in each(function, 2, 2, died)]
    assert all(map(is_gone, found))


@forks
def test_whoever_stops_asking_ends_all_workers(safe, tmp_path):
    def function(number):
        (tmp_path / str(number)).write_text(str(os.getpid()))
        if number:
            time.sleep(600)
        return number

    coming = each(function, 2, 2, died)
    assert next(coming) == (0, 0)
    while not ((tmp_path / "1").exists() and (tmp_path / "1").read_text()):
        time.sleep(0.01)
    coming.close()
    assert all(is_gone(int((tmp_path / str(number)).read_text())) for number in (0, 1))


@forks
def test_a_hand_that_was_stopped_is_not_fit_and_may_be_stopped_again(safe):
    hand = room._Hand(lambda number: -number)
    assert hand.is_fit and hand.do(3, [3]) == ("done", -3)
    pid = hand.process.pid
    hand.kill()
    kind, why = hand.do(4, [4])
    assert kind == "died" and why.startswith("the worker process died: killed by SIGKILL")
    assert not hand.is_fit and is_gone(pid)
    hand.stop()
    hand.kill()
