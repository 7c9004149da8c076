"""What the source of a kernel says of its arguments and results, without running it.

Known is what is written: names, defaults, annotations, `M, N = x.shape`, what a Triton kernel loads from and stores to,
what an NKI kernel names as `dst=`, and the names of what is returned. Everything else is a guess and says so.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

TENSOR_WORDS = frozenset(
    (
        "shape",
        "stride",
        "size",
        "dtype",
        "device",
        "numel",
        "contiguous",
        "is_contiguous",
        "view",
        "reshape",
        "data_ptr",
    )
    + ("ndim", "dim", "is_cuda", "element_size", "new_empty", "new_zeros", "T", "ap", "transpose", "permute", "to")
    + ("unsqueeze", "squeeze", "flatten", "float", "half")
)
READS = ("load", "make_block_ptr", "make_tensor_descriptor")
WRITES = ("store", "atomic_add", "atomic_max", "atomic_min")
VIEWS = frozenset(
    ("view", "reshape", "contiguous", "flatten", "transpose", "permute", "t", "T", "mT", "unsqueeze", "squeeze", "data")
    + ("detach", "ap", "broadcast", "broadcast_to")
)
LOADS = ("load", "gather", "arange", "program_id")  # what they give is a number, no pointer
OUT_NAMES = ("out", "output")
NUMBERS = (bool, int, float, str)


@dataclass
class Parameter:
    """A parameter of a kernel or of the function that launches it."""

    name: str
    default: Any = inspect.Parameter.empty
    is_array: bool = False
    is_known: bool = False  # whether the source says that it is an array, or none
    axes: tuple[str, ...] = ()  # as the source names them; empty where it does not
    sizes: tuple[str, ...] = ()  # the names of its first axes, of which one alone tells no rank
    is_written: bool = False


@dataclass
class Signature:
    """What is known of a kernel."""

    name: str
    language: str  # "nki" or "triton"
    parameters: dict[str, Parameter] = field(default_factory=dict)
    returns: list[str] = field(default_factory=list)  # a name for each result


def read(name: str, function: Any, language: str, members: Mapping[str, Any]) -> Signature:
    """The signature of `function`; `members` are the names of its module, among them the Triton kernels it launches."""
    found = Signature(name, language)
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or parameter.name in ("self", "ctx"):
            continue
        known = annotated(parameter.annotation, parameter.default)
        one = Parameter(parameter.name, parameter.default, known is True, known is not None)
        found.parameters[parameter.name] = one
    tree = tree_of(function)
    note_uses(found, tree)
    if language == "triton":
        for call in launches(tree):
            note_launch(found, call, members)
    found.returns = returned(tree)
    return found


def annotated(annotation: Any, default: Any) -> bool | None:
    """Whether a parameter is an array by its annotation or default; None if neither says so."""
    words = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    if any(word in words for word in ("Tensor", "tensor", "ndarray")):
        return True
    if annotation in NUMBERS or words in [kind.__name__ for kind in NUMBERS] or isinstance(default, NUMBERS):
        return False
    return None


def tree_of(function: Any) -> ast.FunctionDef:
    """The definition of a function as Python reads it."""
    plain = inspect.unwrap(getattr(function, "fn", None) or getattr(function, "function", None) or function)
    tree = ast.parse(textwrap.dedent(inspect.getsource(plain)))
    return next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def note_uses(found: Signature, tree: ast.FunctionDef) -> None:
    """Which parameters are used as arrays only are, which are written to, and how their axes are called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.attr in TENSOR_WORDS:
            is_array(found, node.value.id)
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and not isinstance(node.ctx, ast.Del):
            is_array(found, node.value.id)
            if isinstance(node.ctx, ast.Store):
                is_written(found, node.value.id)
        if isinstance(node, ast.Assign):
            for target, value in pairs(node.targets[0], node.value):
                note_axes(found, target, value)
        if isinstance(node, ast.Call):
            note_call(found, node)


def note_call(found: Signature, call: ast.Call) -> None:
    """`nisa.dma_copy(dst=cache[..], src=x)`, `nl.store(out[..], value)`, `x.add_(1)`."""
    for keyword in call.keywords:
        base = base_of(keyword.value)
        if keyword.arg in ("dst", "src", "data", "stationary", "moving") and base:
            is_array(found, base)
        if keyword.arg == "dst" and base:
            is_written(found, base)
    if isinstance(call.func, ast.Attribute):
        base = base_of(call.func.value)
        if base and call.func.attr.endswith("_") and not call.func.attr.endswith("__"):
            is_array(found, base)
            is_written(found, base)
        if (
            found.language == "nki"
            and call.func.attr in ("load", "store")
            and call.args
            and (at := base_of(call.args[0]))
        ):
            is_array(found, at)
            if call.func.attr == "store":
                is_written(found, at)


def note_axes(found: Signature, target: ast.expr, value: ast.expr) -> None:
    """`M, N = x.shape`, `M, N = x.size()` or `M = x.shape[0]`."""
    value = value.func if isinstance(value, ast.Call) else value
    index: Any = None
    if isinstance(value, ast.Subscript) and isinstance(value.slice, ast.Constant):
        index = value.slice.value
        value = value.value
    if not isinstance(value, ast.Attribute) or value.attr not in ("shape", "size"):
        return
    if not isinstance(value.value, ast.Name) or value.value.id not in found.parameters:
        return
    one = found.parameters[value.value.id]
    if isinstance(target, ast.Tuple) and all(isinstance(name, ast.Name) for name in target.elts):
        names = [name.id for name in target.elts if isinstance(name, ast.Name)]
        one.axes = tuple(f"{one.name}_{i}" if name.startswith("_") else name for i, name in enumerate(names))
    elif isinstance(target, ast.Name) and isinstance(index, int) and index == len(one.sizes):
        one.sizes = (*one.sizes, target.id)
        one.axes = one.sizes if len(one.sizes) > 1 else one.axes


def launches(tree: ast.FunctionDef) -> Iterator[ast.Call]:
    """The calls `kernel[grid](..)`."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Subscript)
            and isinstance(node.func.value, ast.Name)
        ):
            yield node


def note_launch(found: Signature, call: ast.Call, members: Mapping[str, Any]) -> None:
    """What a launched kernel loads from is an array, and what it stores to is written."""
    assert isinstance(call.func, ast.Subscript) and isinstance(call.func.value, ast.Name)
    kernel: Any = members.get(call.func.value.id)
    while hasattr(kernel, "fn") and not inspect.isfunction(kernel):
        kernel = kernel.fn
    if not inspect.isfunction(kernel):
        return
    tree = tree_of(kernel)
    names = [argument.arg for argument in tree.args.args]
    given = dict(zip(names, call.args, strict=False)) | {k.arg: k.value for k in call.keywords if k.arg}
    loaded, stored = pointers(tree, READS), pointers(tree, WRITES)
    for name, value in given.items():
        base = base_of(value)
        if base and name in loaded | stored:
            is_array(found, base)
        if base and name in stored:
            is_written(found, base)


def pointers(tree: ast.FunctionDef, calls: tuple[str, ...]) -> set[str]:
    """The parameters that reach the first argument of such calls, by way of assignments as well."""
    made_of: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Assign, ast.AugAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if isinstance(target, ast.Name):
                    made_of.setdefault(target.id, set()).update(summands(node.value))
    reached: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in calls and node.args:
                reached |= summands(node.args[0])
            elif node.func.attr in calls and isinstance(node.func.value, ast.Name):
                reached.add(node.func.value.id)  # a descriptor's own
    while more := {name for one in reached for name in made_of.get(one, ())} - reached:
        reached |= more
    return reached


def summands(node: ast.expr) -> set[str]:
    """The names that a pointer is a sum of, or is made from by a call; products and indices are offsets."""
    if isinstance(node, ast.Name):
        return {node.id}
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub)):
        return summands(node.left) | summands(node.right)
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return set()
    if not isinstance(node.func.value, ast.Name) or node.func.value.id not in ("tl", "language"):
        return summands(node.func.value)  # `pointer.to(..)`
    given = [*node.args, *(keyword.value for keyword in node.keywords)]
    return summands(given[0]) if given and node.func.attr not in LOADS else set()


def returned(tree: ast.FunctionDef) -> list[str]:
    """The names of what the last `return` gives; one by its place where it has none."""
    found: list[str] = []
    for node in own_nodes(tree):
        if isinstance(node, ast.Return) and node.value is not None:
            values = node.value.elts if isinstance(node.value, (ast.Tuple, ast.List)) else [node.value]
            found = [base_of(value) or f"result_{i}" for i, value in enumerate(values)]
    return found


def own_nodes(tree: ast.FunctionDef) -> Iterator[ast.AST]:
    """The nodes of a function but for those of functions within it."""
    left: list[ast.AST] = list(reversed(tree.body))
    while left:
        node = left.pop()
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.Lambda, ast.ClassDef)):
            left += reversed(list(ast.iter_child_nodes(node)))


def base_of(node: ast.expr) -> str | None:
    """The name that an expression is a view of: `x` of `x`, `x[0]`, `x.view(-1)`."""
    while True:
        if isinstance(node, ast.Name):
            return node.id
        if isinstance(node, ast.Subscript) or (isinstance(node, ast.Attribute) and node.attr in VIEWS):
            node = node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in VIEWS:
            node = node.func.value
        else:
            return None


def pairs(target: ast.expr, value: ast.expr) -> list[tuple[ast.expr, ast.expr]]:
    """`a, b = x, y` as two assignments."""
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        return list(zip(target.elts, value.elts, strict=True))
    return [(target, value)]


def is_array(found: Signature, name: str) -> None:
    one = found.parameters.get(name)
    if one is not None and not (one.is_known and not one.is_array):
        one.is_array = one.is_known = True


def is_written(found: Signature, name: str) -> None:
    if name in found.parameters:
        found.parameters[name].is_written = True
