"""A worker's pipes to its parent, out of reach of what kernels print, and its end with its parent's."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import BinaryIO


def end_with_parent() -> None:
    """On Linux the system ends this process with its parent, even while it hangs in C with the interpreter's lock."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def private_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The pipes to the parent under new descriptors; standard input becomes empty, output joins the error."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, replies
