"""Errors that end a command with one sentence instead of a traceback, and other exceptions in a sentence."""

from __future__ import annotations

from collections.abc import Iterable

from triptych.harness.exit_codes import ExitCode

LONGEST = 400  # characters of a message that are told


class UsageError(Exception):
    """What was asked for does not exist or makes no sense; its text is one sentence."""

    exit_code = ExitCode.USAGE


class RequiredMissing(Exception):
    """A backend that must run is not here; its text is one sentence."""

    exit_code = ExitCode.REQUIRED_MISSING


def unknown(kind: str, word: str, existing: Iterable[str], globs: bool = False) -> UsageError:
    """The error for a name that does not exist: the closest one, or the glob that would do, and all there are."""
    import difflib  # which nobody needs who makes no mistake

    names = list(existing)
    close = difflib.get_close_matches(word, names, n=1)
    if globs and any(word in name for name in names):
        close = [f"*{word}*"]
    hint = f"; did you mean {close[0]!r}?" if close else "."
    return UsageError(f"unknown {kind} {word!r}{hint} There is: {', '.join(names) or 'nothing'}.")


def message_of(error: BaseException) -> str:
    """The exception's message; a user's class may fail to make one."""
    try:
        return str(error)
    except Exception:
        return "(its message could not be made)"


def describe(error: BaseException) -> str:
    """The exception's type and the first line that says something."""
    lines = [line.strip() for line in message_of(error).splitlines() if line.strip()]
    first = lines[0] if lines else ""
    words = first if len(first) <= LONGEST else f"{first[:LONGEST]}..."
    return f"{type(error).__name__}: {words}" if words else type(error).__name__
