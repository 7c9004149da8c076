"""What an error says: where, which instruction, what is wrong, and where the rule is documented."""

from __future__ import annotations

import _thread
import gc
import sys
import threading
import weakref

import pytest

from triptych.simulator import NkiError, errors
from triptych.simulator.errors import show_line

ROWS = {  # instructions of Python behind a call, of several versions
    "x": [("STORE_FAST", "x")],
    "a": [("STORE_FAST_STORE_FAST", ("a", "b"))],
    "y": [("STORE_NAME", "y")],
    "z": [("ROT_TWO", None), ("STORE_FAST", "w"), ("STORE_FAST", "z")],
    "part": [("LOAD_FAST_BORROW", "self"), ("STORE_ATTR", "part")],
    "return": [("RETURN_VALUE", None)],
    "": [("POP_TOP", None)],
}


@pytest.mark.parametrize("name", [*ROWS, None])
def test_what_a_call_is_bound_to_is_read_from_the_instructions_behind_it(monkeypatch, name):
    rows = [("CALL", 0), *ROWS.get(name, [])]
    monkeypatch.setattr(errors, "_instructions", lambda code: ([2 * n for n in range(len(rows))], rows))
    assert errors._bound_to(None, 0) == (name or "")


def test_a_line_and_what_is_bound_there_are_looked_up_once():
    lines = errors.Lines()
    bound = [lines.bound(sys._getframe()) for _ in range(2)]
    line = [lines.of(sys._getframe()) for _ in range(2)]
    assert bound[0] is bound[1] and line[0] is line[1] and bound[0][0][0] == line[0][0] == __file__


def test_where_nobody_is_there_is_neither_line_nor_variable():
    lines = errors.Lines()
    assert lines.of(None) == ("?", 0) and lines.bound(None) == (("?", 0), "")


@pytest.mark.parametrize(("times", "variable"), [(0, "x"), (3, "x"), (4, "")])
def test_what_is_handed_on_a_few_times_has_the_name_that_it_gets_in_the_end(times, variable):
    lines = errors.Lines()

    def handed(times):
        if times:
            return handed(times - 1)
        return lines.bound(sys._getframe())

    x = handed(times)
    assert x[1] == variable


def test_what_the_first_function_of_a_thread_returns_is_bound_to_nothing():
    lines, found, ended = errors.Lines(), [], threading.Event()

    def ask(frame):
        found.append((frame.f_back, lines.bound(frame)[1]))
        ended.set()

    def first():
        return ask(sys._getframe())

    _thread.start_new_thread(first, ())
    assert ended.wait(10) and found == [(None, "")]


@pytest.mark.parametrize("ask", ["of", "bound"])
def test_a_code_that_was_asked_about_stays_so_that_no_other_has_its_id(ask):
    lines, names = errors.Lines(), {}
    exec(compile("import sys\ndef kernel(ask):\n    ask(sys._getframe())\n", "kernel.py", "exec"), names)
    code = weakref.ref(names["kernel"].__code__)
    names["kernel"](getattr(lines, ask))
    names.clear()
    errors._instructions.cache_clear()  # which keeps some codes of late, not all
    gc.collect()
    assert code() is not None
    del lines
    gc.collect()
    assert code() is None


LINE = ("/some/where/kernel.py", 7)
NOTES: property = NkiError.__notes__  # which tests of other messages do without (conftest)


def error(source=None, op=None, rank=None):
    made = NkiError("what is wrong", source=source, line=LINE)
    made.op, made.rank = op, rank
    return str(made)


def test_it_says_what_it_knows():
    assert show_line(LINE) == "kernel.py:7"
    assert error() == "kernel.py:7: what is wrong"
    assert error("page.rst") == "kernel.py:7: what is wrong [page.rst]"
    assert error(op="nisa.memset") == "nisa.memset at kernel.py:7: what is wrong"
    assert error("page.rst", "nl.add", 0) == "rank 0, nl.add at kernel.py:7: what is wrong [page.rst]"


@pytest.mark.parametrize(("lines", "number", "shown"), [
    (["a = 1", "b = 2  "], 2, "kernel.py:2:\n     1 | a = 1\n>    2 | b = 2"),
    (["a = 1", "b = 2"], 1, "kernel.py:1:\n>    1 | a = 1"),
    (["", "  b = 2"], 2, "kernel.py:2:\n>    2 |   b = 2"),
    (["a = 1", ""], 2, ""),
    (["a = 1"], 9, ""),
])  # fmt: skip
def test_it_shows_its_line_and_the_one_before(tmp_path, lines, number, shown):
    path = tmp_path / "kernel.py"
    path.write_text("\n".join(lines) + "\n")
    assert NkiError("wrong", line=(str(path), number)).excerpt == shown


def test_python_prints_the_excerpt_below_an_error_and_nothing_where_there_is_none():
    here = NkiError("wrong", line=(__file__, 1))
    assert NOTES.fget(here) == [here.excerpt] and here.excerpt
    assert NOTES.fget(NkiError("wrong", line=LINE)) == []
