"""Vector Engine: copies, constants and elementwise operations on one or two tiles.

Arithmetic is float32 inside; bitvec operators work on the integers' bit patterns. Some of these also run on Scalar or
GpSimd, which the `engine` argument picks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from triptych.simulator.analysis import costs
from triptych.simulator.dtypes import Array
from triptych.simulator.enums import engine as eng
from triptych.simulator.errors import NkiValidationError
from triptych.simulator.machine.instructions import choose, instruction
from triptych.simulator.machine.machine import machine
from triptych.simulator.machine.plan import Plan
from triptych.simulator.machine.table import Indirect
from triptych.simulator.operands.operands import (
    any_in_psum,
    bits,
    check_integers,
    describe,
    elementwise,
    move,
    not_both_in_psum,
    on_chip,
    put,
    put_bits,
    same_elements,
    same_tile,
    without_gpsimd_in_psum,
)
from triptych.simulator.operands.operators import Op, operator
from triptych.simulator.tensors.tensor import NkiTensor

_INT32 = ("int32", "uint32")


@instruction(
    eng.vector,
    eng.scalar,
    eng.gpsimd,
    cost=costs.per_element,
    indirect=Indirect(("src",), engines=(eng.vector, eng.scalar)),
)
def tensor_copy(dst: NkiTensor, src: NkiTensor, engine: eng = eng.unknown, name: str | None = None) -> Plan:
    """dst[P, F] = src[P, F]; bit for bit where dtypes agree, else cast through float32."""
    m = machine()
    on_chip(dst=dst, src=src)
    on = without_gpsimd_in_psum(choose(engine, eng.vector, eng.scalar, eng.gpsimd), dst, src)
    if on is eng.scalar and m.chip.generation < 3:
        raise NkiValidationError("the Scalar Engine has no tensor_copy on NeuronCore-v2; use activation(op=nl.copy)")
    same_tile("dst and src", dst, src)
    left_open: dict[str, Any] = {"open": True} if engine is eng.unknown else {}
    return Plan(on, (src,), (dst,), move, (dst, src), moves=same_elements, **left_open)


@instruction(eng.vector, eng.gpsimd, cost=costs.fill)
def memset(dst: NkiTensor, value: Any, engine: eng = eng.unknown, name: str | None = None) -> Plan:
    """dst[...] = value, a compile-time constant of dst's dtype."""
    m = machine()
    on_chip(dst=dst)
    on = without_gpsimd_in_psum(choose(engine, eng.vector, eng.gpsimd), dst)
    if not isinstance(value, (int, float, np.integer, np.floating)):
        raise NkiValidationError(f"value must be a number, got {describe(value)}")
    if dst.dtype.kind == "x" and value != 0:
        raise NkiValidationError(f"a packed {dst.dtype} tile can only be set to 0, got {value!r}")
    if dst.dtype.is_int:
        whole = isinstance(value, (int, np.integer)) or float(value).is_integer()
        message, held = f"value must be an integer that {dst.dtype} holds, got {value!r}", np.iinfo(dst.dtype.np)
        if not whole or not held.min <= int(value) <= held.max:
            raise NkiValidationError(message)
        if not isinstance(value, (int, np.integer)):
            m.remark("whole-float", f"nisa.memset: {message}", "release-notes/components/nki.rst, strict type matching")
    return Plan(on, (), (dst,), _fill, (dst, value), value=value)


def _fill(dst: NkiTensor, value: Any) -> None:
    scalar = np.array(value, np.float32 if dst.dtype.is_float else dst.dtype.np)
    put(dst, np.broadcast_to(scalar, dst.shape))


@instruction(eng.vector, eng.gpsimd, cost=costs.two_inputs, indirect=Indirect(("data1",)))
def tensor_tensor(
    dst: NkiTensor, data1: NkiTensor, data2: NkiTensor, op: Op, engine: eng = eng.unknown, name: str | None = None
) -> Plan:
    """dst[P, F] = data1[P, F] <op> data2[P, F], in float32, or exactly on int32 and bit patterns."""
    on_chip(dst=dst, data1=data1, data2=data2)
    not_both_in_psum(data1, data2, "data1 and data2")
    same_tile("data1 and data2", data1, data2)
    same_tile("dst and data1", dst, data1)
    f = operator(op, binary=True)
    tiles = (dst, data1, data2)
    exact = all(t.dtype in _INT32 for t in tiles) and not f.bitvec
    on = _tensor_tensor_engine(f, exact, tiles, engine)
    compute = _arithmetic
    if f.bitvec:
        check_integers(*tiles)
        compute = _bitvec
    elif exact and on is eng.gpsimd:
        compute = _exact
    return Plan(on, (data1, data2), (dst,), compute, (dst, f, data1, data2), op=f.name)


def _arithmetic(dst: NkiTensor, f: Op, data1: NkiTensor, data2: NkiTensor) -> None:
    elementwise(dst, f.alu, data1.f32(), data2.f32().reshape(data1.shape))


def _bitvec(dst: NkiTensor, f: Op, data1: NkiTensor, data2: NkiTensor) -> None:
    put_bits(dst, f.alu(bits(data1), bits(data2).reshape(data1.shape)))


def _exact(dst: NkiTensor, f: Op, data1: NkiTensor, data2: NkiTensor) -> None:
    wide = np.float64 if f.name == "power" else np.int64  # NumPy has no integer power with a negative exponent
    result = f.alu(data1.array.astype(wide), data2.array.reshape(data1.shape).astype(wide))
    if result.dtype == np.int64:
        _put_integers(dst, f, result)
    else:
        put(dst, result)


def _put_integers(dst: NkiTensor, f: Op, exact: Array) -> None:
    """dst[...] = the low 32 bits of exact integers, as native arithmetic keeps them, noted where they are not all."""
    kept = exact.astype(dst.dtype.np)
    beyond = int(np.count_nonzero(kept != exact))
    if beyond:
        machine().note_values(
            f"{f!r}: {beyond} results leave {dst.dtype} and wrap around; what GpSimd does there is not documented"
        )
    dst.array[...] = kept.reshape(dst.shape)
    dst.wrote()


def _tensor_tensor_engine(f: Op, exact: bool, tiles: Sequence[NkiTensor], asked: eng) -> eng:
    if f.name == "power":
        return without_gpsimd_in_psum(choose(asked, eng.gpsimd), *tiles)
    if asked is eng.unknown and exact and not any_in_psum(*tiles):
        return eng.gpsimd
    return without_gpsimd_in_psum(choose(asked, eng.vector, eng.gpsimd), *tiles)


@instruction(eng.vector, cost=costs.reciprocal)
def reciprocal(dst: NkiTensor, data: NkiTensor, name: str | None = None) -> Plan:
    """dst[P, F] = 1 / data[P, F], in float32."""
    on_chip(dst=dst, data=data)
    same_tile("dst and data", dst, data)
    return Plan(eng.vector, (data,), (dst,), _reciprocal, (dst, data))


def _reciprocal(dst: NkiTensor, data: NkiTensor) -> None:
    elementwise(dst, np.reciprocal, data.f32())
