"""What a run says on a screen: the table, what it did not try, the problems and the last line."""

from __future__ import annotations

from collections.abc import Sequence

from triptych.harness.reports import parity_table, problems, tables
from triptych.harness.reports.coverage import not_covered
from triptych.harness.reports.formats import one_line
from triptych.harness.results.document import Document
from triptych.harness.results.profile import Outcome
from triptych.harness.results.status import BAD
from triptych.harness.results.timing import Predicted
from triptych.harness.results.timing_accuracy import LAST_VALIDATION
from triptych.harness.running.session import Run


def document(run: Run) -> Document:
    """A run as it is published; one in which nothing is bad also says what was not tried."""
    results, plan = run.results, run.plan
    env = dict(run.env)
    if not any(result.status in BAD for result in results):
        env["not_tried"] = not_covered(plan.selection, plan.ops, plan.tasks)
    return Document(
        complete=len(results) == len(plan.tasks) and not run.interrupted,
        planned=len(plan.tasks),
        env=env,
        results=[*results],
    )


def warnings(runs: Sequence[Document]) -> str:
    """What a reader must know before anything else: which runs were cut short."""
    several = len(runs) > 1
    return "".join(
        f"{f'run {number}: ' if several else ''}{run.cut_short}\n"
        for number, run in enumerate(runs, 1)
        if run.cut_short
    )


def table(results: Sequence[Outcome], *, width: int | None = None, colour: bool = False) -> str:
    """Every verdict, what is unsupported, and how far the backends are from each other."""
    text = tables.text(results, width=width, colour=colour)
    return "".join([text, "\n" if text else "", problems.unsupported(results), parity_table.text(results)])


def ending(
    runs: Sequence[Document], *, seed: int | None, quiet: bool = False, report: str | None = None, colour: bool = False
) -> str:
    """What was not tried, the problems with the commands that repeat them, and how many ended how.

    seed: that all runs share
    quiet: leave out what was not tried
    report: the file of the page, if one was written
    """
    results = [result for run in runs for result in run.results]
    lines = [] if quiet else [one_line(line) for run in runs for line in run.env.get("not_tried", [])]
    closing = [f"report: {report}"] if report else []
    if any(isinstance(result.timing, Predicted) for result in results):
        closing.append(LAST_VALIDATION.sentence())
    closing.append(problems.summary(results, seed))
    said = "".join(f"{line}\n" for line in lines), problems.problems(results, colour=colour)
    return "".join([*said, *(f"{line}\n" for line in closing)])
