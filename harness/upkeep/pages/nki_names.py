"""Every name of NKI 0.6, as docs/nki-names.txt lists them: facts taken from AWS's stubs, not from our code.

    python -m triptych.harness.upkeep.pages.nki_names PATH

writes that file anew from a checkout of the repository aws-neuron/aws-neuron-sdk. Only names, parameters with their
defaults, enumerations' values and line numbers are taken. A line of the file is `kind line name`, and what belongs to
the kind: parameters in parentheses, or `= value`.
"""

from __future__ import annotations

import ast
import functools
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).resolve().parents[3] / "docs" / "nki-names.txt"
MODULES = ("nki", "nki.isa", "nki.language", "nki.collectives", "nki.typing")
KINDS = ("function", "class", "method", "attribute", "enum", "member", "constant")
_LINE = re.compile(r"(?P<kind>\w+) (?P<line>\d+) (?P<name>[\w.]+)(?:\((?P<parameters>.*)\)| = (?P<value>.*))?")
_HEAD = """\
# The names of NKI 0.6, from the AWS Neuron SDK's documentation (github.com/aws-neuron/aws-neuron-sdk, commit 81ce03ae).
# Written by `python -m triptych.harness.upkeep.pages.nki_names`:
# kind, line in the file above it, name, parameters or value.
"""
# What the documentation names without a stub of it.
_BESIDE_THE_STUBS = """
# nki: nki/guides/how-to-scheduling-apis.rst
class 15 Kernel
method 48 Kernel.with_schedule

# nki.typing: nki/migration/index.rst
class 324 tensor
"""


@dataclass(frozen=True)
class Name:
    """One documented name. `name` of a method, an attribute or a member has its class before a dot."""

    module: str
    kind: str
    name: str
    parameters: tuple[tuple[str, str | None], ...] | None  # (name, default as the stub writes it)
    value: str | None
    source: str

    @property
    def qualified(self) -> str:
        return f"{self.module}.{self.name}"

    @property
    def signature(self) -> str:
        """(a, b=1), or nothing where there are no parameters to speak of."""
        if self.parameters is None:
            return ""
        return f"({', '.join(n if d is None else f'{n}={d}' for n, d in self.parameters)})"


@functools.cache
def read() -> tuple[Name, ...]:
    """The names of the file, in its order."""
    return tuple(_parse(FILE.read_text()))


def _parse(text: str) -> Iterator[Name]:
    module = path = ""
    for line in text.splitlines():
        if line.startswith("# nki"):
            module, path = line[2:].split(": ")
        elif line and not line.startswith("#"):
            found = _LINE.fullmatch(line)
            assert found and found["kind"] in KINDS and module in MODULES, line
            written = found["parameters"]
            parameters = None if written is None else _parameters(ast.parse(f"def f({written}): ...").body[0])
            yield Name(module, found["kind"], found["name"], parameters, found["value"], f"{path}:{found['line']}")


def _parameters(function: ast.stmt) -> tuple[tuple[str, str | None], ...]:
    assert isinstance(function, ast.FunctionDef)
    a = function.args
    assert not a.posonlyargs and not a.kwonlyargs
    defaults = [None] * (len(a.args) - len(a.defaults)) + [ast.unparse(d) for d in a.defaults]
    stars = [star + arg.arg for star, arg in (("*", a.vararg), ("**", a.kwarg)) if arg]
    return (*zip([p.arg for p in a.args], defaults, strict=True), *((name, None) for name in stars))


def written_from(checkout: Path) -> str:
    """The file's text, from the stubs of a checkout."""
    parts = [_HEAD]
    for module in MODULES:
        path = "/".join(("nki/api", *module.split("."), "__init__.py"))
        if (checkout / path).exists():
            tree = ast.parse((checkout / path).read_text())
            parts.append(f"# {module}: {path}\n" + "".join(line + "\n" for n in tree.body for line in _names(n)))
    return "\n".join(parts) + _BESIDE_THE_STUBS


def _names(node: ast.stmt) -> Iterator[str]:
    """The lines of one statement of a stub."""
    if isinstance(node, ast.FunctionDef):
        yield f"function {node.lineno} {node.name}{_written(node)}"
    elif isinstance(node, (ast.Assign, ast.AnnAssign)):
        yield f"constant {node.lineno} {_target(node)}"
    elif isinstance(node, ast.ClassDef):
        yield from _class(node)


def _class(node: ast.ClassDef) -> Iterator[str]:
    """A class and what is in it; of the class behind `nl.tile_size` the fields of that one instance."""
    is_enum = any(ast.unparse(base) == "Enum" for base in node.bases)
    owner = "tile_size" if node.name == "_TileSize" else node.name
    if owner == node.name:
        yield f"{'enum' if is_enum else 'class'} {node.lineno} {node.name}"
    for item in node.body:
        if isinstance(item, ast.FunctionDef):
            kind = "attribute" if item.decorator_list else "method"
            written = "" if item.decorator_list else _written(item, drop=1)
            yield f"{kind} {item.lineno} {owner}.{item.name}{written}"
        elif isinstance(item, (ast.Assign, ast.AnnAssign)):
            value = f" = {ast.unparse(item.value)}" if is_enum and item.value else ""
            yield f"{'member' if is_enum else 'attribute'} {item.lineno} {owner}.{_target(item)}{value}"


def _target(node: ast.Assign | ast.AnnAssign) -> str:
    return ast.unparse(node.target if isinstance(node, ast.AnnAssign) else node.targets[0])


def _written(function: ast.FunctionDef, drop: int = 0) -> str:
    """(parameters) without annotations, and without the first `drop`."""
    return f"({', '.join(n if d is None else f'{n}={d}' for n, d in _parameters(function)[drop:])})"


if __name__ == "__main__":
    FILE.write_text(written_from(Path(sys.argv[1])))
