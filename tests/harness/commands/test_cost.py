"""`triptych cost` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from triptych.harness.commands import cli
from triptych.harness.exit_codes import ExitCode


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_predictions_and_publications_are_priced(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["cost", "--model", "llama-3.2-1b", "--target", "trn2,trn3", "--rows", "32", "--price", "H200=2.5"]
    assert cli.main([*words, "--json", "c.json", "--md", "c.md", "--html", "c.html"]) == ExitCode.OK
    said = capsys.readouterr().out
    assert "trn2 is cheapest" in said and "trn3 is left out: no public price of it was found" in said
    assert "predicted times were off by" in said
    found = json.loads(Path("c.json").read_text())
    evidence = {point["chip"]: point["evidence"] for point in found["points"]}
    assert evidence["trn2"] == "predicted" and evidence["H200"] == "bound" and "trn3" not in evidence
    assert found["prices"]["H200"]["usd_per_hour"] == 2.5
    assert "| chip |" in Path("c.md").read_text() and "<svg" in Path("c.html").read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--model llama-9", "unknown model 'llama-9'"),
        ("--price H200", "--price takes CHIP=USD an hour"),
        ("--price H300=1", "unknown chip 'H300'"),
        ("--price H200=-1", "above zero"),
        ("--target trn9", "unknown target 'trn9'"),
        ("--rows 0", "wants whole numbers above zero"),
        ("--data none.toml", "cannot read none.toml"),
        ("none.json", "cannot read none.json"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(words: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["cost", *words.split()]) == ExitCode.USAGE
    said = capsys.readouterr().err
    assert told in said and "Traceback" not in said and said.count("\n") == 1
