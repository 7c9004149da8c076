"""Matrix product: out[M, N] = lhsT[K, M].T @ rhs[K, N], accumulated in float32, rounded to the inputs' dtype.

Rows share everything but the kernel: `matmul` is blocked in all dimensions, `matmul_tiled` is the first tiled version,
which teaches, `matmul_mk` takes the left operand as [M, K], `matmul_two_cores` is `matmul` on two cores, and
`matmul_batched` makes many products.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_dtypes import bfloat16

from triptych.harness.arrays import Array, Arrays
from triptych.harness.collection import llama
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import BatchInvariance, Op
from triptych.harness.ops.regimes import HARD, around, constant, in_regime, normal, one_hot, round_inputs
from triptych.reference.matmul import matmul as reference
from triptych.reference.matmul import matmul_batched as reference_batched
from triptych.reference.matmul import matmul_mk as reference_mk

KERNELS = Path(__file__).parents[2] / "kernels"
FLOAT16_ROOM = 3e4  # where float16 sums of products are kept, below its largest number 65504


def inputs(case: Case, rng: np.random.Generator) -> Arrays:
    """lhsT[K, M], rhs[K, N] in the case's regime, out of float16's overflow.

    `one-hot` rows of the left operand pick rows of the right one: each output is one element of `rhs`, exactly.
    `negative` is the left operand: all sums are. `sorted` sums run from large negative products to large positive ones.
    A product of two subnormal numbers is 0, therefore only the left operand is.
    """
    m, k, n = (case.axes[axis] for axis in "MKN")
    lhsT, rhs = normal(rng, k, m), normal(rng, k, n)
    if case.regime == "nonfinite":
        if 0 not in (m, k, n):
            lhsT[0, 0], lhsT[k // 2, m // 2], rhs[k - 1, n - 1] = np.nan, -np.inf, np.inf
    elif 0 in (m, k, n):
        pass
    elif case.regime == "one-hot":
        lhsT = one_hot(lhsT, axis=0)
    elif case.regime == "constant-rows":
        rhs = constant(rhs, axis=1)
    elif case.regime == "sorted":
        lhsT, rhs = np.sort(lhsT, axis=0), np.abs(rhs)
    elif case.regime == "negative":
        room = min(1, FLOAT16_ROOM / (20000 * k)) if case.dtype == "float16" else 1
        lhsT, rhs = in_regime(lhsT, "negative") * np.float32(room), np.abs(rhs)
    elif case.regime == "subnormal":
        lhsT = in_regime(lhsT, "subnormal", case.dtype)
    elif case.dtype == "float16" and case.regime != "normal":
        lhsT, rhs = float16_regime(lhsT, case.regime, k), float16_regime(rhs, case.regime, k)
    else:
        lhsT, rhs = in_regime(lhsT, case.regime), in_regime(rhs, case.regime)
    return round_inputs({"lhsT": lhsT, "rhs": rhs}, case.dtype)


def float16_regime(x: Array, regime: str, k: int) -> Array:
    """The regime as far as float16 allows: K products must not overflow, nor all of them vanish."""
    if regime == "offset":
        return x + np.float32(min(100, (FLOAT16_ROOM / k) ** 0.5))
    if regime == "large":
        return x * np.float32(min(30, (FLOAT16_ROOM / (5 * k**0.5)) ** 0.5))
    if regime == "heavy-tailed":
        x = in_regime(x, regime)
        return x * np.float32(min(1, (FLOAT16_ROOM / k) ** 0.5 / np.abs(x).max()))
    return x * np.float32(1e-2)


def tiled(lhsT: Array, rhs: Array) -> Array:
    """Honest: tiles of 128 along K, each product summed into a float32 accumulator, as matrix units do."""
    return _accumulated(lhsT, rhs, step=128).astype(lhsT.dtype)


def sequential(lhsT: Array, rhs: Array) -> Array:
    """Honest: one k after the other in float32, as a GPU's fused multiply-adds do.

    Coarser steps where that would take seconds, and in narrow dtypes, whose own rounding hides the order of the sum.
    """
    k, m = lhsT.shape
    step = 1 + k * m * rhs.shape[1] // 2**28 if lhsT.dtype == np.float32 else 512
    return _accumulated(lhsT, rhs, step).astype(lhsT.dtype)


def _accumulated(lhsT: Array, rhs: Array, step: int) -> Array:
    total = np.zeros((lhsT.shape[1], rhs.shape[1]), np.float32)
    for k in range(0, lhsT.shape[0], step):
        total += lhsT[k : k + step].astype(np.float32).T @ rhs[k : k + step].astype(np.float32)
    return total


def corner(inputs: Arrays, k: slice, size: int = 128) -> Array:
    """What the rows `k` of both inputs contribute to the output's first rows and columns, in float64."""
    product: Array = inputs["lhsT"][k, :size].T.astype(np.float64) @ inputs["rhs"][k, :size].astype(np.float64)
    return product


def bfloat16_sums(case: Case, inputs: Arrays, out: Array) -> tuple[Any, Any]:
    """Corruption: partial sums kept in bfloat16, a step of 32 along K at a time."""
    total = corner(inputs, slice(0))
    for k in range(0, case.axes["K"], 32):
        total = (total + corner(inputs, slice(k, k + 32))).astype(bfloat16).astype(np.float64)
    return (slice(len(total)), slice(total.shape[1])), total


def last_k_missing(case: Case, inputs: Arrays, out: Array) -> tuple[Any, Any]:
    """Corruption: the last tile along K, which may be ragged, is forgotten."""
    part = corner(inputs, slice((case.axes["K"] - 1) // 128 * 128))
    return (slice(len(part)), slice(part.shape[1])), part


def flops(axes: Mapping[str, int], params: Mapping[str, Any]) -> int:
    """A multiplication and an addition for each of M x K x N."""
    return 2 * axes["M"] * axes["K"] * axes["N"]


def bytes_moved(axes: Mapping[str, int], params: Mapping[str, Any], itemsize: int) -> int:
    """Both inputs read once, the output written once: what no kernel can avoid."""
    m, k, n = axes["M"], axes["K"], axes["N"]
    return itemsize * (m * k + k * n + m * n)


def torch_matmul(lhsT: Any, rhs: Any) -> Any:
    """What a user would pick instead: cuBLAS, or oneDNN on a CPU."""
    return lhsT.T @ rhs


def unsupported(case: Case, backend: str, target: str) -> str | None:
    if backend == "torch" and case.regime == "subnormal" and case.dtype == "bfloat16":
        return "x86's bfloat16 product instruction (VDPBF16PS) is documented to read subnormal numbers as zeros"
    return None


def sizes(*shapes: tuple[int, int, int], regime: str = "normal") -> list[dict[str, Any]]:
    return [{"M": m, "K": k, "N": n, "regime": regime} for m, k, n in shapes]


# Where either panel starts another tile or block: of the Tensor Engine 128, 128 and 512, of SBUF 2048 (1024 in
# float32), 1024 and 1024; of Triton 16 to 128, 16 to 64 and 16 to 256.
TILES = {"M": (16, 64, 128, 1024, 2048), "K": (16, 64, 128, 1024), "N": (16, 64, 256, 512, 1024)}
SMOKE = sizes((64, 128, 96), (128, 256, 512), (20, 4100, 150))  # the last: many blocks of K, none of them full
EDGE = sizes(
    (1, 1, 1),
    (1, 128, 1),
    (7, 13, 11),
    (127, 127, 127),
    (129, 129, 129),
    (97, 521, 101),
    (1, 3, 2048),
    *[(size, 19, 5) for size in around(TILES["M"])],
    *[(5, size, 19) for size in around(TILES["K"])],
    *[(19, 5, size) for size in around(TILES["N"])],
    (129, 1025, 513),
    (1025, 129, 1025),
    (64, 8200, 48),  # many blocks of K, in which sums that are kept in a narrow dtype show
)
ADVERSARIAL = [size for regime in HARD for size in sizes((64, 128, 96), (130, 257, 67), (5, 1100, 3), regime=regime)]
CASES = {
    "smoke": SMOKE,
    "edge": EDGE,
    "adversarial": ADVERSARIAL,
    "model": llama.projections(long=False),
    "model-long": llama.projections(long=True),
}


# The version that teaches loads every tile where it is used: emulated, the largest projections would take it minutes.
CASES_TILED = {
    **CASES,
    "model": llama.projections(long=False, models=llama.MODELS[:1]),
    "model-long": llama.projections(long=True, models=llama.MODELS[:1]),
}


# The bits of an output row depend on the order in which its products are added. Both NKI kernels walk K in the same
# tiles whatever M is; in the simulator a tile's sum is NumPy's, whose order depends on how many rows the tile has, so
# that whole tiles of 128 rows are compared. matmul_tiled has tiles of one size in Triton too. Triton's matmul chooses
# its tiles by the number of rows, and torch its kernel: they promise nothing.
NKI_ROWS = {"nki": 1, "nki-sim": 128}
TILED_ROWS = {**NKI_ROWS, "triton": 1, "triton-cpu": 128}
WHY = "tiles of K are added in one order, whatever M is"


def row(name: str, version: str, cases: Mapping[str, Any], promised: Mapping[str, int], **changes: Any) -> Op:
    options = {
        "summary": f"out[M, N] = lhsT[K, M].T @ rhs[K, N]; {version}",
        "inputs": inputs,
        "shapes": {"lhsT": ("K", "M"), "rhs": ("K", "N")},
        "reference": reference,
        "honest": (tiled, sequential),
        "alone": BatchInvariance("M", {"lhsT": 1}, out=0, promised=promised, why=WHY),
        "corruptions": {"sums kept in bfloat16": bfloat16_sums, "the last tile of K missing": last_k_missing},
        "triton": f"{KERNELS / 'triton' / 'matmul.py'}:{name}",
        "torch": torch_matmul,
        "unsupported": unsupported,
        **changes,
    }
    return Op(
        name=name,
        axes=("M", "K", "N"),
        cases=cases,
        tiles=TILES,
        out=("M", "N"),
        flops=flops,
        bytes=bytes_moved,
        nki=f"{KERNELS / 'nki' / 'matmul.py'}:{name}",
        **options,
    )


def as_given(inputs: Arrays) -> Arrays:
    """The inputs of matmul_mk of those of matmul, or the other way round: the left operand transposed."""
    left = "lhs" if "lhsT" in inputs else "lhsT"
    return {left: np.ascontiguousarray(inputs["lhs" if left == "lhsT" else "lhsT"].T), "rhs": inputs["rhs"]}


MATMUL_MK = row(
    "matmul_mk",
    "",
    CASES,
    NKI_ROWS,
    summary="out[M, N] = lhs[M, K] @ rhs[K, N]; the left operand as it is usually stored",
    inputs=lambda case, rng: as_given(inputs(case, rng)),
    shapes={"lhs": ("M", "K"), "rhs": ("K", "N")},
    reference=reference_mk,
    honest=(lambda lhs, rhs: tiled(lhs.T, rhs), lambda lhs, rhs: sequential(lhs.T, rhs)),
    alone=BatchInvariance("M", {"lhs": 0}, out=0, promised=NKI_ROWS, why=WHY),
    corruptions={
        "sums kept in bfloat16": lambda case, inputs, out: bfloat16_sums(case, as_given(inputs), out),
        "the last tile of K missing": lambda case, inputs, out: last_k_missing(case, as_given(inputs), out),
    },
    torch=lambda lhs, rhs: lhs @ rhs,
)
MATMUL_TWO_CORES = row(
    "matmul_two_cores",
    "on two cores of a chip that share their HBM",
    {**CASES, "edge": [*EDGE, *sizes((129, 70, 5), (3, 70, 1025), (1025, 70, 3))]},  # where the second core has no part
    {},
    alone=None,
    triton=None,
    unsupported=lambda case, backend, target: (
        "two cores work as one from NeuronCore-v3 on"
        if target in ("trn1", "inf2")
        else unsupported(case, backend, target)
    ),
)


def batched_inputs(case: Case, rng: np.random.Generator) -> Arrays:
    """lhsT[B, K, M], rhs[B, K, N]: each product drawn as those of matmul."""
    drawn = [inputs(case, rng) for _ in range(case.axes["B"])]
    return {name: np.stack([each[name] for each in drawn]) for name in drawn[0]}


def in_batch(product: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    """A baseline of one product for each of a batch."""

    def batched(lhsT: Array, rhs: Array) -> Array:
        return np.stack([product(a, b) for a, b in zip(lhsT, rhs, strict=True)])

    return batched


BATCHED_SMOKE = [{"B": 3, "M": 64, "K": 128, "N": 96}, {"B": 2, "M": 130, "K": 257, "N": 67}]
MATMUL_BATCHED = Op(
    "matmul_batched",
    batched_inputs,
    reference_batched,
    {
        "smoke": BATCHED_SMOKE,
        "edge": [
            {"B": 1, "M": 1, "K": 1, "N": 1},
            {"B": 7, "M": 1, "K": 13, "N": 1},
            {"B": 2, "M": 131, "K": 5, "N": 521},
            {"B": 2, "M": 1031, "K": 3, "N": 1031},
        ],
        "adversarial": [{**case, "regime": regime} for regime in HARD for case in BATCHED_SMOKE],
        "model": [{"name": "scores/32-heads", "dtype": llama.DTYPE, "B": 32, "M": 128, "K": 64, "N": 512}],
        "model-long": [
            {"name": "scores/32-heads/s2048", "dtype": llama.DTYPE, "B": 32, "M": 2048, "K": 128, "N": 2048}
        ],
    },
    summary="out[B, M, N] = lhsT[B, K, M].T @ rhs[B, K, N], for each of B",
    shapes={"lhsT": ("B", "K", "M"), "rhs": ("B", "K", "N")},
    out=("B", "M", "N"),
    honest=(in_batch(tiled), in_batch(sequential)),
    alone=BatchInvariance(
        "B",
        {"lhsT": 0, "rhs": 0},
        out=0,
        promised={"nki": 1, "nki-sim": 1},
        why="each product is computed by itself, one after the other",
    ),
    flops=lambda axes, params: axes["B"] * flops(axes, params),
    bytes=lambda axes, params, itemsize: axes["B"] * bytes_moved(axes, params, itemsize),
    nki=f"{KERNELS / 'nki' / 'matmul.py'}:matmul_batched",
    triton=f"{KERNELS / 'triton' / 'matmul.py'}:matmul_batched",
    unsupported=unsupported,
    torch=lambda lhsT, rhs: lhsT.mT @ rhs,
)
OPS = (
    row("matmul", "blocked in all dimensions", CASES, NKI_ROWS),
    row("matmul_tiled", "the first tiled version, which teaches", CASES_TILED, TILED_ROWS),
    MATMUL_MK,
    MATMUL_TWO_CORES,
    MATMUL_BATCHED,
)
