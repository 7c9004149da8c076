"""The configurations that `bench --tune` found to be the fastest, kept on disk: a JSON file for each.

They lie in `configurations/` of the folder that TRIPTYCH_CACHE names, else of `triptych/` in $XDG_CACHE_HOME or in
~/.cache. A file's name is a digest of what decides: the kernel's source and the modules that it imports beside it, the
launcher, the GPU, the version of Triton, the dtype, the options, and the sizes, each rounded up to a power of two.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych.harness import files
from triptych.harness.backends.base import file_of
from triptych.harness.backends.configurations.offers import Setting, is_row
from triptych.harness.errors import UsageError
from triptych.harness.judge.problem import Problem
from triptych.harness.ops.loading import package_of

VARIABLE = "TRIPTYCH_CACHE"
Key = Mapping[str, Any]


@dataclass(frozen=True)
class Kept:
    """A configuration as it was found: its median time, over that of the launcher's own, and when that was."""

    setting: Setting
    median_us: float
    over_own: float
    utc: str


def folder() -> Path:
    """Where they lie."""
    named = os.environ.get(VARIABLE)
    base = Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "triptych"
    return base / "configurations"


def key_of(problem: Problem, device: str, version: str) -> Key:
    """What decides which configuration is the fastest."""
    kernel, case = problem.op.triton, problem.case
    return {
        "op": problem.op.name,
        "launcher": kernel.rpartition(":")[2] if isinstance(kernel, str) else getattr(kernel, "__name__", ""),
        "source": digest(file_of(kernel)),
        "device": device,
        "triton": version,
        "dtype": case.dtype,
        "params": {name: repr(value) for name, value in sorted(case.params.items())},
        "sizes": {axis: 1 << max(size - 1, 0).bit_length() for axis, size in sorted(case.axes.items())},
    }


def place(key: Key) -> Path:
    """The file of a key."""
    return folder() / f"{hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]}.json"


def write(key: Key, kept: Kept) -> Path:
    """Keep a configuration, whole or not at all. UsageError where the folder takes no file."""
    path = place(key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make {path.parent}: {error.strerror or error}.") from error
    body = {"key": key, "setting": kept.setting, "median_us": kept.median_us}
    body |= {"over_own": kept.over_own, "utc": kept.utc}
    files.write(str(path), json.dumps(body, indent=1) + "\n")
    return path


def read(key: Key) -> tuple[Kept | None, str]:
    """What is kept for a key, if anything, and a sentence on a file in its place that is no such thing."""
    path = place(key)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None, ""
    except (OSError, UnicodeDecodeError):
        text = ""
    try:
        body = json.loads(text)
        kept = Kept(body["setting"], float(body["median_us"]), float(body["over_own"]), str(body["utc"]))
        if body["key"] == key and isinstance(kept.setting, dict) and all(map(is_row, kept.setting.values())):
            return kept, ""
    except (ValueError, TypeError, KeyError):
        pass
    return None, f"{path} is not what --tune keeps there, and is left out of account: delete it"


def digest(path: Path) -> str:
    """Of the sources that decide what a kernel is."""
    made = hashlib.sha256(path.name.encode())
    for file in sources(path.resolve()):
        text = file.read_bytes()
        made.update(f"\n{file.name} {len(text)}\n".encode() + text)
    return made.hexdigest()


def sources(path: Path) -> list[Path]:
    """A kernel's file and what it imports beside it, or of its package, directly or through others; sorted."""
    top, found, waiting = package_of(path)[0], {path}, [path]
    while waiting:
        file = waiting.pop()
        homes = [path.parent, *(folder for folder in file.parents if folder.is_relative_to(top))]
        for name in imported(file):
            for module in (home / part for home in homes for part in places_of(name)):
                if module not in found and module.is_file():
                    found.add(module)
                    waiting.append(module)
    return sorted(found)


def places_of(name: str) -> Iterator[str]:
    """Where a module and the packages that it is in may be, of its dotted name."""
    parts = name.split(".")
    for n in range(1, len(parts) + 1):
        yield f"{'/'.join(parts[:n])}.py"
        yield f"{'/'.join(parts[:n])}/__init__.py"


def imported(path: Path) -> Iterator[str]:
    """The dotted names that a file may import, wherever in it; relative ones without their dots."""
    try:
        nodes = list(ast.walk(ast.parse(path.read_bytes())))
    except (SyntaxError, ValueError):
        return
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = f"{node.module}." if node.module else ""
            yield from (f"{base}{alias.name}" for alias in node.names if alias.name != "*")
            yield from ([node.module] if node.module else [])
