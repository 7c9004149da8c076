"""`prepare`, which asks what is kept before it computes, and keeps what took long."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from time import process_time

from triptych.harness.judge.bounds import Bounds
from triptych.harness.judge.kept.contents import NotKept, pack, unpack
from triptych.harness.judge.kept.folder import Folder, place
from triptych.harness.judge.kept.key import key_of
from triptych.harness.judge.kept.reads import Undetermined
from triptych.harness.judge.prepared import PreparedCase, prepare
from triptych.harness.judge.problem import Problem

WORTH_S = 0.01  # of processor time; what takes less is computed again


def prepared(problem: Problem, wanted: Bounds | None = None, keep: bool = True) -> PreparedCase:
    """`prepare(problem, wanted)`, from a file where the same was prepared before. It raises what `prepare` raises.

    Nothing is kept of a problem of which nobody can tell what it depends on, nor of one whose reference or inputs
    changed something that they depend on.

    keep: whether files are asked at all
    """
    return found_or_made(problem, f"prepared for {wanted}", lambda: prepare(problem, wanted), keep)


def evaluated(problem: Problem, keep: bool = True) -> Problem:
    """The problem with what its reference gives, in the same way."""

    def evaluate() -> PreparedCase:
        return PreparedCase(replace(problem, known=problem.evaluated), {})

    return found_or_made(problem, "evaluated", evaluate, keep).problem


def found_or_made(problem: Problem, what: str, make: Callable[[], PreparedCase], keep: bool) -> PreparedCase:
    path = place() if keep else None
    key = key_or_none(problem, what) if path is not None else None
    if path is None or key is None:
        return make()
    folder = folder_at(path)
    found = folder.get(key)
    if found is not None:
        return unpack(problem, found)
    started = process_time()
    made = make()
    if process_time() - started > WORTH_S and key_or_none(problem, what) == key:
        with suppress(NotKept):
            folder.put(key, pack(made))
    return made


def key_or_none(problem: Problem, what: str) -> str | None:
    """The key; None where it is undetermined, or where a library has not the settings that were asked for."""
    try:
        return key_of(problem, what)
    except (Undetermined, AttributeError):
        return None


@cache
def folder_at(path: Path) -> Folder:
    """One object a folder, which knows how much this process has put into it."""
    return Folder(path)
