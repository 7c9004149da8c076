"""Which tests reach which lines of some rooms, and what each costs: a map that is made by running them once.

What a subprocess executes, as a worker does, is not seen: for lines that no test reaches, all of them are run, those
that start one first. Who asks for a value that a function computes once is not seen either: where few tests reach a
line, those of its file follow.
"""

from __future__ import annotations

import functools
import itertools
import os
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

MOST_S = 120.0  # traced, which takes several times as long
FEW = 10  # tests
SOME_S = 0.2  # no process with Python takes less that imports anything
Trace = Any  # what `sys.settrace` takes, which mypy calls private
Line = tuple[str, int]  # of a file, as `called` calls it


@functools.cache
def called(path: str) -> str:
    """The name of a file with its folder's: a file of tests may have the name of one that it tests."""
    return "/".join(Path(path).parts[-2:])


@dataclass
class Reach:
    """The tests of some rooms by the lines that they execute."""

    seconds: dict[str, float] = field(default_factory=dict)  # of a processor, of each test
    tests: dict[Line, set[str]] = field(default_factory=lambda: defaultdict(set))
    on_import: set[Line] = field(default_factory=set)  # executed before the first test
    apart: set[str] = field(default_factory=set)  # tests that have other processes work

    def of(self, file: str, line: int) -> list[str]:
        """The tests that reach a line, the quickest first; then, if they are few, those of its file; if none, all.

        Of very many, those that take two minutes of a processor together while they are traced. What an import executes
        every process has: those that start one tell no more of it than others.
        """
        found = self.tests.get((file, line), set())
        of_file: set[str] = set()
        if len(found) < FEW:
            of_file = {test for (other, _), some in self.tests.items() if other == file for test in some} - found
        others = set() if found else set(self.seconds) - of_file
        apart = set() if (file, line) in self.on_import else self.apart
        groups = (found, of_file, others & apart, others - apart)
        ordered = [test for some in groups for test in sorted(some, key=lambda test: self.seconds[test])]
        ends = itertools.accumulate(self.seconds[test] for test in ordered)
        return [test for test, end in zip(ordered, ends, strict=True) if end <= MOST_S]


class Mapper:
    """A plugin of pytest that fills `reach` for the files in `folders`."""

    def __init__(self, folders: Sequence[Path], reach: Reach) -> None:
        self.folders, self.reach = [str(folder) for folder in folders], reach
        self.failed: list[str] = []  # tests, and why
        self.lines: set[Line] = set()

    @contextmanager
    def noting(self, lines: set[Line]) -> Iterator[None]:
        """Note each line of the rooms that is executed."""
        self.lines = lines
        before = sys.gettrace()
        threading.settrace(self.enter)
        sys.settrace(self.enter)
        try:
            yield
        finally:
            sys.settrace(before)
            threading.settrace(None)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: Any) -> Iterator[None]:
        lines: set[Line] = set()
        started, before = processor_seconds(), processor_seconds(2)
        with self.noting(lines):
            yield
        self.reach.seconds[item.nodeid] = processor_seconds() - started
        if processor_seconds(2) - before > SOME_S:
            self.reach.apart.add(item.nodeid)
        for line in lines:
            self.reach.tests[line].add(item.nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self.failed.append(f"{report.nodeid}: {report.longreprtext}")

    def enter(self, frame: FrameType, event: str, argument: Any) -> Trace:
        """Follow the frames of the rooms alone."""
        name = frame.f_code.co_filename
        return self.follow if any(folder in name for folder in self.folders) else None

    def follow(self, frame: FrameType, event: str, argument: Any) -> Trace:
        if event == "line":
            self.lines.add((called(frame.f_code.co_filename), frame.f_lineno))
        return self.follow


def processor_seconds(first: int = 0) -> float:
    """What this process and the children that it has waited for took of a processor; from 2 on the children alone."""
    return sum(os.times()[first:4])
