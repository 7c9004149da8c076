"""Errors of the simulator: what rule was broken, where, what was expected and what came.

    NkiError                     everything a kernel can do wrong
    ├── NkiValidationError       a documented limit of the language or of the chip (the name is NKI's own)
    │   ├── OutOfBounds          an index or access pattern leaves its tensor
    │   └── Uninitialized        a read of memory that nothing has written
    └── KernelError              how a kernel is called or what it returns
        └── NeedsData            a run without data, of a kernel that depends on it

An error knows the line of the kernel that caused it: the innermost frame outside this package.
"""

from __future__ import annotations

import dis
import functools
import linecache
import os
import sys
from bisect import bisect_right
from types import CodeType, FrameType
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep


def kernel_line() -> tuple[str, int]:
    """(file, line) of the innermost caller outside the simulator: the line of the kernel."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code.co_filename.startswith(HERE):
        frame = frame.f_back
    return (frame.f_code.co_filename, frame.f_lineno) if frame else ("?", 0)


class Lines:
    """The kernel's line of a frame, kept from its first use: Python walks a table of its code for it.

    And the variable that the value of the call in that frame is bound to, by the instruction of Python that follows it.
    """

    __slots__ = ("_bound", "_codes", "known")

    def __init__(self) -> None:
        self.known: dict[tuple[int, int], tuple[str, int]] = {}  # by code and instruction
        self._bound: dict[tuple[int, int], tuple[tuple[str, int], str]] = {}  # the line, and the variable
        self._codes: list[CodeType] = []  # kept alive, so that an id stays one code's

    def bound(self, frame: FrameType | None) -> tuple[tuple[str, int], str]:
        """The kernel's line, and `x` of `x = ..` there; of `return ..` the caller's variable; "" if there is none."""
        while frame is not None and frame.f_code.co_filename.startswith(HERE):
            frame = frame.f_back
        if frame is None:
            return ("?", 0), ""
        found = self._at(frame)
        if found[1] != _RETURNED:
            return found
        for _ in range(_CALLERS):
            frame = frame.f_back
            if frame is None:
                break
            name = self._at(frame)[1]
            if name != _RETURNED:
                return found[0], name
        return found[0], ""

    def _at(self, frame: FrameType) -> tuple[tuple[str, int], str]:
        """The line of a frame, and what its call is bound to; "return" where the function returns it."""
        code = frame.f_code
        key = (id(code), frame.f_lasti)
        found = self._bound.get(key)
        if found is None:
            self._codes.append(code)
            found = self._bound[key] = ((code.co_filename, frame.f_lineno), _bound_to(code, frame.f_lasti))
        return found

    def of(self, frame: FrameType | None) -> tuple[str, int]:
        """(file, line) of a frame, or of the innermost of its callers that is outside the simulator."""
        while frame is not None:
            code = frame.f_code
            line = self.known.get((id(code), frame.f_lasti))
            if line is not None:
                return line
            if not code.co_filename.startswith(HERE):
                self._codes.append(code)
                return self.known.setdefault((id(code), frame.f_lasti), (code.co_filename, frame.f_lineno))
            frame = frame.f_back
        return "?", 0


_CALLERS = 4  # functions that hand a tensor on to the one that names it
_RETURNED = "return"  # no name of a variable
_TURNED = {"ROT_TWO": 2, "ROT_THREE": 4}  # instructions before the last value of `a, b = .., f()` is stored, in 3.10


def _bound_to(code: CodeType, offset: int) -> str:
    """The variable that a call at an offset of Python's code is bound to; "return" where the function returns it."""
    offsets, rows = _instructions(code)
    at = bisect_right(offsets, offset)
    at += rows[at - 1][0] == "PRECALL"  # of 3.11, where a function in C stands before its CALL
    at += _TURNED.get(rows[at][0], 0) if at < len(rows) else 0
    (after, value), (then, attribute) = (rows[n] if n < len(rows) else ("", None) for n in (at, at + 1))
    if after.startswith("LOAD_") and then == "STORE_ATTR":  # self.x = ..
        return str(attribute)
    if after.startswith("RETURN"):
        return _RETURNED
    if not after.startswith(("STORE_FAST", "STORE_NAME", "STORE_DEREF", "STORE_GLOBAL")):
        return ""
    return str(value[0] if isinstance(value, tuple) else value)


@functools.lru_cache(maxsize=1024)
def _instructions(code: CodeType) -> tuple[list[int], list[tuple[str, Any]]]:
    """The offsets of Python's instructions, and the name and argument of each."""
    found = [(i.offset, i.opname, i.argval) for i in dis.get_instructions(code) if i.opname != "CACHE"]
    return [offset for offset, *_ in found], [(name, value) for _, name, value in found]


def show_line(line: tuple[str, int]) -> str:
    return f"{os.path.basename(line[0])}:{line[1]}"


class NkiError(Exception):
    """What a kernel did wrong, in one sentence."""

    def __init__(self, message: str, *, source: str | None = None, line: tuple[str, int] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.source = source  # where the rule is documented
        self.op: str | None = None  # the instruction, set where it is dispatched
        self.rank: int | None = None  # set where several ranks run
        self.line = line or kernel_line()

    @property
    def excerpt(self) -> str:
        """The kernel's line with the one before it, as they stand in its file; "" where there is no source."""
        file, number = self.line
        rows = [(n, linecache.getline(file, n).rstrip()) for n in (number - 1, number)]
        if not rows[1][1]:
            return ""
        shown = [f"{'>' if n == number else ' '} {n:4} | {text}" for n, text in rows if text]
        return "\n".join([f"{show_line(self.line)}:", *shown])

    @property
    def __notes__(self) -> list[str]:  # type: ignore[override]
        """What Python prints below an error that nobody catches."""
        return [self.excerpt] if self.excerpt else []

    def __str__(self) -> str:
        op = f"{self.op} at " if self.op else ""
        source = f" [{self.source}]" if self.source else ""
        rank = f"rank {self.rank}, " if self.rank is not None else ""
        return f"{rank}{op}{show_line(self.line)}: {self.message}{source}"


class NkiValidationError(NkiError):
    """A documented limit of the language or of the chip is broken."""


class OutOfBounds(NkiValidationError):
    """An index or access pattern leaves its tensor."""


class Uninitialized(NkiValidationError):
    """A read of memory that nothing has written."""


class KernelError(NkiError):
    """A kernel is called wrongly, or returns what cannot be returned."""


class NeedsData(KernelError):
    """A kernel that runs on shapes alone depends on what a tensor holds."""
