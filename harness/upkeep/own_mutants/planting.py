"""Put a fault into a file that is imported already: the functions that it changes get the faulty code.

Whoever holds such a function, under whatever name, then calls the faulty one; so does whoever holds one that it has
made, as a decorator does. What a module or a class does while it is imported cannot be had again in this way.
"""

from __future__ import annotations

import ast
import gc
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import TypeGuard

from triptych.harness.upkeep.figures.mutation import Mutant

Function = ast.FunctionDef | ast.AsyncFunctionDef


def plant(fault: Mutant, path: Path) -> bool:
    """Whether it could be put into the functions of the file `path`, as they are imported."""
    before, after = ast.parse(fault.path.read_text(encoding="utf-8")), ast.parse(fault.source)
    changed = changed_function(before.body, after.body)
    if changed is None:
        return False
    old, new = (
        code_of(compile(tree, str(path), "exec", dont_inherit=True), function)
        for tree, function in zip((before, after), changed, strict=True)
    )
    pairs = list(itertools.zip_longest((old, *within(old)), (new, *within(new))))
    if any(a is None or b is None or a.co_freevars != b.co_freevars for a, b in pairs):
        return False
    functions = [thing for thing in gc.get_objects() if type(thing) is FunctionType]
    found = [(f, b) for f in functions for a, b in pairs if is_of(f.__code__, a)]
    for function, code in found:
        function.__code__ = code
    return bool(found)


def is_of(code: CodeType, old: CodeType) -> bool:
    """Whether it is that code, of that file by whatever path."""
    same = (code.co_name, code.co_firstlineno) == (old.co_name, old.co_firstlineno) and code.co_code == old.co_code
    return same and os.path.realpath(code.co_filename) == os.path.realpath(old.co_filename)


def changed_function(before: list[ast.stmt], after: list[ast.stmt]) -> tuple[Function, Function] | None:
    """The outermost function whose body alone differs, before and after; None if something else does."""
    differing = [pair for pair in zip(before, after, strict=True) if ast.dump(pair[0]) != ast.dump(pair[1])]
    if len(differing) != 1:
        return None
    one, other = differing[0]
    if isinstance(one, ast.ClassDef) and isinstance(other, ast.ClassDef):
        return changed_function(one.body, other.body)
    if is_function(one) and is_function(other) and head(one) == head(other):
        return one, other
    return None


def is_function(node: ast.stmt) -> TypeGuard[Function]:
    return isinstance(node, Function)


def head(function: Function) -> str:
    """What is evaluated where a function is defined."""
    return "".join(ast.dump(node) for node in (function.args, *function.decorator_list))


def code_of(module: CodeType, function: Function) -> CodeType:
    """The code of a function of a module, or of a class in it."""
    first = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
    (code,) = (code for code in within(module) if (code.co_name, code.co_firstlineno) == (function.name, first))
    return code


def within(code: CodeType) -> Iterator[CodeType]:
    """The codes in a code, however deep."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from within(constant)
