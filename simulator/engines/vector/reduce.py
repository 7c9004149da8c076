"""Vector Engine: reductions over the free dimensions, in float32 or on bit patterns."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from triptych.simulator.analysis import costs
from triptych.simulator.enums import engine as eng
from triptych.simulator.errors import NkiValidationError
from triptych.simulator.machine.instructions import instruction
from triptych.simulator.machine.plan import Plan
from triptych.simulator.machine.table import Indirect
from triptych.simulator.operands.operands import bits, check_integers, on_chip, put, put_bits
from triptych.simulator.operands.operators import Op, operator
from triptych.simulator.tensors.tensor import NkiTensor


@instruction(eng.vector, cost=costs.reduction, indirect=Indirect(("data",)))
def tensor_reduce(
    dst: NkiTensor,
    op: Op,
    data: NkiTensor,
    axis: int | Sequence[int],
    negate: bool = False,
    keepdims: bool = False,
    name: str | None = None,
) -> Plan:
    """dst[P, ...] = reduce(op) of data over its trailing free dimensions `axis`; `negate` multiplies by -1.

    Arithmetic folds go strictly in order (triptych.simulator.operands.in_order).
    """
    on_chip(dst=dst, data=data)
    axes = trailing_axes(data, axis)
    f = operator(op)
    if f.reduce is None:
        raise NkiValidationError(f"{op!r} is not a reduction; expected add, multiply, maximum, minimum or a bitvec one")
    kept = data.size // math.prod([data.shape[a] for a in axes])
    if dst.shape[0] != data.shape[0] or dst.size != kept:
        raise NkiValidationError(
            f"reducing axes {axes} of {data.shape} leaves {kept // data.shape[0]} elements per partition, and dst is "
            f"{dst.shape}"
        )
    if f.bitvec:
        check_integers(dst, data)
        if negate:
            raise NkiValidationError("negate goes with arithmetic reductions")
    return Plan(eng.vector, (data,), (dst,), _reduce, (dst, f, data, axes, negate), op=f.name)


def _reduce(dst: NkiTensor, f: Op, data: NkiTensor, axes: tuple[int, ...], negate: bool) -> None:
    values = bits(data) if f.bitvec else data.f32()
    if len(axes) > 1:
        values = values.reshape(*data.shape[: axes[0]], -1)
    assert f.reduce is not None
    result = f.reduce(values)
    if f.bitvec:
        put_bits(dst, result)
    else:
        put(dst, -result if negate else result)


def trailing_axes(data: NkiTensor, axis: int | Sequence[int]) -> tuple[int, ...]:
    """`axis` as a tuple, checked to be the last contiguous free dimensions."""
    given = axis if isinstance(axis, Sequence) else (axis,)
    whole = all(isinstance(a, (int, np.integer)) for a in given)
    axes = tuple(sorted(a + data.ndim if a < 0 else a for a in given)) if whole else ()
    if not axes or axes[0] == 0 or axes != tuple(range(axes[0], data.ndim)):
        raise NkiValidationError(
            f"axis must be the last free dimensions of {data.shape},"
            f" ending at {data.ndim - 1} and without 0; got {axis!r}"
        )
    return axes
