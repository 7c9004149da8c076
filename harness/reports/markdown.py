"""Markdown tables."""

from __future__ import annotations

from collections.abc import Sequence


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Header and rows as Markdown."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def plain(text: str) -> str:
    """Text in a cell as it stands: `|` does not end the cell, and `<op>` is no tag."""
    return text.replace("|", "\\|").replace("<", "\\<")
