"""Which tests exercise which documented name of NKI, read off the source of tests/simulator.

A test exercises a name if it reaches it in one of three ways. In its body, in a function that it uses or
in what it is parametrized over, all of which runs, stands `nisa.iota` or `nl.tile_size.pmax`. There stands a method by
a name that no array of NumPy has. Or it looks names up with getattr, and is parametrized over the name. What hypothesis
draws from does not count, because it need not be drawn, nor does a table that a test only picks from.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from triptych.harness.upkeep.pages.nki_names import read

TESTS = Path(__file__).resolve().parents[3] / "tests" / "simulator"
_TABLES = (ast.Dict, ast.List, ast.Tuple, ast.Set)


@functools.cache
def exercised(folder: Path = TESTS) -> dict[str, tuple[str, ...]]:
    """{"nki.isa.iota": ("test_gpsimd.test_iota_is_its_formula", ..)}, every test of a name in the files' order."""
    found: dict[str, dict[str, None]] = {}
    for file in sorted(folder.rglob("test_*.py"), key=lambda file: file.name):
        module = _Module(file, folder)
        for test in module.tests():
            for name in module.names_in(test):
                found.setdefault(name, {})[f"{file.stem}.{test.name}"] = None
    for name in [n.qualified for n in read() if n.name.endswith(".__init__")]:
        found.setdefault(name, {}).update(found.get(name.removesuffix(".__init__"), {}))
    return {name: tuple(tests) for name, tests in found.items()}


class _Module:
    """One test file: what it imports as what, and what it and the `helpers` of that folder define at their top."""

    def __init__(self, file: Path, helpers: Path) -> None:
        self.aliases: dict[str, str] = {}
        self.defined: dict[str, ast.AST] = {}
        for node in _statements(ast.parse(file.read_text()).body):
            if isinstance(node, ast.ImportFrom) and (helper := helpers / f"{node.module}.py").exists():
                self.defined |= _Module(helper, helpers).defined
            elif isinstance(node, ast.Import):
                self.aliases |= {a.asname or a.name: a.name for a in node.names if a.name.split(".")[0] == "nki"}
            elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                self.defined[node.name] = node
            elif isinstance(node, ast.Assign):
                self.aliases |= {n: owner for n in _targets(node) for owner in self._chain(node.value)}
                self.defined |= dict.fromkeys(_targets(node), node.value)

    def tests(self) -> list[ast.FunctionDef]:
        return [d for n, d in self.defined.items() if n.startswith("test_") and isinstance(d, ast.FunctionDef)]

    def names_in(self, test: ast.FunctionDef) -> set[str]:
        """The qualified names that a test reaches."""
        parameters = list(self._reached(_parametrized(test), tables=True))
        body = list(self._reached([test.args, *test.body], tables=False))
        found = {name for node in (*parameters, *body) for name in (*self._chain(node), *_method(node))}
        looked_up = {owner for node in body for owner in self._looked_up(node)}
        strings = {n.value for n in parameters if isinstance(n, ast.Constant) and isinstance(n.value, str)}
        return found | {f"{owner}.{s}" for owner in looked_up for s in strings}

    def _reached(self, roots: Iterable[ast.AST], tables: bool) -> Iterator[ast.AST]:
        """All nodes below `roots` and below what they use of this module: functions and constants, tables if asked."""
        seen: set[str] = set()
        waiting = list(roots)
        while waiting:
            for node in ast.walk(waiting.pop()):
                yield node
                if isinstance(node, ast.Name) and node.id in self.defined and node.id not in seen:
                    seen.add(node.id)
                    if tables or not isinstance(self.defined[node.id], _TABLES):
                        waiting.append(self.defined[node.id])

    def _chain(self, node: ast.AST) -> Iterator[str]:
        """`nl.tile_size.pmax` as nki.language.tile_size.pmax."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if parts and isinstance(node, ast.Name) and node.id in self.aliases:
            yield ".".join((self.aliases[node.id], *reversed(parts)))

    def _looked_up(self, node: ast.AST) -> Iterator[str]:
        """Where getattr(owner, variable) looks a name up: in a module of nki, or else in a tensor."""
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr":
            owner, name = node.args[:2]
            if not isinstance(name, ast.Constant):
                module = self.aliases.get(owner.id) if isinstance(owner, ast.Name) else next(self._chain(owner), None)
                yield module or "nki.language.NkiTensor"


@functools.cache
def _methods() -> dict[str, str]:
    """The documented methods by their names, without those that an array has too."""
    methods = [n for n in read() if n.kind == "method"]
    return {m: n.qualified for n in methods if not hasattr(np.ndarray, m := n.name.rpartition(".")[2])}


def _method(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Attribute) and node.attr in _methods():
        yield _methods()[node.attr]


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Top-level statements, and those in a `with`, as the imports of nki are."""
    for node in body:
        yield from node.body if isinstance(node, ast.With) else [node]


def _targets(node: ast.Assign) -> list[str]:
    return [n.id for target in node.targets for n in ast.walk(target) if isinstance(n, ast.Name)]


def _parametrized(test: ast.FunctionDef) -> list[ast.AST]:
    """The values that a test is parametrized over."""
    calls = [d for d in test.decorator_list if isinstance(d, ast.Call)]
    return [c.args[1] for c in calls if ast.unparse(c.func) == "pytest.mark.parametrize"]
