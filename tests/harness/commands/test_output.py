"""Files and streams: what a pipeline reads must be whole, and must be what it asked for."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from triptych.harness import files
from triptych.harness.commands import cli
from triptych.harness.exit_codes import ExitCode
from triptych.harness.reports import formats, problems, tables
from triptych.harness.reports.html import render
from triptych.harness.reports.report.invariance import Repeated, Row, count_repeated
from triptych.harness.reports.report.page import page as report_page
from triptych.harness.reports.terminal import wants_colour
from triptych.harness.results.findings import Alone, Invariance, Runs
from triptych.harness.results.measures import Parity
from triptych.harness.results.result import Result
from triptych.harness.results.status import Evidence, Status
from triptych.harness.results.timing_accuracy import LAST_VALIDATION
from triptych.harness.running.tasks import Task

BENCH = ["bench", "matmul", "--backend", "numpy,nki-sim", "--dtype", "float32", "--cases", "smoke"]
KEYS = {
    "kind", "op", "case", "dtype", "regime", "backend", "target", "evidence", "status", "reason", "cause", "metrics",
    "tolerance", "timing", "repro", "notes", "failure", "invariance", "parity", "attribution",
}  # fmt: skip


def strict(text: str) -> dict[str, object]:
    """JSON without the NaN and Infinity that Python would let pass."""

    def refuse(word: str) -> None:
        raise AssertionError(word)

    document = json.loads(text, parse_constant=refuse)
    assert isinstance(document, dict)
    return document


def test_json_on_stdout_is_one_document_and_nothing_else(runner: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert runner.main([*BENCH, "--json", "-", "--seed", "3"]) == ExitCode.OK
    out, err = capsys.readouterr()
    document = strict(out)
    assert list(document) == ["schema_version", "complete", "planned", "env", "results"] and document["complete"]
    results = document["results"]
    assert isinstance(results, list) and len(results) == 6
    assert all(set(result) == KEYS for result in results)
    assert results[0]["metrics"]["rel_l2"] == "nan" and results[0]["timing"]["samples_us"] == [4.0, 5.0, 6.0]
    assert {result["status"] for result in results} == {"passed"}
    assert "6 passed" in err and "seed 3" in err


def test_the_environment_names_versions_and_no_place(runner: Any, capsys: pytest.CaptureFixture[str]) -> None:
    runner.main([*BENCH, "--json", "-"])
    env = strict(capsys.readouterr().out)["env"]
    assert isinstance(env, dict)
    assert {"triptych", "git", "python", "packages", "blas", "cpu", "cores", "threads", "gpus", "seed"} <= set(env)
    assert env["packages"]["numpy"]
    text = json.dumps(env)
    assert (
        os.uname().nodename not in text and str(Path.home()) not in text and str(Path(__file__).parents[3]) not in text
    )


def test_results_survive_the_round_trip(runner: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved, page = tmp_path / "r.json", tmp_path / "r.html"
    runner.main([*BENCH, "--json", str(saved)])
    before = capsys.readouterr().out.splitlines()[-1]
    runner.tasks = []
    assert runner.main(["report", "--from", str(saved), "--html", str(page)]) == ExitCode.OK
    assert capsys.readouterr().out.splitlines()[-1] == before
    assert runner.tasks == [] and "<h1>" in page.read_text()


def test_runs_of_two_machines_are_kept_apart(runner: Any, tmp_path: Path) -> None:
    files = [str(tmp_path / name) for name in ("a.json", "b.json")]
    for file in files:
        runner.main([*BENCH, "--json", file])
    page = tmp_path / "r.html"
    assert runner.main(["report", "--from", *files, "--html", str(page)]) == ExitCode.OK
    assert "run 1" in page.read_text() and "nki-sim[trn2] · run 2" in page.read_text()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema_version": 1, "env": {}, "results": [{"op": 1}]}'])
def test_what_is_no_result_file_is_said(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "r.json").write_text(text)
    assert (
        cli.main(["report", "--from", str(tmp_path / "r.json"), "--html", str(tmp_path / "r.html")]) == ExitCode.USAGE
    )
    assert "is not a document that `triptych --json` wrote" in capsys.readouterr().err


def test_a_hosts_time_is_a_column_beside_the_devices(made: Any, measured: Any) -> None:
    on_device = structs.replace(measured(Evidence.DEVICE), host_us=1234.0)
    rows = [made(backend="nki", evidence=Evidence.DEVICE, timing=on_device), made(timing=measured(Evidence.REFERENCE))]
    head, _, first, second = tables.text(rows).splitlines()[:4]
    place = slice(head.index("host µs") - 1, head.index("host µs") + len("host µs"))
    assert first[place].strip() == "1,234" and not second[place].strip()
    assert "| median µs | host µs |" in tables.markdown(rows)
    assert [row["host_us"] for row in csv.DictReader(io.StringIO(tables.comma_separated(rows)))] == ["1234.0", ""]
    page = report_page([({}, rows)])
    assert '<th scope="col" class="num">host, µs</th>' in page and '<td class="num">1,234</td>' in page
    alone = [made(timing=measured(Evidence.DEVICE))]
    for told in (tables.text(alone), tables.markdown(alone), report_page([({}, alone)])):
        assert "host µs" not in told and "host, µs" not in told


def test_predictions_say_so_everywhere(runner: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = {kind: tmp_path / f"r.{kind}" for kind in ("csv", "md", "html")}
    runner.main([*BENCH, *(word for kind, path in paths.items() for word in (f"--{kind}", str(path)))])
    for row in capsys.readouterr().out.splitlines():
        assert row == LAST_VALIDATION.sentence() or ("predicted" in row) == row.startswith("matmul") * (
            "nki-sim" in row
        )
    rows = list(csv.DictReader(io.StringIO(paths["csv"].read_text())))
    for row in rows:
        simulated = row["backend"] == "nki-sim"
        assert row["time_evidence"] == ("predicted" if simulated else "reference")
        assert (row["predicted_us"], row["median_us"]) == (("2.0", "") if simulated else ("", "5.0"))
    assert sum("2 predicted" in line for line in paths["md"].read_text().splitlines()) == 3
    page = paths["html"].read_text()
    assert "A prediction is a model of one core of the chip: predicted times were off by" in page
    assert page.count('<span class="kind predicted">predicted</span>') == 3
    assert "Roofline of trn2, one core, predicted" not in page, "the runner's times have no bytes"


class Page(HTMLParser):
    """Collects what would leave the file, and checks that tags are closed."""

    VOID = {"meta", "wbr"}

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attributes if name in ("href", "src", "action")]
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag


def test_the_report_is_one_closed_file_that_asks_for_nothing(runner: Any, tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script> & 'quotes' \x1b[31mred"

    def outcome(task: Task) -> tuple[Status, str | None]:
        return (Status.FAILED, hostile) if task.backend == "nki-sim" else (Status.PASSED, None)

    runner.outcome = outcome
    path = tmp_path / "r.html"
    assert runner.main(["run", "matmul", "--backend", "numpy,nki-sim,nki", "--html", str(path)]) == ExitCode.MISMATCH
    text = path.read_text()
    page = Page()
    page.feed(text)
    assert page.stack == [] and text.count("<script") == 1
    assert all(link.startswith("#") for link in page.links) and "url(" not in text and "@import" not in text
    assert "\x1b" not in text
    assert text.index("What did not agree") < text.index("Every verdict")
    for status in ("passed", "failed", "skipped"):
        assert f'<span class="status {status}">{status}</span>' in text


def test_a_skip_is_green_nowhere(made: Any) -> None:
    results = [made(backend="nki", evidence=Evidence.DEVICE, status=Status.SKIPPED, reason="no device", metrics=None)]
    text = tables.text(results, colour=True) + problems.summary(results)
    assert "\x1b[32m" not in text
    from triptych.harness.reports.report.page import page

    html = page([({}, results)])
    assert "Nothing was compared" in html and 'class="status passed"' not in html.split('id="legend"')[0]


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert wants_colour(Terminal()) and not wants_colour(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_colour(Terminal())


@pytest.fixture
def compared(made: Any) -> Result:
    """A case that two backends ran, whose kernel repeats its bits and a part of its batch."""
    case = made(op="attention", case="h2kv1-q64-k64-d32-causal", dtype="bfloat16", backend="nki-sim", target="trn2")
    alone = Alone(axis="B", part="B = 1", identical=True, promised=True)
    case.invariance = Invariance(runs=Runs(identical=True, promised=True), alone=alone)
    case.evidence, case.metrics = Evidence.SIMULATED, structs.replace(case.metrics, rel_l2=0.00019)
    return case


def test_eighty_columns_hold_the_status_of_a_long_case(compared: Result) -> None:
    head, _, row = tables.text([compared], width=80).splitlines()
    assert row.endswith("passed") and "same bits" not in head


def test_the_table_says_which_bits_are_the_same(compared: Result) -> None:
    text = tables.text([compared], width=120)
    assert "  runs, B\n" in text
    assert "runs: of two runs on the same inputs\n  B: of a part of that axis alone, and within" in text


@pytest.mark.parametrize("promised", [True, False])
def test_the_report_shows_a_broken_promise_of_bits(promised: bool) -> None:
    found = count_repeated([Runs(identical=same, promised=promised) for same in (False, True)])
    assert found == Repeated(same=1, cases=2, axes="", promised=promised, broken=promised)
    cells = render("report/invariance.html", found=[Row("matmul", "nki-sim[trn2]", found, None)])
    assert "1 of 2 cases" in cells and ("failed" in cells) == promised
    assert ("not promised" in cells) != promised and "not tried" in cells


def test_markdown_has_the_parity_matrix(compared: Result) -> None:
    difference = Parity(share=0.25, max_abs=0.1, identical=1.0, strange=0)
    text = tables.markdown([structs.replace(compared, parity={"numpy": difference})])
    assert "```\nparity of attention\n" in text and "  nki-sim[trn2]  0.25 (1 of 1 same)\n" in text
    assert "parity" not in tables.markdown([compared])


def test_a_narrow_terminal_cuts_rows_and_not_reasons(made: Any) -> None:
    names = ("1x1x1", "a-longer-name")
    results = [made(case=name, status=Status.FAILED, reason="reason " * 30, metrics=None) for name in names]
    for width in (1, 20, 60, 100):
        assert max(map(len, tables.text(results, width=width).splitlines())) <= width
    assert ("reason " * 30).strip() in problems.problems(results)


def test_markdown_escapes_what_would_break_its_table(made: Any) -> None:
    result = made(case="a|b", status=Status.FAILED, reason="x | y <z>\nnext", metrics=None)
    row = tables.markdown([result]).splitlines()[2]
    assert row.replace("\\|", "").count("|") == tables.markdown([result]).splitlines()[0].count("|")
    assert "<z>" not in row and "next" in row


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (None, ""),
        (1.0, "1"),
        (0.12345, "0.123"),
        (1234567.8, "1.23e+06"),
        (98765.4, "98,765"),
        (3e-7, "3.00e-07"),
    ],
)
def test_numbers_are_short(value: float | None, text: str) -> None:
    assert formats.short(value) == text


def test_a_file_is_replaced_whole_or_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.json"
    path.write_text("before")
    path.chmod(0o640)
    files.write(str(path), "after")
    assert path.read_text() == "after" and stat.S_IMODE(path.stat().st_mode) == 0o640

    def fails(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", fails)
    with pytest.raises(files.OutputError, match="No space left"):
        files.write(str(path), "torn")
    assert path.read_text() == "after" and [p.name for p in tmp_path.iterdir()] == ["r.json"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("before")
    (tmp_path / "link").symlink_to("real")
    files.write(str(tmp_path / "link"), "after")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_text() == "after"
