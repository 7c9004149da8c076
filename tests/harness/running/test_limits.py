"""Memory, cores and time: what a process may take, where it was when it ended, and how much is left to do."""

import builtins
import ctypes
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from triptych.harness.running import crash_location, memory_limit, worker
from triptych.harness.running.workers import cores, ended, pipes, remaining
from triptych.harness.running.workers.remaining import Remaining

POSIX = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")


def meminfo(monkeypatch, text):
    """What the system says of its memory; None: nothing."""

    def read_text(self, encoding):
        assert str(self) == "/proc/meminfo"
        if text is None:
            raise OSError
        return text

    monkeypatch.setattr(Path, "read_text", read_text)


def test_what_is_available_is_counted_in_bytes(monkeypatch):
    meminfo(monkeypatch, "MemTotal:  9 kB\nMemAvailable:   3 kB\nSwapFree: 8 kB\n")
    assert memory_limit._available() == 3 * 1024


def test_a_system_that_does_not_say_what_is_available_has_all(monkeypatch):
    meminfo(monkeypatch, "MemTotal:  9 kB\n")
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 5, "SC_PAGE_SIZE": 100}.get, raising=False)
    assert memory_limit._available() == 500
    meminfo(monkeypatch, None)
    assert memory_limit._available() is None
    meminfo(monkeypatch, "MemAvailable:   many kB\n")
    assert memory_limit._available() is None


def test_a_container_that_says_nothing_has_no_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(memory_limit, "CGROUP", tmp_path)
    assert memory_limit._container() is None
    (tmp_path / "memory.max").write_text(" 700\n")
    assert memory_limit._container() is None, "it does not say what is used"
    (tmp_path / "memory.current").write_text(" 200\n")
    assert memory_limit._container() == 500


def test_a_system_without_limits_has_none(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name == "resource":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    memory_limit.apply(1)


def test_a_memory_error_in_words():
    assert memory_limit.in_words(None) == "there is not enough memory for this case"
    text = "this needs more than the memory limit of 1.5 GiB a worker (--memory sets it)"
    assert memory_limit.in_words(3 * 2**29) == text


@pytest.mark.parametrize(("platform", "calls"), [("linux", [(-3, 2**25), (-1, 2**27)]), ("darwin", [])])
def test_glibc_is_told_to_keep_what_is_freed(monkeypatch, platform, calls):
    told = []

    class Library:
        def mallopt(self, *words):
            told.append(words)

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library())
    monkeypatch.setattr(sys, "platform", platform)
    memory_limit.keep_freed()
    assert told == calls
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    memory_limit.keep_freed()
    assert told == calls, "another C library"


# Cores


def test_without_an_affinity_all_cores_are_usable(monkeypatch, tmp_path):
    monkeypatch.setattr(cores, "QUOTA", tmp_path / "none")
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    for count, usable in ((6, 6), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        assert cores.usable() == usable


@pytest.mark.parametrize(
    ("quota", "usable"), [("max 100000", 4), ("250000 100000", 3), ("100 100000", 1), ("900000 100000", 4), ("odd", 4)]
)
def test_a_containers_share_is_rounded_up_and_no_more_than_there_is(monkeypatch, tmp_path, quota, usable):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(4)), raising=False)
    monkeypatch.setattr(cores, "QUOTA", tmp_path / "cpu.max")
    cores.QUOTA.write_text(quota)
    assert cores.usable() == usable


def test_where_memory_is_unknown_every_worker_is_bearable(monkeypatch):
    monkeypatch.setattr(memory_limit, "default", lambda: None)
    assert cores.bearable(64) == 64


# How a process ended, and where it was


def test_a_signal_without_a_name():
    assert ended.in_words(-100) == "killed by signal 100" and ended.in_words(1) == "it exited with code 1"
    assert ended.in_words(-signal.SIGTERM) == "killed by SIGTERM"


@POSIX
def test_a_group_is_ended_and_one_that_is_gone_is_no_error():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)
    ended.kill_group(child.pid)
    assert child.wait(timeout=60) == -signal.SIGKILL
    ended.kill_group(child.pid)
    child.stdin.close()


def test_a_system_without_signals_has_no_file_for_a_stack(monkeypatch):
    monkeypatch.setattr(crash_location, "os", SimpleNamespace(name="nt"))
    assert crash_location.open_file() is None
    assert crash_location.ask(1, None) == ""


def test_where_there_is_no_place_for_a_file_there_is_none(monkeypatch):
    def full(**_):
        raise OSError

    monkeypatch.setattr(crash_location.tempfile, "TemporaryFile", full)
    assert crash_location.open_file() is None


@POSIX
def test_who_hangs_is_asked_for_a_while(monkeypatch):
    asked = []
    monkeypatch.setattr(os, "kill", lambda *words: asked.append(words))
    file = io.BytesIO()
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def sleep(seconds):
        now[0] += 0.1
        if now[0] > 0.15:
            file.write(b'  File "/home/me/mine.py", line 12 in kernel\n')

    monkeypatch.setattr(time, "sleep", sleep)
    assert crash_location.ask(123, file) == " (mine.py:12)" and now[0] == pytest.approx(0.2)
    assert asked == [(123, signal.SIGUSR1)]
    never, now[0] = io.BytesIO(), 0.0
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + 0.1))
    assert crash_location.ask(123, never) == "" and now[0] == pytest.approx(0.3, abs=0.11)


@POSIX
def test_who_is_gone_is_not_asked(monkeypatch):
    def gone(*_):
        raise ProcessLookupError

    monkeypatch.setattr(os, "kill", gone)
    file = io.BytesIO(b'  File "/home/me/mine.py", line 12 in kernel\n')
    assert crash_location.ask(123, file) == " (mine.py:12)", "what it wrote before it went"


CRASHES = """
import os, sys
from triptych.harness.running import crash_location
crash_location.enable(int(sys.argv[1]) if len(sys.argv) > 1 else None)
os.kill(os.getpid(), 11)
"""


@POSIX
@pytest.mark.parametrize("own", [True, False])
def test_a_crash_writes_its_stack_to_the_file_or_to_standard_error(tmp_path, own):
    (tmp_path / "mine.py").write_text(CRASHES)
    with crash_location.open_file() as file:
        words = [str(file.fileno())] if own else []
        done = subprocess.run(
            [sys.executable, str(tmp_path / "mine.py"), *words],
            pass_fds=(file.fileno(),),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == -signal.SIGSEGV
        assert crash_location.read(file) == (" (mine.py:5)" if own else "") and ("mine.py" in done.stderr) is not own


@POSIX
def test_the_file_of_a_stack_is_not_handed_on(monkeypatch):
    told = []
    stub = SimpleNamespace(enable=lambda *words: told.append(words), register=lambda *words: told.append(words))
    monkeypatch.setattr(crash_location, "faulthandler", stub)
    with crash_location.open_file() as file:
        os.set_inheritable(file.fileno(), True)
        crash_location.enable(file.fileno())
        assert not os.get_inheritable(file.fileno())
        assert told == [(file.fileno(),), (signal.SIGUSR1, file.fileno())]
    crash_location.enable(None)
    assert told[2:] == [()]


def test_an_end_with_the_parent_is_asked_of_linux_alone(monkeypatch):
    asked = []

    class Library:
        def prctl(self, *words):
            asked.append(words)

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library())
    monkeypatch.setattr(sys, "platform", "darwin")
    pipes.end_with_parent()
    assert asked == []
    monkeypatch.setattr(sys, "platform", "linux")
    pipes.end_with_parent()
    assert asked == [(1, signal.SIGKILL)], "PR_SET_PDEATHSIG"


def test_a_worker_that_was_started_anew_finds_its_descriptor_among_its_arguments(monkeypatch):
    served = []
    monkeypatch.setattr(worker, "serve", lambda *words: served.append(words))
    for arguments in (["-c", "17"], ["-c"]):
        monkeypatch.setattr(sys, "argv", arguments)
        worker.main()
    assert served == [(17, {}), (None, {})]


# How much is left


def test_how_far_a_run_is_in_words(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(remaining.time, "monotonic", lambda: now[0])
    left = Remaining(9, at_once=4)
    assert (left.of, left.count, left.first, left.words()) == (9, 9, 0, "[0/9, 4 at once]")
    now[0] += 60
    left.done(0)
    assert left.words("1 bad", "") == "[1/9, 1 bad, 4 at once]", "one tells nothing of the others"
    left.done(2)
    assert (left.first, left.words()) == (1, "[2/9, 4 at once, about 4 min left]")
    for number in (1, 3, 4, 5):
        left.done(number)
    assert (left.first, left.words()) == (6, "[6/9, 3 at once, about 30 s left]")
    left.done(6)
    left.done(8)
    assert left.words("x") == "[8/9, x, about 8 s left]"


@pytest.mark.parametrize(
    ("done", "elapsed", "said"),
    [
        (2, 4.9, ""),
        (2, 5.0, "about 10 s left"),
        (2, 44.9, "about 90 s left"),
        (2, 45.0, "about 2 min left"),
        (3, 5.0, "about 5 s left"),
        (5, 5.0, "about 1 s left"),
        (1, 50.0, ""),
    ],
)
def test_the_rest_takes_as_long_as_what_is_done(monkeypatch, done, elapsed, said):
    now = [0.0]
    monkeypatch.setattr(remaining.time, "monotonic", lambda: now[0])
    left = Remaining(6)
    assert left.words() == "[0/6]", "one at a time is not said"
    for number in range(done):
        left.done(number)
    now[0] = elapsed
    assert left.time() == said
