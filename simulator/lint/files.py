"""Lint a file or a notebook: the kernels that it marks and what else issues instructions, or one function of it."""

from __future__ import annotations

import json
import tokenize
from typing import Any

from triptych.simulator.chips import chip_of
from triptych.simulator.lint.reach import functions, issuing, kernels
from triptych.simulator.lint.rules import Finding, check
from triptych.simulator.lint.source import File, Unit
from triptych.simulator.options import APIS


class LintError(Exception):
    """A file that cannot be linted, in one sentence."""


def lint_file(path: str, function: str | None = None, target: str | None = None, api: str = APIS[0]) -> list[Finding]:
    """Findings in the kernels of a file, or in one function of it, for a chip or for all, in a version of NKI.

    Functions that issue instructions are linted too where no decorator marks them: a framework, or another file, may.

    Raises LintError where there is nothing to lint.
    """
    try:
        return _lint(read(path), function, None if target is None else (target, chip_of(target).generation), api)
    except (RecursionError, MemoryError) as error:  # the second from Python's own parser
        raise LintError(f"{path} is nested too deeply to be read") from error


def _lint(file: File, function: str | None, target: tuple[str, int] | None, api: str) -> list[Finding]:
    if function is not None:
        return check(file, _named(file, function), target, api)
    marked = kernels(file.module)
    others = issuing(file.module)
    if not marked and not others:
        path = file.path
        raise LintError(
            f"{path} holds no kernel: no function is decorated with nki.jit or issues an instruction of nki; name one, "
            f"as {path}:function"
        )
    return check(file, marked, target, api, others)


def read(path: str) -> File:
    try:
        with tokenize.open(path) as stream:
            text = stream.read()
        return File(path, *notebook_code(text)) if path.endswith(".ipynb") else File(path, text)
    except OSError as error:
        raise LintError(f"cannot read {path}: {error.strerror or error}") from error
    except NotANotebook as error:
        raise LintError(f"{path} is {error}") from error
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


class NotANotebook(ValueError):
    """Why a file is no notebook, in one sentence."""


def notebook_code(text: str) -> tuple[str, list[int]]:
    """The text of all code cells, and the line on which each cell begins; other cells have none.

    Lines that are IPython's and not Python's, magics and shell commands, are left out, and so is what stands in a cell
    with a magic of its own, such as %%bash. Raises NotANotebook.
    """
    try:
        cells = json.loads(text)["cells"]
        sources = [_source(cell) for cell in cells]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise NotANotebook(f"no notebook of nbformat 4: {type(error).__name__} {error}") from None
    lines: list[str] = []
    begins = []
    for source in sources:
        begins.append(len(lines) + 1)
        lines += [] if source is None else _python(source.split("\n"))
    return "\n".join(lines) + "\n", begins


def _source(cell: Any) -> str | None:
    if cell["cell_type"] != "code":
        return None
    return "".join(cell["source"])  # a string, or its lines


def _python(lines: list[str]) -> list[str]:
    if lines[0].lstrip().startswith("%%"):
        return [""] * len(lines)
    return ["" if line.lstrip().startswith(("%", "!", "?")) else line for line in lines]
