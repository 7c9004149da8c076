"""Rules about purity: the compiler caches a kernel by its arguments, so nothing else may decide what it does."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import get_args

from triptych.simulator.lint.collect import Imported
from triptych.simulator.lint.reach import functions
from triptych.simulator.lint.rules import ERROR, WARNING, At, rule
from triptych.simulator.lint.source import Unit

_CACHING = "nki/get-started/nki-language-guide.rst, Kernel Caching"
_IMPURE = (  # by what their names begin with
    *("builtins.open", "builtins.input", "builtins.eval", "builtins.exec", "builtins.globals", "builtins.__import__"),
    *("datetime.date.today", "datetime.datetime.now", "datetime.datetime.today", "datetime.datetime.utcnow", "time."),
    *("numpy.random.", "random.", "secrets.", "torch.rand", "uuid."),
    *("glob.", "io.", "numpy.load", "numpy.save", "pathlib.", "shutil.", "socket.", "tempfile.", "urllib."),
    *("os.", "subprocess.", "sys.argv", "sys.stdin", "threading."),
)
_PURE = ("os.path", "os.path.join", "os.path.basename", "os.path.dirname")
_Change = ast.Call | ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Delete  # what may change an object in place
_MUTATORS = {
    *("add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem", "remove", "reverse"),
    *("setdefault", "sort", "update"),
}


@rule("impure-call", ERROR, source=_CACHING, warns_since="0.7")
def impure_call(node: ast.Attribute | ast.Name, at: At) -> Iterator[str]:
    """A kernel reads no clock, random numbers, files or environment: its arguments alone decide what it does.

    -import os
    -
     @nki.jit
    -def kernel(x):
    -    print(os.environ["SCALE"])
    +def kernel(x, scale):
    +    print(scale)
         return x
    """
    name = at.name(node)
    if name.startswith(_IMPURE) and name not in _PURE:
        yield f"{name.removeprefix('builtins.')} makes the kernel depend on more than its arguments; pass the value in"


def _root(node: ast.AST) -> ast.Name | None:
    """x of x[i].y[j]."""
    while isinstance(node, (ast.Subscript, ast.Attribute, ast.Starred)):
        node = node.value
    return node if isinstance(node, ast.Name) else None


def _changed(node: _Change) -> Iterator[ast.Name]:
    """Names whose objects a statement or call changes in place."""
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute) and node.func.attr in _MUTATORS:
            root = _root(node.func.value)
            if root is not None:
                yield root
        return
    targets = node.targets if isinstance(node, (ast.Assign, ast.Delete)) else [node.target]
    for target in targets:
        for part in target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target]:
            root = _root(part)
            if root is not None and root is not part:
                yield root


@rule("outer-state", ERROR, source=_CACHING, warns_since="0.7")
def outer_state(node: _Change | ast.Global | ast.Nonlocal, at: At) -> Iterator[str]:
    """A kernel changes nothing outside itself: a cached kernel does not run again.

    -calls = []
    -
     @nki.jit
     def kernel(x):
    +    calls = []
         calls.append(x.shape)
         return x
    """
    if isinstance(node, (ast.Global, ast.Nonlocal)):
        changed = [name for name in node.names if name in at.unit.contents.bound]
        names = changed if isinstance(node, ast.Global) else [name for name in changed if at.outside(name)]
        if names:
            yield f"{', '.join(names)} lies outside the kernel, which must not change it; return the value instead"
        return
    for name in _changed(node):
        found = at.unit.lookup(name.id)
        if found is None or not at.outside(name.id):
            continue
        if not (isinstance(found[1], Imported) and isinstance(node, ast.Call)):  # nl.add(...) is no set's add
            yield f"{name.id} lies outside the kernel, which must not change it; return the value instead"


@rule("changing-global", WARNING, source=_CACHING)
def changing_global(node: ast.Name, at: At) -> Iterator[str]:
    """A kernel reads no global that a function of the file changes: a cached kernel keeps the old value.

     scale = 1.0
    -
    -def louder():
    -    global scale
    -    scale = 2.0

     @nki.jit
     def kernel(x):
         print(scale)
         return x
    """
    found = at.unit.lookup(node.id)
    if found is None or found[0] is not at.file.module or isinstance(found[1], (Imported, Unit)):
        return
    if node.id not in at.globals_changed:
        at.globals_changed[node.id] = _changes(node.id, at)
    if at.globals_changed[node.id]:
        yield f"{node.id} is changed by a function of this file, and a cached kernel keeps what it was; pass it in"


def _changes(name: str, at: At) -> bool:
    """A function of the file that no kernel runs rebinds the global, or changes it in place."""
    text = at.file.text
    if "global" not in text and not re.search(rf"{name}\s*[.\[]", text):  # a cheap look before the careful one
        return False
    return any(_changes_in(unit, name, at.file.module) for unit in functions(at.file.module) if unit not in at.running)


def _changes_in(unit: Unit, name: str, module: Unit) -> bool:
    if name in unit.contents.outer and name in unit.contents.bound:
        return True
    owner = unit.lookup(name)
    assert owner is not None  # at least the module
    if owner[0] is not module:
        return False
    statements = [node for kind in get_args(_Change) for node, _ in unit.contents.sites.get(kind, ())]
    return any(changed.id == name for node in statements for changed in _changed(node))
