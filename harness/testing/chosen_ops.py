"""What `triptych.check` is given: names of ops, files that declare them, or ops themselves."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from triptych.harness.collection import builtin, load_ops
from triptych.harness.errors import UsageError
from triptych.harness.ops.loading import OpFileError, absolute
from triptych.harness.ops.op import Op
from triptych.harness.ops.selection import pick_ops

Chosen = str | Path | Op | Iterable[str | Path | Op]


@dataclass(frozen=True)
class Choice:
    """Ops of one place."""

    ops: Mapping[str, Op]
    source: str | None  # the file that declares them; None: this repository, or no file
    in_a_file: bool = True  # from which a worker process can load them


def choices(chosen: Chosen) -> list[Choice]:
    """Where the ops are, those of one place together. UsageError for what names nothing.

    A string or a path that ends in .py is a file; another string is the name or glob of an op of this repository.
    """
    globs: list[str] = []
    found: dict[str, Choice] = {}
    for one in [chosen] if isinstance(chosen, (str, Path, Op)) else list(chosen):
        if isinstance(one, Op):
            choice = choice_of(one)
            place = choice.source or f"in_a_file={choice.in_a_file}"
            known = found.get(place, Choice({}, choice.source)).ops
            found[place] = replace(choice, ops={**known, **choice.ops})
        elif isinstance(one, Path) or (isinstance(one, str) and one.endswith(".py")):
            found[str(one)] = Choice(load_ops(str(one)), str(one))
        elif isinstance(one, str):
            globs.append(one)
        else:
            raise TypeError(
                f"triptych takes the name of an op, a .py file or a triptych.Op; got a {type(one).__name__}"
            )
    ours = [Choice(pick_ops(globs, builtin()), None)] if globs else []
    return [*ours, *found.values()]


def choice_of(op: Op) -> Choice:
    """Where one op is."""
    if builtin().get(op.name) is op:
        return Choice({op.name: op}, None)
    file = file_of(op)
    path = file or Path.cwd() / "notebook"  # which its kernels' paths are relative to

    def whole(kernel: Any) -> Any:
        return absolute(kernel, path) if isinstance(kernel, str) else kernel

    try:
        op = replace(op, nki=whole(op.nki), triton=whole(op.triton))
    except OpFileError as error:
        raise UsageError(f"{error}.") from error
    return Choice({op.name: op}, str(file) if file else None, in_a_file=file is not None)


def file_of(op: Op) -> Path | None:
    """The file of the module that holds the op at its top level; None for an op of a notebook or a function."""
    first = sys.modules.get(getattr(op.reference, "__module__", ""))  # where it is, as a rule
    for module in filter(None, [first, *list(sys.modules.values())]):
        file = vars(module).get("__file__")
        if isinstance(file, str) and file.endswith(".py") and holds(module, op):
            return Path(file)
    return None


def holds(module: ModuleType, op: Op) -> bool:
    """Whether a module has the op under a name, or in a list there. It looks at no value's class, which may warn."""
    for value in list(vars(module).values()):
        inner = value.values() if type(value) is dict else value if type(value) in (list, tuple) else (value,)
        if any(one is op for one in inner):
            return True
    return False


def check_isolated(choice: Choice) -> None:
    """UsageError for an op that a worker process has no file to load from."""
    if not choice.in_a_file:
        (name, *_) = choice.ops
        raise UsageError(
            f"op {name} is in no file that a worker process could load: declare it at the top of a .py file, or give "
            "isolated=False to run it in this process, which a kernel that crashes or hangs then takes along"
        )
