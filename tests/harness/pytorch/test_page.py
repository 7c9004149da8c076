"""docs/pytorch.md: its examples run, its table is what there is, and its command writes what it says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import triptych  # noqa: E402
import triptych.torch  # noqa: E402
from triptych import simulator  # noqa: E402
from triptych.harness.commands import cli  # noqa: E402
from triptych.harness.exit_codes import ExitCode  # noqa: E402
from triptych.harness.functions.rows import rows, simulated  # noqa: E402

TEXT = (Path(__file__).parents[3] / "docs" / "pytorch.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"<!-- file: (\S+) -->\n```python\n(.*?)```", TEXT, re.DOTALL))
EXAMPLES = re.findall(r"(?<!-->\n)```python\n(.*?)```", TEXT.partition("## Kernels for others")[0], re.DOTALL)
COMMANDS = re.findall(r"```console\ntriptych (.*?)\n```", TEXT)


def test_the_examples_run_one_after_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(EXAMPLES) == 4
    found: dict[str, Any] = {}
    torch.manual_seed(0)
    for example in EXAMPLES:
        exec(example, found)
    assert capsys.readouterr().out.startswith("on trn2, predicted: ")


def test_the_table_has_every_function_and_names_rows_that_exist() -> None:
    table = TEXT.partition("| function |")[2].partition("\n\n")[0]
    names = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    others = {"Call", "Calls", "Kernelized", "NoKernel", "Place", "Profile", "calls", "kernelize", "on_cpu", "profile"}
    assert set(names) == set(triptych.torch.__all__) - others
    for row in table.splitlines():
        assert set(re.findall(r"`(\w+)`", row.rpartition("|")[0].rpartition("|")[2])) <= set(rows())


def test_weights_as_in_and_out_save_what_the_page_says() -> None:
    x, w = simulator.ShapeDtype((64, 4096), "bfloat16"), ((4096, 14336), (14336, 4096))
    on = simulator.on("trn2")
    saved, plain = (
        on.predict(simulated(name), x, simulator.ShapeDtype(shape, "bfloat16")).total_us
        for name, shape in zip(("linear", "linear_transposed"), w, strict=True)
    )
    assert f"{saved / plain:.1f}" == re.findall(r"predicted to take ([\d.]+) of the time", TEXT)[0]


@pytest.mark.slow
def test_a_kernel_is_written_as_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(shlex.split(COMMANDS[1])) == ExitCode.OK
    assert (tmp_path / "rope_trn2.py").read_text().startswith("# SPDX-License-Identifier: Apache-2.0")


@pytest.mark.slow
def test_the_file_for_the_device_runs_and_is_checked(tmp_path: Path) -> None:
    ((name, text),) = FILES.items()
    (tmp_path / name).write_text(text)
    source = str(Path(triptych.__file__).parents[1])
    for command in ([name], ["-m", "triptych", *shlex.split(COMMANDS[0])]):
        ran = subprocess.run(
            [sys.executable, "-W", "error", *command],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": source},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
