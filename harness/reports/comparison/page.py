"""A comparison as one HTML file without a network: the verdict, the table, the causes, both timelines on one axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from triptych.harness.comparing.changes import Change, Comparison
from triptych.harness.comparing.gate import Gate
from triptych.harness.reports.comparison import cells
from triptych.harness.reports.comparison.text import Explained
from triptych.harness.reports.html import render
from triptych.harness.reports.profile.drawing import drawing
from triptych.simulator.timing import Prediction


class Drawn(NamedTuple):
    """A change with the predictions of both sides."""

    change: Change
    predictions: Sequence[Prediction]


def page(comparison: Comparison, gate: Gate, explained: Explained, drawn: Drawn | None) -> str:
    """The page of a comparison; `drawn` is the case whose timelines are shown."""
    picture = drawing([comparison.base_name, comparison.new_name], drawn.predictions) if drawn else None
    return render(
        "comparison/page.html",
        comparison=comparison,
        gate=gate,
        explained=explained,
        cells=cells,
        found=cells.table(comparison.changes),
        case=cells.name(drawn.change) if drawn else "",
        drawing=picture,
        events=sum(len(run["op"]) for run in picture["runs"]) if picture else 0,
    )
