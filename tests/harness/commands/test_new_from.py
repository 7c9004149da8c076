"""`triptych new --from PATH:FUNCTION`: what it reads of a kernel that exists, what it marks, and what it refuses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from triptych.harness.commands import cli
from triptych.harness.exit_codes import ExitCode

TRITON = """
import torch, triton, triton.language as tl

@triton.jit
def _kernel(X, W, Y, Mean, stride, N, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    Y += row * stride
    columns = tl.arange(0, BLOCK)
    x = tl.load(X + row * stride + columns, mask=columns < N, other=0.0)
    mean = tl.sum(x, axis=0) / N
    places = Y + columns
    tl.store(places, (x - mean) * tl.load(W + columns, mask=columns < N), mask=columns < N)
    tl.store(Mean + row, mean)

def centred(x: torch.Tensor, weight, eps: float, residual=None, BLOCK=256):
    n_rows, n_cols = x.shape
    y, mean = torch.empty_like(x), x.new_empty(n_rows)
    _kernel[(n_rows,)](x, weight, y, mean, x.stride(0), n_cols, eps, BLOCK=BLOCK)
    return y, mean

def centre_(x, weight, eps=1e-5):
    mean = x.new_empty(x.shape[0])
    _kernel[(x.shape[0],)](x, weight, x, mean, x.stride(0), x.shape[1], eps, BLOCK=256)

def into(x, weight, out):
    _kernel[(x.shape[0],)](x, weight, out, x.new_empty(x.shape[0]), x.stride(0), x.shape[1], 0.0, BLOCK=256)
"""
NKI = """
import nki, nki.isa as nisa, nki.language as nl

@nki.jit
def append(cache, new, start, *, scale=1.0):
    rows, width = new.shape
    t = nl.ndarray((rows, width), dtype=new.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=t, src=new)
    nisa.dma_copy(dst=cache[start : start + rows, :], src=t)
    return cache
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("triton")
    pytest.importorskip("torch")
    (tmp_path / "kernels.py").write_text(TRITON)
    (tmp_path / "chip.py").write_text(NKI)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(kernel: str) -> str:
    assert cli.main(["new", "--from", kernel]) == ExitCode.OK
    return Path(f"{kernel.rpartition(':')[2]}_op.py").read_text()


def test_a_triton_function_with_two_results(folder: Path) -> None:
    text = written("kernels.py:centred")
    assert "def reference(x, weight, eps, residual=None):" in text and "return y, mean" in text
    assert '"x": ("n_rows", "n_cols"),\n' in text and '"weight": ("n_cols",),  # ?' in text
    assert '[{"n_rows": 64, "n_cols": 96, "eps": 1e-5}],  # ?' in text
    assert 'triton="kernels.py:centred"' in text and "mutates" not in text and "BLOCK" not in text
    assert "# residual is left out" in text


def test_what_is_stored_to_is_changed_in_place() -> None:
    text = written("kernels.py:centre_")
    assert 'mutates=("x",),' in text and "change x in place" in text and "eps=1e-05):" in text


def test_where_the_output_goes_is_no_input() -> None:
    text = written("kernels.py:into")
    assert '"out"' not in text and "mutates" not in text and "def reference(x, weight):" in text


def test_an_nki_kernel_that_returns_what_it_changes() -> None:
    assert cli.main(["new", "--from", "chip.py:append", "grown"]) == ExitCode.OK
    text = Path("grown.py").read_text()
    assert 'nki="chip.py:append"' in text and 'mutates=("cache",),' in text
    assert "def reference(cache, new, start, scale=1.0)" in text
    assert '"new": ("rows", "width"),\n' in text and '"cache": ("rows", "width"),  # ?' in text


def test_what_is_written_is_checked_once_complete(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["check", "centred_op.py", "--dtype", "float32", "--backend", "triton-cpu", "-q"]
    text = written("kernels.py:centred")
    assert cli.main(words) == ExitCode.MISMATCH
    assert "NotImplementedError: write here what centred computes" in capsys.readouterr().out
    right = "    mean = x.mean(axis=1)\n    return (x - mean[:, None]) * weight, mean\n"
    (folder / "centred_op.py").write_text(re.sub(r"    raise NotImplementedError.*\n", right, text))
    assert cli.main(words) == ExitCode.OK
    (folder / "kernels.py").write_text(TRITON.replace("Mean + row, mean", "Mean + row, 2 * mean"))
    assert cli.main(words) == ExitCode.MISMATCH
    assert "output 1: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("kernels.py:_kernel", "kernels.py has centred, centre_, into: _kernel is a Triton kernel; name the function"),
        ("kernels.py:other", "other is no kernel there"),
        ("kernels.py", "--from takes PATH:FUNCTION, as kernels.py:rmsnorm; got 'kernels.py'"),
        ("nowhere.py:centred", "nowhere.py is not a file"),
        ("kernels.py:centred torch", "would hide the module 'torch'"),
    ],
)
def test_what_cannot_be_declared_says_why(words: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["new", "--from", *words.split()]) == ExitCode.USAGE
    assert sentence in capsys.readouterr().err
    assert not list(Path.cwd().glob("*_op.py"))


def test_a_file_that_is_there_is_left_as_it_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "centred_op.py").write_text("mine")
    assert cli.main(["new", "--from", "kernels.py:centred"]) == ExitCode.USAGE
    assert (folder / "centred_op.py").read_text() == "mine"
    assert cli.main(["new"]) == ExitCode.USAGE and "--from PATH:FUNCTION" in capsys.readouterr().err
