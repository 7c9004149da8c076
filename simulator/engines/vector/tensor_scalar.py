"""Vector Engine: elementwise operations of a tile with numbers or columns, two in a row, and then with another tile.

Arithmetic is float32 inside; bitvec operators work on the integers' bit patterns. Some of these also run on Scalar or
GpSimd, which the `engine` argument picks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from triptych.simulator.analysis import costs
from triptych.simulator.dtypes import DType, float32
from triptych.simulator.enums import engine as eng
from triptych.simulator.errors import NkiValidationError
from triptych.simulator.machine.instructions import choose, instruction
from triptych.simulator.machine.machine import Machine, machine
from triptych.simulator.machine.plan import Plan
from triptych.simulator.machine.table import Indirect
from triptych.simulator.operands.operands import (
    bits,
    check_integers,
    column,
    describe,
    elementwise,
    not_both_in_psum,
    on_chip,
    per_partition,
    put,
    put_bits,
    same_tile,
    target,
    without_gpsimd_in_psum,
)
from triptych.simulator.operands.operators import Op, arithmetic, operator
from triptych.simulator.tensors.tensor import NkiTensor

_INT32 = ("int32", "uint32")


def _no_address_arithmetic(operands: dict[str, Any]) -> None:
    """Taken to be meant by the pattern of int32 and uint32 "address arithmetic", which the documentation only names."""
    op, tiles = operands["op0"], (operands["dst"], operands["data"])
    if not operator(op).bitvec and all(t.dtype in _INT32 for t in tiles):
        raise NkiValidationError("indirect views do not go with arithmetic on 32-bit integers, which is for addresses")


@instruction(
    eng.vector,
    eng.scalar,
    eng.gpsimd,
    cost=costs.per_element,
    indirect=Indirect(("data",), check=_no_address_arithmetic),
)
def tensor_scalar(
    dst: NkiTensor,
    data: NkiTensor,
    op0: Op,
    operand0: Any,
    reverse0: bool = False,
    op1: Op | None = None,
    operand1: Any = None,
    reverse1: bool = False,
    engine: eng = eng.unknown,
    name: str | None = None,
) -> Plan:
    """dst[P, F] = (data[P, F] <op0> operand0) <op1> operand1; operands are scalars or columns [P, 1]."""
    m = machine()
    on_chip(dst=dst, data=data)
    same_tile("dst and data", dst, data)
    first = operator(op0)
    second = operator(op1) if op1 is not None else None
    if second is None and operand1 is not None:
        raise NkiValidationError("operand1 without op1")
    if second is not None and second.bitvec is not first.bitvec:
        raise NkiValidationError(f"op0 and op1 must both be bitvec or both arithmetic, got {op0!r} and {op1!r}")
    on = _tensor_scalar_engine(m, first, second, engine, (dst, data))
    if first.bitvec:
        check_integers(dst, data)
    steps: list[Any] = []
    read = [data]
    for f, operand, reverse, what in (
        (first, operand0, reverse0, "operand0"),
        (second, operand1, reverse1, "operand1"),
    ):
        if f is None:
            continue
        value, tiles = _operand(m, f, operand, data, what)
        read.extend(tiles)
        steps += (f, value, reverse)
    names = tuple(f.name for f in steps[::3])
    return Plan(on, read, (dst,), _bitvec if first.bitvec else _arithmetic, (dst, data, *steps), op=names)


def _operand(m: Machine, f: Op, operand: Any, data: NkiTensor, what: str) -> tuple[Any, tuple[NkiTensor, ...]]:
    """An operator's operand, which is a float32, bits of data's dtype, a column or None, and the tiles to be read."""
    if not f.binary:
        if isinstance(operand, NkiTensor) or operand not in (None, 0):
            raise NkiValidationError(f"{f!r} is unary: its operand must be None or 0, got {operand!r}")
        return None, ()
    if not f.bitvec:
        value, tiles = per_partition(operand, data, what)
        _check_float32(m, tiles)
        return value, tiles
    if not isinstance(operand, NkiTensor):
        return _pattern(f, operand, data.dtype), ()
    on_chip(operand=operand)
    check_integers(data, operand)
    if operand.shape[0] != data.shape[0] or operand.free_size != 1:
        raise NkiValidationError(f"an operand tile must be ({data.shape[0]}, 1), got {operand.shape}")
    return operand, (operand,)


def _arithmetic(dst: NkiTensor, data: NkiTensor, *steps: Any) -> None:
    """`steps` are an operator, its operand and whether that comes first, once or twice."""
    result: Any = data.f32()
    *before, f, operand, reverse = steps
    if before:
        room = target(dst, data.shape, operand)
        result = _apply(before[0], result, column(before[1], data), before[2], room)
    value = column(operand, data)
    if value is None:
        elementwise(dst, f.alu, result)
    elif not reverse:
        elementwise(dst, f.alu, result, value)
    else:
        put(dst, _apply(f, result, value, reverse))


def _apply(f: Op, data: Any, value: Any, reverse: bool, out: Any = None) -> Any:
    """What an operator gives; `out` is where it may be left."""
    operands = (data,) if value is None else (value, data) if reverse else (data, value)
    return f.alu(*operands, out=out) if isinstance(f.alu, np.ufunc) else f.alu(*operands)


def _check_float32(m: Machine, tiles: Sequence[NkiTensor]) -> None:
    for t in tiles:
        if t.dtype != float32:
            message = f"tensor_scalar: an operand tile of an arithmetic operator must be float32, got {t!r}"
            m.remark("operand-dtype", message, "nki/api/nki/isa/__init__.py, tensor_scalar")


def _tensor_scalar_engine(m: Machine, op0: Op, op1: Op | None, asked: eng, tiles: Sequence[NkiTensor]) -> eng:
    ops = [o.name for o in (op0, op1) if o is not None]
    if "rsqrt" in ops:
        return without_gpsimd_in_psum(choose(asked, eng.gpsimd), *tiles)
    few = ops in (["multiply", "add"], ["multiply"], ["add"])
    if asked is eng.scalar and m.chip.generation < (3 if few else 4):
        raise NkiValidationError(
            "the Scalar Engine runs tensor_scalar from NeuronCore-v3 on, for multiply then add, multiply, or add, and "
            f"from v4 on for any arithmetic operators; got {' then '.join(ops)} on {m.chip.name}",
            source="nki/guides/architecture/trainium3_arch.rst, Scalar Engine",
        )
    return choose(asked, eng.vector, eng.scalar) if not op0.bitvec else choose(asked, eng.vector)


def _bitvec(dst: NkiTensor, data: NkiTensor, *steps: Any) -> None:
    """`steps` as in `_arithmetic`."""
    result: Any = bits(data)
    for f, operand, reverse in zip(steps[::3], steps[1::3], steps[2::3], strict=True):
        if isinstance(operand, NkiTensor):
            operand = bits(operand).reshape((data.shape[0],) + (1,) * (data.ndim - 1))
        result = _apply(f, result, operand, reverse)
    put_bits(dst, result)


def _pattern(f: Op, value: Any, dtype: DType) -> Any:
    """A compile-time integer as the bits of `dtype`."""
    size = 8 * dtype.itemsize
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not -(1 << size - 1) <= value < 1 << size:
        raise NkiValidationError(f"{f!r} needs an integer operand that {dtype} holds, got {describe(value)}")
    return np.array(int(value) & ((1 << size) - 1), f"uint{size}")


@instruction(eng.vector, cost=costs.two_inputs)
def scalar_tensor_tensor(
    dst: NkiTensor,
    data: NkiTensor,
    op0: Op,
    operand0: Any,
    op1: Op,
    operand1: NkiTensor,
    reverse0: bool = False,
    reverse1: bool = False,
    name: str | None = None,
) -> Plan:
    """dst[P, F] = (data[P, F] <op0> operand0) <op1> operand1[P, F]; operand0 a scalar or a column [P, 1]."""
    on_chip(dst=dst, data=data, operand1=operand1)
    not_both_in_psum(data, operand1, "data and operand1")
    same_tile("data and operand1", data, operand1)
    same_tile("dst and data", dst, data)
    first, second = arithmetic("op0", op0, binary=True), arithmetic("op1", op1, binary=True)
    value, tiles = per_partition(operand0, data, "operand0")
    operands = (dst, data, first, value, reverse0, second, operand1, reverse1)
    return Plan(eng.vector, (data, operand1, *tiles), (dst,), _with_tile, operands, op=(first.name, second.name))


def _with_tile(
    dst: NkiTensor, data: NkiTensor, first: Op, value: Any, reverse0: bool, second: Op, tile: NkiTensor, reverse1: bool
) -> None:
    inner = _apply(first, data.f32(), column(value, data), reverse0, target(dst, data.shape, tile))
    other = tile.f32().reshape(data.shape)
    elementwise(dst, second.alu, *((other, inner) if reverse1 else (inner, other)))
