"""A reference in NumPy, PyTorch or JAX, called on NumPy arrays.

Which of them a reference is written in is read from what it names: a module, function or class of PyTorch or JAX in
its code, in the functions that it calls by name, in what it closes over, or in its annotations; else a method or
keyword of PyTorch's tensors that NumPy's arrays do not have, as `keepdim=`. It then gets tensors of that framework, in
the dtypes of the arrays. One in PyTorch that makes its tensors itself, as with `torch.from_numpy`, gets the arrays. No
other error of a reference is answered by trying another kind of argument.
"""

from __future__ import annotations

import contextlib
import dis
import functools
import importlib
import inspect
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from triptych.harness.arrays import Array, from_torch, to_torch
from triptych.harness.ops.errors import InvalidOp

ROOTS = {"torch": "torch", "jax": "jax", "jaxlib": "jax"}  # of a module's name, and the framework
TORCH_KEYWORDS = {"dim", "keepdim"}  # of calls, which NumPy's do not take
TORCH_METHODS = {"unsqueeze", "requires_grad_", "masked_fill", "rsqrt", "index_select", "scatter_add", "new_zeros"}
MAKES_TENSORS = "expected np.ndarray (got Tensor)"  # `torch.from_numpy` of a tensor


def on_arrays(reference: Callable[..., Any]) -> Callable[..., Any]:
    """`reference` as a function of NumPy arrays by name, which it also returns, whatever it is written in."""

    @functools.wraps(reference)
    def call(**arguments: Any) -> Any:
        framework = framework_of(reference)
        try:
            if framework == "torch":
                return _array(_in_torch(reference, arguments))
            if framework == "jax":
                return _in_jax(reference, arguments)
            return _array(reference(**arguments))
        except ModuleNotFoundError as error:
            raise InvalidOp(
                f"the reference needs {error.name}, which is not installed: pip install {error.name}"
            ) from None

    return call


@functools.lru_cache(maxsize=256)
def framework_of(reference: Callable[..., Any]) -> str:
    """What a reference is written in: "numpy", "torch" or "jax"."""
    return next(_frameworks(reference, set()), "numpy")


def _frameworks(value: Any, seen: set[int]) -> Iterator[str]:
    """The frameworks that a function, or whatever it names, belongs to."""
    if id(value) in seen:
        return
    seen.add(id(value))
    module = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None)
    root = ROOTS.get(str(module).partition(".")[0])
    if root is not None:
        yield root
    function = inspect.unwrap(value.func if isinstance(value, functools.partial) else value)
    function = getattr(function, "__func__", function)
    if not isinstance(function, types.FunctionType) or str(function.__module__).partition(".")[0] == "numpy":
        return
    said = _said_in(function.__code__)
    yield from said.imported
    for name in said.named:
        if name in function.__globals__:
            yield from _frameworks(function.__globals__[name], seen)
    annotations: list[Any] = []
    with contextlib.suppress(NameError):  # Python 3.14 evaluates them when they are asked for
        annotations += function.__annotations__.values()
    for annotation in annotations:
        words = annotation.partition(".")[0] if isinstance(annotation, str) else ""
        if words in ROOTS:
            yield ROOTS[words]
        yield from _frameworks(annotation, seen)
    for cell in function.__closure__ or ():
        try:
            yield from _frameworks(cell.cell_contents, seen)
        except ValueError:  # not bound yet
            continue
    if said.methods:
        yield "torch"


class _Said(NamedTuple):
    """What a function's code says of frameworks."""

    imported: tuple[str, ...]  # frameworks
    named: tuple[str, ...]  # globals
    methods: bool  # whether it calls what PyTorch's tensors alone have


@functools.lru_cache(maxsize=4096)
def _said_in(code: types.CodeType) -> _Said:
    """Of a function and of those in it. The judge asks for each evaluation of a reference, in functions made anew."""
    instructions = list(dis.get_instructions(code))
    roots = [ROOTS.get(str(one.argval).partition(".")[0]) for one in instructions if one.opname == "IMPORT_NAME"]
    inner = [_said_in(constant) for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return _Said(
        (*filter(None, roots), *(root for said in inner for root in said.imported)),
        (
            *(one.argval for one in instructions if one.opname == "LOAD_GLOBAL"),
            *(name for said in inner for name in said.named),
        ),
        bool(TORCH_KEYWORDS & keywords_in(code) or TORCH_METHODS & set(code.co_names))
        or any(said.methods for said in inner),
    )


def keywords_in(code: types.CodeType) -> set[str]:
    """The names of the keywords that calls in a function give."""
    found: set[str] = set()
    before = None
    for instruction in dis.get_instructions(code):
        names: Any = ()
        if instruction.opname == "KW_NAMES" and instruction.arg is not None:  # Python 3.11 and 3.12
            names = code.co_consts[instruction.arg]
        elif instruction.opname in ("CALL_FUNCTION_KW", "CALL_KW") and before is not None:  # before and after these
            names = before.argval
        found.update(names if isinstance(names, tuple) else ())
        before = instruction
    return found


def _in_torch(reference: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    try:
        return reference(**_changed(arguments, lambda x: to_torch(np.array(x), "cpu")))
    except TypeError as error:
        if MAKES_TENSORS not in str(error):
            raise
    return reference(**_changed(arguments, np.array))


def _in_jax(reference: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """In JAX's mode of 64 bits, without which it has no float64."""
    import jax
    import jax.numpy as jnp

    # JAX 0.8 has it; before it was an experiment.
    wide: Any = jax.enable_x64 if hasattr(jax, "enable_x64") else importlib.import_module("jax.experimental").enable_x64
    with wide(True):
        return _array(reference(**_changed(arguments, jnp.asarray)))


def _changed(arguments: Mapping[str, Any], change: Callable[[Array], Any]) -> dict[str, Any]:
    return {name: change(x) if isinstance(x, np.ndarray) else x for name, x in arguments.items()}


def _array(returned: Any) -> Any:
    """A tensor of a framework as an array, also in tuples, lists and dicts; everything else as it is."""
    if isinstance(returned, dict):
        return {name: _array(inner) for name, inner in returned.items()}
    if isinstance(returned, (tuple, list)):
        return tuple(_array(inner) for inner in returned)
    root = ROOTS.get(type(returned).__module__.partition(".")[0])
    if root == "torch":
        return from_torch(returned)
    return np.asarray(returned) if root == "jax" else returned
