"""Rules as declared rows, and the walk that asks them.

`rule` declares one: its id, how severe it is, where AWS documents it, and in which versions of NKI it holds. The
declaration is a row of `RULES`, which the linter, the tests and docs/lint.md read. A rule's function takes a node of a
kernel, of the kinds of its annotation, and yields what is wrong with it. Its docstring states the rule in one line;
below stands a diff that mends what breaks it, of a file or of what stands in a kernel before it returns x.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
import typing
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from triptych.simulator.lint.reach import called_by, reached
from triptych.simulator.lint.source import File, Unit
from triptych.simulator.options import APIS

ERROR, WARNING = "error", "warning"
Check = Callable[[Any, "At"], Iterator["str | tuple[ast.AST, str]"]]
_HEADERS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_ALLOWED = re.compile(r"#\s*triptych:\s*allow\s+([\w, -]+)")


@dataclass(frozen=True)
class Rule:
    """One row of the table of rules."""

    id: str
    severity: str
    source: str  # where AWS documents it
    bad: str  # a kernel that breaks this rule and no other
    good: str  # the same kernel, mended
    check: Check
    since: str | None = None  # the first version of NKI that it holds in; None: all
    until: str | None = None  # the last one
    warns_since: str | None = None  # from this version on it is a warning: the documentation at hand shows no more

    def severity_in(self, api: str) -> str | None:
        """How severe it is in a version of NKI; None where it does not hold."""
        if _before(api, self.since) or _before(self.until, api):
            return None
        return WARNING if self.warns_since and not _before(api, self.warns_since) else self.severity

    @property
    def versions(self) -> str:
        """In which versions it holds, in words."""
        words = [f"until {self.until}" if self.until else "", f"since {self.since}" if self.since else ""]
        if self.warns_since:
            words.append(f"a warning since {self.warns_since}")
        return ", ".join(filter(None, words)) or "all"

    @property
    def statement(self) -> str:
        return str(self.check.__doc__).partition("\n")[0]


def _before(version: str | None, other: str | None) -> bool:
    """`version` is older than `other`; not, if one of them is open."""
    return version is not None and other is not None and APIS.index(version) > APIS.index(other)


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


def rule(
    id: str,
    severity: str,
    *,
    source: str,
    since: str | None = None,
    until: str | None = None,
    warns_since: str | None = None,
    kinds: Iterable[type[ast.AST]] = (),
) -> Callable[[Check], Check]:
    """Declare a rule about nodes of the kinds that its first parameter is annotated with, or of `kinds`.

    A function or class is looked at once, on its own behalf.
    """

    def declare(check: Check) -> Check:
        example = inspect.cleandoc(check.__doc__ or "").partition("\n\n")[2]
        bad, good = _side(example, "-"), _side(example, "+")
        row = RULES[id] = Rule(id, severity, source, bad, good, check, since, until, warns_since)
        annotated = inspect.get_annotations(check, eval_str=True)["node"]
        for kind in kinds or typing.get_args(annotated) or (annotated,):
            _BY_KIND[kind].append(row)
        return check

    return declare


def _side(diff: str, sign: str) -> str:
    """What a diff has before it ("-") or after it ("+"), as the text of a file."""
    text = "\n".join(line[1:] for line in diff.split("\n") if line[:1] in (sign, " ", ""))
    if "@nki.jit" not in text:
        text = f"@nki.jit\ndef kernel(x):\n{textwrap.indent(text, '    ')}\n    return x"
    return f"{text}\n"


class At:
    """Where a rule looks: in which function, of which file, and for which chip."""

    def __init__(
        self, file: File, kernels: Sequence[Unit], also: Sequence[Unit], target: tuple[str, int] | None, api: str
    ) -> None:
        self.file = file
        self.api = api  # the version of NKI
        self.kernels = kernels
        self.running = reached(kernels)
        conditional = bool(kernels)  # whether a function that no kernel calls may be called under a condition
        for unit, maybe in reached([unit for unit in also if unit not in self.running]).items():
            self.running.setdefault(unit, maybe or conditional)
        called = called_by(self.running)
        self._launched = {unit for unit in kernels if unit not in called}
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
        if self.unit not in self.kernels:
            return
        scope = self.unit.parent
        assert scope is not None
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


def check(
    file: File,
    kernels: Sequence[Unit],
    target: tuple[str, int] | None = None,
    api: str = APIS[0],
    also: Sequence[Unit] = (),
) -> list[Finding]:
    """What the kernels of a file, and what they call, break in a version of NKI; in the order of the file.

    also: functions of the file that issue instructions and are no kernels; no rule looks at how they are called
    """
    at = At(file, kernels, also, target, api)
    found: dict[tuple[str, int, int], Finding] = {}  # by rule and place
    by_kind = {kind: [(row, s) for row in rows if (s := row.severity_in(api))] for kind, rows in _BY_KIND.items()}

    def ask(node: ast.AST, kind: type[ast.AST]) -> None:
        for row, severity in by_kind[kind]:
            for problem in row.check(node, at):
                place: Any
                place, message = problem if isinstance(problem, tuple) else (node, problem)
                key = (row.id, place.lineno, place.col_offset)
                if not _allowed(row, place, file):
                    path, line = file.place(place.lineno)
                    found[key] = Finding(row.id, severity, path, line, place.col_offset + 1, message, row.source)

    for unit, maybe in at.running.items():
        at.unit = unit
        for kind, rows in by_kind.items():
            for node, site_maybe in _sites(unit, kind, at) if rows else ():
                at.maybe = maybe or site_maybe
                ask(node, kind)
        for owner, node in _closed_over(unit, at):
            at.unit, at.maybe = owner, True
            ask(node, ast.Attribute)
    return [found[key] for key in sorted(found, key=lambda key: (*key[1:], key[0]))]


def _closed_over(unit: Unit, at: At) -> Iterator[tuple[Unit, ast.AST]]:
    """Names of NKI in what a running function takes from around it: `i = nl.arange(4)` above a kernel that uses i."""
    if unit.is_class:
        return
    for name, _ in unit.contents.loads:
        found = unit.lookup(name.id)
        if found is None or found[0] in at.running or not isinstance(found[1], ast.expr):
            continue
        yield from ((found[0], node) for node in ast.walk(found[1]))


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


def _allowed(row: Rule, node: Any, file: File) -> bool:
    """The line ends with `# triptych: allow RULE`."""
    found = _ALLOWED.search(file.line(node.lineno))
    return found is not None and row.id in re.split(r"[,\s]+", found[1])
