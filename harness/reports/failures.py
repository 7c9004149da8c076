"""What a failure says in text, beside its reason: diagnosis, histogram and map."""

from __future__ import annotations

from triptych.harness.judge.failure import maps
from triptych.harness.results.findings import Failure, Histogram, Map


def lines(failure: Failure | None, picture: bool = True) -> list[str]:
    """The lines to print below the reason; empty where nothing was compared.

    The picture is left out where it would be one colour.
    """
    if failure is None:
        return []
    found = [failure.diagnosis, f"error / allowed: {histogram_text(failure.histogram)}"]
    drawing = failure.map
    if picture and any(maps.RIGHT in line for line in drawing.lines):
        found.append(f"{caption(drawing)}:")
        found += [f"  {line}" for line in drawing.lines]
        found.append(f"  {maps.LEGEND}")
    return found


def caption(drawing: Map) -> str:
    """What a map shows."""
    tiles = " x ".join(str(tile) for tile in (drawing.row_tile, drawing.column_tile) if tile)
    size = f"{drawing.rows} x {drawing.columns} elements" if (drawing.rows, drawing.columns) != (1, 1) else ""
    return f"{drawing.of}; a mark is {size or 'an element'}{f', lines are tiles of {tiles}' if tiles else ''}"


def bins(histogram: Histogram) -> list[tuple[str, int]]:
    """Each bin that holds anything, as its range and count."""
    found = []
    for low, high, count in zip(histogram.edges, histogram.edges[1:], histogram.counts, strict=False):
        label = f"up to {high:g}" if low == 0 else f"over {low:g}" if high == float("inf") else f"{low:g} to {high:g}"
        found.append((label, count))
    found.append(("NaN or infinite", histogram.nonfinite))
    return [(label, count) for label, count in found if count]


def histogram_text(histogram: Histogram) -> str:
    return "; ".join(f"{label}: {count:,}" for label, count in bins(histogram))
