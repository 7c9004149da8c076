# mypy: disable-error-code="no-untyped-call, no-untyped-def"
"""What the NKI simulator gets right, by class of instruction and dtype: a short self-test against NumPy.

Each row is a kernel of one instruction on tiles of a dtype, and the same in NumPy: computed in float32 and rounded once
to the dtype, which is what the engines do. Results are equal bit for bit, but for functions that libraries round
differently, which may be a unit in the last place off. It takes a fraction of a second; the simulator's own tests go
through every instruction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from triptych.harness.arrays import Array
from triptych.harness.precision import ulps_apart
from triptych.simulator import Options, run
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

DTYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype(np.float32),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float16": np.dtype(np.float16),
    "float8_e4m3": np.dtype(ml_dtypes.float8_e4m3),
    "float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
}
TARGET = "trn2"
ROWS, COLUMNS = 32, 16
F32 = np.float32


@dataclass(frozen=True)
class Row:
    """One instruction, which makes `dst` of `a` and `b` in the dtype under test, and the same in float32."""

    issue: Callable[[Any, Any, Any], Any]
    expected: Callable[[Array, Array], Array]
    values: str = "finite"  # "special" has NaN and infinities; "integers" make sums exact in any order
    ulps: int = 0


def _in_psum(issue: Callable[[Any, Any, Any], Any], dtype: Any = None) -> Callable[[Any, Any, Any], Any]:
    """An instruction of the Tensor Engine, which writes to PSUM, and the copy from there."""

    def both(dst, a, b):
        product = nl.ndarray(dst.shape, dtype=dtype or dst.dtype, buffer=nl.psum)
        issue(product, a, b)
        nisa.tensor_copy(dst=dst, src=product)

    return both


def _reduced(op: Any) -> Callable[[Any, Any, Any], Any]:
    """A reduction of the rows of `a`, added to 0 to fill the row again."""

    def issue(dst, a, b):
        one = nl.ndarray((ROWS, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_reduce(dst=one, op=op, data=a, axis=1)
        zeros = nl.ndarray(dst.shape, dtype=nl.float32, buffer=nl.sbuf)
        nisa.memset(dst=zeros, value=0.0)
        nisa.tensor_scalar(dst=dst, data=zeros, op0=nl.add, operand0=one)

    return issue


def _by_row(f: Callable[..., Array]) -> Callable[[Array, Array], Array]:
    return lambda a, b: np.broadcast_to(f(a, axis=1, keepdims=True), a.shape)


ROWS_BELOW = np.arange(COLUMNS)[None, :] <= np.arange(ROWS)[:, None]

TABLE: dict[str, Row] = {
    "dma_copy": Row(lambda dst, a, b: nisa.dma_copy(dst=dst, src=a), lambda a, b: a, "special"),
    "tensor_copy": Row(lambda dst, a, b: nisa.tensor_copy(dst=dst, src=a), lambda a, b: a, "special"),
    "memset": Row(lambda dst, a, b: nisa.memset(dst=dst, value=0.3), lambda a, b: np.full_like(a, 0.3)),
    "tensor_tensor add": Row(
        lambda dst, a, b: nisa.tensor_tensor(dst=dst, data1=a, data2=b, op=nl.add), lambda a, b: a + b, "special"
    ),
    "tensor_tensor multiply": Row(
        lambda dst, a, b: nisa.tensor_tensor(dst=dst, data1=a, data2=b, op=nl.multiply), lambda a, b: a * b, "special"
    ),
    "tensor_tensor maximum": Row(
        lambda dst, a, b: nisa.tensor_tensor(dst=dst, data1=a, data2=b, op=nl.maximum), np.maximum
    ),
    "tensor_scalar": Row(
        lambda dst, a, b: nisa.tensor_scalar(
            dst=dst, data=a, op0=nl.multiply, operand0=1.5, op1=nl.subtract, operand1=0.25
        ),
        lambda a, b: a * F32(1.5) - F32(0.25),
    ),
    "scalar_tensor_tensor": Row(
        lambda dst, a, b: nisa.scalar_tensor_tensor(
            dst=dst, data=a, op0=nl.multiply, operand0=0.5, op1=nl.add, operand1=b
        ),
        lambda a, b: a * F32(0.5) + b,
    ),
    "tensor_reduce add": Row(_reduced(nl.add), _by_row(np.add.reduce), "integers"),
    "tensor_reduce maximum": Row(_reduced(nl.maximum), _by_row(np.maximum.reduce)),
    "reciprocal": Row(lambda dst, a, b: nisa.reciprocal(dst=dst, data=a), lambda a, b: 1 / a),
    "activation exp": Row(
        lambda dst, a, b: nisa.activation(dst=dst, op=nl.exp, data=a, scale=0.5),
        lambda a, b: np.exp(a * F32(0.5)),
        ulps=1,
    ),
    "activation tanh": Row(
        lambda dst, a, b: nisa.activation(dst=dst, op=nl.tanh, data=a), lambda a, b: np.tanh(a), ulps=1
    ),
    "activation square": Row(lambda dst, a, b: nisa.activation(dst=dst, op=nl.square, data=a), lambda a, b: a * a),
    "affine_select": Row(
        lambda dst, a, b: nisa.affine_select(
            dst=dst,
            pattern=[[-1, COLUMNS]],
            channel_multiplier=1,
            on_true_tile=a,
            on_false_value=-2.0,
            cmp_op=nl.greater_equal,
            offset=0,
        ),
        lambda a, b: np.where(ROWS_BELOW, a, F32(-2)),
    ),
    "nc_matmul": Row(
        _in_psum(
            lambda dst, a, b: nisa.nc_matmul(dst=dst[0:COLUMNS, :], stationary=a, moving=b, accumulate=False),
            nl.float32,
        ),
        lambda a, b: a.T @ b,
        "integers",
    ),
}


def operands(values: str, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """Two [ROWS, COLUMNS] arrays of the kind that a row asks for."""
    rng = np.random.default_rng(0)
    if values == "integers":
        return tuple(rng.integers(-2, 3, (ROWS, COLUMNS)).astype(dtype) for _ in range(2))  # type: ignore[return-value]
    a, b = (rng.normal(size=(ROWS, COLUMNS)).astype(dtype) for _ in range(2))
    a[a == 0] = 1  # the reciprocal's
    if values == "special":
        for x, step in ((a, 5), (b, 7)):
            flat = x.reshape(-1)[::step]
            flat[...] = np.resize(np.array([0.0, -0.0, np.nan, np.inf, -np.inf], dtype), flat.shape)
    return a, b


def agrees(name: str, dtype: str) -> bool:
    """Whether the simulator computes a row as NumPy does."""
    row, kind = TABLE[name], DTYPES[dtype]
    a, b = operands(row.values, kind)
    shape = (COLUMNS, COLUMNS) if name == "nc_matmul" else a.shape

    def kernel(x, y):
        out = nl.ndarray(shape, dtype=x.dtype, buffer=nl.shared_hbm)
        tiles = [nl.ndarray(t.shape, dtype=t.dtype, buffer=nl.sbuf) for t in (x, y)]
        for tile, t in zip(tiles, (x, y), strict=True):
            nisa.dma_copy(dst=tile, src=t)
        dst = nl.ndarray(shape, dtype=x.dtype, buffer=nl.sbuf)
        row.issue(dst, *tiles)
        nisa.dma_copy(dst=out, src=dst)
        return out

    try:
        out = run(kernel, a, b, target=TARGET, options=Options(lint=False)).outputs
    except Exception:
        return False
    with np.errstate(all="ignore"):
        expected = row.expected(a.astype(F32), b.astype(F32)).astype(kind)
    return same(out, expected, row.ulps)


def same(a: Array, b: Array, ulps: int) -> bool:
    """Whether finite values are within `ulps` representable numbers, and all others equal."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    finite = np.isfinite(x) & np.isfinite(y)
    if not np.array_equal(x[~finite], y[~finite], equal_nan=True):
        return False
    return int(ulps_apart(a[finite], b[finite]).max(initial=0)) <= ulps


def cells() -> dict[tuple[str, str], bool]:
    """(instruction, dtype) -> whether the simulator computes it as NumPy does; the whole self-test."""
    return {(name, dtype): agrees(name, dtype) for name in TABLE for dtype in DTYPES}
