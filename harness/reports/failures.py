"""What a failure says in text, beside its reason: diagnosis, histogram and map."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from triptych.harness.judge import mismatch_map


def lines(failure: Mapping[str, Any], picture: bool = True) -> list[str]:
    """The lines to print below the reason; empty where nothing was compared.

    The picture is left out where it would be one colour.
    """
    if not failure:
        return []
    said = [failure["diagnosis"], f"error / allowed: {counted(failure['histogram'])}"]
    drawing = failure["map"]
    if picture and any(mismatch_map.RIGHT in line for line in drawing["lines"]):
        said.append(f"{caption(drawing)}:")
        said += [f"  {line}" for line in drawing["lines"]]
        said.append(f"  {mismatch_map.LEGEND}")
    return said


def caption(drawing: Mapping[str, Any]) -> str:
    """What a map shows."""
    tiles = " x ".join(str(drawing[name]) for name in ("row_tile", "column_tile") if drawing[name])
    size = (
        f"{drawing['rows']} x {drawing['columns']} elements" if (drawing["rows"], drawing["columns"]) != (1, 1) else ""
    )
    return f"{drawing['of']}; a mark is {size or 'an element'}{f', lines are tiles of {tiles}' if tiles else ''}"


def bins(histogram: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Each bin that holds anything, as its range and count."""
    edges = [float(edge) for edge in histogram["edges"]]
    found = []
    for low, high, count in zip(edges, edges[1:], histogram["counts"], strict=False):
        label = f"up to {high:g}" if low == 0 else f"over {low:g}" if high == float("inf") else f"{low:g} to {high:g}"
        found.append((label, int(count)))
    found.append(("NaN or infinite", int(histogram["nonfinite"])))
    return [(label, count) for label, count in found if count]


def counted(histogram: Mapping[str, Any]) -> str:
    return "; ".join(f"{label}: {count:,}" for label, count in bins(histogram))
