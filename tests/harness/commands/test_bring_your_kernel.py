"""The files of docs/bring-your-kernel.md, as written: they pass, and a fault planted in a kernel does not."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from triptych.harness.commands import cli
from triptych.harness.exit_codes import ExitCode

PAGE = Path(__file__).parents[3] / "docs" / "bring-your-kernel.md"
TEXT = PAGE.read_text(encoding="utf-8")
FILES = dict(re.findall(r"<!-- file: (\S+) -->\n```python\n(.*?)```", TEXT, re.DOTALL))
COMMANDS = re.findall(r"```console\ntriptych (.*?)\n```", TEXT)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("torch")
    pytest.importorskip("triton")
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_is_to_be_written_is_twelve_lines_at_most() -> None:
    assert len(FILES) == 8 and len(COMMANDS) == 4
    for name, text in FILES.items():
        assert not name.endswith("_op.py") or len([line for line in text.splitlines() if line]) <= 12


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_page_pass(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(shlex.split(command)) == ExitCode.OK, capsys.readouterr()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("rmsnorm.py", "tl.sum(x * x, axis=0) / N", "tl.sum(x * x, axis=0) / BLOCK"),
        ("rmsnorm.py", "x.contiguous(), w.contiguous()", "x, w"),
        ("double.py", "operand0=factor", "operand0=2"),
        ("paged.py", "slot % SLOTS * s_slot", "slot % SLOTS * s_d"),
        ("paged.py", "slot // SLOTS, 1)", "slot // SLOTS, 2)"),
        ("paged.py", "tl.store(row", "tl.store(keys_ptr"),
        ("w8.py", "accumulate=k > 0", "accumulate=False"),
        ("w8.py", "dtype=w.dtype", "dtype=nl.uint8"),
    ],
)
def test_a_fault_in_a_kernel_of_the_page_is_found(name: str, right: str, wrong: str, folder: Path) -> None:
    (folder / name).write_text(FILES[name].replace(right, wrong))
    assert FILES[name].count(right) == 1
    words = ["--cases", "smoke,adversarial", "--dtype", "float32", "-xq", "--backend", "triton-cpu,nki-sim"]
    assert cli.main(["check", name.replace(".py", "_op.py"), *words]) == ExitCode.MISMATCH
