"""An op whose kernel is reached through an operator of PyTorch alone, from the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

FILE = """
import torch
import nki
import nki.isa as nisa
import nki.language as nl
import triptych
from torch_neuronx import nki_op


@nki.jit
def add_kernel(a, b):
    x = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.sbuf)
    y = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=x, src=a)
    nisa.dma_copy(dst=y, src=b)
    nisa.tensor_tensor(dst=x, data1=x, data2=y, op=nl.add)
    out = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=out, src=x)
    return out


@nki_op("mine::add_doubled")
def add_doubled(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return add_kernel(a, b * 2)


@nki_op("mine::add_tripled")
def add_tripled(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return add_kernel(a, b * 3)


OPS = [
    triptych.Op(name, {"a": ("M", "N"), "b": ("M", "N")}, lambda a, b: a + 2 * b, [{"M": 8, "N": 16}], nki=kernel)
    for name, kernel in {"doubled": add_doubled, "tripled": add_tripled}.items()
]
"""


@pytest.mark.slow
def test_it_is_checked_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "op.py").write_text(FILE)
    command = ["check", "op.py", "--backend", "nki-sim", "--dtype", "bfloat16", "--cases", "smoke"]
    ran = subprocess.run(
        [sys.executable, "-m", "triptych", *command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    rows = [line.split() for line in ran.stdout.splitlines()]
    assert [row[5] for row in rows if row[:1] in (["doubled"], ["tripled"])] == ["passed", "failed"], ran.stderr
    assert ran.returncode == 1
