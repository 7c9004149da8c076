"""The difference of each pair of backends, as text."""

from __future__ import annotations

from collections.abc import Sequence

from triptych.harness.judge.parity import Matrix, Pair, matrices
from triptych.harness.reports.text_table import text_table
from triptych.harness.results.profile import Outcome
from triptych.harness.results.result import Result

LEGEND = """\
  the largest difference as a share of what both tolerances allow: beyond 1, one of the two is wrong
  (same: in so many cases every bit is)
"""


def text(outcomes: Sequence[Outcome]) -> str:
    """The lower triangle of every op's matrix; empty where no two backends ran a case."""
    results = [outcome for outcome in outcomes if isinstance(outcome, Result)]
    blocks = [f"parity of {op}\n{_triangle(matrix)}" for op, matrix in matrices(results).items()]
    return "".join([*blocks, LEGEND]) if blocks else ""


def _triangle(matrix: Matrix) -> str:
    rows = [["", *matrix.places[:-1]]]
    for i, place in enumerate(matrix.places[1:], 1):
        rows.append([place, *(_cell(matrix.pair(place, other)) for other in matrix.places[:i])])
    return "".join(f"  {line}\n" for line in text_table(rows))


def _cell(pair: Pair | None) -> str:
    if pair is None:
        return "-"
    return f"{pair.share:.2f}" + (f" ({pair.equal} of {pair.cases} same)" if pair.equal else "")
