"""The command line as its user runs it: a process of its own, real kernels, a real pipe."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from triptych.harness.commands import cli
from triptych.harness.exit_codes import ExitCode

SOURCE = Path(__file__).parents[3] / "src"


def triptych(*words: str, cwd: Path, stdin: int = subprocess.DEVNULL) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "NO_COLOR": "1"}
    command = [sys.executable, "-m", "triptych", *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, stdin=stdin, timeout=240)


def test_check_matmul(tmp_path: Path) -> None:
    done = triptych("check", "matmul", "--dtype", "bfloat16", "--backend", "numpy,nki-sim", "--json", "-", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)["results"]
    assert {(r["backend"], r["evidence"], r["status"]) for r in results} == {
        ("numpy", "reference", "passed"),
        ("nki-sim", "simulated", "passed"),
    }
    assert all(r["tolerance"]["rule"] == "derived" for r in results)


def test_run_checks_times_and_reports(tmp_path: Path) -> None:
    words = ["run", "matmul", "--backend", "nki-sim", "--dtype", "float32", "-k", "64x128x96", "--json", "r.json"]
    done = triptych(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "predicted" in done.stdout and "report: report.html" in done.stdout
    (result,) = json.loads((tmp_path / "r.json").read_text())["results"]
    assert result["timing"]["evidence"] == "predicted" and result["timing"]["predicted_us"] > 0
    assert "<h1>The one comparison agrees</h1>" in (tmp_path / "report.html").read_text()


def test_a_new_file_passes_as_written_and_is_never_overwritten(tmp_path: Path) -> None:
    assert triptych("new", "my_op", cwd=tmp_path).returncode == 0
    text = (tmp_path / "my_op.py").read_text()
    assert "mypy" not in text and "OP_NAME" not in text
    (tmp_path / "elsewhere").mkdir()
    words = [
        "check",
        "--kernel",
        "../my_op.py",
        "--cases",
        "smoke,edge",
        "--target",
        "trn1,trn3",
        "--dtype",
        "bfloat16",
    ]
    done = triptych(*words, "--require", "numpy,nki-sim", "--json", "-", cwd=tmp_path / "elsewhere")
    assert done.returncode == 0, done.stderr
    counted = {(r["backend"], r["status"]) for r in json.loads(done.stdout)["results"]}
    assert {status for backend, status in counted if backend in ("numpy", "nki-sim", "triton-cpu")} <= {
        "passed",
        "skipped",
    }
    assert triptych("new", "my_op", cwd=tmp_path).returncode == 2
    assert (tmp_path / "my_op.py").read_text() == text


def test_a_users_broken_kernel_fails_with_a_reason_and_a_repro(tmp_path: Path) -> None:
    triptych("new", "my_op", cwd=tmp_path)
    path = tmp_path / "my_op.py"
    path.write_text(path.read_text().replace("operand0=scale", "operand0=total"))
    words = ["check", "--kernel", "my_op.py", "--backend", "nki-sim", "--dtype", "float32", "-k", "200x300"]
    done = triptych(*words, cwd=tmp_path)
    assert done.returncode == 1
    assert "failed: my_op 200x300 float32 on nki-sim[trn2]: " in done.stdout
    assert "triptych check my_op --kernel my_op.py --cases smoke -k 200x300" in done.stdout


def test_what_a_kernel_is_warned_of_is_told_once_a_line(tmp_path: Path) -> None:
    triptych("new", "noisy", cwd=tmp_path)
    file = tmp_path / "noisy.py"
    file.write_text(file.read_text().replace("op=nl.exp, data=rows", "op=nl.log, data=rows"))
    done = triptych(
        "check", "--kernel", "noisy.py", "--cases", "smoke", "--backend", "nki-sim", "--json", "r.json", cwd=tmp_path
    )
    (note,) = [line for line in done.stderr.splitlines() if line.startswith("triptych: note: ")]
    assert re.search(r"noisy\.py:\d+: nl\.log: \d+ of \d+ inputs are outside", note)
    document = json.loads((tmp_path / "r.json").read_text())
    assert all(len(result["notes"]) == 1 for result in document["results"])


@pytest.mark.parametrize("text", ["import nowhere", "x = (", "raise SystemExit(3)", "op = 3"])
def test_a_users_file_that_does_not_load_is_one_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(text)
    done = triptych("check", "--kernel", "mine.py", cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert "mine.py" in done.stderr and "Traceback" not in done.stderr


def test_doctor_names_every_backend_and_succeeds(tmp_path: Path) -> None:
    done = triptych("doctor", cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    for word in ("numpy", "nki-sim", "nki ", "triton-cpu", "triton ", "torch", "trn1, inf2, trn2, trn3", "python"):
        assert word in done.stdout
    assert "\x1b" not in done.stdout


def test_list_imports_neither_torch_nor_triton(tmp_path: Path) -> None:
    probe = (
        "import sys; from triptych.harness.commands.cli import main; main(['list'])\n"
        "print({'torch', 'triton'} & {*sys.modules})"
    )
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run([sys.executable, "-c", probe], env=environment, capture_output=True, text=True, check=True)
    assert "matmul" in done.stdout and done.stdout.splitlines()[-1] == "set()"


def test_a_closed_pipe_is_no_traceback(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    command = [sys.executable, "-m", "triptych", "list"]
    done = subprocess.run(command, env=environment, stdout=write, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    os.close(write)
    assert done.returncode == 141 and done.stderr == ""


def test_a_sweep_shows_speed_against_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    words = "bench matmul -a M=2:16:x2 -a K=4 -a N=4 --dtype float32 --backend nki-sim --target trn1,trn2 -q"
    assert cli.main([*words.split(), "--html", str(page)]) == ExitCode.OK
    text = page.read_text()
    assert "matmul: speed against size" in text and "operations of a case" in text
    assert all(f"M={m},K=4,N=4" in text for m in (2, 4, 8, 16))
