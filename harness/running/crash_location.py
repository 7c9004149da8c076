"""Where a worker was when it crashed or overran: the line of the user's file, from a stack that Python itself dumps.

Python's faulthandler writes the stack of a process that a fault kills, or that is sent SIGUSR1 while it hangs in C or
holds the interpreter's lock. It writes into a file without a name that the parent opened.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import re
import signal
import tempfile
import time
from typing import IO

PATIENCE_S = 0.3  # for a hanging worker to write its stack
FRAME = re.compile(r'^  File "(?P<file>[^"<]+)", line (?P<line>\d+) in ', re.MULTILINE)
HERE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # triptych
NOT_THE_USERS = (f"{HERE}/harness/", f"{HERE}/simulator/", f"{os.path.dirname(os.__file__)}/")


def open_file() -> IO[bytes] | None:
    """A file that a worker may inherit; None where there is no place for one, or no signal to ask with."""
    if os.name != "posix":
        return None
    try:
        return tempfile.TemporaryFile(buffering=0)
    except OSError:
        return None


def enable(descriptor: int | None) -> None:
    """In the worker: write the stack there when it comes to that; to standard error without one."""
    if descriptor is None:
        faulthandler.enable()
        return
    os.set_inheritable(descriptor, False)
    faulthandler.enable(descriptor)
    faulthandler.register(signal.SIGUSR1, descriptor)


def ask(pid: int, file: IO[bytes] | None) -> str:
    """Where a hanging worker is, as " (mine.py:12)"; empty if that cannot be known."""
    if file is None:
        return ""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGUSR1)
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end and not read(file):
        time.sleep(0.01)
    return read(file)


def read(file: IO[bytes] | None) -> str:
    """The innermost line outside of Python's and our own files, as " (mine.py:12)"."""
    if file is None:
        return ""
    file.seek(0)
    for frame in FRAME.finditer(file.read().decode(errors="replace")):
        path = frame["file"]
        if not path.startswith(NOT_THE_USERS) and "/site-packages/" not in path:
            return f" ({os.path.basename(path)}:{frame['line']})"
    return ""
