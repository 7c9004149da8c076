"""Read a scope of a file in one pass: its nodes, the names that it binds, and its inner scopes."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from triptych.simulator.api.modules import documented

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_SKIP = frozenset({ast.Load, ast.Store, ast.Del, ast.Pass})


@dataclass(frozen=True)
class Imported:
    """What an import statement binds a name to."""

    qualified: str
    node: ast.stmt


@dataclass
class Contents:
    """A scope, read. Each node comes with whether it runs only under some condition."""

    sites: dict[type[ast.AST], list[tuple[Any, bool]]] = field(default_factory=lambda: defaultdict(list))
    loads: list[tuple[ast.Name, bool]] = field(default_factory=list)
    inner: list[tuple[Any, bool]] = field(default_factory=list)  # definitions, lambdas and classes
    bound: dict[str, list[Imported | ast.AST | None]] = field(default_factory=lambda: defaultdict(list))
    outer: set[str] = field(default_factory=set)  # names declared global or nonlocal


def contents(node: Any) -> Contents:
    """What the scope of a module, class, function or lambda holds, without what its inner scopes hold."""
    collector = _Collector()
    if isinstance(node, FUNCTIONS):
        a = node.args
        for parameter in (*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg):
            if parameter is not None:
                collector.out.bound[parameter.arg].append(None)
    collector.each(node.body if isinstance(node.body, list) else [node.body], False)
    return collector.out


class _Collector:
    def __init__(self) -> None:
        self.out = Contents()
        self.left = False  # a return, break or continue has been met: what follows may not run

    def each(self, nodes: Iterable[ast.AST | None], maybe: bool) -> None:
        for node in nodes:
            if node is not None:
                self.visit(node, maybe or self.left)

    def visit(self, node: Any, maybe: bool) -> None:
        """Note `node` and what is below it; `maybe` says that it runs under a condition."""
        kind = type(node)
        if kind is ast.Name:
            if type(node.ctx) is ast.Load:
                self.out.loads.append((node, maybe))
            else:
                self.out.bound[node.id].append(None)
            return
        if kind in _SKIP:
            return
        self.out.sites[kind].append((node, maybe))
        special = _SPECIAL.get(kind)
        if special is not None:
            special(self, node, maybe)
        elif kind is not ast.Constant:
            self.below(node, maybe)

    def below(self, node: ast.AST, maybe: bool) -> None:
        for name in node._fields:
            value = getattr(node, name)
            if isinstance(value, list):
                for item in value:
                    if isinstance(item, ast.AST):
                        self.visit(item, maybe or self.left)
            elif isinstance(value, ast.AST):
                self.visit(value, maybe)

    def visit_FunctionDef(self, node: Any, maybe: bool) -> None:
        self.out.inner.append((node, maybe))
        if not isinstance(node, ast.Lambda):
            self.out.bound[node.name].append(node)
            self.each(node.decorator_list, maybe)
        self.each([*node.args.defaults, *node.args.kw_defaults], maybe)

    visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef, maybe: bool) -> None:
        self.out.inner.append((node, maybe))
        self.out.bound[node.name].append(node)
        self.each([*node.decorator_list, *node.bases], maybe)

    def visit_Import(self, node: ast.Import, maybe: bool) -> None:
        for alias in node.names:
            name = alias.asname or alias.name.partition(".")[0]
            self.out.bound[name].append(Imported(documented(alias.name) if alias.asname else name, node))

    def visit_ImportFrom(self, node: ast.ImportFrom, maybe: bool) -> None:
        module = "." * node.level + (node.module or "")
        for alias in node.names:
            self.out.bound[alias.asname or alias.name].append(Imported(documented(f"{module}.{alias.name}"), node))

    def visit_Global(self, node: ast.Global | ast.Nonlocal, maybe: bool) -> None:
        self.out.outer.update(node.names)

    visit_Nonlocal = visit_Global

    def visit_Assign(self, node: ast.Assign, maybe: bool) -> None:
        self.visit(node.value, maybe)
        if len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            self.out.bound[node.targets[0].id].append(node.value)
        else:
            self.each(node.targets, maybe)

    def visit_AnnAssign(self, node: ast.AnnAssign, maybe: bool) -> None:
        self.each([node.target, node.value], maybe)

    def visit_If(self, node: ast.If | ast.IfExp | ast.BoolOp | ast.Match, maybe: bool) -> None:
        """The first of its parts runs, and decides on the others."""
        first, *others = [part for part in ast.iter_child_nodes(node) if not isinstance(part, ast.boolop)]
        self.visit(first, maybe)
        self.each(others, True)

    visit_IfExp = visit_BoolOp = visit_Match = visit_If

    def visit_Try(self, node: ast.Try, maybe: bool) -> None:
        self.each(node.body, maybe)
        self.each([*node.handlers, *node.orelse, *node.finalbody], True)

    def visit_Return(self, node: ast.AST, maybe: bool) -> None:
        self.below(node, maybe)
        self.left = True

    visit_Break = visit_Continue = visit_Return


_SPECIAL: dict[type[ast.AST], Any] = {  # by kind of node
    getattr(ast, name.removeprefix("visit_")): method
    for name, method in vars(_Collector).items()
    if name.startswith("visit_")
}
