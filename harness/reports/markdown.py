"""The one Markdown table. What a cell holds is escaped, unless it says that it is Markdown already."""

from __future__ import annotations

import re
from collections.abc import Container, Sequence

from triptych.harness.reports.formats import printable


class Markdown(str):
    """Text that is Markdown as it stands."""


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Container[int] = ()) -> str:
    """Header and rows as a table of GitHub's Markdown; the cells of the columns `right` end in line."""
    rules = ["---:" if i in right else "---" for i in range(len(header))]
    return "".join(f"| {' | '.join(map(escape, row))} |\n" for row in (header, rules, *rows))


def escape(text: str) -> str:
    """`text` on one line, in which `|` ends no cell, `<op>` is no tag, a backslash is one, and nothing is a link."""
    if isinstance(text, Markdown):
        return text
    inert = text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("](", "]\\(")
    return printable(" ".join(inert.splitlines()))


def code(text: str) -> Markdown:
    """A name in the type of code."""
    return Markdown("`" + printable(text.replace("`", "'").replace("|", r"\|")) + "`")


def fence(text: str) -> Markdown:
    """Lines of text as they are, between fences that are longer than any row of backticks in them."""
    fence = "`" * max(3, *(len(ticks) + 1 for ticks in re.findall("`+", text)), 0)
    return Markdown(f"{fence}\n{text.rstrip()}\n{fence}\n\n")
