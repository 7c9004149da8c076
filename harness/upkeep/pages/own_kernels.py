"""The tables of docs/timing.md that have every NKI kernel of ours by older timing models and by today's.

What older models said is recorded, because they are no longer here: `git archive COMMIT` of one of `MODELS`, with its
src/ on PYTHONPATH, predicts any kernel file that is given to `simulator.load`. "As it was" are the kernels of
`KERNELS_BEFORE`. What is said of now is predicted anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np

from triptych import simulator
from triptych.harness.reports.markdown import code, markdown_table
from triptych.harness.upkeep.pages.kernel_tables import F8, F32, I32, KERNELS, of

MODELS = {"23 November": "a87ce6fc", "29 November": "18c98be3", "1 December": "d51415b6"}
KERNELS_BEFORE = "145c2e0e"  # the last commit with every kernel as it was
Arguments = Callable[[], tuple[Any, ...]]


@dataclass(frozen=True)
class Row:
    """A kernel at one shape: microseconds by each of `MODELS` and by that of 2 December, before it was tuned again."""

    kernel: str  # file:function
    what: str  # the shape in words
    arguments: Arguments
    before: tuple[float, float, float, float]
    target: str = "trn2"
    keywords: Mapping[str, Any] = field(default_factory=dict)

    def cells(self) -> tuple[str, ...]:
        now = predicted(self.kernel, self.what, self.target)
        change = now / self.before[-1] - 1
        shown = f"{change:+.1%}" if abs(change) >= 0.0005 else ""
        times = (f"{us:,.0f}" if us >= 1000 else f"{us:.1f}" for us in (*self.before, now))
        return code(self.kernel.split(":")[1]), self.what, self.target, *times, shown


def product(m: int, k: int, n: int) -> Arguments:
    """Operands of `matmul`: lhsT[K, M] and rhs[K, N]."""
    return lambda: (of(k, m), of(k, n))


def float8(m: int, k: int, n: int) -> Arguments:
    return lambda: (of(k, m, dtype=F8), of(k, n, dtype=F8), of(m, dtype=F32), of(n, dtype=F32))


def mlp(m: int, k: int, f: int) -> Arguments:
    return lambda: (of(m, k), of(k, f), of(k, f), of(f, k))


def zeros(*shape: int, dtype: Any = ml_dtypes.bfloat16) -> Any:
    return np.zeros(shape, dtype)


def heads(h: int, hkv: int, s: int, d: int) -> Arguments:
    """q, k and v of as many queries as keys; the kernel's loops depend on data."""
    return lambda: (zeros(1, h, s, d), zeros(1, hkv, s, d), zeros(1, hkv, s, d))


def prefill(tokens: int, cached: int) -> Arguments:
    """Four heads on one, behind a full cache."""

    def made() -> tuple[Any, ...]:
        q, new, cache = (zeros(1, h, s, 128) for h, s in ((4, tokens), (1, tokens), (1, cached + tokens)))
        return q, new, new, cache, cache.copy(), np.full(1, cached, np.int32)

    return made


def decode(d: int, page: int = 0, cached: Any = ml_dtypes.bfloat16) -> Arguments:
    """A token each of four sequences of 8192, 32 heads on 8, in pages or not."""

    def made() -> tuple[Any, ...]:
        shape = (4 * 8192 // page, 8, page, d) if page else (4, 8, 8192, d)
        caches, new = [zeros(*shape, dtype=cached) for _ in range(2)], zeros(4, 8, 1, d)
        table = np.arange(shape[0], dtype=np.int32).reshape(4, -1) if page else None
        scales = [np.ones(8, np.float32)] * 2 if cached != ml_dtypes.bfloat16 else []
        return zeros(4, 32, 1, d), new, new, *caches, np.full(4, 8191, np.int32), table, *scales

    return made


def labelled(m: int, v: int) -> tuple[Any, ...]:
    """Logits and labels; the gathering DMA needs its addresses."""
    return zeros(m, v), np.random.default_rng(0).integers(0, v, m).astype(np.int32)


TOKENS = of(2048, 40, 64), of(2048, 32), of(2048, 32)
ROTATED = "2048 tokens of 40 heads, D 64"
CACHED = "4 x 8192 tokens, 32 heads on 8, D"
CAUSAL = {"causal": True}
ROWS = (
    Row("matmul:matmul_tiled", "2048^3", product(2048, 2048, 2048), (1292.16, 1296.37, 1291.08, 1291.08)),
    Row("matmul:matmul", "2048^3", product(2048, 2048, 2048), (248.90, 248.90, 244.48, 244.48)),
    Row("matmul:matmul_mk", "2048^3", product(2048, 2048, 2048), (248.90, 250.66, 245.56, 245.56)),
    Row("matmul:matmul_two_cores", "2048^3", product(2048, 2048, 2048), (139.24, 139.24, 134.87, 134.87)),
    Row("matmul:matmul", "4096 x 8192 x 8192", product(4096, 8192, 8192), (7857.5, 6109.43, 6969.39, 6969.39), "trn1"),
    Row("matmul:matmul", "32 x 4096 x 14336", product(32, 4096, 14336), (372.02, 380.06, 360.09, 360.09)),
    Row(
        "matmul:matmul_mk",
        "32 x 4096 x 14336",
        lambda: (of(32, 4096), of(4096, 14336)),
        (364.08, 413.16, 387.81, 387.81),
    ),
    Row(
        "matmul:matmul_batched",
        "32 of 128 x 64 x 512",
        lambda: (of(32, 64, 128), of(32, 64, 512)),
        (81.63, 80.72, 75.43, 75.43),
    ),
    Row(
        "linear:linear",
        "64 x 4096 x 4096, bias, SiLU, residual",
        lambda: (of(64, 4096), of(4096, 4096), of(4096), of(64, 4096), "silu"),
        (130.76, 134.62, 122.06, 122.06),
    ),
    Row(
        "linear:rmsnorm_linear",
        "2048^3",
        lambda: (of(2048, 2048), of(2048), of(2048, 2048)),
        (254.80, 261.87, 262.73, 266.26),
    ),
    Row("linear:linear_transposed", "2048^3", product(2048, 2048, 2048), (254.36, 261.57, 256.00, 256.00)),
    Row("mlp:gated_mlp", "1 x 2048 x 8192", mlp(1, 2048, 8192), (306.76, 306.60, 287.59, 287.59)),
    Row("mlp:gated_mlp", "2048^3", mlp(2048, 2048, 2048), (695.43, 701.98, 697.40, 707.95)),
    Row(
        "gate_backward:gate_backward",
        "2048 x 8192",
        lambda: (of(2048, 8192), of(2048, 8192), of(2048, 8192)),
        (577.34, 577.34, 543.04, 543.04),
    ),
    Row("matmul_fp8:matmul_fp8", "2048^3", float8(2048, 2048, 2048), (139.88, 138.18, 133.91, 133.91)),
    Row("matmul_fp8:matmul_fp8", "16 x 4096 x 4096", float8(16, 4096, 4096), (93.82, 95.64, 90.30, 90.30)),
    Row("matmul_mx:matmul_mx", "2048^3", product(2048, 2048, 2048), (94.68, 97.45, 92.85, 92.85), "trn3"),
    Row("matmul_mx:matmul_mx", "16 x 4096 x 4096", product(16, 4096, 4096), (101.03, 103.03, 100.47, 100.47), "trn3"),
    Row("quantize:quantize_fp8", "4096 x 4096", lambda: (of(4096, 4096),), (187.31, 187.31, 184.14, 184.14)),
    Row("rmsnorm:rmsnorm", "4096 x 4096", lambda: (of(4096, 4096), of(4096)), (210.69, 211.71, 195.59, 195.59)),
    Row(
        "rmsnorm:rmsnorm_backward",
        "4096 x 4096",
        lambda: (of(4096, 4096), of(4096), of(4096, 4096)),
        (775.06, 772.77, 539.07, 539.07),
    ),
    Row("rope:rope", ROTATED, lambda: TOKENS, (212.29, 152.70, 147.84, 147.84), "trn1"),
    Row("rope:rope", ROTATED, lambda: TOKENS, (167.73, 167.14, 164.80, 164.80)),
    Row("rope:rope", ROTATED, lambda: TOKENS, (139.00, 138.42, 135.71, 135.71), "trn3"),
    Row("heads_first:heads_first", "2048 x 32 x 64", lambda: (of(2048, 32, 64),), (65.09, 65.09, 63.44, 63.44)),
    Row(
        "cross_entropy:cross_entropy",
        "128 x 128,256",
        lambda: labelled(128, 128_256),
        (146.96, 146.97, 150.88, 150.88),
    ),
    Row(
        "cross_entropy:cross_entropy_backward",
        "128 x 128,256",
        lambda: (of(128, 128_256), of(128, dtype=I32), of(128, dtype=F32), of(128, dtype=F32)),
        (253.46, 253.47, 265.47, 265.47),
    ),
    Row("attention_online:attention_online", "4096 x 128", heads(1, 1, 4096, 128), (491.72, 488.89, 605.69, 551.83)),
    Row("attention:attention", "4096 x 128", heads(1, 1, 4096, 128), (143.20, 144.46, 139.69, 139.69)),
    Row(
        "attention:attention",
        "4096 x 128, causal",
        heads(1, 1, 4096, 128),
        (94.06, 94.59, 84.92, 88.03),
        keywords=CAUSAL,
    ),
    Row(
        "attention:attention",
        "8192 x 64, causal",
        heads(1, 1, 8192, 64),
        (208.68, 209.86, 208.49, 208.54),
        keywords=CAUSAL,
    ),
    Row("attention:attention_prefill", "512 on 4096, 4 heads on 1", prefill(512, 4096), (91.76, 91.13, 88.36, 88.00)),
    Row(
        "attention_backward:attention_backward",
        "4096 x 128, causal",
        lambda: (*(of(1, 1, 4096, 128),) * 5, of(1, 1, 4096, dtype=F32)),
        (221.73, 220.55, 219.56, 221.71),
        keywords=CAUSAL,
    ),
    Row("attention_decode:attention_decode", f"{CACHED} 128", decode(128), (407.04, 411.73, 389.33, 389.33)),
    Row("attention_decode:attention_decode", f"{CACHED} 64", decode(64), (220.33, 224.58, 212.78, 212.67)),
    Row(
        "attention_decode:attention_decode",
        f"{CACHED} 128, float8",
        decode(128, cached=ml_dtypes.float8_e4m3),
        (227.27, 239.35, 242.79, 244.05),
    ),
    Row(
        "attention_decode:attention_decode",
        f"{CACHED} 128, float8 in pages of 16",
        decode(128, 16, ml_dtypes.float8_e4m3),
        (259.17, 248.01, 253.17, 253.58),
    ),
)


@dataclass(frozen=True)
class Fault:
    """A setting that was right only under an old fault, and what replacing it by today's changes by each of `MODELS`.

    `row` is the kernel and shape of one of `ROWS`, on trn2.
    """

    row: tuple[str, str]
    was: str
    fault: str
    changes: tuple[float, float, float]  # percent

    def cells(self) -> tuple[str, ...]:
        kernel, what = self.row
        (row,) = (one for one in ROWS if (one.kernel, one.what, one.target) == (kernel, what, "trn2"))
        now = 100 * (predicted(kernel, what, "trn2") / row.before[-1] - 1)
        changes = (f"{percent:+.1f}%" for percent in (*self.changes, now))
        return f"{code(kernel.split(':')[1])}, {what}", self.was, self.fault, *changes


IN_TURNS = "Vector reads two inputs of SBUF in turns on every chip, not on NeuronCore-v2 alone"
CHEAP = "Scalar's exponentials cost 107 to 158 cycles less"
FAULTS = (
    Fault(
        ("rope:rope", ROTATED),
        "tables and the second product in PSUM, which GpSimd cannot read; all on Vector",
        IN_TURNS,
        (24.0, 24.0, -27.8),
    ),
    Fault(
        ("rmsnorm:rmsnorm_backward", "4096 x 4096"),
        "r g in PSUM, 512 columns at once",
        IN_TURNS,
        (14.6, 14.4, -9.2),
    ),
    Fault(
        ("cross_entropy:cross_entropy_backward", "128 x 128,256"),
        "numbers of the columns in PSUM; Scalar makes the last product too",
        f"{IN_TURNS}; a float32 tile in SBUF passes it at one element a cycle, not two",
        (47.5, 47.7, -21.3),
    ),
    Fault(("cross_entropy:cross_entropy", "128 x 128,256"), "chunks of 4096", CHEAP, (-0.4, -0.4, -3.8)),
    Fault(
        ("attention:attention", "4096 x 128"),
        "two groups of scores ahead, every eighth exponential on Vector",
        CHEAP,
        (-0.3, -0.3, -1.7),
    ),
    Fault(
        ("linear:rmsnorm_linear", "2048^3"),
        "four tiles of K a load",
        "each engine takes whatever is ready",
        (-0.5, 0.0, -0.9),
    ),
)


@cache
def predicted(kernel: str, what: str, target: str) -> float:
    """Microseconds of one of `ROWS` by today's model."""
    (row,) = (one for one in ROWS if (one.kernel, one.what, one.target) == (kernel, what, target))
    file, name = kernel.split(":")
    of_file = getattr(simulator.load(KERNELS / f"{file}.py"), name)
    return simulator.on(target).predict(of_file, *row.arguments(), **row.keywords).total_us


def table() -> str:
    header = ("kernel", "shape", "target", *MODELS, "2 December, as it was", "now", "change")
    return markdown_table(header, [row.cells() for row in ROWS])


def faults() -> str:
    header = ("kernel", "its setting was", "because the model had it that", *MODELS, "now")
    return markdown_table(header, [fault.cells() for fault in FAULTS])


TABLES: dict[str, Callable[[], str]] = {"own-kernels": table, "own-kernels-faults": faults}
