"""The chapter on how close to the bound: a lane for each op and backend, a mark for each case."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from triptych.harness.reports.figures import share_of_bound
from triptych.harness.reports.formats import short
from triptych.harness.reports.report.data import Entry, ReportData
from triptych.harness.results.result import Result
from triptych.harness.results.status import Status

SHAPES = {"float32": "circle", "bfloat16": "square", "float16": "diamond"}
END = 1.1  # of the axis, in shares of the bound
AXIS = [(100 * share / END, label) for share, label in ((0, "0"), (0.5, "0.5"), (1, "1, the bound"))]


@dataclass(frozen=True)
class Mark:
    """One case, at a percentage of the axis."""

    shape: str  # which stands for the dtype
    status: Status
    percent: float
    words: str


@dataclass(frozen=True)
class Lane:
    """The cases of one op on one backend."""

    label: str
    family: str
    words: str
    marks: Sequence[Mark]


@dataclass(frozen=True)
class Agreement:
    """The lanes by op, and what is drawn with them."""

    lanes: Mapping[str, Sequence[Lane]]
    shapes: Mapping[str, str]
    axis: Sequence[tuple[float, str]]


def agreement(report: ReportData) -> Agreement | None:
    """The lanes of everything that has a bound; None where nothing has."""
    judged = [(entry, share) for entry in report.compared() if (share := share_of_bound(entry.result)) is not None]
    groups: dict[str, dict[str, list[tuple[Entry[Result], float]]]] = defaultdict(lambda: defaultdict(list))
    for entry, share in judged:
        groups[entry.result.op][entry.label].append((entry, share))
    if not groups:
        return None
    lanes = {op: [_lane(label, found) for label, found in by_label.items()] for op, by_label in groups.items()}
    return Agreement(lanes, SHAPES, AXIS)


def _lane(label: str, found: Sequence[tuple[Entry[Result], float]]) -> Lane:
    shares = [share for _, share in found if math.isfinite(share)]
    words = (
        f"median {short(statistics.median(shares), 2)}, largest {short(max(shares), 2)}" if shares else "none finite"
    )
    return Lane(label, found[0][0].family, words, [_mark(entry, share) for entry, share in found])


def _mark(entry: Entry[Result], share: float) -> Mark:
    result = entry.result
    percent = 100 * share / END if share <= END else 100.0  # NaN too is beyond the end
    words = f"{result.case} {result.dtype}: {short(share, 2)}"
    return Mark(SHAPES.get(result.dtype, "circle"), result.status, percent, words)
