"""Ops with several outputs, and ops that change inputs in place: right and wrong kernels in NKI, Triton, PyTorch."""

from __future__ import annotations

import contextlib
import textwrap
from pathlib import Path

import pytest

import triptych
from triptych.harness.backends import BACKENDS
from triptych.harness.backends.base import KernelFault
from triptych.harness.judge.prepared import prepare
from triptych.harness.judge.problem import Problem
from triptych.harness.ops import loading
from triptych.harness.ops.cases import cases_of
from triptych.harness.results.result import Result
from triptych.harness.results.status import Status
from triptych.harness.results.timing import Measured
from triptych.harness.running.bench import Bench
from triptych.harness.running.tasks import Settings, Task

pytest.importorskip("triton")
pytest.importorskip("torch")

HEAD = """
import numpy as np
import nki, nki.isa as nisa, nki.language as nl
import torch, triton, triton.language as tl
from triptych import Op
"""
STATISTICS = """
@nki.jit
def in_nki(x):
    M, N = x.shape
    centred = nl.ndarray((M, N), dtype=x.dtype, buffer=nl.shared_hbm)
    means = nl.ndarray((M, 1), dtype=x.dtype, buffer=nl.shared_hbm)
    rows = nl.ndarray((M, N), dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=rows, src=x)
    total = nl.ndarray((M, 1), dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_reduce(dst=total, op=nl.add, data=rows, axis=1)
    nisa.tensor_scalar(dst=total, data=total, op0=nl.multiply, operand0=1 / N)
    away = nl.ndarray((M, N), dtype=x.dtype, buffer=nl.sbuf)
    nisa.tensor_scalar(dst=away, data=rows, op0=nl.subtract, operand0=total)
    mean = nl.ndarray((M, 1), dtype=x.dtype, buffer=nl.sbuf)
    nisa.tensor_copy(dst=mean, src=total)
    nisa.dma_copy(dst=centred, src=away)
    nisa.dma_copy(dst=means, src=mean)
    return centred, means

@triton.jit
def kernel(X, C, M, N, stride, B: tl.constexpr):
    row, o = tl.program_id(0), tl.arange(0, B)
    x = tl.load(X + row * stride + o, mask=o < N, other=0.0).to(tl.float32)
    mean = tl.sum(x) / N
    tl.store(C + row * N + o, x - mean, mask=o < N)
    tl.store(M + row, mean)

def in_triton(x):
    x = x.contiguous()
    centred, means = torch.empty_like(x), x.new_empty((x.shape[0], 1))
    kernel[(x.shape[0],)](x, centred, means, x.shape[1], x.stride(0), B=64)
    return {"means": means, "centred": centred}

def in_torch(x):
    means = x.mean(dim=1, keepdim=True)
    return x - means, means

def reference(x):
    means = x.mean(axis=1, keepdims=True)
    return {"centred": x - means, "means": means}

op = Op("statistics", {"x": ("M", "N")}, reference, [{"M": 5, "N": 60}], nki=in_nki, triton=in_triton, torch=in_torch)
"""
CACHE = """
@nki.jit
def in_nki(cache, new, start):
    rows = nl.ndarray(new.shape, dtype=new.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=rows, src=new)
    nisa.dma_copy(dst=cache[start : start + new.shape[0], :], src=rows)
    return cache

@triton.jit
def kernel(CACHE, NEW, start, stride, N, B: tl.constexpr):
    row, o = tl.program_id(0), tl.arange(0, B)
    tl.store(CACHE + (start + row) * stride + o, tl.load(NEW + row * N + o, mask=o < N), mask=o < N)

def in_triton(cache, new, start):
    new = new.contiguous()
    kernel[(new.shape[0],)](cache, new, start, cache.stride(0), new.shape[1], B=64)

def in_torch(cache, new, start):
    cache[start : start + len(new)] = new

def reference(cache, new, start):
    cache[start : start + len(new)] = new

op = Op("append", {"cache": ("L", "N"), "new": ("M", "N")}, reference, [{"L": 20, "M": 4, "N": 60, "start": 7}],
        nki=in_nki, triton=in_triton, torch=in_torch, mutates=("cache",),
        unsupported=lambda case, backend, target: "takes rows without gaps" if case.regime == "strided" else None)
"""
HERE = ("nki-sim", "triton-cpu", "torch", "numpy")


def checked(folder: Path, source: str, backend: str, dtype: str = "float32", bench: bool = False) -> Result:
    path = folder / "ops.py"
    path.write_text(HEAD + textwrap.dedent(source))
    op = next(iter(loading.from_file(path).values()))
    (case,) = cases_of(op, ["smoke"], [dtype], {}, 0)
    target = "trn2" if backend == "nki-sim" else None
    result = Bench(lambda _: None).perform(Task(op.name, str(path), case, backend, target, bench=bench), Settings())
    return result


@pytest.mark.parametrize("source", [STATISTICS, CACHE], ids=["statistics", "cache"])
@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_right_kernels_pass(source: str, backend: str, dtype: str, tmp_path: Path) -> None:
    result = checked(tmp_path, source, backend, dtype)
    assert (result.status, result.reason) == (Status.PASSED, None)
    names = {"centred", "means"} if source is STATISTICS else {"cache"}
    assert set(result.outputs) == names and result.output in names and all(o.passed for o in result.outputs.values())


TORCH_CACHE = "cache[start : start + len(new)] = new\n\ndef reference"
MEANS_IN_BFLOAT16 = "((M, 1), dtype=nl.bfloat16, buffer=nl.shared"
WRONG = [
    (STATISTICS, "nki-sim", "operand0=1 / N", "operand0=1 / 64", "failed", "output means: 5 of 5"),
    (STATISTICS, "nki-sim", "return centred, means", "return means, centred", "error", "wrong shape"),
    (STATISTICS, "nki-sim", "return centred, means", "return centred", "error", "returned 1 output where"),
    (STATISTICS, "nki-sim", "((M, 1), dtype=x.dtype, buffer=nl.shared", MEANS_IN_BFLOAT16, "error", "got bfloat16"),
    (STATISTICS, "triton-cpu", "tl.store(M + row, mean)", "tl.store(M + row, 0)", "failed", "output means: 5 of 5"),
    (STATISTICS, "triton-cpu", "tl.store(M + row, mean)", "pass", "error", "unwritten"),
    (STATISTICS, "triton-cpu", '{"means": means,', '{"mean": means,', "error", "(mean, centred) where the"),
    (STATISTICS, "torch", "return x - means, means", "return 1 * x, means", "failed", "output centred: 300 of 300"),
    (CACHE, "nki-sim", "src=new)", "src=cache[0 : new.shape[0], :])", "failed", "input cache after the call: 240 of"),
    (CACHE, "triton-cpu", "(start + row)", "row", "failed", "input cache after the call: 480 of 1200"),
    (CACHE, "triton-cpu", "CACHE + (start + row) * stride", "NEW + row * N", "error", "mutates=('new',)"),
    (CACHE, "torch", TORCH_CACHE, "pass\n\ndef reference", "failed", "input cache after the call: 240 of"),
    (CACHE, "torch", TORCH_CACHE, "new += 1\n\ndef reference", "error", "mutates=('new',)"),
]


@pytest.mark.parametrize(("source", "backend", "right", "wrong", "status", "words"), WRONG)
def test_wrong_kernels_do_not_and_the_output_is_named(
    source: str, backend: str, right: str, wrong: str, status: str, words: str, tmp_path: Path
) -> None:
    assert source.count(right) == 1
    result = checked(tmp_path, source.replace(right, wrong), backend)
    assert result.status == status and words in (result.reason or ""), result.reason


DOUBLED = """
from triptych import Input

def in_torch(x):
    assert float(x.max()) <= 1.0, "the last call's values are still here"
    x *= 2

op = Op("doubled", {"x": Input(("M", "N"), low=0.25, high=1.0)}, lambda x: 2 * x, [{"M": 8, "N": 9}], torch=in_torch,
        mutates=("x",))
"""


def test_what_a_call_changes_is_restored_between_the_samples_of_a_bench(tmp_path: Path) -> None:
    result = checked(tmp_path, DOUBLED, "torch", bench=True)
    assert (result.status, result.reason) == (Status.PASSED, None)
    assert isinstance(result.timing, Measured) and len(result.timing.samples_us) > 2


@pytest.mark.parametrize("source", [STATISTICS, CACHE], ids=["statistics", "cache"])
@pytest.mark.parametrize("wrong", [False, True])
def test_the_backend_of_gpus_hands_memory_over_and_brings_it_back(source: str, wrong: bool, tmp_path: Path) -> None:
    """On tensors that say that they are on a GPU: what is tested is the backend, not a GPU."""
    changes = ("tl.store(M + row, mean)", "tl.store(M + row, 0)") if source is STATISTICS else ("(start + row)", "row")
    path = tmp_path / "ops.py"
    path.write_text(HEAD + source.replace(*changes) if wrong else HEAD + source)
    op = next(iter(loading.from_file(path).values()))
    case = prepare(Problem.of(op, cases_of(op, ["smoke"], ["bfloat16"], {}, 0)[0]))
    with triptych.interpret():
        returned = BACKENDS["triton"].run(case.problem, None)
    verdict = case.judge(case.problem.named(returned))
    assert verdict.status is (Status.FAILED if wrong else Status.PASSED), verdict.reason
    assert verdict.output in ("means", "centred") if source is STATISTICS else verdict.output == "cache"


WRITES = """
@triton.jit
def kernel(X, Y, Z, N, B: tl.constexpr):
    o = tl.arange(0, B)
    x = tl.load(X + o, mask=o < N)
    tl.store(Y + o, 2 * x, mask=o < N)
    tl.store(Z + o, 3 * x, mask=o < N)

def launch(x, twice, thrice):
    kernel[(1,)](x, twice, thrice, x.numel(), B=128)

op = Op("two", {"x": ("N",)}, lambda x: {"twice": 2 * x, "thrice": 3 * x}, [{"N": 100}], triton=launch)
"""


@pytest.mark.parametrize("backend", ["triton-cpu", "triton"])
@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        ("", "", None),
        ("3 * x, mask", "4 * x, mask", "output thrice: "),
        ("tl.store(Z + o, 3 * x, mask=o < N)", "pass", "left 100 of 100 output elements unwritten"),
        ("launch(x, twice, thrice)", "launch(x, out)", "takes out=, and two gives 2 outputs (twice, thrice)"),
    ],
)
def test_a_launcher_writes_to_parameters_called_as_its_outputs(
    backend: str, right: str, wrong: str, words: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "ops.py"
    path.write_text(HEAD + WRITES.replace(right, wrong))
    op = loading.from_file(path)["two"]
    case = prepare(Problem.of(op, cases_of(op, ["smoke"], ["float32"], {}, 0)[0]))
    try:
        with triptych.interpret() if backend == "triton" else contextlib.nullcontext():
            returned = BACKENDS[backend].run(case.problem, None)
    except KernelFault as fault:
        assert words is not None and words in str(fault)
        return
    verdict = case.judge(case.problem.named(returned))
    assert (verdict.reason is None) if words is None else (words in str(verdict.reason))
