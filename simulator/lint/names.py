"""Rules about names and arguments of nki: those that it has, and those that it has no more."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from enum import Enum

from triptych.simulator import removed
from triptych.simulator.api import older
from triptych.simulator.api.absent import instead
from triptych.simulator.api.lookup import MIGRATION, RELEASE_NOTES, STUBS, names, short, signature, split
from triptych.simulator.api.newer import newer, since_version
from triptych.simulator.lint.collect import Imported
from triptych.simulator.lint.rules import ERROR, WARNING, At, rule
from triptych.simulator.lint.source import given
from triptych.simulator.wrong_calls import RETURNS_NOTHING

_LEGACY = ("neuronxcc.nki", "torch_neuronx.nki_jit")
_OLDER: dict[object, older.Older] = {row.name: row for row in older.OLDER if not row.name.startswith(_LEGACY)}
_OLDER_MODULES = {row.name.rpartition(".")[0] for row in older.OLDER}


@rule("removed-name", ERROR, source=f"{MIGRATION}; {RELEASE_NOTES}")
def removed_name(node: ast.Attribute | ast.Name | ast.FunctionDef, at: At) -> Iterator[str | tuple[ast.AST, str]]:
    """A name that NKI has no more, neuronxcc.nki among them, with what took its place.

    -i, j = nl.mgrid[0:128, 0:512]
    +tile = nl.load(x[0:128, 0:512])
    """
    if isinstance(node, ast.FunctionDef):
        for decorator, name in at.decorators():
            if name.startswith(_LEGACY):
                yield decorator, _legacy(name)
            elif name in removed.NAMES:
                yield decorator, f"{name} is not in NKI {at.api}: {removed.NAMES[name]}"
        return
    bound = at.unit.value(node)
    if isinstance(bound, Imported) and bound.qualified.startswith(_LEGACY):
        yield bound.node, _legacy(bound.qualified)
    name = at.name(node)
    if name in removed.NAMES:
        yield f"{short(name)} is not in NKI {at.api}: {removed.NAMES[name]}"


def _legacy(name: str) -> str:
    return f"{name} is of NKI 0.1, and an error in a kernel since 0.4; import nki"


@rule("unknown-name", ERROR, source=f"{STUBS}, which list every name")
def unknown_name(node: ast.Attribute | ast.Name, at: At) -> Iterator[str]:
    """A name in nl, nisa or nki.collectives is one that their reference lists.

    -assert x.shape[0] <= nl.tile_size.p_max
    +assert x.shape[0] <= nl.tile_size.pmax
    """
    module, name, rest = split(at.name(node))
    full = f"{module}.{name}"
    if not name or full in removed.NAMES or full in _OLDER or full in _OLDER_MODULES:
        return
    known = names(module)
    if name not in known:
        if not rest:
            yield f"{short(full)} is not a name of NKI {at.api}{instead(full, known)}"
        return
    if newer(full, at.api):
        yield f"{short(full)} is new in NKI {since_version(full)}, and this is for {at.api}"
    owner = known[name] if isinstance(known[name], type) else type(known[name])
    has_members = name == "tile_size" or issubclass(owner, Enum)
    if has_members and rest and "." not in rest and not hasattr(owner, rest):
        yield f"{short(full)} has no {rest}{instead(rest, [m for m in dir(owner) if not m.startswith('_')])}"


@rule("older-name", WARNING, source=f"{RELEASE_NOTES}, NKI 0.5.0: internal modules were renamed, and shims kept")
def older_name(node: ast.Attribute | ast.Name, at: At) -> Iterator[str | tuple[ast.AST, str]]:
    """A name that AWS's kernels of NKI 0.3 have, and the reference does not list.

    -from nki.isa.constants import engine
    +from nki.isa import engine

     @nki.jit
     def kernel(x):
         tile = nl.load(x)
         nisa.memset(tile, value=0.0, engine=engine.vector)
         return x
    """
    row = _OLDER.get(at.unit.resolve(node))
    if row is None:
        return
    message = f"{short(row.name)} is {row.gone}; write {short(row.now)}"
    bound = at.unit.value(node)
    yield (bound.node, message) if isinstance(bound, Imported) else message


@rule("removed-argument", ERROR, source=MIGRATION)
def removed_argument(node: ast.Call | ast.FunctionDef, at: At) -> Iterator[tuple[ast.AST, str]]:
    """An argument that a function of NKI has no more, mask= and dtype= among them, with what to do instead.

    -tile = nl.load(x, mask=x.shape[0] < 128)
    +tile = nl.load(x[0 : min(128, x.shape[0])])
    """
    calls = [(node, at.name(node.func))] if isinstance(node, ast.Call) else at.decorators()
    for call, name in calls:
        for keyword in call.keywords if isinstance(call, ast.Call) else ():
            instead = removed.argument(name, keyword.arg)
            if instead is not None:
                yield keyword.value, f"{short(name)} has no {keyword.arg}= any more: {instead}"


@rule("call", ERROR, source=f"{STUBS}; {RELEASE_NOTES}, NKI 0.2.0, Bug Fixes: unknown keyword arguments")
def call(node: ast.Call, at: At) -> Iterator[str]:
    """A call gives a function of NKI the arguments that it has, dst first in nki.isa, and no other.

     tile = nl.ndarray((128, 4), nl.float32)
    -nisa.memset(tile, val=0.0)
    +nisa.memset(tile, value=0.0)
    """
    name = at.name(node.func)
    parameters = signature(name) if name else None
    if parameters is None or any(isinstance(a, ast.Starred) for a in node.args):
        return
    keywords = [k.arg for k in node.keywords]
    if None in keywords or any(removed.argument(name, k) for k in keywords):
        return
    try:
        parameters.bind(*[None] * len(node.args), **{k: None for k in keywords if k})
    except TypeError as error:
        dst = name.startswith("nki.isa.") and "dst" in parameters.parameters and "missing" in str(error)
        more = f"; {RETURNS_NOTHING}" if dst else ""
        yield f"{short(name)}({', '.join(parameters.parameters)}) cannot be called so: {error}{more}"


_NAMED = ("engine", "dge_mode", "oob_mode", "reduce_cmd", "dma_engine", "perf_mode")


@rule("named-member", WARNING, source=f"{MIGRATION}, Integer enum constants no longer supported")
def named_member(node: ast.Call, at: At) -> Iterator[tuple[ast.AST, str]]:
    """Engines and modes are members of their enumerations; AWS's library of NKI 0.3 has integers all the same.

    -nisa.dma_copy(x, x, dge_mode=3)
    +nisa.dma_copy(x, x, dge_mode=nisa.dge_mode.none)
    """
    for value in given(node, *_NAMED) if split(at.name(node.func))[0] else ():
        if isinstance(value, ast.Constant) and type(value.value) is int:
            yield value, f"{value.value} is no member of an enumeration; give it by name"


@rule("buffer-string", ERROR, source=f"{MIGRATION}, String buffer names no longer supported")
def buffer_string(node: ast.Call, at: At) -> Iterator[tuple[ast.AST, str]]:
    """A buffer is an object, nl.sbuf, and no string.

    -tile = nl.ndarray(x.shape, x.dtype, buffer="sbuf")
    +tile = nl.ndarray(x.shape, x.dtype, buffer=nl.sbuf)
    """
    for value in given(node, "buffer") if split(at.name(node.func))[0] else ():
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield value, f"a buffer is an object; write nl.{value.value}"
