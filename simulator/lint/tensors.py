"""Rules about tensors: they have no operators, their indices are no arrays, and instructions give back none."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import Any

from triptych.simulator.api.lookup import MIGRATION, STUBS, short, signature
from triptych.simulator.lint.rules import ERROR, WARNING, At, rule
from triptych.simulator.lint.source import Unit
from triptych.simulator.tensors.arithmetic import BINARY, COMPARED, UNARY, instead_of
from triptych.simulator.wrong_calls import RETURNS_NOTHING

_NODES: dict[type[ast.AST], str] = {
    **{ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "truediv", ast.FloorDiv: "floordiv", ast.Mod: "mod"},
    **{ast.Pow: "pow", ast.MatMult: "matmul", ast.BitAnd: "and", ast.BitOr: "or", ast.BitXor: "xor"},
    **{ast.LShift: "lshift", ast.RShift: "rshift", ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge"},
    **{ast.USub: "neg", ast.Invert: "invert", ast.UAdd: "pos"},
}
_OPERATORS = {**BINARY, **COMPARED, **UNARY}
_ARRAYS = ("nki.language.arange", "nki.language.mgrid", "numpy.arange", "numpy.ogrid", "numpy.mgrid", "numpy.array")


def bindings(unit: Unit, name: str) -> list[ast.AST | None]:
    """All that a scope binds a name to, but for what `name += ..` makes of it; None for a value that is not seen."""
    found = unit.lookup(name)
    if found is None:
        return []
    values: list[Any] = list(found[0].contents.bound.get(name, ()))
    updates = found[0].contents.sites.get(ast.AugAssign, ())
    for node, _ in updates:
        if isinstance(node.target, ast.Name) and node.target.id == name:
            values.remove(None)
    return values


def made_by(node: ast.AST | None, at: At) -> list[str]:
    """The functions whose results an expression may be; "" stands for anything else."""
    if isinstance(node, ast.Subscript):
        return made_by(node.value, at)
    if isinstance(node, ast.Call):
        return [at.name(node.func)]
    if not isinstance(node, ast.Name):
        return []
    return [at.name(v.func) if isinstance(v, ast.Call) else "" for v in bindings(at.unit, node.id)]


def _is_tensor(node: ast.AST, at: At) -> bool:
    names = made_by(node, at)
    return bool(names) and all(_gives_tensor(name) for name in names)


def _gives_tensor(name: str) -> bool:
    """It is a function that gives a tensor of SBUF, PSUM or HBM; no instruction does."""
    called = signature(name)
    return called is not None and "NkiTensor" in str(called.return_annotation)


def _instruction(node: ast.AST, at: At) -> str:
    """The instruction whose result an expression is, if that is one with a dst."""
    name = at.name(node.func) if isinstance(node, ast.Call) else ""
    parameters = signature(name) if name.startswith("nki.isa.") else None
    return name if parameters is not None and "dst" in parameters.parameters else ""


@rule("tensor-operator", ERROR, source=f"{STUBS}, NkiTensor, which has no operators")
def tensor_operator(node: ast.BinOp | ast.AugAssign | ast.UnaryOp | ast.Compare, at: At) -> Iterator[str]:
    """Tensors have no Python operators: a function of nki.language, or an instruction, computes.

     tile = nl.load(x)
    -twice = 2.0 * tile
    +twice = nl.multiply(tile, 2.0)
    """
    operators: Sequence[ast.AST] = node.ops if isinstance(node, ast.Compare) else [node.op]
    operands = [part for part in ast.iter_child_nodes(node) if isinstance(part, ast.expr)]
    for operator in operators:
        written, function = _OPERATORS.get(_NODES.get(type(operator), ""), ("", ""))
        if not written:
            continue
        written += "=" if isinstance(node, ast.AugAssign) else ""
        given = next((name for operand in operands if (name := _instruction(operand, at))), "")
        tensors = [_is_tensor(operand, at) for operand in operands]
        if given:
            yield f"{short(given)} gives no tile to use with `{written}`: {RETURNS_NOTHING}"
        elif any(tensors):
            yield f"NKI has no `{written}` on tensors; write {instead_of(written.rstrip('='), function, all(tensors))}"


def _is_array(node: object, unit: Unit, depth: int = 0) -> bool:
    """An expression that is a NumPy array of indices, or what NKI had for one."""
    if depth > 9:
        return False
    if _array_name(unit, node):
        return True
    if isinstance(node, ast.Subscript):
        return _is_array(node.value, unit, depth + 1)
    if isinstance(node, ast.Call):
        return _array_name(unit, node.func)
    if isinstance(node, ast.BinOp):
        return any(_is_array(side, unit, depth + 1) for side in (node.left, node.right))
    if isinstance(node, ast.IfExp):
        return any(_is_array(side, unit, depth + 1) for side in (node.body, node.orelse))
    found = unit.lookup(node.id) if isinstance(node, ast.Name) else None
    return found is not None and _is_array(found[1], found[0], depth + 1)


def _array_name(unit: Unit, node: Any) -> bool:
    while isinstance(node, ast.Subscript):
        node = node.value
    name = unit.resolve(node)
    return isinstance(name, str) and name.removeprefix("neuronxcc.") in _ARRAYS


@rule("array-index", ERROR, source=f"{MIGRATION}, index with slices, nl.ds and integers")
def array_index(node: ast.Subscript, at: At) -> Iterator[tuple[ast.AST, str]]:
    """A tensor is indexed by integers, slices and nl.ds; arrays of indices went with NKI 0.2.

    -import numpy as np
    -
    -rows = np.arange(128)[:, None]
    -
     @nki.jit
     def kernel(x):
    -    tile = nl.load(x[rows, 0:4])
    +    tile = nl.load(x[0:128, 0:4])
         return x
    """
    if _is_array(node.value, at.unit):
        return  # np.arange(4)[:, None] itself
    for part in node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]:
        if _is_array(part, at.unit):
            yield part, f"{ast.unparse(part)} is an array of indices; write a slice, as x[i : i + n, :]"


@rule("psum-start", WARNING, source="nki/api/nki/isa/__init__.py, nc_matmul, Accumulation mode")
def psum_start(node: ast.Call, at: At) -> Iterator[tuple[ast.AST, str]]:
    """The first matmul onto a tile overwrites it: adding to what another engine put in PSUM is undefined before v4.

     tile = nl.load(x)
    -total = nl.zeros((128, 128), nl.float32, buffer=nl.psum)
    -nisa.nc_matmul(total, tile, tile, accumulate=True)
    +total = nl.ndarray((128, 128), nl.float32, buffer=nl.psum)
    +nisa.nc_matmul(total, tile, tile, accumulate=False)
    """
    if at.name(node.func) != "nki.isa.nc_matmul" or (at.target is not None and at.target[1] >= 4):
        return
    given = {k.arg: k.value for k in node.keywords}
    adds = given.get("accumulate")
    dst = given.get("dst") or (node.args[0] if node.args else None)
    if not (isinstance(adds, ast.Constant) and adds.value is True):
        return
    makers = made_by(dst, at)
    filled = ("nki.language.zeros", "nki.language.ones", "nki.language.full")
    if makers and all(name in filled for name in makers):
        yield adds, "adds to what another engine wrote to PSUM; let the first matmul overwrite: accumulate=(i > 0)"
