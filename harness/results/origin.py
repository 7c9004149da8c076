"""Where the results of a document are from: the `env` beside them, as far as reports and comparisons read it.

A document may say more of its origin: what is not named here is kept as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from triptych.harness.results.record import Record


class Repository(Record, frozen=True, kw_only=True):
    """A commit, and whether tracked files differ from it."""

    sha: str
    dirty: bool = False


class KernelSource(Record, frozen=True, kw_only=True):
    """The file of a kernel: its place in its repository, or its name where it is in none."""

    op: str
    panel: str  # "nki" or "triton"
    file: str
    sha256: str  # of its bytes
    git: Repository | None = None


class Node(Record, frozen=True, kw_only=True):
    """A machine of a cluster, as rows name it."""

    node: str  # as the cluster calls it
    workers: int = 0  # that the run had there
    lost: bool = False  # before the run came to its end
    platform: str = ""
    cpu: str | None = None
    cores: int | None = None
    gpus: list[dict[str, str]] = []
    packages: dict[str, str | None] = {}

    @property
    def machine(self) -> str:
        return accelerators(self.gpus) or self.cpu or "an unknown machine"


class Origin(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Machine, versions, sources, command and seed; no host is named, but by a label that the user gives."""

    label: str | None = None  # what the user calls the machine
    triptych: str | None = None
    utc: str | None = None  # when it was made
    git: Repository | None = None  # of triptych's own checkout
    kernels: list[KernelSource] = []
    command: str | None = None
    seed: int | None = None
    python: str | None = None
    packages: dict[str, str | None] = {}
    blas: str | None = None
    platform: str | None = None
    cpu: str | None = None
    cores: int | None = None
    threads: dict[str, str] = {}
    emulation: dict[str, str] = {}
    gpus: list[dict[str, str]] = []
    nodes: list[Node] = []  # that ran the tasks, if it was not this machine
    conformance: dict[str, Any] = {}
    not_tried: list[str] = []
    earlier: list[dict[str, Any]] = []  # the origins of runs whose results this document took over

    @property
    def machine(self) -> str:
        """What a time depends on beside the kernel: the accelerators, else the processor."""
        if self.nodes:
            return " and ".join(sorted({node.machine for node in self.nodes}))
        return accelerators(self.gpus) or self.cpu or "an unknown machine"


def accelerators(gpus: list[dict[str, str]]) -> str:
    """GPUs by name and driver; empty if there are none."""
    return ", ".join(" ".join(filter(None, (gpu.get("name"), gpu.get("driver")))) for gpu in gpus)


def machines(env: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What a document's numbers are of: the nodes of its cluster, each a part of `env`, else `env` itself."""
    return list(env.get("nodes") or [env])


def machine_of(env: Mapping[str, Any], node: str) -> Mapping[str, Any]:
    """What a row is of that names this node; without one, what all are of."""
    return next((machine for machine in machines(env) if node and machine.get("node") == node), env)


def packages_of(env: Mapping[str, Any]) -> dict[str, str]:
    """The versions with which a document's numbers were made."""
    return {name: found for one in machines(env) for name, found in (one.get("packages") or {}).items() if found}


def origin(env: dict[str, Any]) -> Origin:
    """The typed form of an `env`; msgspec.ValidationError says what of it is not as it must be."""
    return msgspec.convert(env, Origin, strict=False)
