"""The chapter on cost: what the blocks cost whose projections this report has times of, beside what was published."""

from __future__ import annotations

from triptych.harness.accelerators.catalogue import catalogue
from triptych.harness.cost.blocks import LAYERS, block_of
from triptych.harness.cost.points import of_publications, of_results
from triptych.harness.cost.service import prices
from triptych.harness.reports.cost.figures import Costs
from triptych.harness.reports.report.data import ReportData

KIND = "on-demand"
LARGE = 512  # rows, from which a block stands for prefill; stand-ins of a few rows are priced by `triptych cost`


def cost(report: ReportData) -> list[Costs]:
    """The costs of each model of which every projection was timed at a size that models serve."""
    known = catalogue()
    runs = [
        (env, [entry.result for entry in report.entries if entry.run == run])
        for run, env in enumerate(report.environments)
    ]
    found = []
    for model in LAYERS:
        block = block_of(model)
        points = [point for point in of_results(runs, block, known) if point.rows >= LARGE]
        if points:
            rows = sorted({point.rows for point in points})
            published = of_publications(block, known, rows, [chip for chip in known.chips if chip.gpu])
            found.append(Costs.of(block, [*points, *published], prices(known, KIND, {}), known))
    return found
