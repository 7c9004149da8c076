"""What a terminal gets and a pipe does not: colour, lines cut to its width, one line that says what runs now.

rich does it, and is imported where there is a terminal. What a pipe reads does not depend on rich.
"""

from __future__ import annotations

import os
import threading
from typing import IO, TYPE_CHECKING

from triptych.harness.results.status import Status

if TYPE_CHECKING:
    from rich.live import Live

EVERY_S = 15.0  # between two lines on a pipe; what takes less says nothing there
STYLES = {
    Status.PASSED: "green",
    Status.FAILED: "bold red",
    Status.ERROR: "bold red",
    Status.TIMEOUT: "bold red",
    Status.UNSUPPORTED: "dim",
    Status.SKIPPED: "yellow",
}


def wants_colour(stream: IO[str]) -> bool:
    """Colour on a terminal that can show it, unless NO_COLOR (https://no-color.org) asks for none."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(words: str, style: str, colour: bool) -> str:
    """`words` in a style that rich knows, as "bold red"; as they are without `colour`."""
    if not colour:
        return words
    from rich.color import ColorSystem
    from rich.style import Style

    return Style.parse(style).render(words, color_system=ColorSystem.STANDARD)


def cut(line: str, width: int | None) -> str:
    """`line` in `width` columns of a terminal, with an ellipsis where its end is left out; None cuts nothing."""
    if width is None:
        return line
    from rich.text import Text

    text = Text(line)
    text.truncate(width, overflow="ellipsis")
    return text.plain


class StatusLine:
    """One line at the bottom of a terminal that says what runs now; nothing anywhere else.

    It is drawn anew when it is told something else, by no thread, so that processes may be forked meanwhile.
    """

    def __init__(self, stream: IO[str], *, quiet: bool = False) -> None:
        self.stream = stream
        self.on = stream.isatty() and not quiet
        self.live: Live | None = None

    def say(self, words: str) -> None:
        """Show these words in place of the last ones."""
        if not self.on:
            return
        from rich.text import Text

        if self.live is None:
            from rich.console import Console
            from rich.live import Live

            # Standard output may be a file: what is printed there must not be drawn above the line.
            console = Console(file=self.stream, force_terminal=True)
            self.live = Live(console=console, transient=True, auto_refresh=False, redirect_stdout=False)
            self.live.start()
        self.live.update(Text(words, no_wrap=True, overflow="ellipsis"), refresh=True)

    def clear(self) -> None:
        """Take the line away."""
        if self.live is not None:
            self.live.stop()
            self.live = None


class Ticker(StatusLine):
    """The same; on a pipe a thread writes the last words every fifteen seconds, so that a long run is never silent."""

    def __init__(self, stream: IO[str], *, quiet: bool = False) -> None:
        super().__init__(stream, quiet=quiet)
        self.lines = not quiet and not self.on
        self.words = ""
        self.stop = threading.Event()
        self.writer: threading.Thread | None = None

    def say(self, words: str) -> None:
        super().say(words)
        self.words = words
        if self.lines and self.writer is None:
            self.stop = threading.Event()
            self.writer = threading.Thread(target=self._write, daemon=True)
            self.writer.start()

    def clear(self) -> None:
        super().clear()
        self.stop.set()
        if self.writer is not None:
            self.writer.join(timeout=0.2)  # so that this process has one thread again, and may be forked
            self.writer = None

    def _write(self) -> None:
        stop = self.stop
        while not stop.wait(EVERY_S):
            try:
                print(self.words, file=self.stream, flush=True)
            except (ValueError, OSError):  # the stream is closed, and nobody listens
                return
