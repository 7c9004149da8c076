"""`--resume FILE`: results are kept in FILE as they come, and what FILE already holds is not run again.

FILE is the document that --json writes, whole at every moment: it is written beside its place and renamed over it, at
most once a second and at the end. A result in it counts as done if its `fingerprint` is that of the task: a digest of
the case with its sizes, regime and seed, of the options that decide a verdict, of the versions of what computes it, and
of the sources: the kernel's file and the one that declares the op, each with the Python files beside it, and all of the
harness, the simulator and the references. Skipped cases and timeouts are tried again. Results of other selections stay
in FILE, and while a run goes on it is locked and says that it is not complete.
"""

from __future__ import annotations

import hashlib
import json
import os
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
from triptych.harness.locks import lock
from triptych.harness.nki_versions import VARIABLE
from triptych.harness.ops.op import Op
from triptych.harness.results import environment
from triptych.harness.results.document import Document, read
from triptych.harness.results.profile import Outcome
from triptych.harness.results.result import Result
from triptych.harness.results.status import Cause, Status
from triptych.harness.running.session import TUNED, Observer, Run
from triptych.harness.running.tasks import Key, Settings, Task, key

PACKAGE = Path(__file__).resolve().parent.parent
JUDGES = (PACKAGE, PACKAGE.parent / "simulator", PACKAGE.parent / "reference")
UNDECIDED = (Status.SKIPPED, Status.TIMEOUT)
MACHINES = (Cause.WORKER_DIED, Cause.OUT_OF_MEMORY)  # causes that may be this machine's
MOST_SECONDS = 1.0  # that a finished result may wait for its place in the file


def fingerprint(task: Task, op: Op, settings: Settings) -> str:
    """What decides the result of a task, as sixteen hexadecimal digits."""
    kernel = getattr(op, BACKENDS[task.backend].panel)
    timing = (settings.budget, task.backend == TUNED and settings.tune_s is not None)
    parts: dict[str, Any] = {
        "task": repr(replace(task, though_slow=True, repro="")),
        "settings": repr((settings.no_check, settings.wanted, settings.paranoid, task.bench and timing)),
        "versions": [np.__version__, *(environment.version(name) for name in environment.PACKAGES)],
        "nki": os.environ.get(VARIABLE),
        "judges": sources(JUDGES),
        "op": sources((Path(task.source).resolve().parent,)) if task.source else "",
        "kernel": sources((Path(kernel.rpartition(":")[0]).resolve().parent,)) if isinstance(kernel, str) else "",
        "host": (settings.cluster or host()) if task.bench else "",
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

    What the file holds beside it, of other cases, kernels, backends or seeds, stays in it.

    path: the file, which need not be there yet
    say: takes a sentence for the user
    publish: makes the document of a run
    """

    def __init__(self, path: str, say: Callable[[str], None], publish: Callable[[Run], Document]) -> None:
        self.path = path
        self.say = say
        self.publish = publish
        self.prints: dict[Key, str] = {}
        self.repros: dict[Key, str] = {}
        self.others: list[Outcome] = []  # what the file holds of other selections
        self.earlier: list[dict[str, Any]] = []  # the origins of what was taken over
        self.unknown: dict[str, Any] = {}  # fields of the file that this version does not know
        self.written = 0.0  # when
        self.refused = ""  # why the system does not take the file, which is no reason to stop the run
        self.release: Callable[[], None] = lambda: None

    def started(self, run: Run) -> None:
        self.release = lock(self.path)
        try:
            self.take_over(run)
        except BaseException:
            self.release()
            raise

    def take_over(self, run: Run) -> None:
        """Add what the file holds of this run to it, and keep the rest."""
        self.prints = {key(task): fingerprint(task, run.plan.ops[task.op], run.settings) for task in run.plan.tasks}
        self.repros = {key(task): task.repro for task in run.plan.tasks}
        if not Path(self.path).exists():
            return
        before = read(self.path)
        kept, self.others, changed = self.sort(before.results)
        self.unknown = before.unknown
        self.earlier = [*before.env.get("earlier", []), *summary_of(before.env)] if kept or self.others else []
        for result in kept:
            run.add(result)
        again = f"; {changed} more are run again, because their sources, options or tools changed"
        there = f"resuming {self.path}: {len(kept)} of {len(self.prints)} results are there"
        beside = f"; {len(self.others)} of other selections stay in it"
        self.say(there + (again if changed else "") + (beside if self.others else ""))

    def sort(self, results: Iterable[Outcome]) -> tuple[list[Result], list[Outcome], int]:
        """The results that need no further run, those of other selections, and how many are not what they were."""
        kept: dict[Key, Result] = {}
        others: list[Outcome] = []
        changed = 0
        for result in results:
            if not isinstance(result, Result) or key(result) not in self.prints:
                others.append(result)
            elif result.fingerprint == self.prints[key(result)] and not undecided(result):
                kept[key(result)] = result
            elif result.repro != self.repros[key(result)]:  # another kernel's, seed's or tolerance's
                others.append(result)
            else:
                changed += not undecided(result)
        return list(kept.values()), others, changed

    def on_result(self, run: Run, result: Result) -> None:
        result.fingerprint = self.prints[key(result)]
        if time.monotonic() - self.written <= MOST_SECONDS:
            return
        before = self.refused
        self.write(run, finished=False)
        if self.refused and not before:
            self.say(f"triptych: {self.refused} The run goes on and tries the file again later.")
        self.written = time.monotonic()

    def ended(self, run: Run) -> None:
        try:
            self.refused = ""
            self.write(run, finished=True)
        finally:
            self.release()

    def write(self, run: Run, finished: bool) -> None:
        """Put everything into the file; `refused` says why it cannot be."""
        try:
            files.write(self.path, self.document(run, finished).to_json())
        except UsageError as error:
            self.refused = str(error)

    def document(self, run: Run, finished: bool) -> Document:
        """The run as it stands, behind what the file held of others."""
        made = self.publish(run)
        env = {**made.env, **({"earlier": self.earlier} if self.earlier else {})}
        return Document(
            complete=made.complete and finished,
            planned=len(self.others) + len(self.prints),
            env=env,
            results=[*self.others, *made.results],
            unknown=self.unknown,
        )


def summary_of(env: dict[str, Any]) -> list[dict[str, Any]]:
    """What tells one run from another: when, by which command, from which sources, where."""
    names = ("label", "utc", "command", "seed", "triptych", "git", "kernels", "cpu", "gpus", "nodes")
    return [{name: env[name] for name in names if name in env}]


def undecided(result: Result) -> bool:
    """Whether another try may end otherwise with nothing changed but the host's load, --timeout or --memory."""
    return result.status in UNDECIDED or result.cause in MACHINES
