"""A user's files on the command line: as they stand, several of them, and in every command that takes ops."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from triptych.harness.commands import cli
from triptych.harness.commands.arguments.parser import parse
from triptych.harness.exit_codes import ExitCode

FILE = """
    from triptych import Op
    op = Op("{name}", {{"x": ("M",)}}, lambda x: {times} * x, [{{"M": 5}}], dtypes=("float32",), torch=lambda x: 2 * x)
"""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, times in (("right", 2), ("wrong", 3)):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(FILE.format(name=name, times=times)))
    (tmp_path / "again.py").write_text((tmp_path / "right.py").read_text())
    (tmp_path / "empty.py").write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", ["check", "bench", "run", "list", "profile", "report"])
def test_files_stand_among_the_ops_of_every_command(command: str, files: Path) -> None:
    found = parse([command, "right.py", "wr*", "--kernel", "wrong.py", "--kernel", "again.py"])
    assert found.sources == ["wrong.py", "again.py", "right.py"] and found.ops == ["wr*"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("check nowhere.py", "nowhere.py is not a file"),
        ("check right.py again.py", "both right.py and again.py declare an op 'right'; run one file at a time"),
        ("check right.py mat*", "unknown op 'mat*'"),
        ("check empty.py", "empty.py declares no op"),
        ("profile right.py:f wrong.py", "one function at a time: got right.py:f, wrong.py"),
    ],
)
def test_what_makes_no_sense_is_a_sentence(
    words: str, said: str, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words.split()) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert not out and said in err and len(err.splitlines()) <= 2, err


def test_the_ops_of_all_files_are_listed_once(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "right.py", "wrong.py", "--kernel", "./right.py"]) == ExitCode.OK
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()[1:3]] == ["right", "wrong"] and "matmul" not in out


def test_each_op_is_judged_by_its_own_file(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    assert cli.main(["check", "right.py", "wrong.py", "--backend", "torch"]) == ExitCode.MISMATCH
    out = capsys.readouterr().out
    assert "4 passed, 4 failed" in out and "triptych check wrong --kernel wrong.py" in out
    assert cli.main(["check", "right.py", "wrong.py", "right", "--backend", "torch"]) == ExitCode.OK
