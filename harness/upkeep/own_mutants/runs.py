"""Run tests against a copy of the project with one fault in it, each time in a process forked from a warm one.

What takes long to import is imported once, before; triptych and its tests are imported anew in each process.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from triptych.harness.upkeep.figures.mutation import Mutant
from triptych.harness.upkeep.own_mutants.reach import Mapper, Reach

HEAVY = ("numpy", "ml_dtypes", "msgspec", "triton", "torch")  # no plugin of pytest, which rewrites those it imports
OPTIONS = ("-q", "-x", "-p", "no:cacheprovider", "--no-header", "-m", "not slow")
QUIET = 0  # the exit code of pytest where every test passed
MAPPING_S = 1800.0


class Copy:
    """A copy of the project, in which a fault stands for as long as it is tried."""

    def __init__(self, root: Path, folder: Path) -> None:
        """root: the project; folder: where the copy goes"""
        self.root, self.folder = root, folder
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=root,
            check=True,
            capture_output=True,
            text=True,
        )
        for name in listed.stdout.splitlines():
            if (root / name).exists() or (root / name).is_symlink():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / name, folder / name, follow_symlinks=False)

    @contextmanager
    def holding(self, fault: Mutant) -> Iterator[None]:
        """The copy has the fault within."""
        path = self.folder / fault.path.relative_to(self.root)
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
        sys.dont_write_bytecode = True
        for name in [name for name in sys.modules if name.partition(".")[0] == "triptych"]:
            del sys.modules[name]
        sys.meta_path[:] = [finder for finder in sys.meta_path if "triptych" not in str(type(finder).__module__)]
        sys.path[:] = [source, *(entry for entry in sys.path if not entry.endswith("/src"))]

    def reach(self, room: str, tests: Sequence[str]) -> Reach:
        """Run the tests of a room without a fault; RuntimeError if they do not pass."""
        mapper = Mapper(Path("harness") / room)
        out = self.folder / "reach.pickle"

        def work() -> int:
            code = pytest.main([*OPTIONS, *tests], plugins=[mapper])
            out.write_bytes(pickle.dumps((mapper.reach.seconds, dict(mapper.reach.tests))))
            return int(code)

        code = self.forked(work, MAPPING_S)
        if code != QUIET:
            raise RuntimeError(f"the tests of {room} do not pass without a fault: {self.said()[-2000:]}")
        return Reach(*pickle.loads(out.read_bytes()))

    def detects(self, fault: Mutant, tests: Sequence[str], limit_s: float) -> str | None:
        """How tests see a fault: "failed" or "timeout"; None if they do not."""
        with self.holding(fault):
            code = self.forked(lambda: int(pytest.main([*OPTIONS, *tests])), limit_s)
        return {QUIET: None, None: "timeout"}.get(code, "failed")

    def forked(self, work: Callable[[], int], limit_s: float) -> int | None:
        """The exit code of `work` in a process of its own and of the copy; None if it took too long."""
        process = os.fork()
        if process == 0:
            code = 70
            try:
                os.setsid()
                said = os.open(self.folder / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(said, 1)
                os.dup2(said, 2)
                sys.stdout = sys.stderr = os.fdopen(1, "w")
                self.enter()
                code = work()
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            done, status = os.waitpid(process, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.05)
        with contextlib.suppress(ProcessLookupError):  # it has not come so far as to have a group
            os.killpg(process, signal.SIGKILL)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        return None

    def said(self) -> str:
        """What the last process printed."""
        return (self.folder / "said.txt").read_text(encoding="utf-8", errors="replace")


def warm_up() -> None:
    """Import what is here of what takes long, which every process then has."""
    for name in HEAVY:
        if find_spec(name.partition(".")[0]):
            importlib.import_module(name)


def mirrored(root: Path, room: str) -> list[str]:
    """The tests of a room: those that mirror it."""
    folder: Any = root / "tests" / "harness" / room
    return [str(folder.relative_to(root))]
