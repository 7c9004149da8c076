"""Charts outside of a page: as an SVG file of its own, and as a diagram that Markdown draws by itself."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

from triptych.harness.reports.charts.chart import Chart
from triptych.harness.reports.html import render
from triptych.harness.reports.markdown import Markdown

MOST = 12  # bars of a diagram
LINE = 110  # characters of a caption's line


def picture(chart: Chart) -> str:
    """The chart as an SVG document, with its key and caption."""
    lines = textwrap.wrap(f"{chart.title}: {chart.caption}", LINE)[:2]
    return render("charts/picture.svg", c=chart, lines=lines).strip() + "\n"


def file_name(title: str) -> str:
    """A title as the name of a file, without its ending."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:80] or "chart"


def bars(title: str, unit: str, names: Sequence[str], values: Sequence[float]) -> Markdown:
    """A bar chart in Mermaid, which GitHub draws in comments: of one backend and one kind of evidence."""
    shown = [f'"{inert(name)}"' for name in names[:MOST]]
    numbers = [f"{value:.3g}" if value >= 0.001 else "0" for value in values[:MOST]]
    lines = [
        "xychart-beta horizontal",
        f'    title "{inert(title)}"',
        f"    x-axis [{', '.join(shown)}]",
        f'    y-axis "{inert(unit)}" 0 --> {max(100.0, *values):.0f}',
        f"    bar [{', '.join(numbers)}]",
    ]
    return Markdown("```mermaid\n" + "\n".join(lines) + "\n```\n\n")


def inert(text: str) -> str:
    """Text that ends neither its quotes nor the block."""
    return re.sub(r"[^\w .,:%/()\[\]=+·-]", "_", text, flags=re.ASCII)
