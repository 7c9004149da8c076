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

from triptych.harness import select
from triptych.harness.backends import BACKENDS, Backend
from triptych.harness.records import Op
from triptych.harness.runner import Task


@dataclass(frozen=True)
class KernelTests:
    """What one `kernel_tests` stands for."""

    files: tuple[Path, ...]
    cases: tuple[str, ...]
    targets: tuple[str, ...]
    seed: int

    def tasks(self, backends: Sequence[str]) -> Iterator[Task]:
        """Every test, the backends of one case side by side; `backends` are those that the command line names."""
        from triptych.harness.ops import from_file

        chosen = [BACKENDS[name] for name in select.pick("backend", backends, list(BACKENDS))] or default_backends()
        select.check_targets(self.targets, list(BACKENDS.values()))
        for file in self.files:
            ops = from_file(file)
            known = list(dict.fromkeys(name for op in ops.values() for name in op.cases))
            selection = select.Selection(
                command="check",
                source=shown(file),
                sets=select.pick("case set", self.cases, known) or ordinary(known),
                names=None,
                dtypes=(),
                axes={},
                targets=self.targets,
                seed=self.seed,
            )
            for task in selection.tasks(ops, chosen):
                if has_panel(ops[task.op], BACKENDS[task.backend]):
                    yield replace(task, source=str(file))


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
    if not files:
        raise TypeError('kernel_tests takes the files of your kernels, as kernel_tests("kernels/rowscale.py")')

    def test(kernel_case: Callable[[], None]) -> None:
        kernel_case()

    # Reports name the line of the user's own file: that of the body, which is one below the function's first.
    test.__code__ = test.__code__.replace(co_filename=caller.f_code.co_filename, co_firstlineno=caller.f_lineno - 1)
    test.__module__ = caller.f_globals.get("__name__", test.__module__)
    marked: Any = pytest.mark.kernel(test)
    marked.triptych = KernelTests(tuple(folder / file for file in files), tuple(cases), tuple(targets), seed)
    found: Callable[..., None] = marked
    return found


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


def test_id(task: Task) -> str:
    """What stands in the brackets of a test's name: op-case-dtype-backend-target."""
    return "-".join(filter(None, (task.op, task.case.name, task.case.dtype, task.backend, task.target)))
