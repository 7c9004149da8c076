"""What a run does now: a line on a terminal that does not stay; on a pipe a line now and then, once a run is long."""

from __future__ import annotations

import sys
import time

from triptych.harness.reports.terminal import StatusLine, Ticker
from triptych.harness.results.result import Result
from triptych.harness.results.status import BAD
from triptych.harness.running.session import Observer, Run


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
        self.done = self.bad = 0
        self.begun = time.monotonic()
        self._show()

    def on_result(self, run: Run, result: Result) -> None:
        self.done += 1
        self.bad += result.status in BAD
        self._show()

    def ended(self, run: Run) -> None:
        self.line.clear()

    def _show(self) -> None:
        if self.done < len(self.tasks):
            self.line.say(self.words())

    def words(self) -> str:
        """`[3/9, 1 not passed, about 2 min left] matmul 64x128x96 float32 nki-sim[trn2]`."""
        task = self.tasks[self.done]
        where = f"{task.backend}[{task.target}]" if task.target else task.backend
        facts = [f"{self.done}/{len(self.tasks)}", f"{self.bad} not passed" if self.bad else "", self.left()]
        return f"[{', '.join(filter(None, facts))}] {task.op} {task.case.name} {task.case.dtype} {where}"

    def left(self) -> str:
        """How long the rest takes if it takes as long as what is done; nothing before that can be said."""
        elapsed = time.monotonic() - self.begun
        if self.done < 2 or elapsed < 5:
            return ""
        seconds = elapsed / self.done * (len(self.tasks) - self.done)
        return f"about {seconds / 60:.0f} min left" if seconds >= 90 else f"about {max(seconds, 1):.0f} s left"
