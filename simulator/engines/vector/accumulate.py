"""Vector Engine: an elementwise step with a fold that stays in the accumulator, at its end or at every element."""

from __future__ import annotations

from typing import Any

import numpy as np

from triptych.simulator.analysis import costs
from triptych.simulator.dtypes import F32
from triptych.simulator.engines.vector.folding import Folding, check_folding, folded
from triptych.simulator.enums import engine as eng
from triptych.simulator.enums import reduce_cmd as cmd
from triptych.simulator.errors import NkiValidationError
from triptych.simulator.machine.instructions import instruction
from triptych.simulator.machine.machine import machine
from triptych.simulator.machine.plan import Plan
from triptych.simulator.machine.table import Indirect
from triptych.simulator.operands.accumulators import check_command, check_float32, fold_of, initial_value, operator_name
from triptych.simulator.operands.operands import column, in_dtype, on_chip, per_partition, put, same_tile
from triptych.simulator.operands.operators import Op, arithmetic
from triptych.simulator.tensors.tensor import NkiTensor

_COMMANDS = (cmd.reset_reduce, cmd.reduce, cmd.load_reduce)


@instruction(eng.vector, cost=costs.streamed_and_read_out, indirect=Indirect(("data",)))
def tensor_scalar_reduce(
    dst: NkiTensor,
    data: NkiTensor,
    op0: Op,
    operand0: Any,
    reduce_op: Op,
    reduce_res: NkiTensor | None = None,
    reverse0: bool = False,
    reduce_cmd: cmd = cmd.reset_reduce,
    reduce_init: Any = None,
    reduce_res_negate: bool = False,
    name: str | None = None,
) -> Plan:
    """dst[P, F] = data[P, F] <op0> operand0 and reduce_res[P, 1] = the running reduce_op over F of it.

    What is folded is not rounded to dst's dtype first. `reduce_res_negate` changes what is written, not the register.
    """
    on_chip(dst=dst, data=data)
    same_tile("dst and data", dst, data)
    f = arithmetic("op0", op0)
    if reverse0:
        raise NkiValidationError("reverse0 is not supported yet by NKI 0.6; got True")
    fold = fold_of(reduce_op, ("add", "multiply", "maximum", "minimum"))
    check_folding(reduce_cmd, _COMMANDS, reduce_res, data)
    read = [data]
    operand: Any = None
    if f.binary:
        operand, tiles = per_partition(operand0, data, "operand0")
        check_float32("operand0", tiles)
        read.extend(tiles)
    elif isinstance(operand0, NkiTensor) or operand0 not in (None, 0):
        raise NkiValidationError(f"{f!r} is unary: operand0 must be None or 0, got {operand0!r}")
    start, tiles = initial_value("reduce_init", reduce_init, reduce_cmd, data)
    read.extend(tiles)
    ops = (f.name, operator_name(reduce_op))
    how = Folding(_stepped, fold, reduce_cmd, reduce_res_negate)
    return folded(dst, data, read, how, (f, operand), reduce_res, start, forgets=False, op=ops)


def _stepped(data: NkiTensor, f: Op, operand: Any) -> Any:
    return f.alu(data.f32(), column(operand, data)) if f.binary else f.alu(data.f32())


_SMALL = ("bfloat16", "float16", "float32", "float8_e4m3", "float8_e4m3fn", "float8_e5m2")
_CUMULATIVE = (*_SMALL, "uint8", "uint16", "int8", "int16")


@instruction(eng.vector, cost=costs.scan.assumed(), indirect=Indirect(("src",)))
def tensor_scalar_cumulative(
    dst: NkiTensor,
    src: NkiTensor,
    op0: Op,
    op1: Op,
    imm0: Any,
    imm1: Any = None,
    reduce_cmd: cmd = cmd.reset_reduce,
    name: str | None = None,
) -> Plan:
    """dst[:, i] = reg = (src[:, i] <op0> imm0) <op1> reg, where reg starts as reduce_cmd says and keeps its last value.

    No cost is published; tensor_tensor_scan's is taken, which is a recurrence too.
    """
    on_chip(dst=dst, src=src)
    same_tile("dst and src", dst, src)
    in_dtype(_CUMULATIVE, dst=dst, src=src)
    f = arithmetic("op0", op0, binary=True)
    fold = fold_of(op1, ("subtract", "add", "multiply", "maximum", "minimum"), "op1")
    check_command(reduce_cmd, _COMMANDS)
    operand, tiles0 = per_partition(imm0, src, "imm0")
    check_float32("imm0", tiles0)
    start, tiles1 = initial_value("imm1", imm1, reduce_cmd, src)
    use, ops = machine().vector_accumulator.used(src, reduce_cmd, None), (f.name, operator_name(op1))
    operands = (dst, src, f, operand, *fold, reduce_cmd, start)
    return Plan(eng.vector, (src, *tiles0, *tiles1), (dst,), _fold_each, operands, use=use, op=ops)


def _fold_each(
    dst: NkiTensor, src: NkiTensor, f: Op, operand: Any, fold: Any, identity: float, command: cmd, start: Any
) -> None:
    steps = f.alu(src.f32(), column(operand, src)).reshape(src.shape[0], -1)
    held = machine().vector_accumulator.begin(src, command, identity, start)
    running = np.empty((steps.shape[0], steps.shape[1] + 1), F32)
    running[:, :1], running[:, 1:] = held, steps
    if fold is np.subtract:
        for i in range(1, running.shape[1]):
            np.subtract(running[:, i], running[:, i - 1], out=running[:, i])
    else:
        fold.accumulate(running, axis=1, out=running)  # in order, without regrouping
    held[...] = running[:, -1:]
    put(dst, running[:, 1:])


_EXP_IN = ("float8_e4m3", "float8_e5m2", "float16", "bfloat16", "float32", "int8", "int16", "int32", "uint8", "uint16")
_EXP_FLOATS = ("float8_e4m3", "float8_e5m2", "float16", "bfloat16", "float32", "tfloat32")


@instruction(eng.vector, cost=costs.quarter, since=4, indirect=Indirect(("src",)))
def exponential(
    dst: NkiTensor,
    src: NkiTensor,
    max_value: Any = 0.0,
    reduce_res: NkiTensor | None = None,
    reduce_cmd: cmd = cmd.idle,
    reduce_init: Any = 0.0,
    name: str | None = None,
) -> Plan:
    """dst[P, F] = exp(src[P, F] - max_value) and reduce_res[P, 1] = the running sum over F of it, before rounding.

    reduce_res with reduce_cmd idle raises: the accumulator's state is documented as unknown there.
    """
    on_chip(dst=dst, src=src)
    same_tile("dst and src", dst, src)
    in_dtype((*_EXP_IN, "uint32"), src=src)
    in_dtype((*_EXP_IN, "tfloat32"), dst=dst)
    if max(dst.ndim, src.ndim) > 4:
        raise NkiValidationError(f"src and dst have at most 4 dimensions, got {src.shape} and {dst.shape}")
    top, tiles = per_partition(max_value, src, "max_value")
    check_float32("max_value", tiles)
    check_folding(reduce_cmd, (cmd.idle, *_COMMANDS), reduce_res, src)
    if reduce_res is not None:
        in_dtype(_EXP_FLOATS, reduce_res=reduce_res)
    unset = not isinstance(reduce_init, NkiTensor) and reduce_init == 0 and reduce_cmd is not cmd.load_reduce
    start, more = initial_value("reduce_init", None if unset else reduce_init, reduce_cmd, src)
    how = Folding(_exponential, (np.add, 0.0), reduce_cmd)
    return folded(dst, src, (src, *tiles, *more), how, (top,), reduce_res, start)


def _exponential(src: NkiTensor, top: Any) -> Any:
    return np.exp(src.f32() - column(top, src))
