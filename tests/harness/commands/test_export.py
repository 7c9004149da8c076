"""`triptych export`: everything of saved results as one folder or zip, and pictures that stand alone."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from triptych.harness.commands import cli
from triptych.harness.exit_codes import ExitCode
from triptych.harness.reports.charts.chart import Axis, Bound, Chart, Mark, Series
from triptych.harness.reports.charts.files import bars, picture

HOSTILE = "</svg><script>alert('1')</script>]\"\n```\n& <b>"
BENCH = ["bench", "matmul", "--cases", "smoke", "--dtype", "bfloat16", "--backend", "nki-sim"]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("results") / "r.json"
    assert cli.main([*BENCH, "--json", str(path)]) == ExitCode.OK
    return path.read_text()


@pytest.fixture
def saved(results: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.json").write_text(results)
    return tmp_path


def test_a_bundle_holds_document_page_tables_and_pictures(saved: Path) -> None:
    assert cli.main(["export", "r.json", "--to", "out"]) == ExitCode.OK
    made = saved / "out"
    assert {"results.json", "report.html", "results.csv", "results.md", "pictures"} == {p.name for p in made.iterdir()}
    assert (made / "results.json").read_text() == (saved / "r.json").read_text()
    drawings = sorted((made / "pictures").iterdir())
    assert drawings and all(ElementTree.fromstring(p.read_text()).tag.endswith("svg") for p in drawings)
    assert [p for p in saved.iterdir() if p.name.startswith(".")] == []


def test_a_zip_is_the_same_bytes_again_and_two_runs_are_two_documents(saved: Path) -> None:
    for name in ("a.zip", "b.zip"):
        assert cli.main(["export", "r.json", "r.json", "--to", name]) == ExitCode.OK
    names = zipfile.ZipFile(saved / "a.zip").namelist()
    assert {"a/results-1.json", "a/results-2.json", "a/report.html"} <= set(names)
    inside = {name.partition("/")[2]: zipfile.ZipFile(saved / "a.zip").read(name) for name in names}
    other = zipfile.ZipFile(saved / "b.zip")
    assert inside == {name.partition("/")[2]: other.read(name) for name in other.namelist()}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("r.json --to there", "there is there already; --to names a folder"),
        ("r.json --to none/x", "is in a folder that is not there"),
        ("none.json --to x", "cannot read none.json"),
    ],
)
def test_what_cannot_be_made_is_one_sentence(
    saved: Path, words: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (saved / "there").mkdir()
    capsys.readouterr()
    assert cli.main(["export", *words.split()]) == ExitCode.USAGE
    said = capsys.readouterr().err
    assert told in said and said.count("\n") == 1
    assert not (saved / "x").exists()


def test_a_picture_stands_alone_whatever_its_names_are() -> None:
    x = Axis.over(HOSTILE, [1.0, 10.0])
    series = [Series(HOSTILE, "nki", "predicted", [Mark(2.0, 3.0, HOSTILE)]), Series("b", "triton", "published", [])]
    text = picture(Chart(HOSTILE, HOSTILE, x, x, series, [Bound(HOSTILE, [(1.0, 1.0), (10.0, 10.0)])]))
    root = ElementTree.fromstring(text)
    assert [tag for tag in root.iter() if tag.tag.endswith("script")] == []
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")


def test_a_diagram_in_markdown_ends_nowhere_else() -> None:
    text = bars(HOSTILE, HOSTILE, [HOSTILE, "64x128"], [50.0, 120.0])
    assert text.count("```") == 2 and text.rstrip().endswith("```")
    title, axis = re.search(r'title "(.*)"', text), re.search(r'x-axis \["(.*)", "64x128"\]', text)
    assert title and axis and not set('"`<') & set(title[1]) and not set('"`<') & set(axis[1])
    assert "0 --> 120" in text


def test_markdown_of_a_run_draws_its_shares_of_the_bound(
    runner: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from triptych.harness.reports import tables

    monkeypatch.chdir(tmp_path)
    assert tables.markdown([], pictures=["DRAWN\n\n"]).count("DRAWN") == 1
    assert runner.main([*BENCH, "--md", "r.md"]) == ExitCode.OK
    text = (tmp_path / "r.md").read_text()
    assert "```mermaid" in text and 'title "matmul on nki-sim[trn2], predicted"' in text
