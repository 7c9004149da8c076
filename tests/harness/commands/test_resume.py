"""`--resume FILE`: whole at every moment, continued after kill -9, and not fooled by what changed."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from triptych.harness import files
from triptych.harness.commands import cli
from triptych.harness.exit_codes import ExitCode
from triptych.harness.results.status import Cause, Status
from triptych.harness.running import resume
from triptych.harness.running.tasks import Task

FILE = """
import pathlib, time
import numpy as np
import nki
import nki.isa as nisa
import nki.language as nl
from triptych import Op

HERE = pathlib.Path(__file__).parent


def reference(x):
    return x


@nki.jit
def kernel(x):
    with open(HERE / "calls.txt", "a") as calls:
        calls.write(f"{x.shape[0]}\\n")
    if x.shape[0] == 3 and not (HERE / "go").exists():
        time.sleep(60)
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=x)
    nisa.dma_copy(dst=out, src=tile)
    return out


op = Op("copy", {"x": ("M", "N")}, reference, [{"M": m, "N": 4} for m in (1, 2, 3, 4)], nki=kernel)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(FILE)
    (tmp_path / "go").touch()
    return tmp_path


def words(folder: Path, *more: str) -> list[str]:
    line = (
        f"check --kernel {folder}/mine.py --backend nki-sim --dtype float32 -q --cases smoke --resume {folder}/run.json"
    )
    return [*shlex.split(line), *more]


def calls(folder: Path) -> list[int]:
    """The rows of each case that ran; a kernel that passes is called several times in a row."""
    path = folder / "calls.txt"
    found = [int(word) for word in path.read_text().split()] if path.exists() else []
    path.unlink(missing_ok=True)
    return [rows for i, rows in enumerate(found) if i == 0 or found[i - 1] != rows]


def results(folder: Path) -> list[dict[str, Any]]:
    kept: list[dict[str, Any]] = json.loads((folder / "run.json").read_text())["results"]
    return kept


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX's")
def test_a_run_that_is_killed_continues_where_it_was(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "go").unlink()
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    job = subprocess.Popen([sys.executable, "-m", "triptych", *words(folder), "--jobs", "1"], env=env)
    end = time.monotonic() + 60
    while time.monotonic() < end and "3" not in (
        (folder / "calls.txt").read_text() if (folder / "calls.txt").exists() else ""
    ):
        time.sleep(0.05)
    job.kill()
    job.wait()
    assert calls(folder) == [1, 2, 3]
    kept = results(folder)
    environment = json.loads((folder / "run.json").read_text())["env"]
    assert environment["conformance"]["nki-sim"]["failed"] == [], "the self-test is there from the first write"
    assert [result["case"] for result in kept] == ["1x4", "2x4"][: len(kept)] and kept, "whole, if a second behind"
    (folder / "go").touch()
    assert cli.main(words(folder)) == ExitCode.OK
    assert calls(folder) == [1, 2, 3, 4][len(kept) :], "nothing that was kept is run again"
    assert [(result["case"], result["status"]) for result in results(folder)] == [
        (f"{m}x4", "passed") for m in (1, 2, 3, 4)
    ]
    out, err = capsys.readouterr()
    assert f"run.json: {len(kept)} of 4 results are there\n" in err and out.startswith("4 passed, ")


def test_what_is_done_is_not_run_again(folder: Path) -> None:
    assert cli.main(words(folder)) == ExitCode.OK and calls(folder) == [1, 2, 3, 4]
    before = results(folder)
    assert cli.main(words(folder)) == ExitCode.OK and calls(folder) == []
    assert results(folder) == before


def test_a_changed_kernel_is_run_again_and_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(words(folder))
    (folder / "mine.py").write_text(FILE.replace("import pathlib, time", "import pathlib, time  # edited"))
    resume.sources.cache_clear()
    calls(folder)
    assert cli.main(words(folder)) == ExitCode.OK and calls(folder) == [1, 2, 3, 4]
    err = capsys.readouterr().err
    assert "0 of 4 results are there; 4 more are run again, because their sources, options or tools changed" in err


def test_a_changed_helper_beside_the_kernel_counts_as_a_change(folder: Path) -> None:
    cli.main(words(folder))
    (folder / "helper.py").write_text("x = 1\n")
    resume.sources.cache_clear()
    calls(folder)
    cli.main(words(folder))
    assert calls(folder) == [1, 2, 3, 4]


@pytest.mark.parametrize("more", [["--seed", "1"], ["--atol", "1"]])
def test_another_seed_or_tolerance_is_run_again(folder: Path, more: list[str]) -> None:
    cli.main(words(folder))
    calls(folder)
    cli.main(words(folder, *more))
    assert calls(folder) == [1, 2, 3, 4]


def test_another_selection_runs_what_is_new_and_keeps_what_is_there(folder: Path) -> None:
    cli.main(words(folder, "-k", "[12]x4"))
    assert calls(folder) == [1, 2]
    cli.main(words(folder, "-k", "[24]x4"))
    assert calls(folder) == [4]
    assert [result["case"] for result in results(folder)] == ["1x4", "2x4", "4x4"]
    kept = json.loads((folder / "run.json").read_text())
    assert kept["complete"] and kept["planned"] == 3 and "[12]x4" in kept["env"]["earlier"][0]["command"]


def test_a_changed_judge_invalidates_everything(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cli.main(words(folder))
    calls(folder)
    monkeypatch.setattr(resume, "JUDGES", (*resume.JUDGES, folder / "mine.py"))
    cli.main(words(folder))
    assert calls(folder) == [1, 2, 3, 4]


def test_a_failure_is_kept_and_a_timeout_tried_again(folder: Path, runner: Any) -> None:
    def outcome(task: Task) -> tuple[Status, str | None]:
        bad = {"1x4": Status.FAILED, "2x4": Status.TIMEOUT, "3x4": Status.SKIPPED}
        return bad.get(task.case.name, Status.PASSED), "because of a test"

    runner.outcome = outcome
    runner.main(words(folder))
    assert runner.main(words(folder)) == ExitCode.MISMATCH, "what failed before still counts"
    assert [task.case.name for task in runner.tasks] == ["2x4", "3x4"]


@pytest.mark.parametrize("cause", [Cause.WORKER_DIED, Cause.OUT_OF_MEMORY])
def test_what_the_machine_may_be_to_blame_for_is_tried_again(cause: Cause, folder: Path, runner: Any) -> None:
    runner.outcome = lambda task: (Status.ERROR, "r", cause if task.case.name == "2x4" else Cause.KERNEL_ERROR)
    runner.main(words(folder))
    runner.main(words(folder))
    assert [task.case.name for task in runner.tasks] == ["2x4"]


def test_a_full_disk_costs_neither_the_run_nor_its_table(
    folder: Path, runner: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: str, data: bytes) -> None:
        raise files.OutputError(f"cannot write {path}: No space left on device.")

    monkeypatch.setattr(files, "write_bytes", full)
    monkeypatch.setattr(resume, "MOST_SECONDS", 0.0)
    assert runner.main([word for word in words(folder, "--csv", f"{folder}/run.csv") if word != "-q"]) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert out.count("passed") > 4 and "4 passed, " in out, "every case ran and is shown"
    assert err.count("The run goes on") == 1, err
    assert err.splitlines()[-1].endswith("run.csv: No space left on device.") and "run.json: No space" in err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not a document that"),
        ('{"results": []}', "is not a document that `triptych --json` wrote: it has no 'schema_version'."),
        ("[1]", "is not a document that `triptych --json` wrote: it holds something else."),
    ],
)
def test_a_file_of_another_kind_is_refused_and_kept(
    text: str, said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "run.json").write_text(text)
    assert cli.main(words(folder)) == ExitCode.USAGE
    assert said in capsys.readouterr().err and (folder / "run.json").read_text() == text


def test_stdout_cannot_be_continued(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "matmul", "--resume", "-"]) == ExitCode.USAGE
    assert "--resume takes a file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "bytes"), [("8G", 2**33), ("500M", 500 * 2**20), ("536870912", 2**29), ("1.5g", 3 * 2**29)]
)
def test_sizes_of_memory(text: str, bytes: int, runner: Any) -> None:
    runner.main(["check", "matmul", "--memory", text])
    assert runner.settings.memory == bytes


def test_a_worker_needs_some_memory_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "matmul", "--memory=64M"]) == ExitCode.USAGE
    assert "wants 256M at least" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0", "-1G", "much", "8Q", ""])
def test_what_is_no_size_says_what_is(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "matmul", f"--memory={text}"]) == ExitCode.USAGE
    assert "wants a size above zero, as 8G or 500M" in capsys.readouterr().err
