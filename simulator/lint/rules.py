"""Rules as declared rows, and the walk that asks them.

`rule` declares one: its id, how severe it is, which nodes it looks at, where AWS documents it, an example that breaks
it and one that does not. The declaration is a row of `RULES`, which the linter, the tests and docs/lint.md read. A
rule's function takes a node of a kernel and yields what is wrong with it; its docstring states the rule.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from triptych.simulator.lint.reach import called_by, reached
from triptych.simulator.lint.source import File, Unit

ERROR, WARNING = "error", "warning"
Check = Callable[[Any, "At"], Iterator["str | tuple[ast.AST, str]"]]
_HEADERS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_ALLOWED = re.compile(r"#\s*triptych:\s*allow\s+([\w, -]+)")


@dataclass(frozen=True)
class Rule:
    """One row of the table of rules."""

    id: str
    severity: str
    kinds: tuple[type[ast.AST], ...]
    source: str  # where AWS documents it
    bad: str  # a kernel that breaks this rule and no other
    good: str  # the same kernel, mended
    check: Check

    @property
    def statement(self) -> str:
        return (self.check.__doc__ or "").split("\n", 1)[0]


@dataclass(frozen=True)
class Finding:
    """A place of a file that breaks a rule."""

    rule: str
    severity: str
    path: str
    line: int
    column: int
    message: str
    source: str

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}:{self.column}"
        return f"{where}: {self.severity} {self.rule} {self.message} [{self.source}]"


RULES: dict[str, Rule] = {}
_BY_KIND: dict[type[ast.AST], list[Rule]] = defaultdict(list)


def rule(id: str, severity: str, *kinds: type[ast.AST], source: str, bad: str, good: str) -> Callable[[Check], Check]:
    """Declare a rule about nodes of `kinds`. A function or class is looked at once, on its own behalf."""

    def declare(check: Check) -> Check:
        row = RULES[id] = Rule(id, severity, kinds, source, bad.strip() + "\n", good.strip() + "\n", check)
        for kind in kinds:
            _BY_KIND[kind].append(row)
        return check

    return declare


class At:
    """Where a rule looks: in which function, of which file, and for which chip."""

    def __init__(self, file: File, kernels: Sequence[Unit], target: tuple[str, int] | None) -> None:
        self.file = file
        self.kernels = kernels
        self.running = reached(kernels)
        self._launched = set(kernels) - called_by(self.running)
        self.target = target  # name and NeuronCore generation; None where no chip was named
        self.unit = file.module
        self.maybe = False  # the node runs only under some condition
        self.globals_changed: dict[str, bool] = {}
        self._names: dict[ast.AST, str] = {}

    def name(self, node: ast.AST) -> str:
        """The dotted name that an expression stands for, with NKI's old namespaces read as the new one; "" if none."""
        name = self._names.get(node)
        if name is None:
            found = self.unit.resolve(node)
            name = self._names[node] = modern(found) if isinstance(found, str) else ""
        return name

    def launched(self) -> bool:
        """The function is a kernel that the host calls, and no other kernel does."""
        return self.unit in self._launched

    def decorators(self) -> Iterator[tuple[ast.expr, str]]:
        """The decorators of a kernel, and the name of each."""
        scope = self.unit.parent
        if scope is None or self.unit not in self.kernels:
            return
        for decorator in self.unit.node.decorator_list:
            found = scope.resolve(decorator.func if isinstance(decorator, ast.Call) else decorator)
            yield decorator, found if isinstance(found, str) else ""

    def outside(self, name: str) -> bool:
        """`name` belongs to no function that a kernel runs: to the module, a function around the kernel, or Python."""
        found = self.unit.lookup(name)
        return found is None or found[0] not in self.running


def modern(name: str) -> str:
    """A dotted name without the prefixes that NKI has dropped."""
    return name.removeprefix("neuronxcc.").replace("nki.isa.constants.", "nki.isa.")


def check(file: File, kernels: Sequence[Unit], target: tuple[str, int] | None = None) -> list[Finding]:
    """What the kernels of a file, and what they call, break; in the order of the file."""
    at = At(file, kernels, target)
    found: dict[tuple[str, int, int], Finding] = {}
    for unit, maybe in at.running.items():
        at.unit = unit
        for kind, rows in _BY_KIND.items():
            for node, site_maybe in _sites(unit, kind, at):
                at.maybe = maybe or site_maybe
                for row in rows:
                    for problem in row.check(node, at):
                        place, message = problem if isinstance(problem, tuple) else (node, problem)
                        finding = _finding(row, file, place, message)
                        found.setdefault((row.id, finding.line, finding.column), finding)
    return sorted((f for f in found.values() if not _allowed(f, file)), key=lambda f: (f.line, f.column, f.rule))


def _sites(unit: Unit, kind: type[ast.AST], at: At) -> Iterable[tuple[Any, bool]]:
    """The nodes of `kind` that rules look at, each with whether it runs only under some condition."""
    if kind in _HEADERS:
        return ((unit.node, False),) if type(unit.node) is kind else ()
    if unit.is_class:  # of which its methods run
        return ()
    if kind is ast.Name:  # no rule is about a kernel's own variables
        return [site for site in unit.contents.loads if at.outside(site[0].id) or at.name(site[0])]
    if kind is ast.Attribute:
        return [site for site in unit.contents.sites.get(kind, ()) if at.name(site[0])]
    return unit.contents.sites.get(kind, ())


def _finding(row: Rule, file: File, node: Any, message: str) -> Finding:
    return Finding(row.id, row.severity, file.path, node.lineno, node.col_offset + 1, message, row.source)


def _allowed(finding: Finding, file: File) -> bool:
    """The line ends with `# triptych: allow RULE`."""
    found = _ALLOWED.search(file.line(finding.line))
    return found is not None and finding.rule in re.split(r"[,\s]+", found[1])
