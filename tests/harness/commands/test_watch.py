"""`--watch`: a wrong kernel is mended while it runs, what failed comes first, and what changed is said."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from triptych.harness.commands import cli
from triptych.harness.commands.runs import watch
from triptych.harness.exit_codes import ExitCode
from triptych.harness.ops.case import Case
from triptych.harness.reports import terminal
from triptych.harness.reports.progress import Progress
from triptych.harness.results.status import Status
from triptych.harness.running.tasks import Task, result_without_run

FILE = """
from triptych import Op

op = Op("twice", {"x": ("M",)}, lambda x: 2 * x, [{"M": 3}, {"M": 5}], nki=None, torch=None)
"""
HELPED = FILE.replace("from triptych", "from beside import factor\nfrom triptych").replace("2 * x", "factor() * x")

# Who runs the tests in the background may ignore SIGINT, and a process inherits that.
WITH_INTERRUPTS = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("triptych", run_name="__main__")
"""


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is sent as POSIX's signal")
def test_a_run_follows_each_save_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(HELPED)
    file = tmp_path / "beside.py"
    file.write_text("def factor():\n    return y\n")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    words = ["check", "--watch", "--kernel", "mine.py", "--backend", "numpy", "--dtype", "float32", "-q"]
    log = tmp_path / "log.txt"
    with log.open("w") as stream:
        job = subprocess.Popen(
            [sys.executable, "-c", WITH_INTERRUPTS, *words],
            stdout=stream,
            stderr=stream,
            env=env,
            cwd=tmp_path,
            start_new_session=True,
        )

        def wait_for(times: int) -> str:
            end = time.monotonic() + 120
            while time.monotonic() < end and log.read_text().count("watching ") < times:
                time.sleep(0.1)
            return log.read_text()

        try:
            assert "name 'y' is not defined" in wait_for(1)
            file.write_text("def factor():\n    return 2\n")
            text = wait_for(2)
        finally:
            os.killpg(job.pid, signal.SIGINT)
            try:
                job.wait(timeout=60)
            except subprocess.TimeoutExpired:
                os.killpg(job.pid, signal.SIGKILL)
                job.wait()
    assert "changed: twice 3 float32 numpy: error → passed" in text and "resuming" not in text, text
    assert "changed: twice 5 float32 numpy: error → passed" in text and job.returncode == ExitCode.OK


def test_what_failed_is_run_first_and_from_what_was_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(FILE.replace("2 * x", "2 * y"))
    monkeypatch.chdir(tmp_path)
    ran: list[list[str]] = []

    def run(words: list[str]) -> int:
        ran.append(words)
        return cli.main(words)

    def pause() -> None:
        if len(ran) >= 3:
            raise KeyboardInterrupt
        (tmp_path / "mine.py").write_text(FILE.replace("2 * x", "2 * z"))

    monkeypatch.setattr(watch, "run", run)
    monkeypatch.setattr(watch, "pause", pause)
    words = ["check", "--watch", "--kernel", "mine.py", "--backend", "numpy", "--dtype", "float32", "-q"]
    assert cli.main(words) == ExitCode.MISMATCH
    assert ran[0] == ran[2] and "-k" in ran[1] and ran[1][ran[1].index("-k") + 1] == "3", "the failing case first"
    assert "still wrong: triptych check twice --kernel mine.py" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--json", "-"], ["--fuzz", "3"]])
def test_a_watch_writes_no_single_document(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "matmul", "--watch", *words]) == ExitCode.USAGE
    assert "--watch" in capsys.readouterr().err


TASKS = [Task("matmul", None, Case("matmul", str(m), {"M": m}, "float32"), "nki-sim", "trn2") for m in range(6)]


class Run:
    left, jobs = TASKS, 4


def test_a_long_run_on_a_pipe_says_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(terminal, "EVERY_S", 0.01)
    run: Any = Run()
    shown = Progress(lines=True)
    shown.started(run)
    shown.ready(run)
    shown.left.begun -= 60
    for task in (TASKS[1], TASKS[0]):
        shown.on_result(run, result_without_run(task, Status.PASSED, ""))
    time.sleep(0.3)
    shown.ended(run)
    assert "[2/6, 4 at once, about 2 min left] matmul 2 float32 nki-sim[trn2]" in capsys.readouterr().err
    quiet = Progress(lines=True, quiet=True)
    quiet.started(run)
    quiet.ready(run)
    time.sleep(0.05)
    quiet.ended(run)
    assert capsys.readouterr().err == ""
