"""`triptych compare`: the gate fails what is slower and passes what is not, and says where a difference comes from."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from triptych.harness.commands import cli
from triptych.harness.commands.runs import sides
from triptych.harness.errors import UsageError
from triptych.harness.exit_codes import ExitCode
from triptych.harness.results import document
from triptych.harness.results.profile import Outcome
from triptych.harness.results.result import Result
from triptych.harness.results.status import Evidence, Status
from triptych.harness.results.timing import Measured, Predicted
from triptych.harness.results.timing_accuracy import LAST_VALIDATION
from triptych.harness.running.request import Request

ROOT = Path(__file__).resolve().parents[3]

KERNEL = """
import nki
import nki.isa as nisa
import nki.language as nl
from triptych import Op


@nki.jit
def kernel(x):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=x)
    for _ in range(REPEATS):
        nisa.tensor_copy(dst=tile, src=tile)
    nisa.dma_copy(dst=out, src=tile)
    return out


op = Op("copy", {"x": ("M", "N")}, lambda x: x, {"smoke": [{"M": 128, "N": 2048}]}, nki=kernel)
"""
PREDICTED = Predicted(
    timer="timing model",
    evidence=Evidence.PREDICTED,
    predicted_us=100.0,
    accuracy=LAST_VALIDATION,
    mfu=0.0,
    busy_share={"tensor": 0.5},
)


def kernel(repeats: int) -> str:
    return KERNEL.replace("REPEATS", str(repeats))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def compare(*words: str) -> int:
    return cli.main(["compare", *words])


RUN = ("--backend", "nki-sim", "--dtype", "float32")


def test_the_gate_fails_a_kernel_made_five_percent_slower_and_passes_one_unchanged(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "base.py").write_text(kernel(20))
    (folder / "slow.py").write_text(kernel(22))
    limit = ("--fail-on", "predicted:2%,median:5%", *RUN)
    assert compare("base.py", "base.py", *limit) == ExitCode.OK
    assert "No regression in 1 case" in capsys.readouterr().out
    assert compare("base.py", "slow.py", *limit, "--html", "c.html", "--github") == ExitCode.REGRESSION
    out = capsys.readouterr().out
    slower = re.search(r"slower: copy 128x2048 float32 nki-sim\[trn2\]: .* µs, \+(\d\.\d+) %, where predicted:2%", out)
    assert slower and 4 < float(slower[1]) < 8, out
    assert re.search(r"^vector +\d", out, re.M) and re.search(r"\+2 +slow.py:14 +nisa.tensor_copy", out), out
    assert "::error file=slow.py,title=copy%3A slower::copy 128x2048 float32" in out and "%25" in out
    page = (folder / "c.html").read_text()
    drawn = re.search(r'id="data">(.*?)</script>', page, re.S)
    assert drawn
    runs = json.loads(drawn[1])["runs"]
    assert [run["label"] for run in runs] == ["base.py", "slow.py"] and runs[1]["total"] > runs[0]["total"]
    assert compare("slow.py", "base.py", *limit) == ExitCode.OK, "faster is no regression"


@pytest.mark.skipif(shutil.which("git") is None, reason="revisions are git's")
def test_a_revision_is_the_kernel_as_it_was(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def git(*words: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    (folder / "k.py").write_text(kernel(20))
    git("add", ".")
    git("commit", "-q", "-m", "one")
    (folder / "k.py").write_text("# a line more\n" + kernel(22))
    assert compare("HEAD", "k.py", *RUN, "--fail-on", "predicted:2%") == ExitCode.REGRESSION
    out = capsys.readouterr().out
    assert "k.py:15, was 14" in out, "the line is found again where it stands now"
    assert compare("HEAD", "HEAD", "--kernel", "k.py", *RUN, "--fail-on", "predicted:2%") == ExitCode.OK
    assert len(git("worktree", "list").splitlines()) == 1, "what was made for it is gone"
    assert compare("no-such-thing", "k.py") == ExitCode.USAGE
    assert "'no-such-thing' is no document, no kernel file, no revision of the repository of k.py" in (
        capsys.readouterr().err
    )


def test_two_functions_of_an_op_are_two_kernels(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = kernel(2)
    (folder / "k.py").write_text(text)
    (folder / "other.py").write_text(text.replace("range(2)", "range(4)").partition("\nop = ")[0])
    assert compare("k.py", "other.py:kernel", "--kernel", "k.py", *RUN) == ExitCode.OK
    assert "1 case compared: 0 faster, 1 slower" in capsys.readouterr().out


def test_backends_are_compared_within_a_kind_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "k.py").write_text(kernel(2))
    assert compare("nki-sim[trn2]", "nki-sim[trn3]", "--kernel", "k.py", "--dtype", "float32") == ExitCode.OK
    assert "nki-sim[trn2] → nki-sim[trn3]" in capsys.readouterr().out
    assert compare("numpy", "nki-sim", "--kernel", "k.py", "--dtype", "float32") == ExitCode.NOTHING_RAN
    assert "reference and predicted: never across kinds" in capsys.readouterr().out


def result(timing: Any, **changes: Any) -> Result:
    made = Result(
        op="matmul",
        case="1",
        dtype="float32",
        backend="triton",
        target=None,
        evidence=Evidence.DEVICE,
        status=Status.PASSED,
        timing=timing,
    )
    return structs.replace(made, **changes)


def measured(us: float, spread: float = 0.01, n: int = 200) -> Measured:
    samples = sorted(np.random.default_rng(int(us * 100)).normal(us, us * spread, n).tolist())
    return Measured(
        timer="device events",
        evidence=Evidence.DEVICE,
        cache="L2 flushed",
        median_us=float(np.median(samples)),
        p10_us=samples[n // 10],
        p90_us=samples[-n // 10],
        min_us=samples[0],
        max_us=samples[-1],
        warmups=1,
        samples_us=np.random.default_rng(0).permutation(samples).tolist(),
    )


def predicted(us: float) -> Predicted:
    return structs.replace(PREDICTED, predicted_us=us)


GPU = {"gpus": [{"name": "H200", "driver": "1"}]}


def saved(name: str, results: Sequence[Outcome], env: dict[str, Any] = GPU, **more: Any) -> str:
    Path(name).write_text(document.Document(env=env, results=list(results), **more).to_json())
    return name


LIMITS = ("--fail-on", "predicted:2%,median:5%")


@pytest.mark.parametrize(
    ("base", "new", "more", "code", "said"),
    [
        (predicted(100.0), predicted(105.0), (), ExitCode.REGRESSION, "slower: matmul 1 float32 triton: 100 → 105 µs"),
        (predicted(100.0), predicted(101.9), (), ExitCode.OK, "No regression in 1 case"),
        (predicted(100.0), predicted(100.0), (), ExitCode.OK, "same"),
        (measured(100.0), measured(108.0), (), ExitCode.REGRESSION, "where median:5% is allowed"),
        (measured(100.0), measured(100.0), (), ExitCode.OK, "not significant"),
        (measured(100.0, 0.3, 60), measured(107.0, 0.3, 60), (), ExitCode.OK, "1 of them not decided"),
        (
            measured(100.0, 0.3, 60),
            measured(107.0, 0.3, 60),
            ("--strict",),
            ExitCode.INCONCLUSIVE,
            "not decided: matmul",
        ),
        (measured(100.0), None, (), ExitCode.INCONCLUSIVE, "no time to compare: matmul 1 float32 triton"),
        (measured(100.0), predicted(900.0), (), ExitCode.NOTHING_RAN, "device and predicted: never across kinds"),
        (measured(100.0, n=3), measured(200.0, n=3), (), ExitCode.OK, "too few samples"),
    ],
)
def test_the_gate_on_documents(
    base: Any, new: Any, more: Sequence[str], code: ExitCode, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    others = [result(predicted(10.0), case="2")] if new is None else []
    words = [saved("a.json", [result(base), *others]), saved("b.json", [result(new), *others]), *LIMITS, *more]
    assert compare(*words) == code
    assert said in capsys.readouterr().out


def test_a_hosts_times_stand_beside_the_devices_and_are_compared_with_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slower = structs.replace(measured(100.0), host_us=900.0)
    base, new = saved("a.json", [result(measured(100.0))]), saved("b.json", [result(slower)])
    assert compare(base, new, *LIMITS, "--html", "c.html") == ExitCode.OK
    head, _, row = capsys.readouterr().out.split("\n\n")[1].splitlines()
    assert "new host µs" in head and "base host µs" not in head
    assert row[head.index("new host µs") :].split()[0] == "900"
    assert compare(base, new, "--md", "-") == ExitCode.OK
    assert "| new host µs |" in capsys.readouterr().out
    page = (folder / "c.html").read_text()
    assert '<th scope="col" class="num">new host µs</th>' in page and '<td class="num">900</td>' in page


def test_what_is_wrong_now_goes_before_what_is_slower(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = result(None, status=Status.FAILED, reason="all of it")
    words = saved("a.json", [result(predicted(1.0))]), saved("b.json", [wrong])
    assert compare(*words, *LIMITS) == ExitCode.MISMATCH
    assert "wrong now: matmul 1 float32 triton: failed: all of it" in capsys.readouterr().out


def test_times_of_two_machines_gate_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    words = (
        saved("a.json", [result(measured(100.0))]),
        saved("b.json", [result(measured(200.0))], {"gpus": [{"name": "H100"}], "label": "cloud"}),
    )
    assert compare(*words, *LIMITS) == ExitCode.NOTHING_RAN
    assert "measured on H200 1 and on cloud: these ratios are of the machines" in capsys.readouterr().out


def test_a_cut_short_side_and_its_names_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [result(predicted(1.0), op="\x1b[2J|x", case="=1`")]
    words = saved("a.json", rows, complete=False, planned=7), saved("b.json", rows)
    compare(*words, "--md", "-")
    out, err = capsys.readouterr()
    assert "note: a.json: INCOMPLETE: the run was cut short after 1 of 7 results" in err and "\x1b" not in out + err
    assert "> a.json: INCOMPLETE" in out and r"\|x" in out


def test_a_comment_has_sixty_lines_at_most(capsys: pytest.CaptureFixture[str]) -> None:
    def rows(us: float) -> list[Outcome]:
        return [result(predicted(us + i), case=str(i)) for i in range(200)]

    words = saved("a.json", rows(100.0)), saved("b.json", rows(150.0))
    assert compare(*words, *LIMITS, "--md", "-") == ExitCode.REGRESSION
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 60 and lines[0] == "### ❌ 200 cases slower than allowed"
    assert any(re.fullmatch(r"and \d+ more cases", line) for line in lines)
    assert compare(words[0], words[0], "--md", "-") == ExitCode.OK
    assert capsys.readouterr().out.startswith("### ✅ 200 cases compared: 0 faster, 0 slower")


def test_the_json_says_every_change(capsys: pytest.CaptureFixture[str]) -> None:
    words = saved("a.json", [result(predicted(100.0))]), saved("b.json", [result(predicted(105.0))])
    assert compare(*words, *LIMITS, "--json", "-") == ExitCode.REGRESSION
    (change,) = json.loads(capsys.readouterr().out)["changes"]
    assert change["ratio"] == 1.05 and change["interval"] == [1.05, 1.05] and change["regressed"]


@pytest.mark.parametrize(
    "words", [("numpy", "a.json"), ("a.json", "a.json", "--fail-on", "speed:2%"), ("a.json", "nothing.json")]
)
def test_what_makes_no_sense_is_a_usage_error(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    saved("a.json", [result(predicted(1.0))])
    assert compare(*words) == ExitCode.USAGE and len(capsys.readouterr().err.splitlines()) == 1


def test_a_revision_without_the_kernels_says_what_is_taken_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextlib.contextmanager
    def empty(folder: Path, sha: str) -> Iterator[Path]:
        yield tmp_path

    monkeypatch.setattr(sides, "worktree", empty)
    monkeypatch.setattr(sides, "git", lambda *words: str(ROOT))
    told = "0000000000 has no kernel of matmul: of a revision the kernels alone are taken"
    with contextlib.ExitStack() as stack, pytest.raises(UsageError, match=told):
        sides.revision(stack, ROOT, "0" * 40, None, Request(ops=["matmul"]))
