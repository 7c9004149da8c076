"""A session of pytest that collects the tests of some rooms once, and forks a process for each fault.

The process gets the fault into the functions that are imported (`planting`), runs the tests that reach the line, the
quickest first, and ends with the first that fails. What is executed on import is left to `Copy.detects`.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from triptych.harness.upkeep.figures.mutation import Mutant
from triptych.harness.upkeep.own_mutants.planting import plant
from triptych.harness.upkeep.own_mutants.processes import BROKEN, forked, within
from triptych.harness.upkeep.own_mutants.reach import Mapper, Reach, called
from triptych.harness.upkeep.own_mutants.runs import FAILED, OPTIONS, QUIET, Copy, how

MAPPING_S = 3600.0
ON_IMPORT = 71  # the exit code of a process that could not plant the fault
COMPILED = ("simulator/compiled", "simulator.built")  # where C is, and who says whether it is there
PATIENCE_S, PATIENCE = 60.0, 10.0  # what a test may take beside, and how many times what it takes of a processor


@dataclass(frozen=True)
class Tried:
    """A fault, and how the tests of its line saw it: "failed" or "timeout", None if they did not."""

    fault: Mutant
    how: str | None
    tests: tuple[str, ...]
    cpu_s: float
    undecided: bool = False  # not seen, but it is of what is executed on import


class Session:
    """The plugin that tries faults in the place of running tests."""

    def __init__(
        self, copy: Copy, folders: Sequence[Path], faults: Sequence[Mutant], tell: Callable[[Tried], None]
    ) -> None:
        self.copy, self.faults, self.tell = copy, faults, tell
        self.reach = Reach()
        self.mapper = Mapper(folders, self.reach)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: Any) -> bool:
        sys.settrace(None)
        out = self.copy.folder / "reach.pickle"
        code = forked(lambda: self.map(session, out), MAPPING_S).code
        if code != QUIET:
            raise RuntimeError(f"the tests do not end without a fault, but with {code}: {self.copy.said()[-2000:]}")
        (seconds, tests, apart), failed = pickle.loads(out.read_bytes())
        self.reach.seconds.update(seconds)
        self.reach.tests.update(tests)
        self.reach.apart.update(apart)
        if failed:
            raise RuntimeError(f"the tests do not pass without a fault: {failed[0][-2000:]}")
        for fault in self.faults:
            self.tell(self.tried(fault, session))
        return True

    def map(self, session: Any, out: Path) -> int:
        session.config.pluginmanager.register(self.mapper)
        run(session, session.items, lambda item: MAPPING_S)
        found = self.reach.seconds, dict(self.reach.tests), self.reach.apart
        out.write_bytes(pickle.dumps((found, self.mapper.failed)))
        return QUIET

    def tried(self, fault: Mutant, session: Any) -> Tried:
        items = {item.nodeid: item for item in session.items}
        tests = self.reach.of(called(str(fault.path)), fault.line)

        def work() -> int:
            if not plant(fault, self.copy.place(fault)):
                return ON_IMPORT
            try:
                run(session, [items[test] for test in tests], self.patience)
            except BaseException:  # out of pytest, or of a plugin of ours: the fault's
                return FAILED
            return FAILED if session.testsfailed else QUIET

        with self.copy.holding(fault):
            ended = forked(work, MAPPING_S)
        if ended.code == BROKEN:
            raise RuntimeError(f"{fault.path}:{fault.line} could not be tried: {self.copy.said()[-2000:]}")
        seen = None if ended.code == ON_IMPORT else how(ended)
        on_import = ended.code == ON_IMPORT or (called(str(fault.path)), fault.line) in self.reach.on_import
        return Tried(fault, seen, tuple(tests), ended.cpu_s, seen is None and on_import)

    def patience(self, item: Any) -> float:
        return PATIENCE_S + PATIENCE * self.reach.seconds[item.nodeid]


def run(session: Any, items: Iterable[Any], limit_s: Callable[[Any], float]) -> None:
    """Run tests of a session, up to the first that fails."""
    some = list(items)
    for item, following in zip(some, [*some[1:], None], strict=True):
        within(limit_s(item))
        item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.testsfailed:
            return


def try_all(
    copy: Copy,
    folders: Sequence[Path],
    tests: Sequence[str],
    faults: Sequence[Mutant],
    tell: Callable[[Tried], None] = lambda one: None,
) -> list[Tried]:
    """Try faults of `folders` with the tests in `tests`; RuntimeError if these do not pass without a fault."""
    out = copy.folder / "tried.pickle"
    ended: list[tuple[Any, ...]] = []

    def note(one: Tried) -> None:
        # no classes of ours, which in that process are others
        ended.append((one.how, one.tests, one.cpu_s, one.undecided))
        tell(one)

    def work() -> int:
        session = Session(copy, folders, faults, note)
        with session.mapper.noting(session.reach.on_import):
            code = pytest.main([*OPTIONS, "-s", *tests], plugins=[session])
        out.write_bytes(pickle.dumps(ended))
        return int(code)

    code = copy.forked(work, len(faults) * MAPPING_S).code
    if code != QUIET:
        raise RuntimeError(f"{' '.join(tests)}: {copy.said()[-3000:]}")
    first = [Tried(fault, *rest) for fault, rest in zip(faults, pickle.loads(out.read_bytes()), strict=True)]
    return [anew(copy, one) if one.undecided else one for one in first]


def try_either_way(
    root: Path,
    folder: Path,
    folders: Sequence[Path],
    tests: Sequence[str],
    faults: Sequence[Mutant],
    tell: Callable[[Tried], None] = lambda one: None,
) -> list[Tried]:
    """Try faults of the project at `root` in copies in `folder`: all in Python.

    What is prepared for C alone is seen with it: of files that name what is compiled, the faults that are not seen in
    Python are tried once more.
    """
    first = try_all(Copy(root, folder / "python"), folders, tests, faults, tell)
    left = [one for one in first if one.how is None and names_compiled(one.fault.path)]
    if not left:
        return first
    compiled = Copy(root, folder / "compiled", compiled=True)
    again = try_all(compiled, folders, tests, [one.fault for one in left])
    instead = {
        one.fault: replace(second, cpu_s=one.cpu_s + second.cpu_s) for one, second in zip(left, again, strict=True)
    }
    return [instead.get(one.fault, one) for one in first]


def names_compiled(path: Path) -> bool:
    text = path.read_text(encoding="utf-8")
    return any(name in text for name in COMPILED)


def anew(copy: Copy, one: Tried) -> Tried:
    """The fault tried again, by a process that imports all with it."""
    ended = copy.detects(one.fault, one.tests)
    return Tried(one.fault, how(ended), one.tests, one.cpu_s + ended.cpu_s)
