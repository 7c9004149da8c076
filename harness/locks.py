"""A lock on a file that a run keeps for hours, so that a second run on it is told apart from its own continuation."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from triptych.harness.errors import UsageError

try:
    import fcntl
except ImportError:  # Windows, where two runs on one file are not told apart
    fcntl = None  # type: ignore[assignment]


class Locked(UsageError):
    """Another process holds the file."""


def lock(path: str) -> Callable[[], None]:
    """Take the lock of `path`, and return what gives it back; Locked at once if another process has it.

    The lock is one of the system's on `.NAME.lock` beside the file, which itself is renamed over at every write. It
    ends with the process, however that ends.
    """
    target = Path(path).resolve()
    beside = target.with_name(f".{target.name}.lock")
    while fcntl is not None:
        try:
            handle = os.open(beside, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        except OSError as error:
            raise UsageError(f"cannot lock {path}: {error.strerror or error}.") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            who = os.read(handle, 32).decode(errors="replace").strip()
            os.close(handle)
            raise Locked(
                f"{path} is being written by another run{f' (process {who})' if who.isdigit() else ''}: wait for it, "
                "or give this one a file of its own."
            ) from None
        with contextlib.suppress(OSError):
            if os.stat(beside).st_ino == os.fstat(handle).st_ino:  # else its last owner took it away meanwhile
                os.ftruncate(handle, 0)
                os.write(handle, str(os.getpid()).encode())
                return lambda: release(beside, handle)
        os.close(handle)
    return lambda: None


def release(beside: Path, handle: int) -> None:
    """Take the lock's file away, and only then let go."""
    with contextlib.suppress(OSError):
        os.unlink(beside)
    with contextlib.suppress(OSError):
        os.close(handle)
