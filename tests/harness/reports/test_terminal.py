"""What a terminal gets and a pipe does not."""

from __future__ import annotations

import io
import sys

import pytest

from triptych.harness.reports.terminal import StatusLine, cut, paint
from triptych.harness.reports.text_table import text_table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_table_is_as_wide_as_its_cells_and_ends_where_they_do() -> None:
    rows = [["name", "n", ""], ["a", "10"], ["bcdef", "9", "note"]]
    assert text_table(rows, right=[1], rule=True) == [
        "name    n",
        "─────  ──  ────",
        "a      10",
        "bcdef   9  note",
    ]


def test_a_line_is_cut_by_columns_and_not_by_characters() -> None:
    assert cut("four", None) == cut("four", 4) == "four"
    assert cut("longer", 4) == "lon…" and cut("字字字", 4) == "字 …"


def test_words_are_painted_where_there_is_colour() -> None:
    assert paint("failed", "bold red", colour=False) == "failed"
    assert paint("failed", "bold red", colour=True) == "\x1b[1;31mfailed\x1b[0m"


@pytest.mark.parametrize("stream, quiet", [(io.StringIO(), False), (Terminal(), True)])
def test_the_status_line_is_on_a_terminal_alone(stream: io.StringIO, quiet: bool) -> None:
    line = StatusLine(stream, quiet=quiet)
    line.say("matmul")
    line.clear()
    assert stream.getvalue() == ""


def test_what_is_printed_stands_above_the_status_line(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, pipe = Terminal(), io.StringIO()
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", pipe)
    line = StatusLine(terminal)
    line.say("matmul on nki-sim[trn2]")
    print("a warning", file=sys.stderr)
    print("a result")
    line.say("attention")
    line.clear()
    assert pipe.getvalue() == "a result\n" and sys.stderr is terminal
    text = terminal.getvalue()
    assert text.index("matmul on nki-sim[t…") < text.index("a warning") < text.index("attention")
    assert text.endswith("\x1b[2K"), "the line is gone"
