"""Where results are from: the `env` of a document, before anything runs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from triptych.harness.backends import BACKENDS
from triptych.harness.backends.base import file_of
from triptych.harness.emulators import conformance
from triptych.harness.ops.op import Op
from triptych.harness.results import environment
from triptych.harness.results.origin import KernelSource, Repository
from triptych.harness.results.record import to_plain
from triptych.harness.running.session import Observer, Run


def provenance(
    command: str, seed: int, backends: Iterable[str], ops: Iterable[Op] = (), label: str | None = None
) -> dict[str, Any]:
    """This machine, the command that makes the results, the self-tests of the emulators among `backends`, the kernels.

    ops: those whose kernels run
    label: what the user calls this machine
    """
    names, ops = list(backends), list(ops)
    used = [name for name in names if not ops or any(getattr(op, BACKENDS[name].panel) is not None for op in ops)]
    here = (BACKENDS[name] for name in used if not BACKENDS[name].missing())
    tested = {backend.name: found for backend in here if (found := backend.selftest()) is not None}
    panels = dict.fromkeys(BACKENDS[name].panel for name in names if not BACKENDS[name].is_reference)
    kernels = [
        source(op.name, panel, file_of(getattr(op, panel)))
        for op in ops
        for panel in panels
        if getattr(op, panel) is not None
    ]
    return {
        **environment.record(label),
        "seed": seed,
        "command": command,
        "kernels": to_plain([kernel for kernel in kernels if kernel is not None]),
        "conformance": conformance.record(tested),
    }


def source(op: str, panel: str, path: Path | None) -> KernelSource | None:
    """The file of a kernel, and the state of the repository that holds it; None for a kernel of no file."""
    if path is None or not path.is_file():
        return None
    found = path.resolve()
    place = in_repository(found)
    state = environment.repository(found.parent) if place is not None else None
    git = Repository(sha=state["sha"], dirty=state["dirty"] or not place) if state else None
    digest = hashlib.sha256(found.read_bytes()).hexdigest()
    return KernelSource(op=op, panel=panel, file=place or found.name, sha256=digest, git=git)


def in_repository(path: Path) -> str | None:
    """The place of a file in its repository; empty if it is not tracked yet, None if it is in none or ignored there."""
    git = ("git", "-C", str(path.parent))
    tracked = environment.output(*git, "ls-files", "--full-name", "--", path.name)
    if tracked or tracked is None:
        return tracked
    return None if environment.output(*git, "check-ignore", "--", path.name) else ""


class Recorder(Observer):
    """Gives a run its `env` when it starts: the commit and the versions that are about to run.

    command: what to type to repeat the run
    label: what the user calls this machine
    """

    def __init__(self, command: str, label: str | None = None) -> None:
        self.command = command
        self.label = label

    def started(self, run: Run) -> None:
        backends = dict.fromkeys(task.backend for task in run.plan.tasks)
        run.env = provenance(self.command, run.plan.selection.seed, backends, run.plan.ops.values(), self.label)
