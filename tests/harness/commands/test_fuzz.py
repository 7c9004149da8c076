"""`--fuzz` finds a planted bug, shrinks it and prints a line that fails when pasted; `--case` reads that line."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from triptych.harness.collection import builtin
from triptych.harness.commands import cli
from triptych.harness.errors import UsageError
from triptych.harness.exit_codes import ExitCode
from triptych.harness.judge.problem import Problem
from triptych.harness.ops import case_spec, drawn_cases
from triptych.harness.ops.errors import RefusedInputs, UninformativeCase
from triptych.harness.ops.op import Op
from triptych.harness.ops.outputs.naming import Outputs
from triptych.harness.ops.outputs.parts import all_outputs
from triptych.harness.ops.regimes import REGIMES
from triptych.harness.ops.selection import Selection

FILE = """
import numpy as np
import nki
import nki.isa as nisa
import nki.language as nl
from triptych import Op


def reference(x, negate=False):
    return -x if negate else x


@nki.jit
def kernel(x, negate=False):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=x)
    if BUG:
        nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=-1.0)
    nisa.dma_copy(dst=out, src=tile)
    return out


op = Op(
    "copy",
    {"x": ("M", "N")},
    reference,
    [{"M": 3, "N": 4, "negate": False}, {"M": 3, "N": 4, "negate": True}],
    tiles={"N": (64, 256)},
    limits={"M": 128, "N": 300},
    nki=kernel,
)
"""
RIGHT, WIDE = "negate", "negate or x.shape[1] > 64"


def kernel_file(tmp_path: Path, bug: str) -> str:
    path = tmp_path / "mine.py"
    path.write_text(FILE.replace("BUG", bug))
    return str(path)


def check(path: str, *words: str) -> int:
    return cli.main(["check", "--kernel", path, "--backend", "nki-sim", *words])


def test_a_planted_bug_is_found_shrunk_and_repeated_by_the_printed_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = kernel_file(tmp_path, WIDE)
    assert check(path, "--fuzz", "20", "--seed", "5") == ExitCode.MISMATCH
    out = capsys.readouterr().out
    failed, *_, cause, line, last = out.splitlines()
    assert cause.startswith("    cause: ")
    assert "--case M=1,N=65,negate=False " in line, (
        "one row, one column more than the tile, nothing out of the ordinary"
    )
    assert failed.startswith("failed: copy 1x65 float32 on nki-sim[trn2]: ")
    assert last.startswith("fuzz: a failure after ") and "shrunk from" in last and last.endswith("seed 5")
    words = shlex.split(line)
    assert words[0] == "triptych"
    assert cli.main(words[1:]) == ExitCode.MISMATCH
    assert failed in capsys.readouterr().out, "the very same numbers"
    Path(path).write_text(FILE.replace("BUG", RIGHT))
    assert cli.main(words[1:]) == ExitCode.OK, "and the line tells when it is mended"


def test_a_kernel_that_crashes_is_shrunk_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = kernel_file(tmp_path, "negate")
    text = Path(path).read_text().replace("    if negate:", "    assert x.shape[0] < 3, 'too tall'\n    if negate:")
    Path(path).write_text(text)
    assert check(path, "--fuzz", "20", "--json", str(tmp_path / "out.json")) == ExitCode.MISMATCH
    assert "too tall" in capsys.readouterr().out
    document = json.loads((tmp_path / "out.json").read_text())
    (result,) = document["results"]
    assert result["case"] == "3x1" and result["status"] == "error" and document["env"]["fuzz"]["cases"] > 0


def test_a_right_kernel_passes_and_says_how_much_was_tried(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(kernel_file(tmp_path, RIGHT), "--fuzz", "2", "--dtype", "bfloat16") == ExitCode.OK
    (last,) = capsys.readouterr().out.splitlines()
    said = re.fullmatch(r"fuzz: (\d+) cases?, \d+ comparisons? of copy in 2 s, and none fails · seed 0", last)
    assert said is not None and int(said[1]) > 0


def test_nothing_to_search_is_no_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "--kernel", kernel_file(tmp_path, RIGHT), "--backend", "triton-cpu", "--fuzz", "1"]) == 5
    assert "and nothing could be compared: no chosen backend runs them" in capsys.readouterr().out


def test_without_hypothesis_one_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    assert check(kernel_file(tmp_path, RIGHT), "--fuzz", "1") == ExitCode.USAGE
    assert "hypothesis is not installed: pip install 'triptych[fuzz]'" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--cases", "smoke"], ["-k", "3x4"], ["--case", "M=1,N=1"], ["--csv", "-"]])
def test_what_fuzz_draws_itself_cannot_be_given(words: list[str], tmp_path: Path) -> None:
    assert check(kernel_file(tmp_path, RIGHT), "--fuzz", "1", *words) == ExitCode.USAGE


def drawn(op: Op, count: int, seed: int, **settings: Any) -> list[Any]:
    import hypothesis

    cases: list[Any] = []
    selection = Selection(axes=settings.get("axes", {}), seed=seed)

    def keep(case: Any) -> None:
        cases.append(case)

    test = hypothesis.given(drawn_cases.drawing({op.name: op}, selection))(keep)
    test = hypothesis.settings(max_examples=count, database=None, deadline=None, phases=(hypothesis.Phase.generate,))(
        test
    )
    hypothesis.seed(seed)(test)()
    return cases


@pytest.mark.slow
@pytest.mark.parametrize("op", builtin().values(), ids=lambda op: op.name)
def test_cases_keep_to_the_limits_and_reach_tiles_dtypes_and_regimes(op: Op) -> None:
    cases = drawn(op, 400, 1)
    regimes = set(REGIMES) if op.triton is not None else set(REGIMES) - {"strided"}
    assert {case.regime for case in cases} == regimes and {case.dtype for case in cases} == set(op.dtypes)
    for case in cases:
        assert all(1 <= case.axes[axis] <= most for axis, most in op.limits.items())
        assert all(case.axes[axis] % case.axes[base] == 0 for axis, base in op.multiples.items())
        assert drawn_cases.work(op, case.axes, case.params) <= 1
    for axis in op.tiles:
        assert any(case.axes[axis] > drawn_cases.SMALL for case in cases)


@pytest.mark.parametrize("op", builtin().values(), ids=lambda op: op.name)
def test_the_reference_and_the_baselines_take_every_case_that_is_drawn(op: Op) -> None:
    """With one shape of each output; where sizes exclude each other or say nothing, the case is refused."""
    for case in drawn(op, 10, 3):
        try:
            problem = Problem.of(op, case)
            expected = shapes(problem.evaluated)
        except (RefusedInputs, UninformativeCase):
            assert op.name in EXCLUDING, case
            continue
        for baseline in op.honest:
            with np.errstate(all="ignore"):
                assert shapes(all_outputs(op, baseline)(**problem.arguments)) == expected, (case, baseline)


def shapes(outputs: Outputs) -> dict[str, tuple[int, ...]]:
    return {name: x.shape for name, x in outputs.items() if x is not None}


EXCLUDING = (
    "rope",  # an odd D
    "rmsnorm_backward",  # one column
    "matmul_mx",  # few products
    "attention_prefill",  # as for all decoding, more new tokens than places
    *("attention_decode", "attention_decode_paged", "attention_decode_fp8", "attention_decode_fp8_paged"),
)


def test_the_seed_decides_the_cases() -> None:
    op = builtin()["attention"]
    assert drawn(op, 20, 4) == drawn(op, 20, 4) != drawn(op, 20, 5)


def test_a_size_of_the_command_line_stays() -> None:
    cases = drawn(builtin()["attention"], 30, 0, axes={"D": [7], "H": [4], "Hkv": [2]})
    assert {(case.axes["D"], case.axes["H"], case.axes["Hkv"]) for case in cases} == {(7, 4, 2)}


def test_a_written_case_reads_back() -> None:
    op = builtin()["attention"]
    for case in drawn(op, 30, 2):
        again = case_spec.read(op, case_spec.write(case))
        assert (again.axes, again.params, again.regime, again.name) == (case.axes, case.params, case.regime, case.name)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("M=3,K=5", "leaves matmul without N; give every axis"),
        ("M=3,K=5,N=x", "axis N of matmul takes a whole number; got 'N=x'"),
        ("M=3,K=5,N=-1", "takes a whole number"),
        ("M=3,K=5,N=7,Q=1", "unknown axis or parameter of matmul 'Q'. There is: M, K, N, regime."),
        ("M=3,K=5,N=7,regime=tinny", "did you mean 'tiny'"),
        ("M=3,K=5,N", "--case takes NAME=VALUE,..., as in --case M=64,K=64,N=64; got 'N'"),
        ("M=3,M=5,N=7", "--case gives M twice"),
    ],
)
def test_a_case_that_is_not_written_right_says_how(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        case_spec.read(builtin()["matmul"], text)
    assert said in str(caught.value)


def test_a_written_case_runs_alone_in_every_dtype(runner: Any) -> None:
    runner.main(["check", "matmul", "--case", "M=3,K=5,N=7,regime=tiny", "--backend", "numpy"])
    assert [(task.case.name, task.case.dtype) for task in runner.tasks] == [
        ("3x5x7-tiny", dtype) for dtype in ("float32", "bfloat16", "float16")
    ]
    assert "triptych check matmul --case M=3,K=5,N=7,regime=tiny --dtype float32" in runner.tasks[0].repro


def test_a_size_for_a_written_case_is_a_contradiction() -> None:
    assert cli.main(["check", "matmul", "--case", "M=3,K=5,N=7", "-a", "M=4"]) == ExitCode.USAGE


@pytest.mark.skipif(sys.platform == "win32", reason="the worker of a test that ends early is POSIX's")
def test_the_search_is_the_same_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = kernel_file(tmp_path, WIDE)
    said = []
    for _ in range(2):
        check(path, "--fuzz", "20", "--seed", "8")
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
