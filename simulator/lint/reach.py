"""Which functions of a file are kernels, and what runs when a kernel does."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence

from triptych.simulator.lint.source import Unit

# What marks a function as a kernel: nki.jit, what older versions had for it, and the simulator's own entrances.
_RUNS = ("run", "run_ranks", "predict")
_MARKS = {
    "torch_neuronx.nki_jit",
    "torch_neuronx.wrap_nki",
    "torch_neuronx.nki_hop.wrap_nki",
    *(
        f"{top}nki.{name}"
        for top in ("", "neuronxcc.")
        for name in ("jit", "simulate", "simulate_kernel", "baremetal", "benchmark", "profile")
    ),
    *(f"triptych.simulator.{name}" for name in ("jit", "simulate", *_RUNS)),
}
_ISSUED = ("nki.isa.", "nki.language.")
_SPECIAL_METHODS = ("__init__", "__post_init__", "__call__")


def functions(unit: Unit) -> Iterator[Unit]:
    """Every function below `unit`, however deep."""
    for inner, _ in unit.inner.values():
        if isinstance(inner.node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield inner
        yield from functions(inner)


def kernels(module: Unit) -> list[Unit]:
    """The functions that are marked as kernels, by a decorator or by a call such as nki.jit(f)."""
    every = list(functions(module))
    marked = {kernel for unit in (module, *every) for kernel in _handed_over(unit)}
    return [unit for unit in every if unit in marked or is_kernel(unit)]


def issuing(module: Unit) -> list[Unit]:
    """The functions that call something of nki.isa or nki.language themselves; tests, by their name, are left alone."""
    return [unit for unit in functions(module) if not unit.name.startswith("test") and _issues(unit)]


def _issues(unit: Unit) -> bool:
    names = (unit.resolve(call.func) for call, _ in unit.contents.sites.get(ast.Call, ()))
    return any(isinstance(name, str) and name.removeprefix("neuronxcc.").startswith(_ISSUED) for name in names)


def is_kernel(unit: Unit) -> bool:
    """A function that a decorator marks as a kernel."""
    scope = unit.parent
    decorators = getattr(unit.node, "decorator_list", ())
    return scope is not None and any(_marks(scope, decorator) for decorator in decorators)


def _marks(scope: Unit, decorator: ast.expr) -> bool:
    """`nki.jit`, `nki.jit(...)` or `partial(nki.jit, ...)`."""
    parts = (decorator.func, *decorator.args) if isinstance(decorator, ast.Call) else (decorator,)
    return any(scope.resolve(part) in _MARKS for part in parts)


def _handed_over(unit: Unit) -> Iterator[Unit]:
    """Functions of the file that a call hands to nki.jit, nki.jit(), nki.simulate or the simulator."""
    for call, _ in unit.contents.sites.get(ast.Call, ()):
        called = call.func
        configured = isinstance(called, ast.Call) and not called.args and unit.resolve(called.func) in _MARKS
        if call.args and (configured or unit.resolve(called) in _MARKS or _runs(unit, called)):
            kernel = unit.resolve(call.args[0])
            if isinstance(kernel, Unit):
                yield kernel


def _runs(unit: Unit, called: ast.expr) -> bool:
    """`simulator.on(...).run` and its like, also by way of a variable that holds `simulator.on(...)`."""
    if not isinstance(called, ast.Attribute) or called.attr not in _RUNS:
        return False
    made: object = called.value
    if isinstance(made, ast.Name):
        unit, made = unit.lookup(made.id) or (unit, None)
    return isinstance(made, ast.Call) and unit.resolve(made.func) == "triptych.simulator.on"


def at_line(module: Unit, name: str, line: int) -> Unit | None:
    """The function `name` whose definition, decorators included, starts at `line`."""
    unit: Unit | None = module
    while unit is not None:
        around = None
        for inner, _ in unit.inner.values():
            node = inner.node
            first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
            if first == line and inner.name == name:
                return inner
            if first <= line <= node.end_lineno:
                around = inner
        unit = around
    return None


def reached(roots: Sequence[Unit]) -> dict[Unit, bool]:
    """The functions and classes of the file that run when a kernel does, each with whether only under some condition.

    A function runs if a running one names it; a class if a running function names it or annotates a parameter with it,
    with those of its methods whose names occur as attributes in what runs.
    """
    found: dict[Unit, bool] = {}
    attributes = set(_SPECIAL_METHODS)
    queue = [(root, False) for root in roots]
    while queue:
        unit, maybe = queue.pop()
        if unit in found and maybe >= found[unit]:
            continue
        found[unit] = maybe
        if not unit.is_class:
            queue += _named(unit, maybe)
            attributes.update(node.attr for node, _ in unit.contents.sites.get(ast.Attribute, ()))
        if not queue:
            methods = [m for c in found if c.is_class for m, _ in c.inner.values() if m.name in attributes]
            queue = [(method, True) for method in methods if method not in found]
    return found


def _named(unit: Unit, maybe: bool) -> Iterator[tuple[Unit, bool]]:
    """The functions and classes that a function names or contains."""
    for inner, _ in unit.inner.values():
        yield inner, True
    for name, name_maybe in (*unit.contents.loads, *_annotations(unit)):
        target = unit.resolve(name)
        if isinstance(target, Unit):
            yield target, maybe or name_maybe


def _annotations(unit: Unit) -> Iterator[tuple[ast.Name, bool]]:
    """Names in the annotations of a function's parameters."""
    arguments = unit.node.args
    for parameter in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
        if parameter.annotation is not None:
            yield from ((n, True) for n in ast.walk(parameter.annotation) if isinstance(n, ast.Name))


def called_by(running: Iterable[Unit]) -> set[object]:
    """The functions that one of `running`, other than themselves, names; and other things."""
    units = [unit for unit in running if not unit.is_class]
    targets = ((unit, unit.resolve(name)) for unit in units for name, _ in unit.contents.loads)
    return {target for unit, target in targets if target is not unit}
