"""How much memory a worker may take, so that a kernel that allocates without end costs its own case alone.

The limit is RLIMIT_DATA, which on Linux counts private writable memory: what NumPy and Python allocate, but not the
address space that CUDA reserves. Past it an allocation fails, which Python raises as MemoryError. Other POSIX systems
count less of it (macOS the heap alone), and Windows has no such limit.
"""

from __future__ import annotations

import os
from pathlib import Path

SHARE = 0.8  # of the memory that is free when a run starts
OPTION = "--memory"
CGROUP = Path("/sys/fs/cgroup")


def default() -> int | None:
    """A share of the memory that this machine, or its container, has left; None where that cannot be known."""
    found = [size for size in (_available(), _container()) if size is not None]
    return int(SHARE * min(found)) if found else None


def _available() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return None


def _container() -> int | None:
    try:
        limit = (CGROUP / "memory.max").read_text(encoding="ascii").strip()
        used = (CGROUP / "memory.current").read_text(encoding="ascii").strip()
        return int(limit) - int(used) if limit.isdecimal() else None
    except (OSError, ValueError):
        return None


def apply(limit: int | None) -> None:
    """Limit this process from here on; nothing where the system knows no limit, or has set a lower one."""
    if limit is None:
        return
    try:
        import resource
    except ImportError:  # Windows
        return
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def in_words(limit: int | None) -> str:
    """The sentence on a MemoryError."""
    if limit is None:
        return "there is not enough memory for this case"
    return f"this needs more than the memory limit of {limit / 2**30:.3g} GiB a worker ({OPTION} sets it)"
