"""Vector Engine: the scan of two tiles, a recurrence along the free dimension.

    r[i] = (data0[i] <op0> r[i - 1]) <op1> data1[i],    r[-1] = initial

It is sequential in i and parallel over partitions, and the running value stays in float32 whatever dst's dtype. The
result here is the loop's, bit for bit: whole columns at a time, or a NumPy accumulation where one exists that folds in
the same order.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from triptych.simulator.analysis import costs
from triptych.simulator.dtypes import F32, Array
from triptych.simulator.enums import engine as eng
from triptych.simulator.machine.instructions import instruction
from triptych.simulator.machine.plan import Plan
from triptych.simulator.operands.operands import column, not_both_in_psum, on_chip, per_partition, put, same_tile
from triptych.simulator.operands.operators import Op, arithmetic
from triptych.simulator.tensors.tensor import NkiTensor

_ASSOCIATIVE = (np.add, np.multiply, np.maximum, np.minimum)  # and commutative: the order of operands is free


@instruction(eng.vector, cost=costs.scan)
def tensor_tensor_scan(
    dst: NkiTensor,
    data0: NkiTensor,
    data1: NkiTensor,
    initial: Any,
    op0: Op,
    op1: Op,
    reverse0: bool = False,
    reverse1: bool = False,
    name: str | None = None,
) -> Plan:
    """dst[:, i] = (data0[:, i] <op0> dst[:, i - 1]) <op1> data1[:, i], from `initial`, a number or a column [P, 1].

    `reverse0` puts data0 on the right of op0, `reverse1` puts data1 on the left of op1.
    """
    on_chip(dst=dst, data0=data0, data1=data1)
    not_both_in_psum(data0, data1, "data0 and data1")
    same_tile("data0 and data1", data0, data1)
    same_tile("dst and data0", dst, data0)
    first, second = arithmetic("op0", op0, binary=True), arithmetic("op1", op1, binary=True)
    start, tiles = per_partition(initial, data0, "initial")
    operands = (dst, data0, data1, start, first, second, reverse0, reverse1)
    return Plan(eng.vector, (data0, data1, *tiles), (dst,), _compute, operands, op=(first.name, second.name))


def _compute(
    dst: NkiTensor, data0: NkiTensor, data1: NkiTensor, start: Any, op0: Op, op1: Op, reverse0: bool, reverse1: bool
) -> None:
    p = data0.shape[0]
    a, b = data0.f32().reshape(p, -1), data1.f32().reshape(p, -1)
    begin = np.broadcast_to(np.reshape(column(start, data0), (-1, 1)), (p, 1))
    put(dst, _scan(op0.alu, op1.alu, a, b, begin, reverse0, reverse1))


def _scan(op0: Any, op1: Any, a: Array, b: Array, start: Array, reverse0: bool, reverse1: bool) -> Array:
    if op0 is op1 and op0 in _ASSOCIATIVE:
        return _one_operator(op0, a, b, start)
    if op0 is np.multiply and op1 in _ASSOCIATIVE and (a == 1).all():
        return _accumulated(op1, np.concatenate((start, b), axis=1))[:, 1:]
    return _by_columns(op0, op1, a, b, start, reverse0, reverse1)


def _accumulated(op: Any, rows: Array) -> Array:
    """The running op along each row. NumPy accumulates in order, without regrouping."""
    result: Array = op.accumulate(rows, axis=1)
    return result


def _one_operator(op: Any, a: Array, b: Array, start: Array) -> Array:
    """Where op0 is op1: the running op of start, a[0], b[0], a[1], b[1], .., at every second place."""
    p, n = a.shape
    both = np.empty((p, 2 * n + 1), F32)
    both[:, 0] = start[:, 0]
    both[:, 1::2] = a
    both[:, 2::2] = b
    return _accumulated(op, both)[:, 2::2]


def _by_columns(op0: Any, op1: Any, a: Array, b: Array, start: Array, reverse0: bool, reverse1: bool) -> Array:
    """The recurrence as it stands, one column of all partitions at a time (columns are made dense first)."""
    columns = np.empty((a.shape[1], a.shape[0]), F32)
    before, inner = np.ascontiguousarray(start[:, 0]), np.empty(a.shape[0], F32)
    in_place = isinstance(op0, np.ufunc) and isinstance(op1, np.ufunc)
    for x, y, r in zip(np.ascontiguousarray(a.T), np.ascontiguousarray(b.T), columns, strict=True):
        if in_place:
            op0(*((before, x) if reverse0 else (x, before)), out=inner)
            op1(*((y, inner) if reverse1 else (inner, y)), out=r)
        else:
            inner = op0(before, x) if reverse0 else op0(x, before)
            r[...] = op1(y, inner) if reverse1 else op1(inner, y)
        before = r
    return columns.T
