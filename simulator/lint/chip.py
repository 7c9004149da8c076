"""Rules about what the chip has."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from triptych.simulator.api.lookup import RELEASE_NOTES, engine_since, engines_of, short, since, split
from triptych.simulator.lint.rules import ERROR, At, rule
from triptych.simulator.lint.source import given

TRIGGERS = ("sync", "scalar")  # whom a kernel may ask to trigger a transfer


@rule("generation", ERROR, source="nki/api/nki/isa/__init__.py, each function's availability")
def generation(node: ast.Attribute | ast.Name | ast.Call, at: At) -> Iterator[str | tuple[ast.AST, str]]:
    """With --target: an instruction or option that this chip lacks, where no condition decides whether it runs.

     tile = nl.load(x)
    -nisa.exponential(dst=tile, src=tile)
    +nisa.activation(dst=tile, op=nl.exp, data=tile)
    """
    if at.target is None or at.maybe:
        return
    target, has = at.target
    if isinstance(node, ast.Call):
        for priority in given(node, "priority") if split(at.name(node.func))[0] and has < 4 else ():
            if not (isinstance(priority, ast.Constant) and priority.value is None):
                yield priority, f"priority= needs NeuronCore-v4, and {target} is v{has}"
        for place, name, asked in _engine(node, at):
            needs = engine_since(name, asked)
            if needs > has:
                yield (
                    place,
                    f"{short(name)} runs on the {asked} engine from NeuronCore-v{needs} on, and {target} is v{has}",
                )
        return
    name = at.name(node)
    if since(name) > has:
        yield f"{short(name)} needs NeuronCore-v{since(name)}, and {target} is v{has}"


@rule("not-on-hardware", ERROR, source=f"{RELEASE_NOTES}, NKI 0.4.0, Known Issues")
def not_on_hardware(node: ast.Call, at: At) -> Iterator[str]:
    """nl.divide, nl.mod and nl.fmod work in simulation and do not compile for the chip.

     @nki.jit
     def kernel(x, y):
    -    quotient = nl.divide(nl.load(x), nl.load(y))
    +    quotient = nl.multiply(nl.load(x), nl.reciprocal(nl.load(y)))
         return x
    """
    name = at.name(node.func)
    if name == "nki.language.divide":
        yield "no engine divides; write nl.multiply(x, nl.reciprocal(y))"
    elif name in ("nki.language.mod", "nki.language.fmod"):
        yield f"no engine has {short(name)}; compute the remainder on the host, or subtract a multiple"


def _engine(node: ast.Call, at: At) -> Iterator[tuple[ast.AST, str, str]]:
    """The engine that a call of an instruction asks for by name: where, which instruction, which engine."""
    called = at.name(node.func)
    for place in given(node, "engine") if engines_of(called) else ():
        prefix, _, engine = at.name(place).rpartition(".")
        if prefix == "nki.isa.engine" and engine != "unknown":
            yield place, called, engine


@rule("engine", ERROR, source="nki/api/nki/isa/__init__.py, each function's engines")
def engine(node: ast.Call, at: At) -> Iterator[tuple[ast.AST, str]]:
    """An instruction runs on the engines that its page names; of a transfer `engine` says who triggers it.

     tile = nl.load(x)
    -nisa.memset(tile, value=0.0, engine=nisa.engine.scalar)
    +nisa.memset(tile, value=0.0, engine=nisa.engine.gpsimd)
    """
    for place, name, asked in _engine(node, at):
        runs_on = engines_of(name)
        if runs_on == ("dma",):
            if asked not in TRIGGERS:
                yield place, f"{short(name)} is triggered by {' or '.join(TRIGGERS)}, not by {asked}"
        elif asked not in runs_on:
            yield place, f"{short(name)} runs on {' or '.join(runs_on)}, not on {asked}"
