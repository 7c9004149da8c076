"""A kernel's Python, made to mean what Triton's compiler takes it to mean.

A kernel is written in Python's syntax, and some of it means something else to the compiler (triton/compiler/
code_generator.py, `visit_BoolOp` and its neighbours). Run as Python it would compute something else, so that the syntax
tree is changed where they differ:

=========================  ===========================================================================================
`a and b`, `a or b`,       of blocks the logical operation element by element; a constant decides alone, as in Python
`not a`, `a < b < c`
`x = 0.1`, `x := 0.1`      a number that is given a name becomes a scalar of Triton: float32, int32 or what it needs
`x: tl.constexpr = 0.1`    stays a number of Python, which takes a block's dtype
`for i in range(n)`        i is a scalar of the promoted type of the bounds, and wraps around as such
`x += y`                   x = x + y
`if c`, `while c`          of a block of several elements is an error
a name in `if c`, `for`    keeps the type that it had before (`retyping`)
`assert c`                 is of all elements
`min(a, b)`, `max(a, b)`   of blocks the smaller and larger element
=========================  ===========================================================================================

A kernel's globals are copied for a launch, and what is a name of `tl` there, under whatever name, is replaced by what
`tl` has of it while the interpreter runs.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import operator
import textwrap
import types
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, reduce
from typing import Any

import triton.language as tl
from triton.runtime import interpreter

from triptych.harness.emulators.interpreter.retyping import assigned, check_types, types_before

COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Lt: "lt",
    ast.LtE: "le",
    ast.Gt: "gt",
    ast.GtE: "ge",
    ast.Eq: "eq",
    ast.NotEq: "ne",
    ast.Is: "is_",
    ast.IsNot: "is_not",
}


def value_of(value: Any) -> Any:
    """What a name is bound to: numbers as scalars of Triton, all else as it is."""
    if isinstance(value, tuple):
        parts = [value_of(v) for v in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return interpreter.interpreter_semantic.to_tensor(value, False)


def combine(method: str, decides: bool, values: Iterator[Any]) -> Any:
    """`and` and `or` as the compiler reads them: a constant that decides ends it, blocks are combined element-wise."""
    dynamic = []
    value: Any = None
    for value in values:
        if isinstance(value, tl.tensor):
            dynamic.append(value)
        elif bool(value) is decides:
            return value
    if not dynamic:
        return value
    return reduce(lambda right, left: getattr(left, method)(right), reversed(dynamic))


def all_of(*values: Callable[[], Any]) -> Any:
    return combine("logical_and", False, (v() for v in values))


def any_of(*values: Callable[[], Any]) -> Any:
    return combine("logical_or", True, (v() for v in values))


def negated(value: Any) -> Any:
    return value.__not__() if isinstance(value, tl.tensor) else not value


def compared(left: Any, *pairs: tuple[str, Callable[[], Any]]) -> Any:
    """`left < a <= b` with every operand evaluated once."""

    def comparisons() -> Iterator[Any]:
        before = left
        for name, right in pairs:
            after = right()
            yield getattr(operator, name)(before, after)
            before = after

    return combine("logical_and", False, comparisons())


def asserted(holds: Any, message: Any = "") -> None:
    """An assertion of all elements, which a GPU checks in debug mode alone."""
    if not (holds.handle.data.all() if isinstance(holds, tl.tensor) else holds):
        raise AssertionError(message)


def true(value: Any) -> bool:
    """What `if` and `while` ask."""
    value = getattr(value, "condition", value)  # `tl.condition`, which `while` takes
    if not isinstance(value, tl.tensor):
        return bool(value)
    if value.handle.data.size != 1:
        shape = tuple(int(n) for n in value.shape)
        raise ValueError(f"a block of shape {shape} is neither true nor false: reduce it, or use tl.where")
    return bool(value.handle.data.item())


def counted(*bounds: Any) -> Iterator[Any]:
    """`range` as the compiler's loop: its variable is a scalar of the type that the bounds are promoted to."""
    semantic = interpreter.interpreter_semantic
    scalars = [semantic.to_tensor(b) for b in bounds]
    wrong = [s.dtype for s in scalars if not s.dtype.is_int()]
    if wrong:
        raise TypeError(f"the bounds and step of a loop are integers, got {wrong[0]}")
    promoted = reduce(semantic.integer_promote_impl, (s.dtype for s in scalars))
    for i in range(*(int(s.handle.data.item()) for s in scalars)):
        yield semantic.scalar_constant(i, dtype=promoted)


def smallest(*values: Any, **named: Any) -> Any:
    return _extreme(tl.minimum, builtins.min, values, named)


def largest(*values: Any, **named: Any) -> Any:
    return _extreme(tl.maximum, builtins.max, values, named)


def _extreme(ours: Callable[..., Any], pythons: Callable[..., Any], values: tuple[Any, ...], named: Any) -> Any:
    blocks = any(isinstance(v, tl.tensor) for v in values)
    return reduce(lambda a, b: ours(a, b, **named), values) if blocks else pythons(*values, **named)


def is_loop(iterable: Any) -> bool:
    """Whether the compiler makes a loop of it, and does not unroll it as it does `tl.static_range`."""
    return getattr(iterable, "gi_code", None) is counted.__code__


def is_value(condition: Any) -> bool:
    """Whether a GPU decides it."""
    return isinstance(getattr(condition, "condition", condition), tl.tensor)


HELPERS: dict[str, Any] = {
    "__triton_value": value_of,
    "__triton_all": all_of,
    "__triton_any": any_of,
    "__triton_not": negated,
    "__triton_true": true,
    "__triton_compare": compared,
    "__triton_assert": asserted,
    "__triton_is_loop": is_loop,
    "__triton_is_value": is_value,
    "__triton_types_before": types_before,
    "__triton_check_types": check_types,
}
BUILTINS: dict[str, Any] = {"range": counted, "min": smallest, "max": largest}  # unless the kernel's module has its own


def _call(name: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(f"__triton_{name}", ast.Load()), list(arguments), [])


def _later(body: ast.expr) -> ast.expr:
    nothing = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
    return ast.Lambda(nothing, body)


def _keeping(
    node: ast.stmt, what: str, names: list[str], on_gpu: Callable[[ast.expr], ast.expr]
) -> tuple[str, ast.stmt, ast.stmt]:
    """A name for what a branch or loop asks, a statement before it that keeps types, and one that compares them."""
    place = f"{node.lineno}_{node.col_offset}"
    asked, kept = f"__triton_asked_{place}", f"__triton_types_{place}"
    now = ast.Call(ast.Name("locals", ast.Load()), [], [])
    of_names = ast.Tuple([ast.Constant(name) for name in names], ast.Load())
    where = ast.Constant(f"the {what}")
    before = _call("types_before", on_gpu(ast.Name(asked, ast.Load())), where, of_names, now)
    keep = ast.Assign([ast.Name(kept, ast.Store())], before)
    return asked, keep, ast.Expr(_call("check_types", ast.Name(kept, ast.Load()), now))


class _Rewriter(ast.NodeTransformer):
    """The changes of this module's table."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.decorator_list, node.returns = [], None
        given = node.args
        for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs):
            argument.annotation = None
        given.defaults = [ast.Constant(None) for _ in given.defaults]  # the function's own are put there instead
        given.kw_defaults = [d and ast.Constant(None) for d in given.kw_defaults]
        return self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        if len(node.targets) > 1:
            raise SyntaxError(f"line {node.lineno}: Triton takes one target of an assignment")
        self.generic_visit(node)
        node.value = _call("value", node.value)
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        self.generic_visit(node)
        if node.value is None:
            return ast.copy_location(ast.Pass(), node)
        constant = "constexpr" in ast.unparse(node.annotation)
        return ast.copy_location(
            ast.Assign([node.target], node.value if constant else _call("value", node.value)), node
        )

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        self.generic_visit(node)
        if not isinstance(node.target, ast.Name):
            return node
        sum_ = ast.BinOp(ast.Name(node.target.id, ast.Load()), node.op, node.value)
        return ast.copy_location(ast.Assign([node.target], _call("value", ast.copy_location(sum_, node))), node)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> ast.AST:
        self.generic_visit(node)
        node.value = _call("value", node.value)
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        self.generic_visit(node)
        name = "all" if isinstance(node.op, ast.And) else "any"
        return ast.copy_location(_call(name, *map(_later, node.values)), node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        return ast.copy_location(_call("not", node.operand), node) if isinstance(node.op, ast.Not) else node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        if len(node.ops) == 1 or any(type(op) not in COMPARISONS for op in node.ops):
            return node
        pairs: list[ast.expr] = [
            ast.Tuple([ast.Constant(COMPARISONS[type(op)]), _later(right)], ast.Load())
            for op, right in zip(node.ops, node.comparators, strict=True)
        ]
        return ast.copy_location(_call("compare", node.left, *pairs), node)

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        names = assigned([*node.body, *node.orelse])
        self.generic_visit(node)
        if not names:
            node.test = _call("true", node.test)
            return node
        condition, keep, check = _keeping(node, "if", names, lambda condition: _call("is_value", condition))
        given = ast.Assign([ast.Name(condition, ast.Store())], node.test)
        node.test = _call("true", ast.Name(condition, ast.Load()))
        return [ast.copy_location(statement, node) for statement in (given, keep, node, check)]

    def visit_For(self, node: ast.For) -> ast.AST | list[ast.stmt]:
        names = assigned(node.body)
        self.generic_visit(node)
        iterable, keep, check = _keeping(node, "loop", names, lambda iterable: _call("is_loop", iterable))
        given = ast.Assign([ast.Name(iterable, ast.Store())], node.iter)
        node.iter = ast.Name(iterable, ast.Load())
        node.body.append(ast.copy_location(check, node))
        return [ast.copy_location(statement, node) for statement in (given, keep, node)]

    def visit_While(self, node: ast.While) -> ast.AST | list[ast.stmt]:
        names = assigned(node.body)
        self.generic_visit(node)
        node.test = _call("true", node.test)
        _, keep, check = _keeping(node, "loop", names, lambda _: ast.Constant(True))
        node.body.append(ast.copy_location(check, node))
        return [ast.copy_location(keep, node), node]

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        self.generic_visit(node)
        node.test = _call("true", node.test)
        return node

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        self.generic_visit(node)
        arguments = [node.test] if node.msg is None else [node.test, node.msg]
        return ast.copy_location(ast.Expr(_call("assert", *arguments)), node)


@lru_cache(maxsize=4096)
def _code_of(fn: types.FunctionType) -> types.CodeType | None:
    """The code of a module that defines `fn` rewritten; None where its source is not known."""
    try:
        lines, first = inspect.getsourcelines(fn)
    except (OSError, TypeError):
        return None
    tree = ast.parse(textwrap.dedent("".join(lines)))
    tree = ast.fix_missing_locations(_Rewriter().visit(tree))
    ast.increment_lineno(tree, first - 1)
    return compile(tree, fn.__code__.co_filename, "exec", dont_inherit=True)


def rewritten(fn: types.FunctionType, replaced: Mapping[int, Any]) -> types.FunctionType:
    """`fn` as the interpreter runs it, with globals of its own.

    replaced: by the `id` of a name of `tl` as the module holds it, what `tl` has in its place now.
    """
    names = {**BUILTINS, **fn.__globals__, **HELPERS, **inspect.getclosurevars(fn).nonlocals}
    for name, value in names.items():
        if id(value) in replaced:
            names[name] = replaced[id(value)]
        elif isinstance(value, tl.constexpr):  # whose operators would swallow a block on their right
            names[name] = value.value
    code = _code_of(fn)
    if code is None:
        return types.FunctionType(fn.__code__, names, fn.__name__, fn.__defaults__, fn.__closure__)
    exec(code, names)
    made: types.FunctionType = names[fn.__name__]
    made.__defaults__, made.__kwdefaults__ = fn.__defaults__, fn.__kwdefaults__
    return made
