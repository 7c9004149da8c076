"""`triptych tune`: the fastest setting that is right is chosen, and why others were not is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from triptych.harness.backends import BACKENDS
from triptych.harness.backends.clocks import summary
from triptych.harness.commands import cli
from triptych.harness.commands import tune as tune_module
from triptych.harness.exit_codes import ExitCode
from triptych.harness.results.status import Evidence, Status
from triptych.harness.running.session import Session
from triptych.harness.running.tasks import result_without_run
from triptych.harness.tuning import search as search_module

FILE = """
import nki
import nki.isa as nisa
import nki.language as nl
from triptych import Op

CHUNK = 64  # columns at once
SKIP = False
KNOBS = {"CHUNK": (64, 2048, 200000), "SKIP": (False, True)}


@nki.jit
def kernel(x):
    P, N = x.shape
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    tile = nl.ndarray((P, CHUNK), dtype=x.dtype, buffer=nl.sbuf)
    for c in range(0, N, CHUNK):
        n = min(CHUNK, N - c)
        nisa.dma_copy(dst=tile[:, 0:n], src=x[:, c : c + n])
        if not SKIP or N < 128:
            nisa.tensor_scalar(dst=tile[:, 0:n], data=tile[:, 0:n], op0=nl.multiply, operand0=2.0)
        nisa.dma_copy(dst=out[:, c : c + n], src=tile[:, 0:n])
    return out


CASES = {"smoke": [{"P": 128, "N": 2048}], "edge": [{"P": 3, "N": 5}]}
op = Op("twice", {"x": ("P", "N")}, lambda x: 2 * x, CASES, nki=kernel)
"""


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


def tune(*words: str) -> int:
    return cli.main(["tune", "mine.py", "--backend", "nki-sim", "--cases", "smoke", *words])


def document(path: str = "out.json") -> Any:
    (found,) = json.loads(Path(path).read_text())["tunings"]
    return found


@pytest.mark.slow
def test_the_fastest_right_setting_is_chosen_judged_and_written(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tune("--json", "out.json", "--md", "out.md", "--write") == ExitCode.OK
    said = capsys.readouterr().out
    assert "choice: CHUNK = 2048 (was 64), SKIP = False: " in said and "% shorter than the file's, predicted; " in said
    assert "agrees with the reference in all " in said
    assert "predicted times were off by" in said
    assert file.read_text() == FILE.replace("CHUNK = 64 ", "CHUNK = 2048 ")
    found = document()
    assert found["choice"] == {"CHUNK": 2048, "SKIP": False} and found["gains"] and found["complete"]
    by_setting = {(t["setting"]["CHUNK"], t["setting"]["SKIP"]): t for t in found["trials"]}
    assert len(by_setting) == 6
    assert "sbuf" in by_setting[200000, False]["refused"]  # a capacity
    assert "failed" in by_setting[2048, True]["refused"]  # faster, and wrong
    assert by_setting[2048, False]["over_own"] < [1.0]
    assert "| CHUNK | SKIP |" in Path("out.md").read_text()


def test_the_files_own_setting_stays_where_none_is_better(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    assert tune("--knob", "CHUNK=32,16", "--write") == ExitCode.OK
    said = capsys.readouterr().out
    assert "choice: as the file has it: none of 3 settings tried is faster by 1 % or more" in said
    assert file.read_text() == FILE


def test_no_setting_is_left_where_the_linter_rejects_the_kernel(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(
        FILE.replace("nisa.dma_copy(dst=tile[:, 0:n]", "nl.load(x, mask=1)\n        nisa.dma_copy(dst=tile[:, 0:n]")
    )
    code = tune("--knob", "CHUNK=128", "--json", "out.json")
    assert code == ExitCode.MISMATCH
    assert "choice: none, because every setting was refused" in capsys.readouterr().out
    assert all(t["refused"].startswith("lint: line ") for t in document()["trials"])


def test_what_cannot_be_tuned_is_told(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(FILE.replace("KNOBS =", "OTHER ="))
    assert tune() == ExitCode.USAGE
    assert "nothing to tune: mine.py has no KNOBS. Write KNOBS = " in capsys.readouterr().err
    file.write_text(FILE)
    assert tune("--target", "trn9") == ExitCode.USAGE
    assert "unknown target 'trn9'" in capsys.readouterr().err
    assert cli.main(["tune", "mine.py", "--backend", "numpy"]) == ExitCode.USAGE
    assert "numpy runs no kernel of a file" in capsys.readouterr().err


def test_a_measured_setting_must_be_faster_by_more_than_its_spread(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A device that is not there, whose times are of the setting in the variant's file."""
    monkeypatch.setattr(type(BACKENDS["nki"]), "missing", lambda self: None)
    medians = {64: 100.0, 2048: 50.0, 200000: 99.0}

    def device(tasks: Any, settings: Any, *, timeout_s: float, on_result: Any) -> None:
        for task in tasks:
            text = Path(task.source).read_text().partition("nki='")[2].partition(":kernel")[0]
            chunk = int((Path(task.source).parent / text).read_text().partition("CHUNK = ")[2].split()[0])
            rng = np.random.default_rng(chunk)
            samples = list(medians[chunk] * (1 + 0.05 * rng.standard_normal(30)))
            result = result_without_run(task, Status.PASSED, "")
            if task.bench:
                result.timing = summary(samples, 0, Evidence.DEVICE, timer="device", cache="cold")
            on_result(result)

    words = ["tune", "mine.py", "--backend", "nki", "--cases", "smoke", "--json", "out.json"]
    assert cli.main([*words, "--knob", "CHUNK=200000"], Session(device)) == ExitCode.OK
    assert document()["choice"]["CHUNK"] == 64  # 1 % shorter, within the spread
    assert cli.main([*words, "--knob", "CHUNK=2048,200000"], Session(device)) == ExitCode.OK
    assert document()["choice"]["CHUNK"] == 2048
    assert "50." in capsys.readouterr().out.rpartition("choice: ")[2]
    assert document()["evidence"] == "device"


@pytest.mark.parametrize("ended", ["search", "winner"])
def test_what_was_tried_is_kept_when_the_user_ends_it(
    ended: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    if ended == "search":
        real = search_module.tried
        monkeypatch.setattr(
            search_module, "tried", lambda setting, *rest: interrupt() if setting["SKIP"] else real(setting, *rest)
        )
    else:
        monkeypatch.setattr(tune_module, "winner", interrupt)
    assert tune("--json", "out.json", "--write") == ExitCode.INTERRUPTED
    assert "choice: none, because it was cut short; the best so far, not judged: CHUNK = " in capsys.readouterr().out
    assert document()["complete"] is False and document()["trials"] and Path("mine.py").read_text() == FILE


TRITON = """
import triton
import triton.language as tl
from triptych import Op

BLOCK = 128
WARPS = 4
KNOBS = {"BLOCK": (128, 1024), "WARPS": (2, 4, 8)}


@triton.jit
def kernel(x, out, N, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + at, tl.load(x + at, mask=at < N) * 2, mask=at < N)


def twice(x, out):
    kernel[(triton.cdiv(x.shape[0], BLOCK),)](x, out, x.shape[0], BLOCK, num_warps=WARPS)


op = Op("twice", {"x": ("N",)}, lambda x: 2 * x, [{"N": 2048}], out=("N",), triton=twice)
"""


def test_settings_of_a_triton_kernel_are_ranked_by_the_compiler(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(TRITON)
    words = ["tune", "mine.py", "--backend", "triton-cpu", "-a", "N=2048", "--target", "sm_90"]
    assert cli.main([*words, "--knob", "WARPS=8", "--knob", "BLOCK=128", "--json", "out.json"]) == ExitCode.OK
    said = capsys.readouterr().out
    assert "compiled, not timed" in said and "resident warps" in said
    found = document()
    assert found["evidence"] is None and "us" not in found["trials"][0]
    assert next(iter(found["trials"][0]["cases"].values()))["registers"] > 0
