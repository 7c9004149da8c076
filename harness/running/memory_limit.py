"""How much memory a worker may take, so that a kernel that allocates without end costs its own case alone.

The limit is RLIMIT_DATA, which on Linux counts private writable memory: what NumPy and Python allocate, but not the
address space that CUDA reserves. Past it an allocation fails, which Python raises as MemoryError. Other POSIX systems
count less of it (macOS the heap alone), and Windows has no such limit.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

SHARE = 0.8  # of the memory that is free when a run starts
OPTION = "--memory"
MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # malloc.h: M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
LARGEST_KEPT, MOST_KEPT = 2**25, 2**27  # bytes of one array, which is as much as glibc takes, and of all
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


def keep_freed() -> None:
    """Have this process keep the memory of arrays that it frees, for the next ones, where the C library is glibc.

    By default it gives every array of 128 KiB and more back to the system, which hands it out again page by page: a
    quarter of the time that the judge takes for a small case.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, LARGEST_KEPT)
        mallopt(TRIM_THRESHOLD, MOST_KEPT)


def in_words(limit: int | None) -> str:
    """The sentence on a MemoryError."""
    if limit is None:
        return "there is not enough memory for this case"
    return f"this needs more than the memory limit of {limit / 2**30:.3g} GiB a worker ({OPTION} sets it)"
