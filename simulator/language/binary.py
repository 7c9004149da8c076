"""Functions of two operands, element by element: arithmetic, comparisons, logic and bit patterns.

Two tiles of one shape take a tensor_tensor, a tile and a number a tensor_scalar. The result is in SBUF, in `dtype`, or
in the tile's own dtype. Which dtype two tiles of different dtypes give is not documented: x's, and a note says so.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from triptych.simulator.engines.vector.elementwise import tensor_tensor
from triptych.simulator.engines.vector.tensor_scalar import tensor_scalar
from triptych.simulator.errors import NkiValidationError
from triptych.simulator.language.common import KNOWN_ISSUES, declare, into, is_number, result_of, tile
from triptych.simulator.machine.machine import machine
from triptych.simulator.operands.operands import describe
from triptych.simulator.operands.operators import OPS, Op
from triptych.simulator.tensors.tensor import NkiTensor

_COLUMNS = ("abs_max", "abs_min")  # their examples have a (P, 1) tile as y
_BINARY = {
    "add": "x + y",
    "subtract": "x - y",
    "multiply": "x * y",
    "maximum": "The larger of x and y; NaN if either is.",
    "minimum": "The smaller of x and y; NaN if either is.",
    "abs_max": "x where |x| > |y|, else y.",
    "abs_min": "x where |x| < |y|, else y.",
    "power": "x ** y, of two tiles, on GpSimd.",
    "equal": "1 where x == y, else 0.",
    "not_equal": "1 where x != y, else 0.",
    "less": "1 where x < y, else 0.",
    "less_equal": "1 where x <= y, else 0.",
    "greater": "1 where x > y, else 0.",
    "greater_equal": "1 where x >= y, else 0.",
    "logical_and": "1 where x and y are not 0, else 0.",
    "logical_or": "1 where x or y is not 0, else 0.",
    "logical_xor": "1 where one of x and y is 0 and the other is not, else 0.",
    "bitwise_and": "x & y, of integers.",
    "bitwise_or": "x | y, of integers.",
    "bitwise_xor": "x ^ y, of integers.",
    "left_shift": "x << y, of integers.",
    "right_shift": "x >> y, of integers, filling with zeros.",
}
_TRUTHS = {"equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "logical_and", "logical_or"}
# No engine has these operators. The functions work in nki.simulate, and here as one instruction with a note.
_SIMULATED_ONLY = {
    "divide": (np.divide, "x / y"),
    "fmod": (np.fmod, "The remainder of x / y with x's sign."),
    "mod": (np.mod, "The remainder of x / y with y's sign."),
}


def binary(op: Op, x: Any, y: Any, dtype: Any) -> NkiTensor:
    """op(x, y) in a new tile."""
    if isinstance(x, NkiTensor) and isinstance(y, NkiTensor):
        result = _tiles(op, x, y, dtype)
    elif isinstance(x, NkiTensor) and is_number(y):
        result = _with_number(op, x, y, dtype, reverse=False)
    elif isinstance(y, NkiTensor) and is_number(x):
        result = _with_number(op, y, x, dtype, reverse=True)
    else:
        raise NkiValidationError(
            f"x and y must be tiles or numbers, at least one of them a tile; got {describe(x)} and {describe(y)}"
        )
    if op.name in _TRUTHS:
        result.is_comparison = True
    return result


def _tiles(op: Op, x: NkiTensor, y: NkiTensor, dtype: Any) -> NkiTensor:
    tile(x=x, y=y)
    column = op.name in _COLUMNS and y.shape == (x.shape[0], 1)
    if x.shape != y.shape and not column:
        raise NkiValidationError(
            f"x and y must have the same shape, got {x.shape} and {y.shape}: binary functions do not broadcast; use "
            "nl.broadcast_to or a view with .broadcast(), or nisa.tensor_scalar for a column",
            source=KNOWN_ISSUES,
        )
    dst = result_of(x, dtype)
    if x.shape != y.shape:
        tensor_scalar(dst, x, op, y)
    else:
        tensor_tensor(dst, x, y, op)
    if dtype is None and x.dtype != y.dtype:
        machine().note(
            f"nl.{op.name} of {x.dtype} and {y.dtype}: the dtype of the result is not documented, and x's is taken; "
            "say dtype="
        )
    return dst


def _with_number(op: Op, x: NkiTensor, value: Any, dtype: Any, reverse: bool) -> NkiTensor:
    tile(**{"y" if reverse else "x": x})
    if op.name == "power":
        raise NkiValidationError(
            "nl.power takes two tiles: scalar operands are not supported; put the scalar into a tile with nl.full",
            source=KNOWN_ISSUES,
        )
    return into(result_of(x, dtype), tensor_scalar, x, op, value, reverse0=reverse)


def _declare(op: Op, summary: str, compiles: bool = True) -> None:
    def call(x: Any, y: Any, dtype: Any = None) -> NkiTensor:
        result = binary(op, x, y, dtype)
        if not compiles:
            machine().note(
                f"nl.{op.name} works in simulation only: no engine has it, and it does not compile for the hardware "
                f"({KNOWN_ISSUES})"
            )
        return result

    declare(op.name, summary, call)


for _name, _summary in _BINARY.items():
    _declare(OPS[_name], _summary)
for _name, (_alu, _summary) in _SIMULATED_ONLY.items():
    _declare(Op(_name, _alu, binary=True), f"{_summary} Only in simulation.", compiles=False)
