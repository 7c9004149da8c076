"""A copy of the project in which one fault stands at a time, and processes forked from a warm one that are of the copy.

What takes long to import is imported once, before; triptych and its tests are imported anew in each such process.
"""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from triptych.harness.upkeep.figures.mutation import Mutant
from triptych.harness.upkeep.own_mutants.processes import Ended, forked

HEAVY = ("numpy", "ml_dtypes", "msgspec", "triton", "torch")  # no plugin of pytest, which rewrites those it imports
# With plain assertions: pytest would rewrite ours too, as a plugin's, and `planting` not know the function again.
OPTIONS = ("-q", "-x", "-p", "no:cacheprovider", "--no-header", "--assert=plain", "-m", "not slow")
QUIET, FAILED = 0, 1  # exit codes of pytest
LIMIT_S = 300.0  # for the tests of one fault
EXTENSION = sysconfig.get_config_var("EXT_SUFFIX")  # of what is compiled for this Python


class Copy:
    """A copy of the project, in which a fault stands for as long as it is tried."""

    def __init__(self, root: Path, folder: Path, compiled: bool = False) -> None:
        """root: the project; folder: where the copy goes

        compiled: with what is compiled, which hides the Python that it stands for, and so a fault in it.
        """
        self.root, self.folder, self.compiled = root, folder, compiled
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=root,
            check=True,
            capture_output=True,
            text=True,
        )
        paths = root.glob(f"simulator/compiled/*{EXTENSION}") if compiled else ()
        built = [str(path.relative_to(root)) for path in paths]
        for name in [*listed.stdout.splitlines(), *built]:
            if (root / name).exists() or (root / name).is_symlink():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / name, folder / name, follow_symlinks=False)

    def place(self, fault: Mutant) -> Path:
        """Where the file of a fault stands in the copy."""
        return self.folder / fault.path.relative_to(self.root)

    @contextmanager
    def holding(self, fault: Mutant) -> Iterator[None]:
        """The copy has the fault within."""
        path = self.place(fault)
        before = path.read_text(encoding="utf-8")
        path.write_text(fault.source, encoding="utf-8")
        try:
            yield
        finally:
            path.write_text(before, encoding="utf-8")

    def enter(self) -> None:
        """Make this process, which is to end soon, one of the copy."""
        source = str(self.folder / "src")
        os.chdir(self.folder)
        os.environ["PYTHONPATH"] = source
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # a fault may leave the size and the second of a file as they were
        os.environ["PYTEST_TIMEOUT"] = "0"  # the process has a limit of its own, by the same signal
        os.environ["CI"] = "1"  # the same examples for each fault
        os.environ["TRIPTYCH_COMPILED"] = str(int(self.compiled))
        sys.dont_write_bytecode = True
        for name in [name for name in sys.modules if name.partition(".")[0] == "triptych"]:
            del sys.modules[name]
        sys.meta_path[:] = [finder for finder in sys.meta_path if "triptych" not in str(type(finder).__module__)]
        sys.path[:] = [source, *(entry for entry in sys.path if not entry.endswith("/src"))]

    def detects(self, fault: Mutant, tests: Sequence[str]) -> Ended:
        """Run tests with a fault, all of triptych imported anew; `how` says whether they see it."""
        with self.holding(fault):
            return self.forked(lambda: int(pytest.main([*OPTIONS, *tests])), LIMIT_S)

    def forked(self, work: Callable[[], int], limit_s: float) -> Ended:
        """What became of `work` in a process of its own and of the copy."""

        def inside() -> int:
            self.enter()
            return work()

        return forked(inside, limit_s, self.folder / "said.txt")

    def said(self) -> str:
        """What the last process printed."""
        return (self.folder / "said.txt").read_text(encoding="utf-8", errors="replace")


def warm_up() -> None:
    """Import what is here of what takes long, which every process then has."""
    for name in HEAVY:
        if find_spec(name.partition(".")[0]):
            importlib.import_module(name)


def how(ended: Ended) -> str | None:
    """How tests saw a fault: "failed" or "timeout"; None if they did not."""
    return {QUIET: None, None: "timeout"}.get(ended.code, "failed")
