"""The line on a terminal that says what runs now; nothing on a pipe, and nothing that stays."""

from __future__ import annotations

import sys
from typing import IO, TYPE_CHECKING

from triptych.harness.results.result import Result
from triptych.harness.results.status import BAD
from triptych.harness.running.session import Observer, Run

if TYPE_CHECKING:
    import rich.progress


class ProgressLine:
    """How much is done, for how long, and what is at work.

    total: how much there is to do, in whatever is counted
    """

    def __init__(self, total: float, *, quiet: bool = False, stream: IO[str] | None = None) -> None:
        self.total = total
        self.stream = sys.stderr if stream is None else stream
        self.on = self.stream.isatty() and not quiet
        self.line: rich.progress.Progress | None = None

    def show(self, done: float, at_work: str) -> None:
        """`done` of the total is done."""
        if not self.on:
            return
        if self.line is None:
            self.line = self._start()
        self.line.update(self.line.task_ids[0], completed=done, description=at_work)

    def _start(self) -> rich.progress.Progress:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.table import Column

        rest = Column(no_wrap=True, overflow="ellipsis", ratio=1)
        line = Progress(
            TextColumn("[{task.completed:.0f}/{task.total:.0f}]", markup=False),
            BarColumn(bar_width=10),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False, table_column=rest),
            console=Console(file=self.stream),
            refresh_per_second=1,  # a clock may be read meanwhile
            transient=True,
            redirect_stdout=False,
            expand=True,
        )
        line.add_task("", total=self.total)
        line.start()
        return line

    def clear(self) -> None:
        if self.line is not None:
            self.line.stop()
            self.line = None


class Progress(Observer):
    """Shows on a progress line which task runs, and how many did not pass."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet

    def started(self, run: Run) -> None:
        self.tasks = run.left
        self.line = ProgressLine(len(self.tasks), quiet=self.quiet)
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
            bad = f"{self.bad} not passed · " if self.bad else ""
            self.line.show(self.done, f"{bad}{task.op} {task.case.name} {task.case.dtype} {where}")
