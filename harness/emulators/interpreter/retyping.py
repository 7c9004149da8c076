"""A name keeps its type through a branch and a loop: the compiler refuses a kernel in which one does not.

Both sides of an `if` that a GPU decides meet in one value, and so do the rounds of a loop. A kernel that is interpreted
takes one side, and would go on with whatever it found there. Types of elements are compared: those are what a name is
given by mistake, an int64 in the place of an int32, a float32 in that of a bfloat16.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import triton.language as tl


@dataclass(frozen=True)
class Types:
    """Of each name that had a value of Triton's before a branch or loop: the type of its elements then."""

    known: Mapping[str, Any]
    where: str  # "the if"


def types_before(on_gpu: bool, where: str, names: Iterable[str], values: Mapping[str, Any]) -> Types:
    """The types to keep of the names that are assigned within; none of what the compiler decides or unrolls."""
    found = {name: values[name].dtype for name in names if isinstance(values.get(name), tl.tensor)} if on_gpu else {}
    return Types(found, where)


def check_types(before: Types, values: Mapping[str, Any]) -> None:
    """TypeError if a name has elements of another type now."""
    for name, dtype in before.known.items():
        now = values.get(name)
        if isinstance(now, tl.tensor) and now.dtype != dtype:
            raise TypeError(
                f"`{name}` is {dtype} before {before.where} and {now.dtype} behind it, which the compiler refuses: "
                f"cast it, as with .to({dtype.scalar})"
            )


def assigned(body: Iterable[ast.stmt]) -> list[str]:
    """The names that statements give a value."""
    nodes = (node for statement in body for node in ast.walk(statement))
    found = (node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
    return list(dict.fromkeys(found))
