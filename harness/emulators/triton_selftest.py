"""What the interpreter gets right, operation by operation and dtype by dtype, with the correction and without.

Each operation is a line of a Triton kernel, run on values that include zeros of both signs, a subnormal, NaN and
infinities, and compared with the same operation of NumPy on `ml_dtypes` arrays: equal values, and NaN at the same
places. Those whose order of summation is not fixed are given values whose sum is exact in any order.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import triton
import triton.language as tl

from triptych.harness.arrays import Array
from triptych.harness.emulators.correction import CheckedBuilder, CorrectedBuilder
from triptych.harness.emulators.errors import EmulationError

DTYPES = {
    "float32": np.dtype(np.float32),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float16": np.dtype(np.float16),
}
SIZE = 16


@triton.jit  # type: ignore[untyped-decorator]
def _kernel(x, y, out, OP: tl.constexpr, N: tl.constexpr):  # type: ignore[no-untyped-def]
    """out = OP(x, y), all [N, N]. A reduction fills its row with the result."""
    row = tl.arange(0, N)[:, None]
    column = tl.arange(0, N)[None, :]
    at = row * N + column
    a = tl.load(x + at)
    b = tl.load(y + at)
    if OP == "load, store":
        c = a
    elif OP == "masked load":
        c = tl.load(x + at, mask=column < row, other=2.0)
    elif OP == "add":
        c = a + b
    elif OP == "subtract":
        c = a - b
    elif OP == "multiply":
        c = a * b
    elif OP == "divide":
        c = a / b
    elif OP == "less":
        c = tl.where(a < b, 1.0, 0.0)
    elif OP == "less or equal":
        c = tl.where(a <= b, 1.0, 0.0)
    elif OP == "equal":
        c = tl.where(a == b, 1.0, 0.0)
    elif OP == "minimum":
        c = tl.minimum(a, b)
    elif OP == "maximum":
        c = tl.maximum(a, b)
    elif OP == "negate":
        c = -a
    elif OP == "absolute":
        c = tl.abs(a)
    elif OP == "where":
        c = tl.where(column < row, a, b)
    elif OP == "exp":
        c = tl.exp(a.to(tl.float32))
    elif OP == "exp2":
        c = tl.exp2(a.to(tl.float32))
    elif OP == "sqrt":
        c = tl.sqrt(a.to(tl.float32))
    elif OP == "cast through float32":
        c = (a.to(tl.float32) * 1.0009765625).to(out.dtype.element_ty)
    elif OP == "dot":
        c = tl.dot(a, b, input_precision="ieee")
    elif OP == "sum":
        c = tl.broadcast_to(tl.sum(a, 1)[:, None], (N, N))
    elif OP == "max":
        c = tl.broadcast_to(tl.max(a, 1)[:, None], (N, N))
    elif OP == "min":
        c = tl.broadcast_to(tl.min(a, 1)[:, None], (N, N))
    elif OP == "argmax":
        c = tl.broadcast_to(tl.argmax(a, 1)[:, None], (N, N))
    elif OP == "broadcast":
        c = tl.broadcast_to(tl.load(x + column), (N, N))
    elif OP == "reshape":
        c = tl.reshape(tl.reshape(a, (N * N,)), (N // 2, N * 2)).reshape(N, N)
    elif OP == "transpose":
        c = tl.trans(a)
    tl.store(out + at, c)


def _launch(x, y, out, op):  # type: ignore[no-untyped-def]  # as untyped as a kernel
    _kernel[(1,)](x, y, out, OP=op, N=SIZE)


@dataclass(frozen=True)
class Operation:
    """What a line of `_kernel` should compute, on arrays of the dtype under test."""

    expected: Callable[[Array, Array], Array]
    values: str = "special"  # "special", "finite" (no NaN or infinity), "integers" (sums of products are exact)


def _in_float32(f: Callable[[Array], Array]) -> Callable[[Array, Array], Array]:
    return lambda a, b: f(a.astype(np.float32)).astype(a.dtype)


def _by_row(f: Callable[..., Array]) -> Callable[[Array, Array], Array]:
    return lambda a, b: np.broadcast_to(f(a, axis=1, keepdims=True), a.shape)


_LOWER = np.arange(SIZE)[None, :] < np.arange(SIZE)[:, None]

OPERATIONS = {
    "load, store": Operation(lambda a, b: a),
    "masked load": Operation(lambda a, b: np.where(_LOWER, a, a.dtype.type(2.0))),
    "add": Operation(lambda a, b: a + b),
    "subtract": Operation(lambda a, b: a - b),
    "multiply": Operation(lambda a, b: a * b),
    "divide": Operation(lambda a, b: a / b),
    "less": Operation(lambda a, b: a < b),
    "less or equal": Operation(lambda a, b: a <= b),
    "equal": Operation(lambda a, b: a == b),
    "minimum": Operation(np.fmin),
    "maximum": Operation(np.fmax),
    "negate": Operation(lambda a, b: -a),
    "absolute": Operation(lambda a, b: np.abs(a)),
    "where": Operation(lambda a, b: np.where(_LOWER, a, b)),
    "exp": Operation(_in_float32(np.exp)),
    "exp2": Operation(_in_float32(np.exp2)),
    "sqrt": Operation(_in_float32(np.sqrt)),
    "cast through float32": Operation(_in_float32(lambda x: x * np.float32(1.0009765625))),
    "dot": Operation(lambda a, b: a.astype(np.float32) @ b.astype(np.float32), "integers"),
    "sum": Operation(_by_row(lambda a, **kw: a.astype(np.float32).sum(**kw)), "integers"),
    "max": Operation(_by_row(np.fmax.reduce)),
    "min": Operation(_by_row(np.fmin.reduce)),
    "argmax": Operation(_by_row(lambda a, **kw: a.astype(np.float32).argmax(**kw)), "finite"),
    "broadcast": Operation(lambda a, b: np.broadcast_to(a[0], a.shape)),
    "reshape": Operation(lambda a, b: a),
    "transpose": Operation(lambda a, b: a.T),
}


def operands(values: str, dtype: np.dtype[Any], seed: int = 0) -> tuple[Array, Array]:
    """Two [SIZE, SIZE] arrays of the kind an operation asks for."""
    rng = np.random.default_rng(seed)
    if values == "integers":
        a, b = (rng.integers(-3, 4, (SIZE, SIZE)) for _ in range(2))
        return a.astype(dtype), b.astype(dtype)
    a, b = (rng.standard_normal((SIZE, SIZE)).astype(dtype) for _ in range(2))
    tiny = float(ml_dtypes.finfo(dtype).smallest_subnormal)  # type: ignore[no-untyped-call]
    special = [0.0, -0.0, tiny, -tiny] if values == "finite" else [0.0, -0.0, tiny, -tiny, np.inf, -np.inf, np.nan]
    for array, step in ((a, 5), (b, 7)):
        array.reshape(-1)[::step] = np.resize(np.array(special, dtype), array.reshape(-1)[::step].shape)
    return a, b


def agrees(operation: str, dtype: str, corrected: bool, seed: int = 0) -> bool:
    """Whether the interpreter computes this operation as NumPy does."""
    from triptych.harness.emulators.running import interpret  # late: a kernel's file imports Triton and little else

    x, y = operands(OPERATIONS[operation].values, DTYPES[dtype], seed)
    out = np.full_like(x, np.nan)
    try:
        interpret(_launch, {"x": x, "y": y}, out, {"op": operation}, CorrectedBuilder if corrected else CheckedBuilder)
    except EmulationError:
        return False
    with np.errstate(all="ignore"):
        expected = OPERATIONS[operation].expected(x, y).astype(x.dtype)
    return same(out, expected)


def same(a: Array, b: Array) -> bool:
    """Equal values, or both NaN; a zero's sign is not asked for."""
    with np.errstate(all="ignore"):
        return bool(np.array_equal(a.astype(np.float64), b.astype(np.float64), equal_nan=True))


@dataclass(frozen=True)
class Row:
    """Whether the interpreter computes an operation in a dtype as NumPy does, with our corrections and without."""

    operation: str
    dtype: str
    right: bool
    right_uncorrected: bool


def rows() -> list[Row]:
    """The whole self-test; about a second."""
    return [
        Row(operation, dtype, *(agrees(operation, dtype, corrected=corrected) for corrected in (True, False)))
        for operation in OPERATIONS
        for dtype in DTYPES
    ]
