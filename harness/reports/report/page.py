"""The report as one HTML file, whole without its script, which sorts and filters tables.

A triptych is its plan: the panel in the middle says whether the kernels agree with the reference and who is faster,
those at its sides say it for NKI and for Triton, and the environment stands below. Then, in the order a sceptic asks:
what disagreed, what did not run, how fast, in one table and in pictures, every verdict, how close to the bound, how to
repeat it, how to read it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from triptych.harness.reports.html import render
from triptych.harness.reports.report.absent import absent
from triptych.harness.reports.report.agreement import agreement
from triptych.harness.reports.report.cost import cost
from triptych.harness.reports.report.data import ReportData, Run
from triptych.harness.reports.report.disagreements import disagreements
from triptych.harness.reports.report.invariance import invariance
from triptych.harness.reports.report.parity import parity
from triptych.harness.reports.report.pictures import pictures
from triptych.harness.reports.report.speed import speed
from triptych.harness.reports.report.summary import headline, summary
from triptych.harness.reports.report.verdicts import verdicts


class Chapter(NamedTuple):
    """A chapter of the report, written by templates/report/NAME.html.

    The template is given the report and, as `found`, what `find` makes of it. A chapter that finds nothing is left out.
    """

    name: str
    title: str
    find: Callable[[ReportData], Any] = lambda report: report


CHAPTERS = (
    Chapter("disagreements", "What did not agree", disagreements),
    Chapter("absent", "What did not run", absent),
    Chapter("speed", "How fast", speed),
    Chapter("pictures", "In pictures", pictures),
    Chapter("cost", "What it costs", cost),
    Chapter("verdicts", "Every verdict", verdicts),
    Chapter("agreement", "How close to the bound", agreement),
    Chapter("parity", "Backend against backend", parity),
    Chapter("invariance", "The same bits again", invariance),
    Chapter("repeat", "How to repeat this"),
    Chapter("legend", "How to read this"),
    Chapter("machine", "Machine and versions"),
)


def page(runs: Sequence[Run], warnings: Sequence[str] = ()) -> str:
    """The HTML of one or more runs; `warnings` are of those that were cut short."""
    report = ReportData.of(runs, warnings)
    chapters = [(chapter, found) for chapter in CHAPTERS if (found := chapter.find(report))]
    return render(
        "report/page.html",
        report=report,
        headline=headline(report),
        summary=summary(report),
        answers=next((found.answers for chapter, found in chapters if chapter.name == "speed"), []),
        chapters=chapters,
    )
