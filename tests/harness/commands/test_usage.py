"""What is not there is an error that says what is: exit code 2, nothing on stdout, nothing run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from triptych.harness.commands import cli
from triptych.harness.exit_codes import ExitCode
from triptych.harness.judge.bounds import Bounds

WRONG = [
    ("chek", "'chek'", "check"),
    ("check --bakend numpy", "--bakend", "did you mean '--backend'"),
    ("check --backend nump", "'nump'", "numpy, nki-sim, nki, triton-cpu, triton, torch"),
    ("check mtmul", "did you mean 'matmul'", "attention"),
    ("check mat", "did you mean '*mat*'", "attention"),
    ("check matmul -k 64x", "did you mean '*64x*'", "20x4100x150"),
    ("check 'zz*'", "zz*", "matmul"),
    ("check --cases smok", "did you mean 'smoke'", "edge"),
    ("check --dtype float8", "'float8'", "bfloat16"),
    ("check matmul -a Q=4", "'Q'", "M, K, N"),
    ("check -a M=4", "attention has no axis 'M'", "Hkv"),
    ("check matmul -a M", "AXIS=value", "'M'"),
    ("check matmul -a M=x", "AXIS=value", "'M=x'"),
    ("check matmul -a M=-1", "negative", "M=-1"),
    ("check matmul -a M=1 -a M=2", "twice", "M=256,1024"),
    ("check matmul -k nothing", "'nothing'", "64x128x96"),
    ("check --target trn9", "'trn9'", "trn1, inf2, trn2, trn3"),
    ("check --backend numpy --target trn2", "applies to no selected backend", "numpy"),
    ("check --require gpu", "'gpu'", "triton"),
    ("check --timeout 0", "above zero", "--timeout"),
    ("check --seed -1", "--seed", "'-1'"),
    ("check --rtol nan", "--rtol", "'nan'"),
    ("check --budget 0x", "--budget", "'0x'"),
    ("check --budget 3 --atol 1", "the command line gives a budget and rtol or atol", "give one or the other"),
    ("check --json - --csv -", "one document", "--csv"),
    ("check --json nowhere/x.json", "no folder", "nowhere"),
    ("check --kernel nowhere.py", "nowhere.py", ""),
    ("doctor now", "'now'", "doctor"),
    ("check --no-check", "--no-check", "there is"),
    ("--verson", "--verson", "--version"),
    ("report --from nowhere.json", "nowhere.json", ""),
    ("new 1op", "identifier", "1op"),
    ("new nki", "hide", "nki"),
]


@pytest.mark.parametrize(("line", "names", "lists"), WRONG, ids=[line for line, _, _ in WRONG])
def test_usage_error(
    line: str,
    names: str,
    lists: str,
    runner: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [word.strip("'") for word in line.split()]
    assert runner.main(words) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert names in err and lists.lower() in err.lower()
    assert "Traceback" not in err and err.count("\n") == 1
    assert runner.tasks == [] and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("value", "said"),
    [("loose", "TRIPTYCH_BUDGET must be a number, got 'loose'"), ("-1", "the environment gives budget")],
)
def test_a_tolerance_of_the_environment_that_makes_no_sense(value, said, runner, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("TRIPTYCH_BUDGET", value)
    assert runner.main(["check", "matmul"]) == ExitCode.USAGE
    assert said in capsys.readouterr().err and runner.tasks == []


def test_the_environment_decides_unless_the_command_line_does(runner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIPTYCH_BUDGET", "3x")
    runner.main(["check", "matmul"])
    assert runner.settings.wanted == Bounds("environment", budget=3)
    assert "--budget=3" in runner.tasks[0].repro  # which then holds where the variable is not set
    runner.main(["check", "matmul", "--atol", "1e-3"])
    assert runner.settings.wanted == Bounds("command line", atol=1e-3)


def test_options_and_ops_mix(runner: Any) -> None:
    assert runner.main(["check", "matmul", "--backend", "numpy", "attention", "--dtype", "float32"]) == ExitCode.OK
    assert {task.op for task in runner.tasks} == {"matmul", "attention"}
    assert {(task.backend, task.case.dtype) for task in runner.tasks} == {("numpy", "float32")}


def test_globs_and_axes(runner: Any) -> None:
    line = ["check", "matmul", "matmul_ti*", "*_mk", "-a", "M=[3,5]", "-a", "N=7", "--backend", "numpy"]
    assert runner.main([*line, "--dtype", "float16"]) == 0
    assert {task.op for task in runner.tasks} == {"matmul", "matmul_tiled", "matmul_mk"}
    assert {task.case.axes["M"] for task in runner.tasks} == {3, 5}
    assert {task.case.axes["N"] for task in runner.tasks} == {7}


def test_targets_are_for_backends_that_have_them(runner: Any) -> None:
    assert runner.main(["check", "matmul", "--backend", "numpy,nki-sim", "--target", "trn1,trn3"]) == ExitCode.OK
    assert {(t.backend, t.target) for t in runner.tasks} == {("numpy", None), ("nki-sim", "trn1"), ("nki-sim", "trn3")}


def test_the_backends_of_one_case_are_side_by_side(runner: Any) -> None:
    runner.main(["check", "matmul", "--backend", "numpy,nki-sim", "--target", "trn1,trn2"])
    keys = [(task.case.name, task.case.dtype) for task in runner.tasks]
    assert keys == sorted(keys, key=keys.index)


def test_a_repro_runs_that_task_alone(runner: Any) -> None:
    runner.main(
        [
            "check",
            "matmul",
            "--backend",
            "nki-sim,numpy",
            "--target",
            "trn3",
            "-a",
            "M=3,5",
            "--seed",
            "7",
            "--rtol",
            "0.5",
        ]
    )
    wanted = next(task for task in runner.tasks if task.backend == "nki-sim" and task.case.axes["M"] == 5)
    program, *words = wanted.repro.split()
    assert program == "triptych"
    runner.main(words)
    assert runner.tasks == [replace(wanted, though_slow=True)]
    assert runner.settings.wanted == Bounds("command line", rtol=0.5)


@pytest.mark.parametrize("words", [["--help"], ["check", "--help"], ["report", "--help"], ["--version"], []])
def test_help_needs_no_numpy_and_succeeds(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == ExitCode.OK
    assert "triptych" in capsys.readouterr().out
