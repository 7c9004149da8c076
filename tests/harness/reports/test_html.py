"""The pages: names from files and documents are text in them, and CSS and JavaScript are files of their own kind."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from triptych.harness.reports import html, tables
from triptych.harness.reports.markdown import Markdown, code, fence, markdown_table
from triptych.harness.reports.report.page import CHAPTERS, page
from triptych.harness.results.findings import Attribution, Failure, Histogram, Map, Worst
from triptych.harness.results.measures import Parity
from triptych.harness.results.result import Result
from triptych.harness.results.status import Evidence, Status

REPORTS = Path(html.__file__).parent
TEMPLATES = REPORTS / "templates"
SCRIPTS = sorted(TEMPLATES.rglob("*.js"))
HOSTILE = "<script>alert('1')</script> | \" & <b>"


def hostile(**changes: object) -> Result:
    """A failure whose every name and sentence is markup."""
    worst = Worst(index=[0], axes={}, expected=0.0, got=1.0, error=1.0, allowed=0.5)
    drawing = Map(of=HOSTILE, rows=1, columns=1, row_tile=0, column_tile=0, lines=[HOSTILE])
    result = Result(
        op=f"op {HOSTILE}",
        case=f"a/case {HOSTILE}",
        dtype="float32",
        backend=f"backend {HOSTILE}",
        target=None,
        evidence=Evidence.HOST,
        status=Status.FAILED,
        reason=f"reason {HOSTILE}",
        repro=f"triptych check {HOSTILE}",
        failure=Failure(
            diagnosis=f"diagnosis {HOSTILE}",
            worst=worst,
            histogram=Histogram(edges=[0.0, 1.0], counts=[3], nonfinite=0),
            map=drawing,
        ),
        attribution=Attribution(cause="logic", text=f"because {HOSTILE}"),
        parity={f"other {HOSTILE}": Parity(share=0.5, max_abs=0.25, identical=0.5, strange=0)},
    )
    for name, value in changes.items():
        setattr(result, name, value)
    return result


class Text(HTMLParser):
    """Tags, and the text that a reader sees."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.text += "".join(f" {value}" for name, value in attributes if name in ("title", "aria-label"))

    def handle_data(self, text: str) -> None:
        self.text += text


def test_names_and_sentences_are_text_in_the_report() -> None:
    skipped = hostile(status=Status.SKIPPED, backend="nki", failure=None, attribution=None, parity={})
    env = {"cpu": f"cpu {HOSTILE}", "command": f"command {HOSTILE}", "packages": {"numpy": HOSTILE}, "seed": HOSTILE}
    seen = Text()
    seen.feed(page([(env, [hostile(), skipped])]))
    assert seen.tags.count("script") == 1, "ours, which sorts tables"
    for what in ("op", "case", "backend", "reason", "diagnosis", "because", "check", "other", "cpu", "command"):
        assert f"{what} {HOSTILE}" in seen.text, what


def test_names_and_sentences_stay_in_their_cells_in_markdown() -> None:
    head, rule, row, *_ = tables.markdown([hostile()]).splitlines()
    assert len(re.findall(r"(?<!\\)\|", row)) == head.count("|") == rule.count("|")
    assert "<" not in row and '\\| " & &lt;b>' in row


def test_a_markdown_cell_is_escaped_unless_it_is_markdown() -> None:
    rows = [("a|b\\c <d>\ne", Markdown("[x](#y)"), code("p|q"))]
    assert markdown_table(("one", "two", "three"), rows, right=(1,)).splitlines() == [
        "| one | two | three |",
        "| --- | ---: | --- |",
        "| a\\|b\\\\c &lt;d> e | [x](#y) | `p\\|q` |",
    ]
    assert fence("```\nx").startswith("````\n```\nx\n````\n")


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.name)
def test_a_chapter_is_a_template(chapter) -> None:
    assert (TEMPLATES / "report" / f"{chapter.name}.html").is_file()


def test_the_legend_explains_every_word() -> None:
    text = page([({}, [])])
    for status in Status:
        assert f'<dt><span class="status {status}">{status}</span></dt>' in text
    for evidence in Evidence:
        assert f"<dt>{evidence}</dt>" in text


def test_markup_is_written_in_templates_alone() -> None:
    """So that nothing has to be escaped by hand, and nothing can be forgotten."""
    for file in REPORTS.rglob("*.py"):
        text = file.read_text()
        assert not re.search(r"</\w|<(div|p|td|tr|span|table|li)\b", text), file
        assert "from html import" not in text and ("Markup(" not in text or file.name == "html.py"), file
    for template in TEMPLATES.rglob("*.html"):
        text = template.read_text()
        assert "autoescape" not in text and not re.search(r"\son\w+=|javascript:", text), template
        for escaped in re.findall(r"(\S+)\s*\|\s*safe", text):
            assert escaped.endswith(('"', "'")), f"{template}: only a literal is safe, not {escaped}"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_javascript(script: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js, which reads JavaScript, is not here")
    done = subprocess.run([node, "--check", str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("file", [*SCRIPTS, *sorted(TEMPLATES.rglob("*.css"))], ids=lambda path: path.name)
def test_what_stands_in_a_page_closes_its_brackets_and_ends_no_element(file: Path) -> None:
    text = file.read_text()
    assert "</" not in text and "<!--" not in text
    bare = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    if file.suffix == ".js":
        bare = re.sub(r"//.*", "", re.sub(r"'[^'\n]*'", "''", bare))
    is_open: list[str] = []
    for mark in re.findall(r"[][(){}]", bare):
        if mark in "([{":
            is_open.append(mark)
        else:
            assert is_open and is_open.pop() + mark in ("()", "[]", "{}"), f"{mark} closes nothing"
    assert not is_open


TABLE = """
const cell = text => ({textContent: text, dataset: {}, firstChild: {textContent: text}});
const rows = [['b', '2'], ['a', '10'], ['c', ''], ['d', '1,000']].map(cells => ({
  cells: cells.map(cell), textContent: cells.join(' '), hidden: false,
}));
const made = () => ({
  heard: {}, attributes: {}, setAttribute(k, v) { this.attributes[k] = v; }, append() {},
  getAttribute(k) { return this.attributes[k] || null; }, removeAttribute(k) { delete this.attributes[k]; },
  addEventListener(name, what) { this.heard[name] = what; }, childNodes: [],
});
const heads = [made(), made()];
heads[0].classList = {contains: () => false};
heads[1].classList = {contains: () => true};
const buttons = [];
let shown = rows, filter;
const table = {
  tBodies: [{rows, append(...all) { shown = all; }}], tHead: {rows: [{cells: heads}]},
  parentElement: {before(one) { filter = one; }},
};
const document = {
  querySelectorAll: () => [table],
  createElement(name) { const one = made(); if (name === 'button') buttons.push(one); return one; },
};
SCRIPT
const order = () => shown.map(row => row.cells[0].textContent).join('');
buttons[1].heard.click(); console.log(order());
buttons[1].heard.click(); console.log(order());
buttons[0].heard.click(); console.log(order());
filter.value = ' A 1'; filter.heard.input();
console.log(rows.filter(row => !row.hidden).map(row => row.cells[0].textContent).join(''));
"""


def test_tables_are_sorted_by_numbers_and_filtered_by_words(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js, which runs JavaScript, is not here")
    script = tmp_path / "run.js"
    script.write_text(TABLE.replace("SCRIPT", (TEMPLATES / "tables.js").read_text()))
    done = subprocess.run([node, str(script)], capture_output=True, text=True)
    assert done.stdout.split() == ["badc", "dabc", "abcd", "a"], done.stderr


def test_a_source_that_would_end_its_element_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "bad.js").write_text("const end = '</script>';")
    monkeypatch.setattr(html.resources, "files", lambda package: tmp_path)
    with pytest.raises(ValueError, match="bad.js holds '</'"):
        html.source("bad.js")


def test_a_pipe_and_a_list_load_neither_templates_nor_rich() -> None:
    program = (
        "import sys; from triptych.harness.commands import check\n"
        "from triptych.harness.reports import tables, terminal\n"
        "terminal.StatusLine(sys.stderr).say('x'); terminal.paint('x', 'green', terminal.wants_colour(sys.stdout));"
        "tables.text([]); print({'jinja2', 'rich'} & {name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr
