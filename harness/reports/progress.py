"""The line on a terminal that says what a run does now; nothing on a pipe, and nothing that stays."""

from __future__ import annotations

import sys

from triptych.harness.reports.terminal import StatusLine
from triptych.harness.results.result import Result
from triptych.harness.results.status import BAD
from triptych.harness.running.session import Observer, Run


class Progress(Observer):
    """Shows which task runs, how many are done, and how many of them did not pass."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.line = StatusLine(sys.stderr, quiet=quiet)

    def started(self, run: Run) -> None:
        self.tasks = run.left
        self.done = self.bad = 0
        self._show()

    def on_result(self, run: Run, result: Result) -> None:
        self.done += 1
        self.bad += result.status in BAD
        self._show()

    def ended(self, run: Run) -> None:
        self.line.clear()

    def _show(self) -> None:
        if self.done < len(self.tasks):
            task = self.tasks[self.done]
            where = f"{task.backend}[{task.target}]" if task.target else task.backend
            bad = f", {self.bad} not passed" if self.bad else ""
            self.line.say(f"[{self.done}/{len(self.tasks)}{bad}] {task.op} {task.case.name} {task.case.dtype} {where}")
