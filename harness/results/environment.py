"""What produced a result: versions, processor, threads and accelerator.

The record goes into every JSON document and report. It names no host, no user and no path. Versions come from package
metadata, so that nothing heavy is imported to learn them.
"""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import triptych
from triptych.harness.one_thread import ONE_THREAD
from triptych.harness.results.origin import Node

PACKAGES = ("numpy", "ml_dtypes", "triton", "torch", "nki", "neuronx-cc")
EMULATION = ("TRITON_INTERPRET", "NKI_SIMULATOR", "NKI_PRECISE_FP", "NEURON_PLATFORM_TARGET_OVERRIDE", "TRIPTYCH_NKI")


def record(label: str | None = None) -> dict[str, Any]:
    """The `env` of a JSON document; `label` is what the user calls this machine."""
    return {
        **({"label": label} if label else {}),
        "triptych": triptych.__version__,
        "utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "git": git(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "blas": blas(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": cpu(),
        "cores": cores(),
        "threads": {name: os.environ.get(name, one) for name, one in ONE_THREAD.items()},
        "emulation": {name: os.environ[name] for name in EMULATION if name in os.environ},
        "gpus": gpus(),
    }


def node(name: str) -> Node:
    """This machine as one of a cluster, which calls it so."""
    return Node(
        node=name,
        platform=f"{platform.system()} {platform.machine()}",
        cpu=cpu(),
        cores=cores(),
        gpus=gpus(),
        packages={package: version(package) for package in PACKAGES},
    )


def version(package: str) -> str | None:
    """The installed version, None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def git() -> dict[str, Any] | None:
    """The state of this project's own checkout; None outside of one."""
    root = Path(__file__).resolve().parent.parent.parent
    return repository(root) if (root / ".git").exists() else None


def repository(folder: Path) -> dict[str, Any] | None:
    """The commit of the repository that a folder is in, and whether tracked files differ from it; None outside."""
    sha = output("git", "-C", str(folder), "rev-parse", "HEAD")
    if not sha:
        return None
    changes = output("git", "-C", str(folder), "status", "--porcelain", "--untracked-files=no")
    return {"sha": sha, "dirty": bool(changes)}


def cpu() -> str | None:
    """The processor's own name."""
    if platform.system() == "Darwin":
        return output("sysctl", "-n", "machdep.cpu.brand_string")
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or None
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Hardware", "cpu model"):
            return value.strip()
    return platform.processor() or None


def cores() -> int | None:
    """How many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count()


def blas() -> str | None:
    """NumPy's matrix library, as NumPy reports its own build."""
    try:
        import numpy as np

        build: Any = np.show_config(mode="dicts")
        library = build["Build Dependencies"]["blas"]
        return f"{library['name']} {library['version']}"
    except (ImportError, TypeError, KeyError):
        return None


def gpus() -> list[dict[str, str]]:
    """Name and driver of each NVIDIA or AMD GPU, asked of the vendor's own tool."""
    lines = output("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    if lines:
        pairs = (line.rpartition(",") for line in lines.splitlines())
        return [{"name": name.strip(), "driver": driver.strip()} for name, _, driver in pairs]
    lines = output("rocm-smi", "--showproductname", "--csv")
    if lines:
        rows = [line.split(",") for line in lines.splitlines()[1:] if line.strip()]
        return [{"name": row[1].strip() if len(row) > 1 else row[0].strip(), "driver": "rocm"} for row in rows]
    return []


def output(*command: str) -> str | None:
    """What a command prints; None if it is not there, fails or takes longer than ten seconds."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
