"""What `triptych` tells a shell."""

from __future__ import annotations

import enum


class ExitCode(enum.IntEnum):
    """How a command ended."""

    OK = 0
    MISMATCH = 1  # a mismatch, an error or a timeout
    USAGE = 2
    REGRESSION = 3  # slower than a limit allows
    INCONCLUSIVE = 4  # not known to be within a limit
    NOTHING_RAN = 5
    REQUIRED_MISSING = 6
    INTERRUPTED = 130  # as a shell reports SIGINT
    BROKEN_PIPE = 141  # as a shell reports SIGPIPE
