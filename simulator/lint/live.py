"""Lint a kernel that is about to run, and warn once of what is found at the kernel's own lines."""

from __future__ import annotations

import functools
import linecache
import warnings
from types import CodeType
from typing import Any

from triptych.simulator.lint.reach import at_line
from triptych.simulator.lint.rules import Finding, check
from triptych.simulator.lint.source import File


class LintWarning(UserWarning):
    """A kernel runs here and breaks a rule of the language, or of the compiler that AWS documents."""


# By identity and version of NKI: code of the same text in two files is equal, and hashing it is slow.
_found: dict[tuple[int, str], tuple[CodeType, list[Finding]]] = {}
_told: set[Finding] = set()
# The file has changed since, is too deep for Python's stack or for its parser.
_UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)


def warn(function: Any, api: str) -> None:
    """Warn of each finding in `function` that was not told yet; of a function without source, say nothing."""
    code = getattr(getattr(function, "func", function), "__code__", None)
    if code is None:
        return
    if (id(code), api) not in _found:
        _found[id(code), api] = code, findings(code, api)
    for finding in _found[id(code), api][1]:
        if finding in _told:
            continue
        _told.add(finding)
        message = f"{finding.rule}: {finding.message} [{finding.source}]"
        warnings.warn_explicit(message, LintWarning, finding.path, finding.line)


def forget() -> None:
    """Tell again what was told, to whoever wants it of each run of a kernel."""
    _told.clear()


def findings(code: CodeType, api: str) -> list[Finding]:
    """What a function breaks, and those of its file that it calls; nothing where its source cannot be had."""
    try:
        file = _parsed(code.co_filename, "".join(linecache.getlines(code.co_filename)))
        kernel = at_line(file.module, code.co_name, code.co_firstlineno)
        return check(file, [kernel], api=api) if kernel is not None else []
    except _UNREADABLE:
        return []


@functools.lru_cache(maxsize=8)
def _parsed(path: str, text: str) -> File:
    return File(path, text)
