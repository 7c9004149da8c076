"""Scalar Engine: activation functions, with scale and bias before and a running sum after."""

from __future__ import annotations

from typing import Any

import numpy as np

from triptych.simulator import enums
from triptych.simulator.analysis import costs
from triptych.simulator.enums import engine as eng
from triptych.simulator.enums import reduce_cmd as cmd
from triptych.simulator.errors import NkiValidationError
from triptych.simulator.machine.instructions import instruction
from triptych.simulator.machine.machine import Machine, machine
from triptych.simulator.machine.plan import Plan
from triptych.simulator.machine.table import Indirect
from triptych.simulator.memory.layout import Layout
from triptych.simulator.operands.accumulators import check_command, check_result
from triptych.simulator.operands.operands import (
    column,
    finish,
    on_chip,
    per_partition,
    same_elements,
    same_tile,
    target,
)
from triptych.simulator.operands.operators import Op, activation_function
from triptych.simulator.tensors.tensor import NkiTensor

_PLAIN = ("float32", "bfloat16", "float16")  # dtypes that a copy by way of float32 leaves as they are


@instruction(eng.scalar, cost=costs.activation, indirect=Indirect(("data",)))
def activation(
    dst: NkiTensor,
    op: Op,
    data: NkiTensor,
    bias: Any = None,
    scale: Any = 1.0,
    reduce_op: Op | None = None,
    reduce_res: NkiTensor | None = None,
    reduce_cmd: enums.reduce_cmd = cmd.idle,
    name: str | None = None,
) -> Plan:
    """dst[P, F] = op(data[P, F] * scale + bias); reduce_res[P, 1] = the sum that reduce_cmd keeps in 128 registers.

    `scale` is a number or a float32 column [P, 1]; `bias` a column, from v3 on also a number.
    """
    return _activate(dst, op, data, bias, scale, reduce_op, reduce_res, reduce_cmd)


@instruction(eng.scalar, cost=costs.activation, indirect=Indirect(("data",)))
def activation_reduce(
    dst: NkiTensor,
    op: Op,
    data: NkiTensor,
    reduce_op: Op,
    reduce_res: NkiTensor | None,
    bias: Any = None,
    scale: Any = 1.0,
    name: str | None = None,
) -> Plan:
    """dst[P, F] = op(data[P, F] * scale + bias) and reduce_res[P, 1] = sum over F of dst before rounding."""
    return _activate(dst, op, data, bias, scale, reduce_op, reduce_res, cmd.reset_reduce)


def _activate(
    dst: NkiTensor,
    op: Op,
    data: NkiTensor,
    bias: Any,
    scale: Any,
    reduce_op: Op | None,
    reduce_res: NkiTensor | None,
    command: enums.reduce_cmd,
) -> Plan:
    m = machine()
    on_chip(dst=dst, data=data)
    same_tile("dst and data", dst, data)
    f = activation_function(op)
    read = [data]
    factor, tiles_scale = per_partition(scale, data, "scale")
    if tiles_scale and tiles_scale[0].dtype != "float32":
        raise NkiValidationError(f"scale must be float32, got {tiles_scale[0]!r}")
    read.extend(tiles_scale)
    addend = None
    columns: tuple[NkiTensor, ...] = ()
    if bias is not None:
        addend, columns = per_partition(bias, data, "bias")
        _check_bias(m, f, columns)
        read.extend(columns)
    _check_reduction(data, reduce_op, reduce_res, command)
    writes = [dst] if reduce_res is None else [dst, reduce_res]
    use = m.scalar_accumulator.used(data, command, reduce_res)
    return Plan(
        eng.scalar,
        read,
        writes,
        _compute,
        (dst, f, data, factor, addend, command, reduce_res),
        use=use,
        moves=_copied if f.name == "copy" else None,
        op=f.name,
        bias=bool(columns),
    )


def _copied(
    dst: NkiTensor, f: Op, data: NkiTensor, scale: Any, bias: Any, command: Any, reduce_res: Any
) -> tuple[NkiTensor, Layout | None] | None:
    """What dst is equal to if nothing is computed, but for rounding."""
    if scale != 1 or bias is not None or reduce_res is not None:
        return None
    return same_elements(dst, data) if command is cmd.idle and data.dtype in _PLAIN else None


def _compute(
    dst: NkiTensor, f: Op, data: NkiTensor, scale: Any, bias: Any, command: enums.reduce_cmd, reduce_res: Any
) -> None:
    m = machine()
    x: Any = data.f32()
    out = target(dst, data.shape, bias)
    if scale != 1:
        x = np.multiply(x, column(scale, data), out=out)
    if bias is not None:
        x = np.add(x, column(bias, data), out=out)
    check_range(m, f, x)
    result = f.act(x, out=out) if isinstance(f.act, np.ufunc) else f.act(x)  # type: ignore[misc]
    m.scalar_accumulator.accumulate(data, command, np.add, 0.0, result.reshape(data.shape[0], -1))
    finish(dst, result)
    m.scalar_accumulator.read_out(data, reduce_res)


def _check_bias(m: Machine, f: Op, tiles: tuple[NkiTensor, ...]) -> None:
    if m.chip.generation < 3 and not tiles:
        raise NkiValidationError("on NeuronCore-v2 bias must be a tile of shape (P, 1), not a number")
    if m.chip.generation < 3 and f.name == "reciprocal":
        raise NkiValidationError("activation(op=nl.reciprocal) takes no bias on NeuronCore-v2")
    if m.chip.generation < 3 and f.name == "copy":
        raise NkiValidationError(
            "activation(op=nl.copy) takes no bias on NeuronCore-v2, whatever the page says: add it with "
            "nisa.tensor_scalar(op0=nl.add, operand0=bias)",
            source="on trn1 the result lacks it, aws-neuron/aws-neuron-sdk#1296; NKI 0.6.0 rejects it, NCC_IBVF043 "
            "(copy takes no tensor bias); nki/api/nki/isa/__init__.py, activation, allows it",
        )
    if tiles and tiles[0].dtype == "tfloat32":
        raise NkiValidationError("bias may be any dtype but tfloat32")


def _check_reduction(
    data: NkiTensor, reduce_op: Op | None, reduce_res: NkiTensor | None, command: enums.reduce_cmd
) -> None:
    check_command(command, (cmd.idle, cmd.reset, cmd.reduce, cmd.reset_reduce))
    reduces = reduce_op is not None or command in (cmd.reduce, cmd.reset_reduce)
    if reduces and not (isinstance(reduce_op, Op) and reduce_op.name == "add"):
        raise NkiValidationError(f"reduce_op must be nl.add, got {reduce_op!r}")
    check_result(reduce_res, data)


def check_range(m: Machine, f: Op, x: Any) -> None:
    """Note, once an instruction, inputs outside the range in which the hardware's polynomial is documented as right."""
    if f.valid is None:
        return
    low, high = f.valid
    tested = np.abs(x) if f.name == "reciprocal" else x
    outside = int(np.count_nonzero((tested < low) | (tested > high)))
    if outside:
        m.note_values(
            f"{f!r}: {outside} of {x.size} inputs are outside [{low:g}, {high:g}], where the Scalar Engine's result is "
            "documented to be invalid (nki/api/nki.api.shared.rst)"
        )
