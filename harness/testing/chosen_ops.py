"""What `triptych.check` is given: names of ops, files that declare them, or ops themselves."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from triptych.harness.collection import builtin, load_ops
from triptych.harness.errors import UsageError
from triptych.harness.ops import loading
from triptych.harness.ops.op import Op
from triptych.harness.ops.selection import pick_ops

Chosen = str | Path | Op | Iterable[str | Path | Op]


@dataclass(frozen=True)
class Choice:
    """Ops of one place, by name."""

    ops: Mapping[str, Op]
    source: str | None  # the file that declares them; None: this repository, or no file


def choices(chosen: Chosen, isolated: bool) -> list[Choice]:
    """Where the ops are, those of one place together. UsageError for what names nothing.

    A string or a path that ends in .py is a file; another string is the name or glob of an op of this repository.

    isolated: whether a worker process must find the ops in a file
    """
    globs: list[str] = []
    found: dict[str | None, Choice] = {}
    for one in [chosen] if isinstance(chosen, (str, Path, Op)) else list(chosen):
        if isinstance(one, Op):
            choice = choice_of(one, isolated)
            known = found[choice.source].ops if choice.source in found else {}
            found[choice.source] = replace(choice, ops={**known, **choice.ops})
        elif isinstance(one, Path) or (isinstance(one, str) and one.endswith(".py")):
            found[str(one)] = Choice(load_ops([str(one)]), str(one))
        elif isinstance(one, str):
            globs.append(one)
        else:
            raise TypeError(
                f"triptych takes the name of an op, a .py file or a triptych.Op; got a {type(one).__name__}"
            )
    ours = [Choice(pick_ops(globs, builtin()), None)] if globs else []
    return [*ours, *found.values()]


def choice_of(op: Op, isolated: bool) -> Choice:
    """One op, as its file has it if a worker process is to load it from there."""
    if builtin().get(op.name) is op:
        return Choice({op.name: op}, None)
    place = place_of(op)
    try:
        if isolated:
            return from_its_file(op, place)
        path = place[0] if place else Path.cwd() / "notebook"  # which its kernels' paths are relative to
        op = replace(op, nki=whole(op.nki, path), triton=whole(op.triton, path))
    except loading.OpFileError as error:
        raise UsageError(f"{error}.") from error
    return Choice({op.name: op}, str(place[0]) if place else None)


def whole(kernel: Any, path: Path) -> Any:
    """A kernel that an op of the file at `path` names, with its whole path; any other as it is."""
    return loading.absolute(kernel, path) if isinstance(kernel, str) else kernel


def from_its_file(op: Op, place: tuple[Path, str] | None) -> Choice:
    """The op of the same name at the same place of the file, which a worker process will find there as well."""
    why = "is in no file that a worker process could load"
    if place:
        path, name = place
        module = loading.module_of(path)
        if op.name in {one.name for one in loading.ops_among([vars(module).get(name)])}:
            return Choice({op.name: loading.ops_in(module, path)[op.name]}, str(path))
        why = f"is not there when a worker process loads {path.name}, as what stands under `if __name__ ..` is not"
    raise UsageError(
        f"op {op.name} {why}: declare it at the top of a .py file, or give isolated=False to run it in this process, "
        "which a kernel that crashes or hangs then takes along"
    )


def place_of(op: Op) -> tuple[Path, str] | None:
    """The file of the module that holds the op at its top level, and the name there; None for one of a notebook."""
    first = sys.modules.get(getattr(op.reference, "__module__", ""))  # where it is, as a rule
    for module in filter(None, [first, *list(sys.modules.values())]):
        file = vars(module).get("__file__")
        if isinstance(file, str) and file.endswith(".py"):
            for name in names_of(op, module):
                return Path(file).resolve(), name
    return None


def names_of(op: Op, module: ModuleType) -> Iterator[str]:
    """The names of a module that are the op, or a list with it. No value is asked for its class, which may warn."""
    for name, value in list(vars(module).items()):
        inner = value.values() if type(value) is dict else value if type(value) in (list, tuple) else (value,)
        if any(one is op for one in inner):
            yield name
