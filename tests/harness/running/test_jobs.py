"""Several workers at once: the same document whatever their number, and each costs no more than it works on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from triptych.harness import one_thread
from triptych.harness.ops.case import Case
from triptych.harness.results.status import Cause, Status
from triptych.harness.running import memory_limit, runner
from triptych.harness.running.plan import slow_ones_once
from triptych.harness.running.tasks import Settings, Task
from triptych.harness.running.workers import cores, forked
from triptych.harness.running.workers.each import each
from triptych.harness.running.workers.handing_out import Lost, hand_out
from triptych.harness.running.workers.machine import Machine

FILE = """
import os, pathlib, sys, time
import nki
import nki.isa as nisa
import nki.language as nl
from triptych import Op

print("loaded", flush=True)


@nki.jit
def twice(x):
    print("a kernel prints", x.shape, flush=True)
    os.write(1, b"and so does C\\n")
    here = pathlib.Path(__file__).with_name(f"at-{x.shape[1]}")
    here.write_text(str(os.getpid()))
    if x.shape[1] == 5 and here.with_name("dies").exists():
        os.kill(os.getpid(), 9)
    while x.shape[1] == 6 and here.with_name("hangs").exists():
        time.sleep(0.02)
    tile = nl.ndarray(x.shape, x.dtype, nl.sbuf)
    nisa.dma_copy(tile, x)
    out = nl.ndarray(x.shape, x.dtype, nl.shared_hbm)
    nisa.activation(tile, nl.copy, tile, scale=2.0)
    nisa.dma_copy(out, tile)
    return out


op = Op(
    "twice",
    {"x": ("M", "N")},
    lambda x: 2.0 * x,
    {"smoke": [{"M": 2, "N": n} for n in (3, 4, 5, 6)]},
    dtypes=("float32",),
    nki=twice,
)
"""

# Who runs the tests in the background may ignore SIGINT, and a process inherits that.
WITH_INTERRUPTS = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("triptych", run_name="__main__")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(FILE)
    return tmp_path


# Who runs the tests in the background may ignore SIGINT, and a process inherits that.
WITH_INTERRUPTS = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("triptych", run_name="__main__")
"""


def command(*words: str) -> list[str]:
    return [sys.executable, "-c", WITH_INTERRUPTS, *words]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def document(folder: Path, jobs: int, *words: str) -> tuple[Any, subprocess.CompletedProcess[str]]:
    """What `bench` writes on standard output, without what differs between two runs of any kind, and how it ended."""
    line = command("bench", "mine.py", "--backend", "numpy,nki-sim", "--cases", "smoke", "--json", "-", *words)
    done = subprocess.run(
        [*line, "--jobs", str(jobs)], capture_output=True, text=True, env=environment(), cwd=folder, check=False
    )
    body = json.loads(done.stdout)
    for name in ("utc", "command"):
        del body["env"][name]
    for result in body["results"]:
        for name in [n for n in result.get("timing") or {} if n.endswith("_us") or n in ("warmups", "samples")]:
            if result["timing"]["kind"] == "measured":
                del result["timing"][name]
    return body, done


def test_the_document_is_the_same_for_one_worker_and_for_two(folder: Path) -> None:
    (one, alone), (two, together) = document(folder, 1), document(folder, 2)
    assert one == two and len(one["results"]) == 8 and one["complete"]
    assert alone.returncode == together.returncode == 0
    assert "a kernel prints (2, 3)" in together.stderr and "and so does C" in together.stderr, "and not into a pipe"
    timed = [result["timing"] for result in two["results"]]
    assert [timing.get("alone") for timing in timed] == [True, None] * 4, "who is timed says that it is alone"


def test_a_killed_worker_costs_its_case_alone(folder: Path) -> None:
    (folder / "dies").touch()
    body, done = document(folder, 2)
    status = {(r["case"], r["backend"]): (r["status"], r.get("cause")) for r in body["results"]}
    assert status.pop(("2x5", "nki-sim")) == ("error", "worker-died")
    assert set(status.values()) == {("passed", None)} and len(status) == 7 and done.returncode == 1


def test_an_interrupt_leaves_a_whole_document_and_no_worker(folder: Path) -> None:
    (folder / "hangs").touch()
    words = ("check", "mine.py", "--backend", "nki-sim", "--cases", "smoke", "--jobs", "2")
    job = subprocess.Popen(
        [sys.executable, "-c", WITH_INTERRUPTS, *words, "-q", "--resume", "run.json"],
        env=environment(),
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + 120
    while time.monotonic() < end and not all((folder / f"at-{n}").exists() for n in (3, 4, 5, 6)):
        time.sleep(0.05)
    time.sleep(0.5)
    hanging = int((folder / "at-6").read_text())
    job.send_signal(signal.SIGINT)
    assert job.wait(timeout=60) == 130
    body = json.loads((folder / "run.json").read_text())
    assert body["complete"] is False and body["planned"] == 4
    kept = [result["case"] for result in body["results"]]
    assert kept and "2x6" not in kept and kept == sorted(kept)
    with pytest.raises(ProcessLookupError):
        os.kill(hanging, 0)
    (folder / "hangs").unlink()
    done = subprocess.run(
        command(*words, "--resume", "run.json"), env=environment(), cwd=folder, capture_output=True, text=True
    )
    assert f"{len(kept)} of 4 results are there" in done.stderr and done.returncode == 0
    body = json.loads((folder / "run.json").read_text())
    assert [result["case"] for result in body["results"]] == ["2x3", "2x4", "2x5", "2x6"] and body["complete"]


# A share of the memory


def test_what_a_share_of_the_memory_is_too_little_for_runs_again_with_all_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = Case("matmul", "c", {"M": 2, "K": 2, "N": 2}, "float32")
    tasks = [Task("matmul", None, case, backend, None) for backend in ("numpy", "nki-sim")]
    asked: list[tuple[str, int | None]] = []

    def perform(self: Any, task: Task, settings: Settings, timeout_s: float) -> Any:
        asked.append((task.backend, settings.memory))
        short = task.backend == "nki-sim" and settings.memory is not None and settings.memory < 2**33
        cause = Cause.OUT_OF_MEMORY if short else None
        return runner.result_without_run(task, Status.ERROR if short else Status.PASSED, "", cause)

    monkeypatch.setattr(runner.WorkerProcess, "perform", perform)
    monkeypatch.setattr(memory_limit, "default", lambda: 2**33)
    results = runner.Workers(2)(tasks, Settings())
    assert [result.status for result in results] == [Status.PASSED, Status.PASSED]
    share, whole = 2**32, 2**33
    assert asked == [("numpy", share), ("nki-sim", share), ("numpy", whole), ("nki-sim", whole)], "and its reference"
    asked.clear()
    results = runner.Workers(2)(tasks, Settings(memory=2**30))
    assert [result.cause for result in results] == [None, Cause.OUT_OF_MEMORY], "the user's own limit is kept to"


def test_each_worker_begins_with_a_gibibyte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_limit, "default", lambda: 5 * 2**29)
    assert (cores.bearable(1), cores.bearable(2), cores.bearable(64)) == (1, 2, 2)
    monkeypatch.setattr(memory_limit, "default", lambda: 1)
    assert cores.bearable(8) == 1


def test_a_container_has_its_share_of_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    quota = tmp_path / "cpu.max"
    monkeypatch.setattr(cores, "QUOTA", quota)
    for words, expected in ((None, 64), ("max 100000", 64), ("350000 100000", 4), ("1000 100000", 1)):
        if words is not None:
            quota.write_text(words)
        assert cores.usable() == expected, words


# Who is handed what


def test_cases_of_a_device_have_one_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(runner.BACKENDS["nki"]), "missing", lambda self: None)
    cases = [Case("matmul", str(m), {"M": m}, "float32") for m in range(3)]
    tasks = [Task("matmul", None, case, backend, None) for case in cases for backend in ("numpy", "nki-sim")]
    assert runner.chains_of(tasks) == [[0, 1], [2, 3], [4, 5]]
    tasks[3:3] = [Task("matmul", None, cases[0], "nki", None), Task("matmul", None, cases[2], "nki", None)]
    assert runner.chains_of(tasks) == [[0, 1, 3, 4, 6, 7], [2, 5]]
    run = runner.TaskRun(tasks, Settings(), 1.0, {}, None, 1)
    assert [run.wants_machine(task) for task in tasks[2:5]] == [False, True, True]


def test_a_kernel_is_run_again_though_slow_in_its_largest_case_alone() -> None:
    cases = [Case("matmul", str(m), {"M": m, "N": 4}, "float32") for m in (3, 9, 9, 2)]
    tasks = [Task("matmul", None, case, backend, None) for case in cases for backend in ("nki-sim", "triton-cpu")]
    assert [task.though_slow for task in slow_ones_once(tasks)] == [False, False, True, True, *[False] * 4]


class Hand:
    """Does what a function of the test says, and is killed by raising."""

    def __init__(self, function: Any, wanted: Sequence[int] | None = None) -> None:
        self.function, self.killed, self.stopped = function, threading.Event(), 0
        self.wanted = wanted
        self.mends = False
        self.is_fit = True

    def mend(self) -> bool:
        self.is_fit = self.mends
        return self.mends

    def takes(self, number: int) -> bool:
        return self.wanted is None or number in self.wanted

    def do(self, number: int, chain: Sequence[int]) -> Any:
        return self.function(self, number)

    def kill(self) -> None:
        self.killed.set()

    def stop(self) -> None:
        self.stopped += 1


def test_whoever_is_free_takes_the_next_chain_and_does_it_in_order() -> None:
    both = threading.Barrier(2)
    done: list[tuple[int, int]] = []

    def function(hand: Hand, number: int) -> int:
        if number in (0, 2):
            both.wait(timeout=30)  # nobody gets past it alone
        done.append((hands.index(hand), number))
        return number * number

    hands = [Hand(function), Hand(function)]
    assert dict(hand_out([[0, 1], [2, 3], [4]], hands)) == {n: n * n for n in range(5)}
    of = {number: who for who, number in done}
    assert of[0] == of[1] != of[2] == of[3]
    order = [number for _, number in done]
    assert order.index(0) < order.index(1) and order.index(2) < order.index(3)
    assert [hand.stopped for hand in hands] == [1, 1]


def test_what_is_lost_goes_with_the_rest_of_its_chain_to_who_takes_it() -> None:
    done: list[tuple[int, int]] = []
    all_waiting = threading.Event()

    def breaks(hand: Hand, number: int) -> int:
        if number == 1:
            hand.is_fit = False
            raise Lost
        done.append((0, number))
        return number

    def works(hand: Hand, number: int) -> int:
        done.append((1, number))
        all_waiting.set()
        return number

    never = Hand(lambda hand, number: pytest.fail("it takes nothing"), wanted=[])
    hands = [Hand(breaks, wanted=[0]), never, Hand(works, wanted=[1, 2])]
    assert dict(hand_out([[0, 1, 2]], hands)) == {0: 0, 1: 1, 2: 2}
    assert done == [(0, 0), (1, 1), (1, 2)], "who waits is still there when something is given back"
    assert [hand.stopped for hand in hands] == [1, 1, 1]


def test_a_hand_is_mended_while_there_is_something_for_it_and_only_then() -> None:
    def breaks(hand: Hand, number: int) -> int:
        hand.is_fit = False
        return number

    hand = Hand(breaks)
    hand.mends = True
    assert list(hand_out([[0], [1]], [hand])) == [(0, 0), (1, 1)] and not hand.is_fit
    hand = Hand(breaks)
    assert list(hand_out([[0], [1]], [hand])) == [(0, 0)]


def test_what_nobody_takes_is_left_and_nobody_waits_for_it() -> None:
    hands = [Hand(lambda hand, number: number, wanted=[n]) for n in (0, 1)]
    assert sorted(hand_out([[0], [1], [2], []], hands)) == [(0, 0), (1, 1)]
    assert sorted(hand_out([[0], [2]], hands[:1])) == [(0, 0)]


def test_one_hand_alone_tries_again_what_it_lost() -> None:
    tries: list[int] = []

    def function(hand: Hand, number: int) -> int:
        tries.append(number)
        if tries.count(number) == 1:
            raise Lost
        return number

    assert list(hand_out([[0, 1]], [Hand(function)])) == [(0, 0), (1, 1)] and tries == [0, 0, 1, 1]


def test_who_stops_asking_ends_what_runs() -> None:
    hands = [Hand(lambda hand, number: number and hand.killed.wait(timeout=60)) for _ in range(2)]
    coming = hand_out([[0], [1], [2], [3]], hands)
    assert next(coming) == (0, 0)
    coming.close()
    assert all(hand.killed.is_set() and hand.stopped == 1 for hand in hands)


def test_an_error_of_ours_is_raised_and_not_lost() -> None:
    def function(hand: Hand, number: int) -> int:
        raise ValueError(str(number))

    with pytest.raises(ValueError, match="[01]"):
        list(hand_out([[0], [1]], [Hand(function), Hand(function)]))


def test_alone_waits_for_those_who_share_and_comes_before_the_next() -> None:
    machine, seen = Machine(), []
    inside, leave = threading.Event(), threading.Event()

    def share(name: str) -> None:
        with machine.shared():
            seen.append(name)
            inside.set()
            leave.wait(timeout=30)

    def alone() -> None:
        with machine.alone():
            seen.append("alone")

    first = threading.Thread(target=share, args=("first",))
    first.start()
    assert inside.wait(timeout=30)
    waiting = threading.Thread(target=alone)
    waiting.start()
    while not machine._waiting:
        time.sleep(0.001)
    second = threading.Thread(target=share, args=("second",))
    second.start()
    time.sleep(0.05)
    assert seen == ["first"]
    leave.set()
    for thread in (first, waiting, second):
        thread.join(timeout=30)
    assert seen == ["first", "alone", "second"]


# A function of numbers

EACH = """
import os, sys
from triptych.harness import one_thread
from triptych.harness.running.workers import forked
from triptych.harness.running.workers.each import each

def function(number):
    print("printed", number)
    if number == 2:
        os.kill(os.getpid(), 11)
    if number == 4:
        return lambda: number
    if number == 9:
        raise KeyError(number)
    return os.getpid()

assert not forked.is_safe(), "what a program has in its process is its own"
one_thread.take_over()
assert forked.is_safe()
found = dict(each(function, 6, 2, lambda number, why: why))
assert found[2] == "the worker process died: killed by SIGSEGV", found
assert callable(found[4]), "what cannot be sent is made here"
assert os.getpid() not in [found[i] for i in (0, 1)] and len(found) == 6
try:
    list(each(lambda number: function(number + 8), 2, 2, lambda number, why: why))
except KeyError as error:
    print("raised", error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")
def test_each_number_is_done_by_a_fork_that_may_die_of_it(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(EACH)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "program.py")],
        capture_output=True,
        text=True,
        env={**environment(), "OPENBLAS_NUM_THREADS": "1", "PYTHONUNBUFFERED": ""},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "raised 9" in done.stdout and re.search("printed 0", done.stderr)


def test_where_forking_is_not_safe_this_process_does_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forked, "is_safe", lambda: False)
    assert dict(each(lambda number: os.getpid(), 3, 8, lambda number, why: -1)) == dict.fromkeys(range(3), os.getpid())


def test_a_process_with_a_second_thread_is_not_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_thread, "is_ours", lambda: True)
    leave = threading.Event()
    other = threading.Thread(target=leave.wait)
    other.start()
    try:
        assert not forked.is_safe()
    finally:
        leave.set()
        other.join()
