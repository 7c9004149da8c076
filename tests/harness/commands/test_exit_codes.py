"""What results mean to a shell, and what is said about them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from triptych.harness.exit_codes import ExitCode
from triptych.harness.judge.bounds import Bounds
from triptych.harness.results.status import Status
from triptych.harness.running.tasks import Settings, Task

USUAL = ["check", "matmul", "--backend", "numpy,nki-sim", "--dtype", "float32"]
CHECK = [*USUAL, "--cases", "smoke"]


def ends(status: Status, backend: str = "nki-sim") -> Callable[[Task], tuple[Status, str | None]]:
    def outcome(task: Task) -> tuple[Status, str | None]:
        return (status, "because of a test") if task.backend == backend else (Status.PASSED, None)

    return outcome


def test_a_few_adversarial_cases_run_unless_others_are_asked_for(
    runner: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert runner.main(USUAL) == ExitCode.OK
    out = capsys.readouterr().out
    assert out.splitlines()[-1].startswith("12 passed") and "5x1100x3-negative" in out
    assert "not tried of matmul: the case set edge" in out and "the case set adversarial (" in out


def test_all_passed(runner: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert runner.main(CHECK) == ExitCode.OK
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "6 passed, 0 failed, 0 error, 0 timeout, 0 unsupported, 0 skipped · seed 0"


@pytest.mark.parametrize("status", [Status.FAILED, Status.ERROR, Status.TIMEOUT])
def test_what_does_not_pass_is_1_and_says_why_and_how_to_repeat(
    status: Status, runner: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    runner.outcome = ends(status)
    assert runner.main(CHECK) == ExitCode.MISMATCH
    out = capsys.readouterr().out
    assert f"{status}: matmul 64x128x96 float32 on nki-sim[trn2]: because of a test" in out
    assert "triptych check matmul --cases smoke -k 64x128x96 --dtype float32 --backend nki-sim --target trn2" in out
    assert f"3 {status}" in out.splitlines()[-1]


def test_a_skip_is_said_with_its_reason_and_is_no_pass(
    runner: Any, away: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    away("nki-sim")
    assert runner.main(CHECK) == ExitCode.NOTHING_RAN
    out = capsys.readouterr().out
    assert "3 passed" in out and "3 skipped (nki-sim: it is not here)" in out.splitlines()[-1]
    assert "nki-sim" not in out.rsplit("\n", 2)[0], "a skipped backend has no row that could look like a result"


def test_strict_counts_a_skip_and_an_unsupported_case(runner: Any, away: Callable[..., None]) -> None:
    runner.outcome = ends(Status.UNSUPPORTED)
    assert runner.main([*CHECK, "--strict"]) == ExitCode.MISMATCH
    away("nki-sim")
    assert runner.main([*CHECK, "--strict"]) == ExitCode.REQUIRED_MISSING


def test_the_reference_alone_is_no_kernel_that_passed(runner: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert runner.main(["check", "matmul", "--backend", "numpy"]) == ExitCode.OK, "which is what was asked for"
    runner.outcome = ends(Status.UNSUPPORTED)
    assert runner.main(CHECK) == ExitCode.NOTHING_RAN
    assert capsys.readouterr().err.endswith("no kernel ran: what passed is the reference, compared with itself\n")


MINE = """
import os
import triptych
os.environ["TRIPTYCH_ATOL"] = "100"
one = triptych.Op("one", {"x": ("M", "N")}, lambda x: 2 * x, {"smoke": [{"M": 64, "N": 9}, {"M": 128, "N": 9}]})
two = triptych.Op("two", lambda case, rng: {"x": rng.standard_normal(9)}, lambda x: 2 * x, {"edge": [{"M": 9}]})
more = [triptych.Op("three", {"x": ("M",)}, lambda x: 2 * x, {"smoke": [{"M": 9, "eps": 0.1}], "edge": [{"M": 1}]})]
"""


def test_what_passes_says_what_was_not_tried(
    runner: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIPTYCH_ATOL", "")  # which is put back after the test
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    document = tmp_path / "out.json"
    assert runner.main(["check", "--kernel", str(path), "--backend", "numpy", "--json", str(document)]) == ExitCode.OK
    said = capsys.readouterr().out.splitlines()[-4:-1]
    assert said == json.loads(document.read_text())["env"]["not_tried"]
    assert said == [
        "not tried of one: the case set adversarial (20 cases); M that is no multiple of 64; N other than 9",
        "not tried of two: the case set edge (1 case); the case set adversarial (11 cases); M other than 9",
        "not tried of three: the case set edge (1 case); the case set adversarial (11 cases); M other than 9; "
        "eps other than 0.1",
    ]
    assert runner.settings.wanted is None, "the file's own environment is no wish of the user's"
    runner.outcome = ends(Status.FAILED)
    runner.main(["check", "--kernel", str(path)])
    assert "not tried" not in capsys.readouterr().out


def test_nothing_ran(runner: Any, away: Callable[..., None]) -> None:
    away("numpy", "nki-sim")
    assert runner.main(CHECK) == ExitCode.NOTHING_RAN


def test_a_required_backend_that_is_missing_stops_before_anything_runs(
    runner: Any, away: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    away("nki-sim")
    assert runner.main([*CHECK, "--require", "nki-sim"]) == ExitCode.REQUIRED_MISSING
    out, err = capsys.readouterr()
    assert out == "" and "nki-sim is missing: it is not here" in err
    assert runner.tasks == []


def test_a_required_backend_must_run_a_case(runner: Any) -> None:
    runner.outcome = ends(Status.UNSUPPORTED)
    assert runner.main([*CHECK, "--require", "nki-sim"]) == ExitCode.REQUIRED_MISSING
    runner.outcome = ends(Status.PASSED)
    assert runner.main([*CHECK, "--require", "nki-sim"]) == ExitCode.OK


def test_require_adds_to_the_selection(runner: Any) -> None:
    runner.main(["check", "matmul", "--backend", "numpy", "--require", "nki-sim"])
    assert {task.backend for task in runner.tasks} == {"numpy", "nki-sim"}


def test_x_stops_at_the_first_problem_and_keeps_what_ran(runner: Any, capsys: pytest.CaptureFixture[str]) -> None:
    runner.outcome = ends(Status.FAILED)
    assert runner.main([*CHECK, "-x"]) == ExitCode.MISMATCH
    out, err = capsys.readouterr()
    assert "1 passed, 1 failed" in out.splitlines()[-1]
    assert "stopped after 2 of 6 cases" in err


def test_an_interrupt_keeps_what_ran(runner: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def outcome(task: Task) -> tuple[Status, str | None]:
        if task.backend == "nki-sim":
            raise KeyboardInterrupt
        return Status.PASSED, None

    runner.outcome = outcome
    assert runner.main(CHECK) == ExitCode.INTERRUPTED
    out, err = capsys.readouterr()
    assert "1 passed" in out.splitlines()[-1] and "stopped after 1 of 6" in err


def test_settings_reach_the_runner(runner: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    runner.main(
        [
            "bench",
            "matmul",
            "--backend",
            "torch",
            "--timeout",
            "1.5m",
            "--rtol",
            "1e-2",
            "--atol",
            "0",
            "--no-check",
            "--cases",
            "smoke",
        ]
    )
    assert runner.settings == Settings(no_check=True, wanted=Bounds("command line", 1e-2, 0.0))
    assert runner.timeout_s == 90.0
    assert all(task.bench for task in runner.tasks)


def test_clocks_that_say_nothing_are_read_only_if_named(runner: Any) -> None:
    runner.main(["bench", "matmul", "--cases", "smoke,model"])
    assert {task.backend for task in runner.tasks if task.bench} == {"nki-sim", "nki", "triton", "torch"}
    runner.main(["bench", "matmul", "--cases", "model", "--backend", "triton-cpu"])
    assert all(task.bench for task in runner.tasks)


def test_check_times_nothing(runner: Any) -> None:
    runner.main(CHECK)
    assert not any(task.bench for task in runner.tasks)


SLOW = """
import time
from triptych import Op

def reference(x):
    if x.shape[0] > 1:
        print("waiting", flush=True)
        time.sleep(60)
    return x

op = Op(name="slow", inputs={"x": ("N",)}, reference=reference, cases={"smoke": [{"N": 1}, {"N": 2}]})
"""


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_a_terminated_job_keeps_what_ran(tmp_path: Path) -> None:
    kernel = tmp_path / "slow.py"
    kernel.write_text(SLOW)
    out = tmp_path / "out.json"
    words = [
        "check",
        "--kernel",
        str(kernel),
        "--dtype",
        "float32",
        "--backend",
        "numpy",
        "--jobs",
        "1",
        "--json",
        str(out),
    ]
    job = subprocess.Popen(
        [sys.executable, "-m", "triptych", *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert job.stderr is not None
    for line in job.stderr:
        if "waiting" in line:
            break
    job.terminate()
    job.communicate(timeout=60)
    assert job.returncode == 130
    (kept,) = json.loads(out.read_text())["results"]
    assert kept["status"] == "passed"
