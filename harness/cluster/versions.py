"""Versions: what must be the same on all nodes, because it decides a verdict or a prediction."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from functools import cache

import triptych
from triptych.harness.cluster.travel import OURS
from triptych.harness.results import environment

SOURCES = "sources of triptych"
Versions = Mapping[str, str]


def here() -> dict[str, str]:
    """The versions of this process: Python, triptych, a digest of its sources, and the packages that are installed."""
    packages = {name: environment.version(name) for name in environment.PACKAGES}
    return {
        "python": ".".join(platform.python_version_tuple()[:2]),
        "triptych": triptych.__version__,
        SOURCES: sources(),
        **{name: version.partition("+")[0] for name, version in packages.items() if version},  # built for whichever GPU
    }


@cache
def sources() -> str:
    """A digest of triptych's Python files, of those that a wheel has too: two checkouts may both be called 0.1.0."""
    digest = hashlib.sha256()
    for place in OURS:
        for file in sorted(place.rglob("*.py")):
            name = file.relative_to(place.parent).as_posix()
            if not name.startswith("harness/upkeep/"):
                digest.update(f"{name}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def difference(mine: Versions, theirs: Versions, node: str) -> str:
    """The sentence on a node whose versions are not those of this machine; empty if they are.

    A package that is installed on one of them alone is no difference: its backend is skipped where it is not.
    """
    found = [name for name in mine if name in theirs and mine[name] != theirs[name]]
    if not found:
        return ""
    here, there = ([f"{name} {of[name]}" for name in found] for of in (mine, theirs))
    return (
        f"node {node} has {', '.join(there)}, and this machine {', '.join(here)}: results of both would not be of one "
        "kind. Install the same versions on all nodes."
    )
