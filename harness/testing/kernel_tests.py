"""Tests of kernel files for pytest, one for each op, case, dtype and backend.

    import triptych

    test_kernels = triptych.kernel_tests("../kernels/rowscale.py")

is short for

    @triptych.parametrize("../kernels/rowscale.py")
    def test_kernels(triptych_case):
        triptych_case.check()

`plugin` turns either into tests; each runs in a worker process, as under `triptych check`.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from triptych.harness.backends import BACKENDS, Backend
from triptych.harness.errors import UsageError
from triptych.harness.ops.op import Op
from triptych.harness.ops.selection import Selection, pick, sets_of
from triptych.harness.running.plan import Plan, check_targets
from triptych.harness.running.tasks import Task

SHORTEST = 'test_kernels = kernel_tests("kernels/rowscale.py")'
Test = TypeVar("Test", bound=Callable[..., Any])


@dataclass(frozen=True)
class KernelTests:
    """What one `parametrize` or `kernel_tests` stands for."""

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
            known = sets_of(ops.values())
            sets = pick("case set", self.cases, known) or ordinary(known)
            plan = Plan(
                ops=ops,
                selection=Selection(sets=sets, seed=self.seed),
                backends=chosen,
                targets=self.targets,
                sources=dict.fromkeys(ops, display(file)),
            )
            tasks = [task for task in plan.tasks if has_panel(ops[task.op], BACKENDS[task.backend])]
            if not tasks and not backends:
                raise UsageError(
                    f"{display(file)} makes no test: {', '.join(ops)} without a kernel or without cases of the sets "
                    f"{', '.join(sets) or 'chosen'}; a kernel in a language that may be missing is named as "
                    '"file.py:function", which skips its tests there'
                )
            yield from (replace(task, source=str(file)) for task in tasks)


def parametrize(
    *files: str | Path, cases: Sequence[str] = (), targets: Sequence[str] = (), seed: int = 0
) -> Callable[[Test], Test]:
    """Call a test function that takes `triptych_case` once for every case and backend of the kernels in `files`.

    files: declare their ops as `triptych check --kernel` reads them; relative to the file of the test
    cases: the case sets to run; all but "adversarial" and the models' sizes unless given
    targets: the chips to simulate; trn2 unless given
    seed: of the inputs
    """
    return marking("parametrize", files, cases, targets, seed)


def marking(
    caller: str, files: Sequence[str | Path], cases: Sequence[str], targets: Sequence[str], seed: int
) -> Callable[[Test], Test]:
    """The decorator that says of a test which kernels it is for; `caller` is what the user called to get it."""
    check_arguments(caller, files, cases, targets, seed)
    check_plugin(caller)

    def decorate(test: Test) -> Test:
        import pytest

        folder = Path(inspect.getfile(test)).resolve().parent
        tests = KernelTests(tuple(folder / file for file in files), tuple(cases), tuple(targets), seed)
        pytest.mark.triptych.with_args(tests)(test)
        pytest.mark.kernel(test)  # the marker's older name
        return test

    return decorate


def kernel_tests(
    *files: str | Path, cases: Sequence[str] = (), targets: Sequence[str] = (), seed: int = 0
) -> Callable[..., None]:
    """A test function for every kernel of `files`; paths are relative to the file that calls. See `parametrize`."""
    decorate = marking("kernel_tests", files, cases, targets, seed)

    def test(triptych_case: Any) -> None:
        triptych_case.check()

    # pytest says of a test, and of why it is skipped, in which line its code stands: here the line of the call. A
    # function's body begins a line below its first.
    caller = sys._getframe(1)
    test.__code__ = test.__code__.replace(co_filename=caller.f_code.co_filename, co_firstlineno=caller.f_lineno - 1)
    test.__module__ = caller.f_globals.get("__name__", test.__module__)
    return decorate(test)


def check_arguments(caller: str, files: Sequence[Any], cases: Any, targets: Any, seed: Any) -> None:
    """TypeError or ValueError in a sentence for what can be seen before a file is read."""
    if not files or not all(isinstance(file, (str, Path)) for file in files):
        raise TypeError(f'{caller} takes the files of your kernels one after the other, as {caller}("rowscale.py")')
    for name, value, example in (("cases", cases, "smoke"), ("targets", targets, "trn2")):
        if isinstance(value, str):
            raise TypeError(f'{caller} takes a list of {name}, as {name}=["{example}"], got {value!r}')
    if not isinstance(seed, int) or seed < 0:
        raise ValueError(f"{caller} takes a whole number of 0 or more as its seed, got {seed!r}")


def check_plugin(caller: str) -> None:
    """RuntimeError where pytest would collect a test that nobody parametrizes."""
    if "triptych.harness.testing.plugin" not in sys.modules:
        raise RuntimeError(
            f"{caller} makes tests for pytest, which has not loaded triptych's plugin: run the file with pytest, "
            "without -p no:triptych, and with -p triptych where PYTEST_DISABLE_PLUGIN_AUTOLOAD is set"
        )


def default_backends() -> list[Backend]:
    """All but the reference, which would be compared with itself."""
    return [backend for backend in BACKENDS.values() if backend.panel != "reference"]


def has_panel(op: Op, backend: Backend) -> bool:
    return getattr(op, backend.panel) is not None


def ordinary(sets: Sequence[str]) -> list[str]:
    """The sets that run unless others are named: those that take minutes on emulators are left to ask for."""
    return [name for name in sets if not name.startswith(("adversarial", "model"))]


def display(file: Path) -> str:
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
