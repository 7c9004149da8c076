"""Where in a source something may be replaced: what mutants of kernels and faults in our own code share."""

from __future__ import annotations

import ast


class Replacements(ast.NodeVisitor):
    """Collects (node, operator, replacement text, function that it is in)."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.found: list[tuple[ast.AST, str, str, str]] = []
        self.functions = [""]

    def of(self, node: ast.AST) -> str:
        segment = ast.get_source_segment(self.text, node)
        assert segment is not None
        return segment

    def add(self, node: ast.AST, operator: str, replacement: str) -> None:
        self.found.append((node, operator, replacement, self.functions[-1]))
