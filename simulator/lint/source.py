"""A kernel file as the linter sees it: its scopes, and what a name stands for in each.

Nothing of the file is executed. A `Unit` is a module, class, function or lambda; it is read when somebody asks for what
is in it, so that linting one kernel of a large file reads that kernel and what it calls. `Unit.resolve` gives what an
expression stands for: a dotted name (`nl.load` is "nki.language.load" where the file says `import nki.language as nl`
or `from triptych.nki import language as nl`), a function or class of the same file, or nothing known.
"""

from __future__ import annotations

import ast
import builtins
import warnings
from bisect import bisect_right
from functools import cached_property
from typing import Any

from triptych.simulator.api.modules import documented
from triptych.simulator.lint.collect import Contents, Imported, contents

_BUILTINS = frozenset(dir(builtins))


class File:
    def __init__(self, path: str, text: str, cells: list[int] | None = None) -> None:
        self.path = path
        self.text = text
        self.cells = cells  # of a notebook: the line on which each begins
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Python says of the file, it says when the file is imported
            self.module = Unit(ast.parse(text, path), None)

    def line(self, number: int) -> str:
        return self.text.split("\n")[number - 1]

    def place(self, number: int) -> tuple[str, int]:
        """(path, line) as a user finds it: of a notebook the path names the cell, in which the line is counted."""
        if self.cells is None:
            return self.path, number
        cell = bisect_right(self.cells, number)  # from 1; every cell counts, as Jupyter shows them
        return f"{self.path}:cell {cell}", number - self.cells[cell - 1] + 1


class Unit:
    """A scope of a file."""

    def __init__(self, node: Any, parent: Unit | None) -> None:
        self.node = node
        self.parent = parent
        self.is_class = isinstance(node, ast.ClassDef)
        self._found: dict[str, Binding | None] = {}
        self._resolved: dict[str, str | Unit | None] = {}

    @property
    def name(self) -> str:
        return getattr(self.node, "name", "lambda")

    @cached_property
    def contents(self) -> Contents:
        return contents(self.node)

    @cached_property
    def inner(self) -> dict[ast.AST, tuple[Unit, bool]]:
        """The scopes inside, by node, each with whether its definition runs only under some condition."""
        return {node: (Unit(node, self), maybe) for node, maybe in self.contents.inner}

    def holds(self, name: str) -> bool:
        """`name` is a local of this scope."""
        return name in self.contents.bound and name not in self.contents.outer

    def lookup(self, name: str) -> Binding | None:
        """The scope that binds `name`, and to what."""
        if name not in self._found:
            scope: Unit | None = self
            while scope is not None and not (scope.holds(name) and (scope is self or not scope.is_class)):
                scope = scope.parent
            self._found[name] = None if scope is None else (scope, scope._meaning(name))
        return self._found[name]

    def value(self, node: ast.AST | None) -> Imported | Unit | ast.expr | None:
        """What a name is bound to; None for anything else, and where nothing is known."""
        found = self.lookup(node.id) if isinstance(node, ast.Name) else None
        return None if found is None else found[1]

    def _meaning(self, name: str) -> Imported | Unit | ast.expr | None:
        """Of several bindings, as in a `try: import`, that of nki counts; else an import; else a definition."""
        values = self.contents.bound[name]
        imports = [v for v in values if isinstance(v, Imported)]
        if imports:
            return next((v for v in imports if v.qualified.split(".")[0] == "nki"), imports[0])
        definitions = [self.inner[v][0] for v in values if v in self.inner]
        if definitions:
            return definitions[-1]
        only = values[0] if len(values) == 1 else None
        return only if isinstance(only, ast.expr) else None

    def resolve(self, node: ast.AST) -> str | Unit | None:
        """What an expression stands for: a dotted name, a function or class of this file, or nothing known."""
        if isinstance(node, ast.Attribute):
            base = self.resolve(node.value)
            return documented(f"{base}.{node.attr}") if isinstance(base, str) else None
        if not isinstance(node, ast.Name):
            return None
        if node.id not in self._resolved:
            self._resolved[node.id] = None  # for the while: `x = y; y = x` is nothing known
            self._resolved[node.id] = self._resolve(node.id)
        return self._resolved[node.id]

    def _resolve(self, name: str) -> str | Unit | None:
        found = self.lookup(name)
        if found is None:
            return f"builtins.{name}" if name in _BUILTINS else None
        scope, value = found
        if isinstance(value, Imported):
            return value.qualified
        return scope.resolve(value) if isinstance(value, ast.expr) else value  # an alias, as in `load = nl.load`


def given(call: object, *names: str) -> list[ast.expr]:
    """What a call gives for these parameters, by keyword; of anything else nothing."""
    return [k.value for k in call.keywords if k.arg in names] if isinstance(call, ast.Call) else []


# A scope, and what a name is there: an import, a definition, the only value that it gets, or None for any variable.
Binding = tuple[Unit, Imported | Unit | ast.expr | None]
