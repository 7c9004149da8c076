"""Work in a process of its own, forked from this one, with a limit; what it took of a processor is counted."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

BROKEN = 70  # the exit code of a process whose work raised


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code, None if it took too long; its seconds of a processor, children included."""

    code: int | None
    cpu_s: float


def forked(work: Callable[[], int], limit_s: float, said: Path | None = None) -> Ended:
    """What became of `work`; it may set the limit anew, by `within`. said: where it prints, unless as this process."""
    sys.stdout.flush()
    process = os.fork()
    if process == 0:
        code = BROKEN
        try:
            os.setsid()
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in the background ignores
            within(limit_s)
            if said:
                print_to(said)
            code = work()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    try:
        _, status, usage = os.wait4(process, 0)
    finally:
        with contextlib.suppress(ProcessLookupError):  # what it started may outlive it
            os.killpg(process, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(status)
    return Ended(None if code == -signal.SIGALRM else code, usage.ru_utime + usage.ru_stime)


def within(limit_s: float) -> None:
    """End this process if so many seconds from now it still runs."""
    signal.setitimer(signal.ITIMER_REAL, limit_s)


def print_to(path: Path) -> None:
    """Everything that this process prints goes to a file, and there is nothing to read."""
    nothing, said = os.open(os.devnull, os.O_RDONLY), os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(nothing, 0)
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.stdout = sys.stderr = os.fdopen(1, "w")
