"""Small faults of plain Python: a constant, a comparison, an operand, a branch, a statement.

Left out is what decides nothing, and no more, however hard a fault is to see:

- sentences: what an f-string or the text of an exception says; and docstrings and annotations;
- what only watches over programmers: `assert`, `strict=` of `zip`, the decorators of a class, as `frozen=`;
- a difference the other way round whose sign is lost at once, by `abs`, a norm or an even power;
- another negative number than -1 for the size that `reshape` finds out.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from triptych.harness.upkeep.figures.mutation import Mutant, is_another, replaced
from triptych.harness.upkeep.replacements import Replacements

COMPARISONS: dict[type[ast.cmpop], tuple[str, ...]] = {
    ast.Lt: ("<=", ">"),
    ast.LtE: ("<", ">"),
    ast.Gt: (">=", "<"),
    ast.GtE: (">", "<"),
    ast.Eq: ("!=",),
    ast.NotEq: ("==",),
    ast.Is: ("is not",),
    ast.IsNot: ("is",),
    ast.In: ("not in",),
    ast.NotIn: ("in",),
}
ARITHMETIC: dict[type[ast.operator], str] = {
    ast.Add: "-",
    ast.Sub: "+",
    ast.Mult: "/",
    ast.Div: "*",
    ast.FloorDiv: "*",
    ast.Mod: "//",
    ast.BitAnd: "|",
    ast.BitOr: "&",
}
NOT_SYMMETRIC: dict[type[ast.operator], str] = {ast.Sub: "-", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%"}
SWAPPED = {
    "min": "max",
    "max": "min",
    "any": "all",
    "all": "any",
    "minimum": "maximum",
    "maximum": "minimum",
    "argmin": "argmax",
    "argmax": "argmin",
    "isnan": "isinf",
    "isfinite": "isnan",
    "startswith": "endswith",
}


SIGN_LOST = ("abs", "norm", "square")  # functions of one number or array


class _Faults(Replacements):
    """Small faults of a room's own source."""

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for statement in node.body:
            self.visit(statement)

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        self.visit(node.func)
        for argument in node.args:
            if name == "reshape" and self.of(argument) == "-1":
                self.add(argument, "sign dropped", "(1)")
            elif name in SIGN_LOST:
                self.visit_unsigned(argument)
            else:
                self.visit(argument)
        for keyword in node.keywords:
            if (name, keyword.arg) != ("zip", "strict"):
                self.visit(keyword.value)

    def visit_unsigned(self, node: ast.expr) -> None:
        """What is visited, but for its own sign."""
        before = len(self.found)
        self.visit(node)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub):
            self.found[before:] = [f for f in self.found[before:] if f[0] is not node or f[1] != "operands swapped"]

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.functions.append(node.name)
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if default is not None:
                self.visit(default)
        for statement in node.body:
            self.visit(statement)
        self.functions.pop()

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        pass

    def visit_Raise(self, node: ast.Raise) -> None:
        self.add(node, "statement dropped", "pass")

    def visit_Assert(self, node: ast.Assert) -> None:
        pass

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call):
            self.add(node, "statement dropped", "pass")
            self.visit(node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.add(node, "statement dropped", "pass")
        self.generic_visit(node)

    def visit_Continue(self, node: ast.Continue) -> None:
        self.add(node, "statement dropped", "pass")

    def visit_Break(self, node: ast.Break) -> None:
        self.add(node, "statement dropped", "pass")

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self.add(node, "constant", str(not node.value))
        elif isinstance(node.value, int):
            self.add(node, "constant", str(node.value + 1))
        elif isinstance(node.value, float):
            self.add(node, "constant", "1.0" if node.value == 0 else repr(node.value * 1.25))

    def visit_Compare(self, node: ast.Compare) -> None:
        if len(node.ops) == 1:
            left, right = self.of(node.left), self.of(node.comparators[0])
            for sign in COMPARISONS.get(type(node.ops[0]), ()):
                self.add(node, "comparison", f"({left} {sign} {right})")
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        sign, other = (" and ", " or ") if isinstance(node.op, ast.And) else (" or ", " and ")
        parts = [f"({self.of(value)})" for value in node.values]
        self.add(node, "and, or", f"({other.join(parts)})")
        for i in range(len(parts)):
            self.add(node, "operand dropped", f"({sign.join(parts[:i] + parts[i + 1 :])})")
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        left, right = self.of(node.left), self.of(node.right)
        if isinstance(node.op, ast.Pow) and right in ("2", "4"):
            self.visit_unsigned(node.left)
            self.visit(node.right)
            return
        if type(node.op) in ARITHMETIC:
            self.add(node, "arithmetic", f"(({left}) {ARITHMETIC[type(node.op)]} ({right}))")
            sign = NOT_SYMMETRIC.get(type(node.op))
            if sign:
                self.add(node, "operands swapped", f"(({right}) {sign} ({left}))")
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, (ast.Not, ast.USub, ast.Invert)):
            self.add(node, "sign dropped", f"({self.of(node.operand)})")
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        if self.of(node.test) != "TYPE_CHECKING":
            self.add(node.test, "condition", "True")
            self.add(node.test, "condition", "False")
            self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self.add(node, "condition", f"({self.of(node.body)})")
        self.add(node, "condition", f"({self.of(node.orelse)})")
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if node.attr in SWAPPED:
            self.add(node, "swapped", f"{self.of(node.value)}.{SWAPPED[node.attr]}")
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in SWAPPED:
            self.add(node, "swapped", SWAPPED[node.id])


def faults(path: Path) -> list[Mutant]:
    """Every fault of a file, in the order of its lines; each text once. Some may be the same program in other words."""
    text = path.read_text(encoding="utf-8")
    finder = _Faults(text)
    finder.visit(ast.parse(text))
    found: dict[str, Mutant] = {}
    for node, operator, replacement, function in finder.found:
        source = replaced(text, node, replacement)
        line: int = node.lineno  # type: ignore[attr-defined]
        found.setdefault(source, Mutant(path, line, function, operator, source))
    return sorted(found.values(), key=lambda fault: fault.line)


def is_fault(fault: Mutant) -> bool:
    """Whether it is Python, and another program."""
    return is_another(ast.dump(ast.parse(fault.path.read_text(encoding="utf-8"))), fault.source)


def of_room(folder: Path) -> Iterator[Mutant]:
    """The faults of all files of a room."""
    for path in sorted(folder.rglob("*.py")):
        yield from faults(path)
