"""The tables of predictions on the pages of the NKI kernels: shapes and chips in, times and shares out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from triptych import simulator
from triptych.harness.reports.markdown import code, markdown_table
from triptych.simulator.memory.shapes import ShapeDtype

KERNELS = Path(__file__).resolve().parents[3] / "kernels" / "nki"
BF16, F8, F32, I32 = "bfloat16", "float8_e4m3", "float32", "int32"
Args = tuple[Any, ...]


@dataclass(frozen=True)
class Row:
    """A kernel at one shape on one chip."""

    kernel: str  # file:function
    what: str  # the shape in words
    args: Args
    flops: int  # useful ones
    nbytes: int  # that must be moved at least
    target: str = "trn2"
    cores: int = 1

    def cells(self) -> tuple[str, ...]:
        file, name = self.kernel.split(":")
        kernel = getattr(simulator.load(KERNELS / f"{file}.py"), name)
        predicted = simulator.on(self.target).predict(kernel, *self.args)
        chip = simulator.TARGETS[self.target]
        seconds = predicted.total_us * 1e-6 * self.cores
        peak = self.flops / seconds / 1e12 / chip.peak_bf16_tflops.value
        rate = self.nbytes / seconds / 1e9
        return (
            code(name),
            self.what,
            self.target,
            f"{predicted.total_us:,.0f}",
            f"{peak:.0%}",
            f"{rate:.0f}",
            f"{rate / chip.dma_gb_per_s.value:.0%}",
        )


def table(rows: Callable[[], list[Row]]) -> str:
    header = ("kernel", "shape", "target", "us", "of the bfloat16 peak", "GB/s", "of DMA's rate")
    return markdown_table(header, [row.cells() for row in rows()])


def of(*shape: int, dtype: str = BF16) -> ShapeDtype:
    return ShapeDtype(shape, dtype)


def matmul_flops(m: int, k: int, n: int) -> int:
    return 2 * m * k * n


def mlp(m: int, k: int, f: int, what: str, target: str = "trn2") -> Row:
    args = (of(m, k), of(k, f), of(k, f), of(f, k))
    return Row("mlp:gated_mlp", what, args, 6 * m * k * f, 2 * (3 * k * f + 2 * m * k), target)


def layer(m: int, k: int, n: int, what: str) -> Row:
    args = (of(m, k), of(k, n), of(n), of(m, n), "silu")
    return Row("linear:linear", what, args, matmul_flops(m, k, n), 2 * (m * k + k * n + 2 * m * n + n))


def normed(m: int, k: int, n: int, what: str) -> Row:
    args = (of(m, k), of(k), of(k, n))
    return Row("linear:rmsnorm_linear", what, args, matmul_flops(m, k, n), 2 * (m * k + k * n + m * n))


def linear_rows() -> list[Row]:
    return [
        mlp(1, 2048, 8192, "Llama 3.2 1B, 1 token"),
        mlp(64, 2048, 8192, "Llama 3.2 1B, 64 tokens"),
        mlp(1, 4096, 14336, "Llama 3.1 8B, 1 token"),
        mlp(2048, 2048, 8192, "Llama 3.2 1B, 2048 tokens"),
        layer(1, 4096, 14336, "1 x 4096 x 14336, bias, SiLU, residual"),
        layer(4096, 4096, 4096, "4096 x 4096 x 4096, bias, SiLU, residual"),
        normed(1, 4096, 6144, "Llama 3.1 8B, q k v of 1 token"),
        normed(4096, 4096, 4096, "4096 x 4096 x 4096"),
    ]


def rope_rows() -> list[Row]:
    s, h, d = 2048, 40, 64
    args = (of(s, h, d), of(s, d // 2), of(s, d // 2))
    moved = 2 * s * (2 * h * d + d)
    return [
        Row("rope:rope", "2048 tokens, 32 query and 8 key heads of 64", args, 3 * s * h * d, moved, target)
        for target in ("trn1", "trn2", "trn3")
    ]


def rmsnorm_rows() -> list[Row]:
    rows = []
    for m, n in ((4096, 2048), (4096, 4096)):
        what = f"{m} x {n}"
        rows.append(Row("rmsnorm:rmsnorm", what, (of(m, n), of(n)), 4 * m * n, 4 * m * n))
        rows.append(Row("rmsnorm:rmsnorm_backward", what, (of(m, n), of(n), of(m, n)), 11 * m * n, 6 * m * n))
    return rows


def cross_entropy_rows() -> list[Row]:
    m, v = 128, 128_256
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((m, v), dtype=np.float32).astype(BF16)  # the gathering DMA needs its addresses
    labels = rng.integers(0, v, m).astype(np.int32)
    column = of(m, dtype=F32)
    backward = (of(m, v), of(m, dtype=I32), column, column)
    what = "128 tokens of Llama 3's vocabulary, 128,256"
    return [
        Row("cross_entropy:cross_entropy", what, (logits, labels), 4 * m * v, 2 * m * v),
        Row("cross_entropy:cross_entropy_backward", what, backward, 4 * m * v, 4 * m * v),
    ]


def float8_rows() -> list[Row]:
    rows = []
    m = n = 4096
    quantised = of(m, n)
    rows.append(Row("quantize:quantize_fp8", "4096 x 4096", (quantised,), 3 * m * n, 3 * m * n))
    for size in (2048, 4096):
        what, flops = " x ".join([str(size)] * 3), matmul_flops(size, size, size)
        square, square8, scale = of(size, size), of(size, size, dtype=F8), of(size, dtype=F32)
        rows.append(Row("matmul:matmul", what, (square, square), flops, 6 * size * size))
        rows.append(Row("matmul_fp8:matmul_fp8", what, (square8, square8, scale, scale), flops, 4 * size * size))
        rows.append(Row("matmul_mx:matmul_mx", what, (square, square), flops, 6 * size * size, "trn3"))
    return rows


def two_cores_rows() -> list[Row]:
    rows = []
    for size in (2048, 4096):
        what, square = " x ".join([str(size)] * 3), of(size, size)
        for name, cores in (("matmul", 1), ("matmul_two_cores", 2)):
            flops = matmul_flops(size, size, size)
            rows.append(Row(f"matmul:{name}", what, (square, square), flops, 6 * size * size, cores=cores))
    return rows


TABLES: dict[str, Callable[[], str]] = {
    "linear-layers": partial(table, linear_rows),
    "rope": partial(table, rope_rows),
    "rmsnorm": partial(table, rmsnorm_rows),
    "cross-entropy": partial(table, cross_entropy_rows),
    "float-eight": partial(table, float8_rows),
    "two-cores": partial(table, two_cores_rows),
}
