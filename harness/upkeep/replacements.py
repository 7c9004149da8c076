"""Where in a source something may be replaced: what mutants of kernels and faults in our own code share."""

from __future__ import annotations

import ast
from typing import Any


class Replacements(ast.NodeVisitor):
    """Collects (node, operator, replacement text, function that it is in)."""

    def __init__(self, text: str) -> None:
        self.lines = text.encode().split(b"\n")
        self.found: list[tuple[ast.AST, str, str, str]] = []
        self.functions = [""]

    def of(self, node: Any) -> str:
        """The source of a node. `ast.get_source_segment` divides the whole text into lines each time."""
        lines = self.lines[node.lineno - 1 : node.end_lineno]
        lines[-1] = lines[-1][: node.end_col_offset]
        lines[0] = lines[0][node.col_offset :]
        return b"\n".join(lines).decode()

    def add(self, node: ast.AST, operator: str, replacement: str) -> None:
        self.found.append((node, operator, replacement, self.functions[-1]))
