"""`triptych report`: stand-ins are judged and not predicted, and what models serve is predicted beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from triptych.harness.commands import report
from triptych.harness.commands.runs import predicting
from triptych.harness.exit_codes import ExitCode
from triptych.harness.ops.op import Op
from triptych.harness.results.profile import Profile
from triptych.harness.results.status import Cause, Status
from triptych.simulator.errors import NeedsData

PROFILE = Profile(
    op="matmul",
    case="llama/full",
    dtype="bfloat16",
    target="trn2",
    status=Status.UNSUPPORTED,
    cause=Cause.NOT_SUPPORTED,
    reason="its control flow depends on data",
)


KERNEL = """
import nki
import nki.isa as nisa
import nki.language as nl


@nki.jit
def kernel(x):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=x)
    nisa.dma_copy(dst=out, src=tile)
    return out
"""


@pytest.fixture(autouse=True)
def predicted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The targets for which full sizes were asked for."""
    asked: list[Any] = []

    def full_sizes(ops: Any, sources: Any, targets: Any, seed: int, show: Any, jobs: Any) -> Iterator[Profile]:
        asked.append(list(targets))
        yield PROFILE

    monkeypatch.setattr(report, "full_sizes", full_sizes)
    monkeypatch.chdir(tmp_path)
    return asked


def test_a_report_predicts_full_sizes_and_no_stand_ins(runner: Any, predicted: list[Any]) -> None:
    words = ["report", "matmul", "--backend", "nki-sim,torch", "--target", "trn1,trn2", "--json", "r.json"]
    assert runner.main(words) == ExitCode.OK
    timed = {(task.backend, "llama" in task.case.name): task.bench for task in runner.tasks}
    assert timed["nki-sim", True] is False and timed["nki-sim", False] is True and timed["torch", True] is True
    assert predicted == [["trn1", "trn2"]]
    found = json.loads(Path("r.json").read_text())
    assert found["results"][-1]["kind"] == "profile" and found["planned"] == len(found["results"])
    page = Path("report.html").read_text()
    assert "its control flow depends on data" in page and "llama/full" not in page.split("What did not run")[0]


def test_the_interpreter_is_asked_for_stand_ins_by_name_alone(runner: Any, capsys: Any) -> None:
    pytest.importorskip("triton")
    assert runner.main(["report", "matmul", "rope", "--json", "r.json"]) == ExitCode.OK
    interpreted = [task for task in runner.tasks if task.backend == "triton-cpu"]
    assert interpreted and not any("llama" in task.case.name for task in interpreted)
    found = json.loads(Path("r.json").read_text())
    left = [result for result in found["results"] if result.get("cause") == "left-out"]
    assert left and found["complete"], "a result for each, so that none is taken for checked"
    assert all(result["status"] == "skipped" and "llama" in result["case"] for result in left)
    why = "--backend triton-cpu runs them"
    assert why in capsys.readouterr().out and why in Path("report.html").read_text()
    for named in ("--backend triton-cpu", "--cases smoke,model"):
        runner.main(["report", "matmul", *named.split()])
        assert any(task.backend == "triton-cpu" and "llama" in task.case.name for task in runner.tasks), named


@pytest.mark.parametrize("words", ["--cases smoke", "-a M=64 --cases smoke", "--backend torch"])
def test_a_report_of_chosen_cases_adds_nothing(runner: Any, predicted: list[Any], words: str) -> None:
    runner.main(["report", "matmul", "--backend", "torch", *words.split()])
    assert predicted == []


def test_a_report_that_is_cut_short_in_its_predictions_says_so(
    runner: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any) -> Iterator[Profile]:
        yield PROFILE
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "full_sizes", interrupted)
    assert runner.main(["report", "matmul", "--backend", "nki-sim", "--json", "r.json"]) == ExitCode.INTERRUPTED
    assert "INCOMPLETE" in capsys.readouterr().out
    found = json.loads(Path("r.json").read_text())
    assert found["complete"] is False and found["results"][-1]["kind"] == "profile"


def test_full_sizes_are_predicted_from_shapes_or_left_to_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "k.py").write_text(KERNEL)
    cases = {"smoke": [{"P": 8, "N": 8}], "model-long": [{"P": 128, "N": 512}]}
    op = Op("copy", {"x": ("P", "N")}, lambda x: x, cases, nki=f"{tmp_path / 'k.py'}:kernel")
    seen: list[str] = []

    def profiles() -> list[Profile]:
        return list(predicting.full_sizes([op], {}, ["trn2", "trn3"], 0, lambda i, n, s: seen.append(s.case)))

    found = profiles()
    assert [(one.case, one.target, one.status) for one in found] == [
        ("128x512", "trn2", Status.PASSED),
        ("128x512", "trn3", Status.PASSED),
    ]
    assert found[0].predicted.us > 0 and "--no-data" not in found[0].repro and seen == ["128x512"] * 2

    def needs(*_: Any) -> Any:
        raise NeedsData("a branch needs data")

    monkeypatch.setattr(predicting, "traced", needs)
    assert [(one.status, one.cause) for one in profiles()] == [(Status.UNSUPPORTED, Cause.NOT_SUPPORTED)] * 2
