"""Lint a file: the kernels that it marks, or one function of it."""

from __future__ import annotations

import tokenize

from triptych.simulator.chips import chip_of
from triptych.simulator.lint.reach import functions, kernels
from triptych.simulator.lint.rules import Finding, check
from triptych.simulator.lint.source import File, Unit


class LintError(Exception):
    """A file that cannot be linted, in one sentence."""


def lint_file(path: str, function: str | None = None, target: str | None = None) -> list[Finding]:
    """Findings in the kernels of a Python file, or in one function of it, for a chip or for all.

    Raises LintError where there is nothing to lint.
    """
    try:
        return _lint(read(path), function, target)
    except (RecursionError, MemoryError) as error:  # the second from Python's own parser
        raise LintError(f"{path} is nested too deeply to be read") from error


def _lint(file: File, function: str | None, target: str | None) -> list[Finding]:
    chosen = kernels(file.module) if function is None else _named(file, function)
    if not chosen:
        path = file.path
        raise LintError(f"{path} holds no kernel: no function is decorated with nki.jit; name one, as {path}:function")
    return check(file, chosen, None if target is None else (target, chip_of(target).generation))


def read(path: str) -> File:
    """A file, parsed."""
    try:
        with tokenize.open(path) as stream:
            text = stream.read()
        return File(path, text)
    except OSError as error:
        raise LintError(f"cannot read {path}: {error.strerror or error}") from error
    except SyntaxError as error:
        raise LintError(f"{path}{f':{error.lineno}' if error.lineno else ''} is not Python: {error.msg}") from error
    except ValueError as error:  # a null byte
        raise LintError(f"{path} is not Python: {error}") from error


def _named(file: File, name: str) -> list[Unit]:
    found = [unit for unit in functions(file.module) if unit.name == name]
    if not found:
        known = ", ".join(unit.name for unit in functions(file.module) if unit.parent is file.module)
        raise LintError(f"{file.path} has no function {name}; it has {known or 'none'}")
    return found
