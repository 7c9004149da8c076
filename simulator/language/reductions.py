"""Reductions over the last free dimensions, on the Vector Engine in float32.

Without keepdims the reduced dimensions go, but a tile keeps two: reducing all free dimensions of a tile leaves (P, 1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from triptych.simulator.engines.scalar import activation
from triptych.simulator.engines.vector.elementwise import tensor_tensor
from triptych.simulator.engines.vector.reduce import tensor_reduce, trailing_axes
from triptych.simulator.engines.vector.tensor_scalar import tensor_scalar
from triptych.simulator.language.common import declare, function, into, new, spread, tile
from triptych.simulator.operands.operators import OPS
from triptych.simulator.tensors.tensor import NkiTensor

Axis = int | Sequence[int]


def reduced_shape(x: NkiTensor, axes: tuple[int, ...], keepdims: bool) -> tuple[int, ...]:
    if keepdims:
        return tuple(1 if d in axes else n for d, n in enumerate(x.shape))
    shape = x.shape[: axes[0]]
    return shape if len(shape) > 1 else (*shape, 1)


def reduced(op: str, x: NkiTensor, axis: Axis, dtype: Any, keepdims: bool) -> NkiTensor:
    """One tensor_reduce into a new tile."""
    tile(x=x)
    axes = trailing_axes(x, axis)
    dst = new(reduced_shape(x, axes, keepdims), x.dtype if dtype is None else dtype)
    tensor_reduce(dst, OPS[op], x, axes)
    return dst


def _scaled(x: NkiTensor, factor: float, dtype: Any) -> NkiTensor:
    return into(new(x.shape, dtype), tensor_scalar, x, OPS["multiply"], factor)


def _count(x: NkiTensor, axis: Axis) -> int:
    return math.prod(x.shape[a] for a in trailing_axes(x, axis))


def _declare(name: str, op: str, what: str) -> None:
    def call(x: NkiTensor, axis: Axis, dtype: Any = None, keepdims: bool = False) -> NkiTensor:
        return reduced(op, x, axis, dtype, keepdims)

    declare(name, f"The {what} over `axis`.", call)


_declare("sum", "add", "sum")
_declare("prod", "multiply", "product")
_declare("max", "maximum", "maximum")
_declare("min", "minimum", "minimum")


@function
def all_(x: NkiTensor, axis: Axis, dtype: Any = None) -> NkiTensor:
    """1 where no element over `axis` is 0, else 0."""
    return reduced("logical_and", x, axis, dtype, keepdims=False)


@function
def mean(x: NkiTensor, axis: Axis, dtype: Any = None, keepdims: bool = False) -> NkiTensor:
    """The sum over `axis`, in float32, divided by the number of elements."""
    total = reduced("add", x, axis, "float32", keepdims)
    return _scaled(total, 1 / _count(x, axis), x.dtype if dtype is None else dtype)


@function
def var(x: NkiTensor, axis: Axis, dtype: Any = None, keepdims: bool = False) -> NkiTensor:
    """mean((x - mean(x))^2) over `axis`, in float32; as documented, keepdims is ignored and taken as True."""
    centre = _scaled(reduced("add", x, axis, "float32", keepdims=True), 1 / _count(x, axis), "float32")
    apart = into(new(x.shape, "float32"), tensor_tensor, x, spread(centre, x.shape), OPS["subtract"])
    squares = into(new(x.shape, "float32"), activation, OPS["square"], apart)
    total = reduced("add", squares, axis, "float32", keepdims=True)
    return _scaled(total, 1 / _count(x, axis), x.dtype if dtype is None else dtype)
