"""How many workers this machine bears: a core each, and memory enough to begin with."""

from __future__ import annotations

import math
import os
from pathlib import Path

from triptych.harness.running import memory_limit

LEAST_MEMORY = 2**30  # bytes for each worker
QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable() -> int:
    """The cores that this process may use: those that it may run on, but no more than its container's share."""
    try:
        here = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS or Windows
        here = os.cpu_count() or 1
    try:
        share, period = QUOTA.read_text(encoding="ascii").split()
        return max(1, min(here, math.ceil(int(share) / int(period))))
    except (OSError, ValueError):  # no container, or one with "max"
        return here


def bearable(jobs: int) -> int:
    """`jobs`, or as many as find memory to begin with."""
    memory = memory_limit.default()
    return jobs if memory is None else max(1, min(jobs, memory // LEAST_MEMORY))
