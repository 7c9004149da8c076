"""Rules about loops that run on the chip, and about values that are known only there."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from triptych.simulator.api.lookup import MIGRATION, short
from triptych.simulator.lint.rules import ERROR, WARNING, At, rule
from triptych.simulator.lint.source import Unit, given
from triptych.simulator.lint.tensors import bindings

_MIGRATION_07 = "nki/migration/index.html of SDK 2.33.1"
_LOOPS = {"nki.language.fori_loop": 2, "nki.language.while_loop": 1}  # and which argument is the body
_REGISTERS = ("nki.isa.register_alloc", "nki.isa.VirtualRegister", "nki.isa.scalar_load", "nki.isa.NkiScalar")


def _while_register(node: Any, at: At) -> bool:
    return isinstance(node, ast.While) and _is_register(node.test, at)


@rule(
    "deprecated",
    WARNING,
    source=f"{MIGRATION}, Deprecated: dynamic nl.dynamic_range and while loops; nki.jit(mode=...)",
)
def deprecated(node: ast.Call | ast.While | ast.FunctionDef, at: At) -> Iterator[str | tuple[ast.AST, str]]:
    """What the compiler warns of or ignores: jit(mode=...), depends_on without kind=; in 0.6 loops that 0.7 removed.

    -@nki.jit(mode="jax")
    +@nki.jit
     def kernel(x):
         return x
    """
    if isinstance(node, ast.FunctionDef):
        for decorator, name in at.decorators():
            for mode in given(decorator, "mode") if name == "nki.jit" else ():
                yield mode, "nki.jit ignores mode=; drop it: the arguments tell the framework"
    elif isinstance(node, ast.While):
        if at.api != "0.7" and _while_register(node, at):
            yield "`while` on a register will be removed; use nl.while_loop"
    elif at.api != "0.7":
        if at.name(node.func) == "nki.language.dynamic_range":
            yield "nl.dynamic_range will be removed; use nl.fori_loop"
    elif getattr(node.func, "attr", "") == "depends_on" and {k.arg for k in node.keywords}.isdisjoint(("kind", None)):
        yield "say kind=nisa.dependency.runtime or .schedule: to leave it out is deprecated in NKI 0.7"


@rule("removed-loop", ERROR, source=f"{_MIGRATION_07}: dynamic loop forms are removed", since="0.7")
def removed_loop(node: ast.Call | ast.While, at: At) -> Iterator[str]:
    """nl.dynamic_range and `while register` went with NKI 0.7; nl.fori_loop and nl.while_loop loop on the chip.

    -for i in nl.dynamic_range(4):
    +def body(i):
         nisa.dma_copy(dst=x.ap([[1, 1]], scalar_offset=i), src=x[0, 0])
    +nl.fori_loop(0, 4, body)
    """
    if _while_register(node, at):
        yield "`while` on a register was removed; use nl.while_loop(init, body)"
    elif isinstance(node, ast.Call) and at.name(node.func) == "nki.language.dynamic_range":
        yield "nl.dynamic_range was removed; use nl.fori_loop(start, stop, body)"


def _is_register(node: ast.AST, at: At) -> bool:
    """A name that stands for a register alone, or for the counter of a loop on the chip."""
    if not isinstance(node, ast.Name):
        return False
    values = bindings(at.unit, node.id)
    if values and all(isinstance(v, ast.Call) and at.name(v.func) in _REGISTERS for v in values):
        return True
    return values == [None] and node.id in _counters(at)


def _counters(at: At) -> set[str]:
    """The parameters of the function at hand, if a loop on the chip runs it."""
    unit, around = at.unit, at.unit.parent
    assert around is not None  # a module has no sites of its own to look at
    for call, _ in around.contents.sites.get(ast.Call, ()):
        if body_of(call, around) is unit:
            return {a.arg for a in unit.node.args.args}
    return set()


def body_of(call: ast.Call, unit: Unit) -> Unit | None:
    """The function that a call of a loop on the chip runs in each round."""
    name = unit.resolve(call.func)
    place = _LOOPS.get(name) if isinstance(name, str) else None
    if place is None:
        return None
    bodies = given(call, "body_fun") + call.args[place:]
    body = unit.resolve(bodies[0]) if bodies else None
    return body if isinstance(body, Unit) else None


@rule(
    "register-branch",
    ERROR,
    source="nki/api/generated/nki.isa.VirtualRegister.html of SDK 2.32: TypeError",
    since="0.7",
)
def register_branch(
    node: ast.If | ast.While | ast.IfExp | ast.BoolOp | ast.UnaryOp | ast.Compare | ast.Call, at: At
) -> Iterator[str]:
    """What a register holds is known when the kernel runs: no if, and, not, comparison, int() or range() on one.

     @nki.jit
    -def kernel(x):
    -    register = nisa.register_alloc(1)
    -    if register:
    +def kernel(x, wanted):
    +    if wanted:
             print(x)
         return x
    """
    if isinstance(node, ast.Call):
        called = at.name(node.func)
        asked = node.args if called in ("builtins.int", "builtins.bool", "builtins.range") else []
    elif isinstance(node, ast.Compare):
        operands = [node.left, *node.comparators]
        none = any(isinstance(o, ast.Constant) and o.value is None for o in operands)
        asked = [] if none else operands
    elif isinstance(node, ast.BoolOp):
        asked = node.values
    elif isinstance(node, ast.UnaryOp):
        asked = [node.operand] if isinstance(node.op, ast.Not) else []
    else:
        asked = [] if _while_register(node, at) else [node.test]
    for operand in asked:
        if _is_register(operand, at):
            yield f"{ast.unparse(operand)} is a register: its value is not known while the kernel is built"
            return


@rule("loop-tensor", ERROR, source=f"{MIGRATION}, Rules for migrated loops")
def loop_tensor(node: ast.Call, at: At) -> Iterator[tuple[ast.AST, str]]:
    """A tensor that the body of nl.fori_loop or nl.while_loop makes is not kept beyond the loop.

     @nki.jit
     def kernel(x, n):
    -    tiles = []
    +    tile = nl.ndarray((128, 4), nl.float32)
         def body(i):
    -        tile = nl.ndarray((128, 4), nl.float32)
    -        tiles.append(tile)
    +        nisa.memset(tile, value=0.0)
         nl.fori_loop(0, n, body)
         return x
    """
    body = body_of(node, at.unit)
    if body is None:
        return
    for site, _ in body.contents.sites.get(ast.Call, ()):
        keeper = site.func.value if isinstance(site.func, ast.Attribute) else None
        if not isinstance(keeper, ast.Name) or body.holds(keeper.id) or site.func.attr not in ("append", "insert"):
            continue
        for argument in site.args:
            if isinstance(argument, ast.Name) and _makes(body, argument):
                yield site, f"{argument.id} is made in the loop's body and kept beyond it; make it before the loop"


def _makes(unit: Unit, name: ast.Name) -> bool:
    """A local that a function of nki.language made."""
    made = unit.value(name) if unit.holds(name.id) else None
    called = unit.resolve(made.func) if isinstance(made, ast.Call) else None
    return isinstance(called, str) and called.startswith("nki.language.")


@rule(
    "unpaired-prepare",
    ERROR,
    source="nki.collectives.all_to_all_v_trigger.html of SDK 2.33: exactly one trigger for each prepare",
    since="0.7",
)
def unpaired_prepare(node: ast.Expr, at: At) -> Iterator[str]:
    """What a prepared collective gives back is what triggers it: it is not dropped.

     from nki import collectives

     @nki.jit
     def kernel(x, group, metadata):
    -    collectives.all_to_all_v_prepare(srcs=[x], dsts=[x], replica_group=group, metadata_tensor=metadata)
    +    prepared = collectives.all_to_all_v_prepare(srcs=[x], dsts=[x], replica_group=group, metadata_tensor=metadata)
    +    collectives.all_to_all_v_trigger(prepared)
         return x
    """
    name = at.name(node.value.func) if isinstance(node.value, ast.Call) else ""
    if name.startswith("nki.collectives.") and name.endswith("_prepare"):
        yield f"{short(name)} gives what {short(name).removesuffix('prepare')}trigger takes, and it is dropped"
