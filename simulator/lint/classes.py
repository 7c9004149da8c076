"""Rules about classes: the compiler takes in NKIObject and Enum, and of an object its __dict__."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from triptych.simulator.lint.rules import ERROR, WARNING, At, rule
from triptych.simulator.lint.source import Unit

_GUIDE = "nki/get-started/nki-language-guide.rst"


def _bases(unit: Unit) -> list[str]:
    """What a class inherits from, by name."""
    assert unit.parent is not None
    found = [unit.parent.resolve(base) for base in unit.node.bases]
    return [b if isinstance(b, str) else b.name if isinstance(b, Unit) else "?" for b in found]


def _is_enum(unit: Unit) -> bool:
    return any(base.startswith("enum.") for base in _bases(unit))


@rule("class-base", ERROR, source=f"{_GUIDE}, Class Support", until="0.6")
def class_base(node: ast.ClassDef, at: At) -> Iterator[str]:
    """A class that a kernel uses inherits from NKIObject and from nothing else; an enumeration from Enum.

    -class Tile:
    +class Tile(nl.NKIObject):
         def __init__(self, rows):
             self.rows = rows

     @nki.jit
     def kernel(x):
         assert x.shape[0] == Tile(128).rows
         return x
    """
    bases = _bases(at.unit)
    if _is_enum(at.unit) or [base.rpartition(".")[2] for base in bases] == ["NKIObject"]:
        return
    if any(b.startswith("builtins.") and b.endswith(("Exception", "Error", "Warning")) for b in bases):
        return  # what a kernel raises stops the compiler either way
    yield f"class {node.name} must inherit from nl.NKIObject and nothing else: the compiler takes in no other class"


@rule("slots", WARNING, source=f"{_GUIDE}, Class Support", until="0.6")
def slots(node: ast.ClassDef, at: At) -> Iterator[str]:
    """An object reaches a kernel through its __dict__, and fields in __slots__ do not.

     class Tile(nl.NKIObject):
    -    __slots__ = ("rows",)
    +    rows = 128

     @nki.jit
     def kernel(x, tile: Tile):
         assert x.shape[0] == tile.rows
         return x
    """
    if at.unit.holds("__slots__"):
        yield f"class {node.name} has __slots__, and only what is in an object's __dict__ reaches a kernel; drop them"


@rule(
    "class-equality",
    WARNING,
    source="nki/migration/index.html of SDK 2.33.1: == on user-defined classes may differ",
    since="0.7",
)
def class_equality(node: ast.Compare, at: At) -> Iterator[str]:
    """== of objects whose class defines none was structural in NKI 0.6, and is Python's, identity, in 0.7.

    +from dataclasses import dataclass
    +
    +@dataclass
     class Tile:
    -    def __init__(self, rows):
    -        self.rows = rows
    +    rows: int

     @nki.jit
     def kernel(x):
         first = Tile(128)
         second = Tile(128)
         assert first == second
         return x
    """
    if not any(isinstance(op, (ast.Eq, ast.NotEq)) for op in node.ops):
        return
    for operand in (node.left, *node.comparators):
        made = at.unit.value(operand)
        owner = at.unit.resolve(made.func) if isinstance(made, ast.Call) else None
        if isinstance(owner, Unit) and owner.is_class and not _equality(owner):
            yield f"{owner.name} has no __eq__: NKI 0.6 compared its fields, and 0.7 asks whether it is the same object"
            return


def _equality(unit: Unit) -> bool:
    """A class that says when two of it are equal: by a method, as a dataclass, or through what it inherits."""
    return unit.holds("__eq__") or bool(unit.node.decorator_list) or bool(unit.node.bases)


@rule("enum-operator", ERROR, source=f"{_GUIDE}, Enumerations", until="0.6")
def enum_operator(node: ast.Compare | ast.BinOp, at: At) -> Iterator[str]:
    """Members of an enumeration are compared with == and !=, and take no other operator.

     from enum import Enum

     class Mode(Enum):
         fast = 1
         exact = 2

     @nki.jit
     def kernel(x, mode):
    -    assert mode < Mode.exact
    +    assert mode != Mode.exact
         return x
    """
    if isinstance(node, ast.BinOp):
        operands = [node.left, node.right]
    elif any(isinstance(op, (ast.Lt, ast.LtE, ast.Gt, ast.GtE)) for op in node.ops):
        operands = [node.left, *node.comparators]
    else:
        return
    for operand in operands:
        owner = at.unit.resolve(operand.value) if isinstance(operand, ast.Attribute) else None
        if isinstance(owner, Unit) and isinstance(owner.node, ast.ClassDef) and _is_enum(owner):
            yield f"{ast.unparse(operand)} is a member of an enumeration, which knows == and != alone"
