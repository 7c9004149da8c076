"""Rules about what the chip has, and about the loops that run on it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from triptych.simulator.api.lookup import MIGRATION, RELEASE_NOTES, short, since, split
from triptych.simulator.lint.rules import ERROR, WARNING, At, rule
from triptych.simulator.lint.source import Unit


@rule(
    "generation",
    ERROR,
    ast.Attribute,
    ast.Name,
    ast.Call,
    source="nki/api/nki/isa/__init__.py, each function's availability",
    bad="""
@nki.jit
def kernel(x):
    tile = nl.load(x)
    nisa.exponential(dst=tile, src=tile)
    return x
""",
    good="""
@nki.jit
def kernel(x):
    tile = nl.load(x)
    nisa.activation(dst=tile, op=nl.exp, data=tile)
    return x
""",
)
def generation(node: Any, at: At) -> Iterator[str | tuple[ast.AST, str]]:
    """With --target: an instruction or option that this chip lacks, where no condition decides whether it runs."""
    if at.target is None or at.maybe:
        return
    target, has = at.target
    if isinstance(node, ast.Call):
        if split(at.name(node.func))[0] and has < 4:
            for keyword in node.keywords:
                none = isinstance(keyword.value, ast.Constant) and keyword.value.value is None
                if keyword.arg == "priority" and not none:
                    yield keyword.value, f"priority= needs NeuronCore-v4, and {target} is v{has}"
        return
    name = at.name(node)
    if name and since(name) > has:
        yield f"{short(name)} needs NeuronCore-v{since(name)}, and {target} is v{has}"


@rule(
    "not-on-hardware",
    ERROR,
    ast.Call,
    source=f"{RELEASE_NOTES}, NKI 0.4.0, Known Issues",
    bad="""
@nki.jit
def kernel(x, y):
    quotient = nl.divide(nl.load(x), nl.load(y))
    return x
""",
    good="""
@nki.jit
def kernel(x, y):
    quotient = nl.multiply(nl.load(x), nl.reciprocal(nl.load(y)))
    return x
""",
)
def not_on_hardware(node: ast.Call, at: At) -> Iterator[str]:
    """nl.divide, nl.mod and nl.fmod work in simulation and do not compile for the chip."""
    name = at.name(node.func)
    if name == "nki.language.divide":
        yield "no engine divides; write nl.multiply(x, nl.reciprocal(y))"
    elif name in ("nki.language.mod", "nki.language.fmod"):
        yield f"no engine has {short(name)}; compute the remainder on the host, or subtract a multiple"


@rule(
    "deprecated",
    WARNING,
    ast.Call,
    ast.While,
    ast.FunctionDef,
    source=f"{MIGRATION}, Deprecated: dynamic nl.dynamic_range and while loops; nki.jit(mode=...)",
    bad="""
@nki.jit
def kernel(x):
    for i in nl.dynamic_range(4):
        nisa.dma_copy(dst=x.ap([[1, 1]], scalar_offset=i), src=x[0, 0])
    return x
""",
    good="""
@nki.jit
def kernel(x):
    def body(i):
        nisa.dma_copy(dst=x.ap([[1, 1]], scalar_offset=i), src=x[0, 0])
    nl.fori_loop(0, 4, body)
    return x
""",
)
def deprecated(node: Any, at: At) -> Iterator[str | tuple[ast.AST, str]]:
    """What the compiler itself warns of or ignores: nl.dynamic_range, `while register`, nki.jit(mode=...)."""
    if isinstance(node, ast.FunctionDef):
        for decorator, name in at.decorators():
            for keyword in decorator.keywords if isinstance(decorator, ast.Call) else ():
                if name == "nki.jit" and keyword.arg == "mode":
                    yield keyword.value, "nki.jit ignores mode=; drop it: the arguments tell the framework"
    elif isinstance(node, ast.While):
        binding = at.unit.lookup(node.test.id) if isinstance(node.test, ast.Name) else None
        made = binding[1] if binding is not None else None
        if isinstance(made, ast.Call) and at.name(made.func) == "nki.isa.register_alloc":
            yield "`while` on a register will be removed; use nl.while_loop"
    elif at.name(node.func) == "nki.language.dynamic_range":
        yield "nl.dynamic_range will be removed; use nl.fori_loop"


@rule(
    "loop-tensor",
    ERROR,
    ast.Call,
    source=f"{MIGRATION}, Rules for migrated loops",
    bad="""
@nki.jit
def kernel(x, n):
    tiles = []
    def body(i):
        tile = nl.ndarray((128, 4), nl.float32)
        tiles.append(tile)
    nl.fori_loop(0, n, body)
    return x
""",
    good="""
@nki.jit
def kernel(x, n):
    tile = nl.ndarray((128, 4), nl.float32)
    def body(i):
        nisa.memset(tile, value=0.0)
    nl.fori_loop(0, n, body)
    return x
""",
)
def loop_tensor(node: ast.Call, at: At) -> Iterator[tuple[ast.AST, str]]:
    """A tensor that the body of nl.fori_loop or nl.while_loop makes is not kept beyond the loop."""
    place = {"nki.language.fori_loop": 2, "nki.language.while_loop": 1}.get(at.name(node.func))
    if place is None:
        return
    given = [k.value for k in node.keywords if k.arg == "body_fun"] + list(node.args[place : place + 1])
    body = at.unit.resolve(given[0]) if given else None
    if not isinstance(body, Unit):
        return
    for site, _ in body.contents.sites.get(ast.Call, ()):
        keeper = site.func.value if isinstance(site.func, ast.Attribute) else None
        if not isinstance(keeper, ast.Name) or body.holds(keeper.id) or site.func.attr not in ("append", "insert"):
            continue
        for argument in site.args:
            if isinstance(argument, ast.Name) and _makes(body, argument.id):
                yield site, f"{argument.id} is made in the loop's body and kept beyond it; make it before the loop"


def _makes(unit: Unit, name: str) -> bool:
    """A local that a function of nki.language made."""
    found = unit.lookup(name) if unit.holds(name) else None
    made = found[1] if found is not None else None
    called = unit.resolve(made.func) if isinstance(made, ast.Call) else None
    return isinstance(called, str) and called.startswith("nki.language.")
