"""Rules about syntax and values: NKI is a subset of Python."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from triptych.simulator.api.lookup import MIGRATION
from triptych.simulator.lint.rules import ERROR, WARNING, At, rule

_GUIDE = "nki/get-started/nki-language-guide.rst"
_LARGEST_FLOAT = 3.4028235677973366e38  # what still rounds to a finite float32


@rule("identity", WARNING, source=f"{MIGRATION}, Replace is / is not with == / !=", until="0.6")
def identity(node: ast.Compare, at: At) -> Iterator[str]:
    """`is` and `is not` are documented as no operators of NKI, None included; AWS's library has them all the same.

     @nki.jit
     def kernel(x, exact):
    -    assert exact is True
    +    assert exact == True
         return x
    """
    for left, op, right in zip([node.left, *node.comparators], node.ops, node.comparators, strict=False):
        if isinstance(op, (ast.Is, ast.IsNot)):
            equals = "==" if isinstance(op, ast.Is) else "!="
            yield f"the documentation rules out `is`; write {ast.unparse(left)} {equals} {ast.unparse(right)}"


@rule("value", ERROR, source=f"{_GUIDE}, NKI Values", until="0.6")
def value(node: ast.Constant, at: At) -> Iterator[str]:
    """A value is None, a bool, a 32-bit integer, a 32-bit float, a string or a tensor.

    -assert x.shape[0] < 10_000_000_000
    +assert x.shape[0] < 1_000_000_000
    """
    v = node.value
    if isinstance(v, (complex, bytes)):
        yield f"NKI has no {type(v).__name__} values; it has None, bool, int32, float32, strings and tensors"
    elif isinstance(v, int) and v >= 2**32:  # bit patterns of 32 bits are written without a sign
        yield f"{v} does not fit in 32 bits, and NKI's integers have no more"
    elif isinstance(v, float) and _LARGEST_FLOAT < abs(v) < float("inf"):
        yield f"{v} is beyond float32, and NKI's numbers have no more"


@rule("dict-key", ERROR, source=f"{_GUIDE}, NKI Values", until="0.6")
def dict_key(node: ast.Dict, at: At) -> Iterator[tuple[ast.AST, str]]:
    """The keys of a dictionary are strings.

    -sizes = {0: 128, 1: 512}
    -assert x.shape == (sizes[0], sizes[1])
    +sizes = {"rows": 128, "columns": 512}
    +assert x.shape == (sizes["rows"], sizes["columns"])
    """
    for key in node.keys:
        if isinstance(key, ast.Tuple) or (isinstance(key, ast.Constant) and not isinstance(key.value, str)):
            yield key, f"the key {ast.unparse(key)} is no string, and NKI's dictionaries take no other"
            return


@rule("for-iterable", WARNING, source=f"{_GUIDE}, Control Flow", until="0.6")
def for_iterable(node: ast.For, at: At) -> Iterator[tuple[ast.AST, str]]:
    """A for loop runs over a range, a list or a tuple; whether enumerate, zip and the like compile is undocumented.

     @nki.jit
     def kernel(x, sizes):
    -    for i, size in enumerate(sizes):
    -        print(i, size)
    +    for i in range(len(sizes)):
    +        print(i, sizes[i])
         return x
    """
    if isinstance(node.iter, ast.Call):
        module, _, function = at.name(node.iter.func).rpartition(".")
        lazy = {"enumerate", "zip", "map", "filter", "reversed", "iter", "set", "frozenset"}
        if module == "itertools" or (module == "builtins" and function in lazy):
            yield node.iter, f"a loop over {function}() is undocumented; loop over range(len(...))"


_UNDOCUMENTED: dict[type[ast.AST], tuple[str, str]] = {
    ast.AsyncFor: ("`async`", "write a plain loop"),
    ast.AsyncFunctionDef: ("`async`", "write a plain function"),
    ast.AsyncWith: ("`async`", "write plain code"),
    ast.Await: ("`await`", "write plain code"),
    ast.Delete: ("`del`", "let the name be, or call .pop()"),
    ast.GeneratorExp: ("a generator", "use a loop"),
    ast.DictComp: ("a comprehension", "use a loop"),
    ast.ListComp: ("a comprehension", 'use a loop: a compiler of 0.6 rejects it, "unsupported expression"'),
    ast.Import: ("an import inside a kernel", "move it to the top of the file"),
    ast.ImportFrom: ("an import inside a kernel", "move it to the top of the file"),
    ast.Lambda: ("a lambda", "write a function with def"),
    ast.Match: ("`match`", "use if and elif"),
    ast.NamedExpr: ("`:=`", "assign in a statement of its own"),
    ast.Nonlocal: ("`nonlocal`", "return the value, or keep it in a list or a tensor"),
    ast.Set: ("a set", "use a list or a tuple"),
    ast.SetComp: ("a set", "use a list or a tuple"),
    ast.Starred: ("unpacking with `*`", "name each value"),
    ast.Try: ("`try`", "test for the condition with if"),
    ast.With: ("`with`, but for nl.no_reorder(),", "call what it calls"),
    ast.Yield: ("`yield`", "return a list"),
    ast.YieldFrom: ("`yield`", "return a list"),
    ast.FunctionDef: ("`*args` or `**kwargs`", "name each parameter"),
    ast.keyword: ("unpacking with `**`", "name each argument"),
}


@rule(
    "undocumented",
    WARNING,
    kinds=_UNDOCUMENTED,
    source=f"{_GUIDE}, which does not have it; nor do the kernels of AWS's tutorials and library",
    until="0.6",
)
def undocumented(node: Any, at: At) -> Iterator[str]:
    """Lambdas, sets, generators, comprehensions, try, with, unpacking and imports in a kernel are undocumented.

     @nki.jit
     def kernel(x, scale):
    -    double = lambda y: 2 * y
    +    def double(y):
    +        return 2 * y
         print(double(scale))
         return x
    """
    if isinstance(node, ast.FunctionDef):
        if node.args.vararg is None and node.args.kwarg is None:
            return
    elif isinstance(node, ast.keyword):
        if node.arg is not None:
            return
    elif isinstance(node, ast.Nonlocal):
        if all(at.outside(name) for name in node.names):  # which outer-state tells
            return
    elif isinstance(node, ast.With):
        calls = [i.context_expr.func for i in node.items if isinstance(i.context_expr, ast.Call)]
        if len(calls) == len(node.items) and all(at.name(c) == "nki.language.no_reorder" for c in calls):
            return
    what, instead = _UNDOCUMENTED[type(node)]
    yield f"{what} is undocumented; {instead}"
