"""A child of this process that begins with all that this process has imported, where that is safe.

A child has one thread: what another thread of its parent held at that moment, it holds for ever. So a process is forked
only while it has a single thread. A child shares no pipe with its siblings, whose end each must see, and no output.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from subprocess import TimeoutExpired
from typing import BinaryIO, NoReturn

from triptych.harness import one_thread

THREADS = "/proc/self/task"
POLL_S = 0.002


def is_safe() -> bool:
    """Whether this process may be forked: the command line's, on Linux, with one thread and no GPU that it has opened.

    In the process of a program or a notebook lies what its files said when they were first loaded.
    """
    if sys.platform != "linux" or not one_thread.is_ours():
        return False
    torch = sys.modules.get("torch")
    with contextlib.suppress(OSError):
        return len(os.listdir(THREADS)) == 1 and not (torch is not None and torch.cuda.is_initialized())
    return False


class Forked:
    """The child as `subprocess.Popen` would show it: its number, both pipes, and how it ended.

    main: what it does; its standard input and output are the pipes. It ends when `main` returns.
    keep: a further descriptor that stays open in it.
    """

    def __init__(self, main: Callable[[], object], keep: int | None = None) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        theirs_in, ours_in = os.pipe()
        ours_out, theirs_out = os.pipe()
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            _become(main, theirs_in, theirs_out, keep)
        os.close(theirs_in)
        os.close(theirs_out)
        self.stdin: BinaryIO = os.fdopen(ours_in, "wb")
        self.stdout: BinaryIO = os.fdopen(ours_out, "rb")

    def poll(self) -> int | None:
        """The exit code, or the negative of the signal that ended it; None while it lives."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it has ended; TimeoutExpired if it has not by then."""
        end = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if end is not None and time.monotonic() > end:
                raise TimeoutExpired(f"process {self.pid}", timeout or 0.0)
            time.sleep(POLL_S)
        return code

    def kill(self) -> None:
        """End it at once; another thread than the one that waits for it may do so too."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


def _become(main: Callable[[], object], requests: int, replies: int, keep: int | None) -> None:
    """In the child: take its place in the world, do what it is for, and end."""
    code = 1
    try:
        os.setsid()  # so that what a kernel starts dies with it, and Ctrl-C reaches the parent alone
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.dup2(requests, 0)
        os.dup2(replies, 1)
        _let_go_of_all_but(keep)
        sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
        main()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        leave(code)


def leave(code: int) -> NoReturn:
    """End a child at once: what its parent meant to do at its own end is not done twice, and what was printed stays."""
    with contextlib.suppress(BaseException):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _let_go_of_all_but(keep: int | None) -> None:
    """Turn what else the parent had open into nothing: its objects hold the same numbers here, and may close them."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in map(int, os.listdir("/proc/self/fd")):
        if number > 2 and number not in (nothing, keep):
            with contextlib.suppress(OSError):
                os.fstat(number)
                os.dup2(nothing, number, inheritable=False)
    os.close(nothing)
