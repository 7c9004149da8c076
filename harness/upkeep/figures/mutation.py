"""Mutants of a source file: each with one small mistake of the kind that people make in kernels.

A mutant is the file's text with one stretch replaced. The operators look at the syntax tree: comparisons off by one,
indices and bounds one further, masks and scales dropped, accumulate flags fixed or inverted, dtypes lowered, minima
for maxima, axes exchanged, statements forgotten. What refuses inputs (`assert`, `raise`) is left alone: it decides no
result. Neither does what tunes (`config` of the Triton kernels), but for the flag that drops a mask.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from triptych.harness.upkeep.replacements import Replacements

COMPARISONS = {ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "=="}
ARITHMETIC = {ast.Add: "-", ast.Sub: "+", ast.FloorDiv: "*", ast.Div: "*", ast.Mult: "//", ast.Mod: "//"}
SWAPPED = {
    "min": "max",
    "max": "min",
    "minimum": "maximum",
    "maximum": "minimum",
    "add": "subtract",
    "multiply": "add",
    "greater_equal": "greater",
    "exp": "tanh",
    "exp2": "exp",
    "cdiv": "min",
    "sum": "max",
}
LOWERED = {"float32": "bfloat16", "float64": "float32", "int64": "int32"}
NEGLIGIBLE = ("num_warps", "num_stages", "enable_fp_fusion")


@dataclass(frozen=True)
class Mutant:
    """One mistake."""

    path: Path
    line: int
    function: str
    operator: str
    source: str  # of the whole file

    def diff(self) -> str:
        """The lines that changed, as `- before` and `+ after`."""
        before = self.path.read_text(encoding="utf-8").splitlines()
        changes = difflib.unified_diff(before, self.source.splitlines(), n=0, lineterm="")
        lines = [text for text in list(changes)[3:] if text[:1] in "+-"]
        return "\n".join(f"{text[0]} {text[1:].strip()}" for text in lines)


class _Finder(Replacements):
    """Mistakes that a kernel's author makes."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.functions.append(node.name)
        for statement in node.body[1:] if ast.get_docstring(node) else node.body:
            self.visit(statement)
        self.functions.pop()

    def visit_Assert(self, node: ast.Assert) -> None:
        pass

    def visit_Raise(self, node: ast.Raise) -> None:
        pass

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        pass

    def visit_If(self, node: ast.If) -> None:
        if all(isinstance(statement, ast.Raise) for statement in node.body):
            return
        self.add(node.test, "condition inverted", f"(not ({self.of(node.test)}))")
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self.add(node, "always the first", f"({self.of(node.body)})")
        self.add(node, "always the second", f"({self.of(node.orelse)})")
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        if len(node.ops) == 1 and type(node.ops[0]) in COMPARISONS:
            left, right = self.of(node.left), self.of(node.comparators[0])
            sign = COMPARISONS[type(node.ops[0])]
            self.add(node, "comparison", f"({left} {sign} {right})")
            if sign not in ("==", "!="):
                self.add(node, "comparison shifted", f"({self.of(node)} + 1)")
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        left, right = self.of(node.left), self.of(node.right)
        if isinstance(node.op, ast.BitAnd):
            self.add(node, "mask dropped", f"({right})")
            self.add(node, "mask dropped", f"({left})")
        elif type(node.op) in ARITHMETIC:
            self.add(node, "arithmetic", f"(({left}) {ARITHMETIC[type(node.op)]} ({right}))")
            self.add(node, "right operand dropped", f"({left})")
            if isinstance(node.op, (ast.Add, ast.Sub)):
                self.add(node, "one more", f"({self.of(node)} + 1)")
            if isinstance(node.op, (ast.Mult, ast.Div)) and "scale" in self.of(node):
                self.add(node, "scale doubled", f"(2 * ({self.of(node)}))")
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.USub):
            self.add(node, "sign dropped", f"({self.of(node.operand)})")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self.add(node, "flag inverted", str(not node.value))
        elif isinstance(node.value, int):
            self.add(node, "constant one more", f"{node.value + 1}")
        elif isinstance(node.value, float):
            self.add(node, "constant changed", "1.0" if node.value == 0 else f"({node.value!r} / 2)")

    def visit_Call(self, node: ast.Call) -> None:
        name = self.of(node.func)
        if name == "range" and len(node.args) >= 2:
            start, stop = (self.of(argument) for argument in node.args[:2])
            rest = "".join(f", {self.of(argument)}" for argument in node.args[2:])
            self.add(node, "loop starts later", f"range({start} + 1, {stop}{rest})")
            self.add(node, "loop ends earlier", f"range({start}, {stop} - 1{rest})")
            if rest:
                self.add(node, "last step dropped", f"range({start}, {stop} - ({rest[2:]}){rest})")
        elif name == "range":
            self.add(node, "loop ends earlier", f"range({self.of(node.args[0])} - 1)")
        for keyword in node.keywords:
            if keyword.arg in NEGLIGIBLE or keyword.arg is None:
                continue
            value = self.of(keyword.value)
            if keyword.arg == "mask":
                self.add(keyword.value, "mask dropped", "None")
            elif keyword.arg == "accumulate":
                for fixed in ("True", "False", f"not ({value})"):
                    if fixed != value:
                        self.add(keyword.value, "accumulate flag", fixed)
            elif keyword.arg in ("scale", "bias") and value != "None":
                self.add(keyword.value, f"{keyword.arg} dropped", "1.0" if keyword.arg == "scale" else "None")
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        for table, operator in ((SWAPPED, "swapped"), (LOWERED, "dtype lowered")):
            if node.attr in table:
                self.add(node, operator, f"{self.of(node.value)}.{table[node.attr]}")
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in ("min", "max"):
            self.add(node, "swapped", SWAPPED[node.id])

    def visit_Subscript(self, node: ast.Subscript) -> None:
        index = self.of(node.slice)
        if index in (":, None", "None, :"):
            self.add(node.slice, "axes exchanged", "None, :" if index == ":, None" else ":, None")
            return
        if isinstance(node.slice, ast.Tuple):
            for part in node.slice.elts:
                if isinstance(part, ast.Slice) and part.lower is not None and part.upper is not None:
                    lower, upper = self.of(part.lower), self.of(part.upper)
                    self.add(part, "slice shifted", f"{lower} + 1 : {upper} + 1")
        self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call):
            self.add(node, "statement dropped", "pass")
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.add(node, "statement dropped", "pass")
        self.generic_visit(node)


def mutants(path: Path) -> list[Mutant]:
    """Every mutant of the file, in the order of its lines; each text once."""
    text = path.read_text(encoding="utf-8")
    finder = _Finder(text)
    tree = ast.parse(text)
    finder.visit(tree)
    lines = text.splitlines(keepends=True)
    places = {line: place for place in map(place_of, tree.body) for line in place}
    unchanged = {
        place: ast.dump(ast.parse("".join(lines[place.start - 1 : place.stop - 1]))) for place in places.values()
    }
    found: dict[str, Mutant] = {}
    for node, operator, replacement, function in finder.found:
        source = replaced(text, node, replacement)
        place = places[node.lineno]  # type: ignore[attr-defined]
        changed = source.splitlines(keepends=True)
        statement = "".join(changed[place.start - 1 : place.stop - 1 + len(changed) - len(lines)])
        tuning = function == "config" and "EVEN_K" not in lines[node.lineno - 1]  # type: ignore[attr-defined]
        if not tuning and is_another(unchanged[place], statement):
            found.setdefault(source, Mutant(path, node.lineno, function, operator, source))  # type: ignore[attr-defined]
    return sorted(found.values(), key=lambda mutant: mutant.line)


def place_of(statement: ast.stmt) -> range:
    """The lines of a statement of the module, in which what is changed in it is looked at: not the whole file."""
    decorators: list[ast.expr] = getattr(statement, "decorator_list", [])
    first = min([statement.lineno, *[decorator.lineno for decorator in decorators]])
    return range(first, (statement.end_lineno or first) + 1)


def replaced(text: str, node: ast.AST, replacement: str) -> str:
    """`text` with the node's stretch replaced; columns of a syntax tree count UTF-8 bytes."""
    lines = text.encode().splitlines(keepends=True)
    first, last = node.lineno - 1, node.end_lineno - 1  # type: ignore[attr-defined]
    head = b"".join(lines[:first]) + lines[first][: node.col_offset]  # type: ignore[attr-defined]
    tail = lines[last][node.end_col_offset :] + b"".join(lines[last + 1 :])  # type: ignore[attr-defined]
    whole: bytes = head + replacement.encode() + tail
    return whole.decode()


def is_another(unchanged: str, source: str) -> bool:
    """Whether the text is Python, and not the same program in other words."""
    try:
        return ast.dump(ast.parse(source)) != unchanged
    except SyntaxError:
        return False


def spread(some: list[Mutant], count: int) -> Iterator[Mutant]:
    """`count` of them, evenly spread over the file."""
    step = max(1.0, len(some) / count)
    yield from (some[int(i * step)] for i in range(min(count, len(some))))
