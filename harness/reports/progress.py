"""What a run does now: a line on a terminal that does not stay; on a pipe a line now and then, once a run is long."""

from __future__ import annotations

import sys

from triptych.harness.reports.terminal import StatusLine, Ticker
from triptych.harness.results.result import Result
from triptych.harness.results.status import BAD
from triptych.harness.running.session import Observer, Run
from triptych.harness.running.tasks import key
from triptych.harness.running.workers.remaining import Remaining


class Progress(Observer):
    """Shows which task runs, how many are done, how many of them did not pass, and about how long the rest takes.

    quiet: show nothing
    lines: where there is no terminal, write a line every fifteen seconds
    """

    def __init__(self, *, quiet: bool = False, lines: bool = False) -> None:
        self.line = (Ticker if lines else StatusLine)(sys.stderr, quiet=quiet)

    def started(self, run: Run) -> None:
        self.line.say("testing the emulators and reading versions")

    def ready(self, run: Run) -> None:
        self.tasks = run.left
        self.numbers = {key(task): number for number, task in enumerate(self.tasks)}
        self.left = Remaining(len(self.tasks), run.jobs)
        self.bad = 0
        self._show()

    def on_result(self, run: Run, result: Result) -> None:
        self.left.done(self.numbers[key(result)])
        self.bad += result.status in BAD
        self._show()

    def ended(self, run: Run) -> None:
        self.line.clear()

    def _show(self) -> None:
        if self.left.count:
            self.line.say(self.words())

    def words(self) -> str:
        """`[3/9, 1 not passed, 4 at once, about 2 min left] matmul 64x128x96 float32 nki-sim[trn2]`."""
        task = self.tasks[self.left.first]
        where = f"{task.backend}[{task.target}]" if task.target else task.backend
        done = self.left.words(f"{self.bad} not passed" if self.bad else "")
        return f"{done} {task.op} {task.case.name} {task.case.dtype} {where}"
