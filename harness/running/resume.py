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
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from triptych.harness import files
from triptych.harness.backends import BACKENDS
from triptych.harness.errors import UsageError
from triptych.harness.ops.op import Op
from triptych.harness.results import environment
from triptych.harness.results.document import dumps, read
from triptych.harness.results.profile import Outcome
from triptych.harness.results.result import Result
from triptych.harness.results.status import Cause, Status
from triptych.harness.running.session import Observer, Run
from triptych.harness.running.tasks import Key, Settings, Task, key

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
        "settings": repr((settings.no_check, settings.wanted, settings.paranoid, task.bench and settings.budget)),
        "versions": [np.__version__, *(environment.version(name) for name in environment.PACKAGES)],
        "judges": sources(JUDGES),
        "op": sources((Path(task.source).resolve(),)) if task.source else "",
        "kernel": sources((Path(kernel.rpartition(":")[0]).resolve().parent,)) if isinstance(kernel, str) else "",
        "host": host() if task.bench else "",
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
def host() -> str:
    """Times are of one machine."""
    return repr((environment.cpu(), environment.gpus()))


class Resume(Observer):
    """Takes over what a file already holds of a run, and keeps the rest in it as it comes.

    path: the file, which need not be there yet
    say: takes a sentence for the user
    """

    def __init__(self, path: str, say: Callable[[str], None]) -> None:
        self.path = path
        self.say = say
        self.prints: dict[Key, str] = {}
        self.written = 0.0  # when
        self.refused = False  # by the system, to write the file, which is no reason to stop the run

    def started(self, run: Run) -> None:
        self.prints = {key(task): fingerprint(task, run.plan.ops[task.op], run.settings) for task in run.plan.tasks}
        if Path(self.path).exists():
            kept, changed = self.still_valid(read(self.path).results)
            for result in kept:
                run.add(result)
            again = f"; {changed} more are run again, because their sources, options or tools changed"
            there = f"resuming {self.path}: {len(kept)} of {len(self.prints)} results are there"
            self.say(there + (again if changed else ""))

    def still_valid(self, results: Iterable[Outcome]) -> tuple[list[Result], int]:
        """The results that need no further run, and how many are not what they were."""
        kept: dict[Key, Result] = {}
        changed = 0
        for result in results:
            if not isinstance(result, Result):  # a profile decides nothing
                continue
            wanted = self.prints.get(key(result))
            if wanted is None or undecided(result):
                continue
            if result.fingerprint == wanted:
                kept[key(result)] = result
            else:
                changed += 1
        return list(kept.values()), changed

    def on_result(self, run: Run, result: Result) -> None:
        result.fingerprint = self.prints[key(result)]
        if time.monotonic() - self.written <= MOST_SECONDS:
            return
        try:
            files.write(self.path, dumps(run.env, run.results))
        except UsageError as error:
            if not self.refused:
                self.say(f"triptych: {error} The run goes on and tries the file again later.")
            self.refused = True
        self.written = time.monotonic()


def undecided(result: Result) -> bool:
    """Whether another try may end otherwise with nothing changed but the host's load, --timeout or --memory."""
    return result.status in UNDECIDED or result.cause in MACHINES
