"""Rules about a kernel as a whole: its parameters, what it returns, and the kernels that it calls."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from triptych.simulator.api.lookup import MIGRATION, RELEASE_NOTES, short
from triptych.simulator.lint.reach import is_kernel
from triptych.simulator.lint.rules import ERROR, WARNING, At, rule
from triptych.simulator.lint.source import Unit, given


@rule("keyword-only", ERROR, source=f"{MIGRATION}, Remove keyword-only argument separator (*)", warns_since="0.7")
def keyword_only(node: ast.FunctionDef, at: At) -> Iterator[str]:
    """The signature of a kernel has no `*` that makes parameters keyword-only.

     @nki.jit
    -def kernel(x, *, scale=1.0):
    +def kernel(x, scale=1.0):
         return x
    """
    if at.launched() and node.args.kwonlyargs and node.args.vararg is None:
        names = ", ".join(a.arg for a in node.args.kwonlyargs)
        yield f"drop the `*` of the signature: {names} can still be given by keyword"


@rule("list-argument", ERROR, source=f"{MIGRATION}, Replace list kernel arguments with tuples", warns_since="0.7")
def list_argument(node: ast.FunctionDef, at: At) -> Iterator[tuple[ast.AST, str]]:
    """The default of a kernel's parameter is no list: a kernel takes tuples.

     @nki.jit
    -def kernel(x, stride=[1, 1]):
    +def kernel(x, stride=(1, 1)):
         return x
    """
    if at.launched():
        for default in [*node.args.defaults, *node.args.kw_defaults]:
            if isinstance(default, ast.List):
                yield default, f"a kernel takes no list; write tuple: ({', '.join(map(ast.unparse, default.elts))},)"


@rule("no-arguments", ERROR, source=f"{RELEASE_NOTES}, NKI 0.2.0, Bug Fixes", warns_since="0.7")
def no_arguments(node: ast.FunctionDef, at: At) -> Iterator[str]:
    """A kernel takes at least one argument: a call without any is refused.

     @nki.jit
    -def kernel():
    -    return nl.zeros((128, 4), nl.float32, buffer=nl.shared_hbm)
    +def kernel(columns):
    +    return nl.zeros((128, columns), nl.float32, buffer=nl.shared_hbm)
    """
    a = node.args
    if at.launched() and not (a.posonlyargs or a.args or a.kwonlyargs or a.vararg or a.kwarg):
        yield f"{node.name} takes no argument, and a kernel that is called without any is refused; give it one"


@rule("output-buffer", ERROR, source=f"{MIGRATION}, Output tensors must use nl.shared_hbm")
def output_buffer(node: ast.Return, at: At) -> Iterator[tuple[ast.AST, str]]:
    """What a kernel returns lies in nl.shared_hbm; nl.hbm, which some guides still have, does not compile.

     @nki.jit
     def kernel(x):
    -    out = nl.ndarray(x.shape, x.dtype, buffer=nl.hbm)
    +    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
         nisa.dma_copy(dst=out, src=x)
         return out
    """
    if not at.launched():
        return
    for returned in node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]:
        for place in given(at.unit.value(returned) if isinstance(returned, ast.Name) else returned, "buffer"):
            buffer = at.name(place)
            if buffer in ("nki.language.hbm", "nki.language.private_hbm"):
                yield place, f"{short(buffer)} is private to a core, and an output lies in nl.shared_hbm"


@rule("nested-jit", WARNING, source=f"{MIGRATION}, Remove nki.jit decorator on sub-kernels", until="0.6")
def nested_jit(node: ast.Call, at: At) -> Iterator[str]:
    """A function that a kernel calls is documented to have no nki.jit; AWS's library has some that do.

    -@nki.jit
     def part(x):
         return x

     @nki.jit
     def kernel(x):
         return part(x)
    """
    called = at.unit.resolve(node.func)
    if isinstance(called, Unit) and called is not at.unit and is_kernel(called):
        name = called.name
        yield f"{name} has nki.jit and a kernel calls it; undecorate it, and write nki.jit({name}) where the host calls"
