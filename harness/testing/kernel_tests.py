"""`triptych.kernel_tests`: the tests of a kernel file, one for each op, case, dtype and backend.

    import triptych

    test_kernels = triptych.kernel_tests("../kernels/rowscale.py")

`pytest_plugin` turns the returned function into its tests; each runs in a worker process, as under `triptych check`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from triptych.harness.backends import BACKENDS, Backend
from triptych.harness.ops.op import Op
from triptych.harness.ops.selection import Selection, UsageError, check_targets, pick
from triptych.harness.running.runner import Task

SHORTEST = 'test_kernels = kernel_tests("kernels/rowscale.py")'


@dataclass(frozen=True)
class KernelTests:
    """What one `kernel_tests` stands for."""

    files: tuple[Path, ...]
    cases: tuple[str, ...]
    targets: tuple[str, ...]
    seed: int

    def tasks(self, backends: Sequence[str]) -> Iterator[Task]:
        """Every test, the backends of one case side by side; `backends` are those that the command line names."""
        from triptych.harness.ops.loading import from_file

        chosen = [BACKENDS[name] for name in pick("backend", backends, list(BACKENDS))] or default_backends()
        check_targets(self.targets, list(BACKENDS.values()))
        for file in self.files:
            ops = from_file(file)
            known = list(dict.fromkeys(name for op in ops.values() for name in op.case_sets))
            selection = Selection(
                command="check",
                source=shown(file),
                sets=pick("case set", self.cases, known) or ordinary(known),
                names=None,
                dtypes=(),
                axes={},
                targets=self.targets,
                seed=self.seed,
            )
            tasks = [task for task in selection.tasks(ops, chosen) if has_panel(ops[task.op], BACKENDS[task.backend])]
            if not tasks and not backends:
                raise UsageError(
                    f"{shown(file)} makes no test: {', '.join(ops)} without a kernel or without cases of the sets "
                    f"{', '.join(selection.sets) or 'chosen'}; a kernel in a language that may be missing is named as "
                    '"file.py:function", which skips its tests there'
                )
            yield from (replace(task, source=str(file)) for task in tasks)


def kernel_tests(
    *files: str | Path, cases: Sequence[str] = (), targets: Sequence[str] = (), seed: int = 0
) -> Callable[..., None]:
    """A test function for every kernel of `files`; paths are relative to the file that calls.

    A file declares its ops as `triptych check --kernel` reads them (`triptych new` writes one). `cases` names the case
    sets to run (default: all but "adversarial" and the models' sizes), `targets` the chips to simulate (default: trn2).
    """
    import pytest

    caller = sys._getframe(1)
    folder = Path(caller.f_code.co_filename).resolve().parent
    check_arguments(files, cases, targets, seed)
    if "triptych.harness.testing.plugin" not in sys.modules:
        raise RuntimeError(
            "kernel_tests makes tests for pytest, which has not loaded triptych's plugin: run the file with pytest, "
            "without -p no:triptych, and with -p triptych where PYTEST_DISABLE_PLUGIN_AUTOLOAD is set"
        )

    def test(kernel_case: Callable[[], None]) -> None:
        kernel_case()

    # Reports name the line of the user's own file: that of the body, which is one below the function's first.
    test.__code__ = test.__code__.replace(co_filename=caller.f_code.co_filename, co_firstlineno=caller.f_lineno - 1)
    test.__module__ = caller.f_globals.get("__name__", test.__module__)
    marked: Any = pytest.mark.kernel(test)
    marked.triptych = KernelTests(tuple(folder / file for file in files), tuple(cases), tuple(targets), seed)
    found: Callable[..., None] = marked
    return found


def check_arguments(files: Sequence[Any], cases: Any, targets: Any, seed: Any) -> None:
    """TypeError or ValueError in a sentence for what can be seen before a file is read."""
    if not files or not all(isinstance(file, (str, Path)) for file in files):
        raise TypeError(f"kernel_tests takes the files of your kernels one after the other, as {SHORTEST}")
    for name, value, example in (("cases", cases, "smoke"), ("targets", targets, "trn2")):
        if isinstance(value, str):
            raise TypeError(f'kernel_tests takes a list of {name}, as {name}=["{example}"], got {value!r}')
    if not isinstance(seed, int) or seed < 0:
        raise ValueError(f"kernel_tests takes a whole number of 0 or more as its seed, got {seed!r}")


def default_backends() -> list[Backend]:
    """All but the reference, which would be compared with itself."""
    return [backend for backend in BACKENDS.values() if backend.panel != "reference"]


def has_panel(op: Op, backend: Backend) -> bool:
    return getattr(op, backend.panel) is not None


def ordinary(sets: Sequence[str]) -> list[str]:
    """The sets that run unless others are named: those that take minutes on emulators are left to ask for."""
    return [name for name in sets if not name.startswith(("adversarial", "model"))]


def shown(file: Path) -> str:
    """The file as a command line would name it from here."""
    relative = os.path.relpath(file)
    return str(file) if relative.startswith("..") else relative


def test_ids(tasks: Sequence[Task]) -> list[str]:
    """What stands in the brackets of each test's name: op-case-dtype-backend-target.

    An op that two files declare has its file before it, from the folder down that holds them both.
    """
    files: dict[str, set[str]] = {}
    for task in tasks:
        files.setdefault(task.op, set()).add(str(task.source))
    names = []
    for task in tasks:
        words = [task.op, task.case.name, task.case.dtype, task.backend, task.target]
        if len(files[task.op]) > 1:
            words[0] = f"{os.path.relpath(str(task.source), os.path.commonpath(files[task.op]))}:{task.op}"
        names.append("-".join(filter(None, words)))
    return names
