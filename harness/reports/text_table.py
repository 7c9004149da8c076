"""The one table for a terminal or a pipe: columns as wide as their widest cell, two spaces between them."""

from __future__ import annotations

from collections.abc import Container, Sequence
from itertools import zip_longest

from triptych.harness.reports.formats import printable

GAP = "  "


def text_table(rows: Sequence[Sequence[str]], *, right: Container[int] = (), rule: bool = False) -> list[str]:
    """The lines of a table, without spaces at their ends.

    Parameters:
        rows: the header first, if there is one. A row may be shorter than the others.
        right: the columns whose cells end in line, as numbers do; the cells of the others begin in line.
        rule: whether a line is drawn under the first row.
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = column_widths(rows)
    whole = [rows[0], ["─" * width for width in widths], *rows[1:]] if rule else rows
    return [
        GAP.join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=False))
        ).rstrip()
        for row in whole
    ]


def column_widths(rows: Sequence[Sequence[str]]) -> list[int]:
    """The length of the longest cell of each column."""
    return [max(map(len, column)) for column in zip_longest(*rows, fillvalue="")]
