"""`--resume FILE`: results are kept in FILE as they come, and what FILE already holds is not run again.

FILE is the document that --json writes, whole at every moment: it is written beside its place and renamed over it, at
most once a second and at the end. A result in it counts as done if its `fingerprint` is that of the task: a digest of
the case with its sizes, regime and seed, of the options that decide a verdict, of the versions of what computes it, and
of the sources: the kernel's file with the Python files beside it, the file that declares the op, and all of the
harness, the simulator and the references. Skipped cases and timeouts are tried again.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from triptych.harness.backends import BACKENDS
from triptych.harness.ops.op import Op
from triptych.harness.results import environment
from triptych.harness.results.result import Result
from triptych.harness.results.status import Cause, Status
from triptych.harness.running.runner import Settings, Task

PACKAGE = Path(__file__).resolve().parent.parent
JUDGES = (PACKAGE, PACKAGE.parent / "simulator", PACKAGE.parent / "reference")
UNDECIDED = (Status.SKIPPED, Status.TIMEOUT)
MACHINES = (Cause.WORKER_DIED, Cause.OUT_OF_MEMORY)  # causes that may be this machine's
MOST_SECONDS = 1.0  # that a finished result may wait for its place in the file


def fingerprint(task: Task, op: Op, settings: Settings) -> str:
    """What decides the result of a task, as sixteen hexadecimal digits."""
    kernel = getattr(op, BACKENDS[task.backend].panel)
    parts: dict[str, Any] = {
        "task": repr(replace(task, repro="")),
        "settings": repr((settings.no_check, settings.wanted, task.bench and settings.budget)),
        "versions": [np.__version__, *(environment.version(name) for name in environment.PACKAGES)],
        "judges": sources(JUDGES),
        "op": sources((Path(task.source).resolve(),)) if task.source else "",
        "kernel": sources((Path(kernel.rpartition(":")[0]).resolve().parent,)) if isinstance(kernel, str) else "",
        "machine": machine() if task.bench else "",
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


@cache
def sources(places: tuple[Path, ...]) -> str:
    """A digest of files, and of the Python files in folders; of the harness and its like also in theirs."""
    digest = hashlib.sha256()
    for place in places:
        deep = place in JUDGES
        files = [place] if place.is_file() else sorted(place.rglob("*.py") if deep else place.glob("*.py"))
        for file in files:
            digest.update(f"{file.name}\0".encode() + file.read_bytes())
    return digest.hexdigest()


@cache
def machine() -> str:
    """Times are of one machine."""
    return repr((environment.cpu(), environment.gpus()))


class Kept:
    """The results of a run that is or was under way, and the file that holds them."""

    def __init__(self, path: str, tasks: Sequence[Task], ops: Mapping[str, Op], settings: Settings) -> None:
        self.path = path
        self.prints = {key(task): fingerprint(task, ops[task.op], settings) for task in tasks}
        self.done: dict[Any, Result] = {}
        self.changed = 0
        self.written = 0.0

    def take(self, results: Sequence[Result]) -> None:
        """Take over what is done already; count what is not what it was."""
        for result in results:
            wanted = self.prints.get(key(result))
            if wanted is None or undecided(result):
                continue
            if result.fingerprint == wanted:
                self.done[key(result)] = result
            else:
                self.changed += 1

    def left(self, tasks: Sequence[Task]) -> list[Task]:
        return [task for task in tasks if key(task) not in self.done]

    def add(self, result: Result, write: Callable[[list[Result]], None]) -> None:
        """Keep a new result; `write` puts all of them in the file, unless it did so just now."""
        result.fingerprint = self.prints[key(result)]
        self.done[key(result)] = result
        if time.monotonic() - self.written > MOST_SECONDS:
            write(self.ordered())
            self.written = time.monotonic()

    def ordered(self) -> list[Result]:
        """The results in the order of their tasks."""
        return [self.done[place] for place in self.prints if place in self.done]

    def said(self) -> str:
        """One line on what was taken over."""
        again = f"; {self.changed} more are run again, because their sources, options or tools changed"
        return f"resuming {self.path}: {len(self.done)} of {len(self.prints)} results are there" + (
            again if self.changed else ""
        )


def undecided(result: Result) -> bool:
    """Whether another try may end otherwise with nothing changed but the machine's load, --timeout or --memory."""
    return result.status in UNDECIDED or result.cause in MACHINES


def key(of: Task | Result) -> tuple[str, str, str, str, str | None]:
    """What tells results of one run apart."""
    if isinstance(of, Task):
        return of.op, of.case.name, of.case.dtype, of.backend, of.target
    return of.op, of.case, of.dtype, of.backend, of.target
