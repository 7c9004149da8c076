"""The floors of the two houses, harness and simulator, and the imports that must not cross them.

A room is a folder; files that stand in no folder are the room "ground". A file imports from its own room and from rooms
below it, wherever in it the import stands: at its top, in a function, for typing alone, or by `import_module`.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
GROUND = "ground"
FLOORS: dict[str, tuple[str, ...]] = {  # of each house, the lowest first
    "simulator": (
        "chip",
        GROUND,
        "memory",
        "tensors",
        "analysis",
        "operands",
        "machine",
        "compiled",
        "engines",
        "language",
        "api",
        "lint",
        "timing",
        "launch",
    ),
    "harness": (
        GROUND,
        "accelerators",
        "measured",
        "results",
        "ops",
        "collection",
        "blocks",
        "judge",
        "emulators",
        "backends",
        "functions",
        "trials",
        "profiling",
        "calibration",
        "comparing",
        "running",
        "cluster",
        "cost",
        "tuning",
        "reports",
        "jax",
        "pytorch",
        "testing",
        "commands",
        "upkeep",
    ),
}


@dataclass(frozen=True)
class House:
    """The files of one house below `root`, and which of them each imports."""

    name: str  # "harness" or "simulator"
    root: Path  # of the checkout
    files: Mapping[str, Path]  # module -> file
    imports: Mapping[str, frozenset[str]]  # module -> modules of the same house

    def room(self, module: str) -> str:
        """The room of a module; the package's own `__init__` stands above all rooms."""
        _, *inside = self.place(module).parts
        return inside[0] if len(inside) > 1 else GROUND

    def place(self, module: str) -> Path:
        """The file of a module, relative to the checkout."""
        return self.files[module].relative_to(self.root)

    def upward(self) -> Iterator[tuple[str, str]]:
        """Every import of a file that stands on a higher floor, as (who, whom)."""
        floor = {room: i for i, room in enumerate(FLOORS[self.name])}
        top = f"triptych.{self.name}"
        for module, others in self.imports.items():
            for other in sorted(others):
                if module != top and (other == top or floor[self.room(other)] > floor[self.room(module)]):
                    yield module, other

    def circles(self) -> list[list[str]]:
        """Files that import each other, directly or through others: the strongly connected components."""
        return [sorted(part) for part in components(self.imports) if len(part) > 1]


def house(name: str, root: Path = ROOT) -> House:
    """The house `name` as it stands in the checkout at `root`."""
    files = {}
    for file in sorted((root / name).rglob("*.py")):
        parts = file.relative_to(root).with_suffix("").parts
        files[".".join(("triptych", *(parts[:-1] if parts[-1] == "__init__" else parts)))] = file
    imports = {module: frozenset(imported(file, files)) - {module} for module, file in files.items()}
    return House(name, root, files, imports)


def imported(file: Path, known: Iterable[str]) -> Iterator[str]:
    """Which of the `known` modules a file imports, wherever in it."""
    known = set(known)
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [one if one in known else node.module for one in whole]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module":
            names = [a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        yield from (name for name in names if name in known)


def components(graph: Mapping[str, Iterable[str]]) -> Iterator[set[str]]:
    """The strongly connected components of a graph (Tarjan, 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    path: list[str] = []

    def visit(node: str) -> Iterator[set[str]]:
        index[node] = low[node] = len(index)
        path.append(node)
        for other in graph[node]:
            if other not in index:
                yield from visit(other)
                low[node] = min(low[node], low[other])
            elif other in path:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            at = path.index(node)
            yield set(path[at:])
            del path[at:]

    for node in graph:
        if node not in index:
            yield from visit(node)


def sizes(built: House) -> Counter[str]:
    """How many files each folder holds, `__init__.py` not counted."""
    places = [built.place(module) for module in built.files]
    return Counter(str(place.parent) for place in places if place.name != "__init__.py")
