"""A timeline as a picture: one SVG that needs no script, for notebooks, pages and pull requests.

The time is cut into columns. A column of a track is as dark as the track is busy in it, so that a picture of a million
instructions is no larger than one of ten.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

import numpy as np

from triptych.simulator.timing.timeline import Span, Timeline

TRACKS = ("tensor", "vector", "scalar", "gpsimd", "sync", "dma")  # from the top down
COLOURS = dict(zip(TRACKS, ("#2748b3", "#8a2f6b", "#9a6b00", "#136c3a", "#4d5a66", "#2a7f8f"), strict=True))
COLUMNS, LEVELS = 800, 4  # of the picture, and of how busy a column is
LEFT, TOP, ROW, GAP, BOTTOM, RIGHT = 70, 34, 22, 6, 30, 16


def svg(timeline: Timeline, title: str) -> str:
    """The timeline with a row for each track of each core, and its time below."""
    rows: dict[tuple[int, int], list[Span]] = {}
    for span in timeline.spans:
        rows.setdefault((span.core, TRACKS.index(span.track)), []).append(span)
    height = TOP + len(rows) * (ROW + GAP) + BOTTOM
    width = LEFT + COLUMNS + RIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(title)}" font-family="system-ui,sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="{LEFT}" y="20" fill="#1a1d24">{escape(title)}</text>',
    ]
    for number, ((core, track), spans) in enumerate(sorted(rows.items())):
        y = TOP + number * (ROW + GAP)
        name = TRACKS[track] + (f" {core}" if timeline.cores > 1 else "")
        parts.append(f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end" fill="#565d6b">{name}</text>')
        parts.append(f'<rect x="{LEFT}" y="{y}" width="{COLUMNS}" height="{ROW}" fill="#eceef2"/>')
        parts += list(boxes(busy(spans, timeline), y, COLOURS[TRACKS[track]]))
    parts += list(axis(timeline.total_ns, height - BOTTOM + 4))
    return "\n".join([*parts, "</svg>"]) + "\n"


def busy(spans: Sequence[Span], timeline: Timeline) -> Sequence[int]:
    """How busy a track is in each column, from 0 to LEVELS; each ring of DMA is a part of it."""
    rings = timeline.trace.chip.dma_rings.value
    scale = COLUMNS / timeline.total_ns
    start = np.array([span.start_ns for span in spans]) * scale
    end = np.array([span.free_ns for span in spans]) * scale
    part = np.array([span.rings / rings if span.track == "dma" else 1.0 for span in spans])
    edges = np.arange(COLUMNS + 1)
    filled = np.zeros(COLUMNS + 1)  # how much lies before each edge
    order = np.argsort(start), np.argsort(end)
    for values, at, sign in ((start, order[0], 1.0), (end, order[1], -1.0)):
        places, weights = values[at], part[at]
        upto = np.searchsorted(places, edges, side="right")
        total = np.concatenate([[0.0], np.cumsum(weights)])[upto]
        moment = np.concatenate([[0.0], np.cumsum(weights * places)])[upto]
        filled += sign * (total * edges - moment)
    return [min(int(level), LEVELS) for level in np.ceil(np.diff(filled) * LEVELS - 1e-6)]


def boxes(levels: Sequence[int], y: int, colour: str) -> Iterator[str]:
    """A box for each run of columns that are equally busy."""
    start = 0
    for column in range(1, len(levels) + 1):
        if column == len(levels) or levels[column] != levels[start]:
            if levels[start]:
                shade = f"{levels[start] / LEVELS:g}"
                yield (
                    f'<rect x="{LEFT + start}" y="{y}" width="{column - start}" height="{ROW}" fill="{colour}" '
                    f'fill-opacity="{shade}"/>'
                )
            start = column


def axis(total_ns: float, y: int) -> Iterator[str]:
    """Round times below the rows."""
    total = total_ns / 1e3
    step = 10.0 ** math.floor(math.log10(total / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if total / (step * factor) <= 8)
    for number in range(int(total / step) + 1):
        x = LEFT + COLUMNS * number * step / total
        yield f'<path d="M{x:.1f} {y - 4}v5" stroke="#565d6b"/>'
        unit = " µs" if number == 0 else ""
        yield f'<text x="{x:.1f}" y="{y + 14}" text-anchor="middle" fill="#565d6b">{number * step:g}{unit}</text>'


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text as a table for a notebook."""
    cells = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
    return "<table>" + "".join(f"<tr>{row}</tr>" for row in cells) + "</table>"
