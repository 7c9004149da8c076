"""Scalar Engine of NeuronCore-v4: an activation with two free arithmetic steps before and five folds after."""

from __future__ import annotations

from typing import Any

import numpy as np

from triptych.simulator.analysis import costs
from triptych.simulator.engines.scalar import check_range
from triptych.simulator.engines.vector.folding import Fold
from triptych.simulator.enums import engine as eng
from triptych.simulator.enums import reduce_cmd as cmd
from triptych.simulator.errors import NkiValidationError
from triptych.simulator.machine.instructions import instruction
from triptych.simulator.machine.machine import machine
from triptych.simulator.machine.plan import Plan
from triptych.simulator.machine.table import Indirect
from triptych.simulator.operands.accumulators import check_command, check_result, fold_of
from triptych.simulator.operands.operands import column, on_chip, per_partition, put, same_tile
from triptych.simulator.operands.operators import Op, activation_function
from triptych.simulator.tensors.tensor import NkiTensor

_STEPS: dict[str, Any] = {"multiply": np.multiply, "add": np.add, "subtract": np.subtract, "bypass": None}
_PAIRS = (
    ("multiply", "add"),
    ("multiply", "subtract"),
    ("multiply", "bypass"),
    ("add", "bypass"),
    ("subtract", "bypass"),
    ("bypass", "bypass"),
)


@instruction(eng.scalar, cost=costs.activation.assumed(), since=4, indirect=Indirect(("data",)))
def activate2(
    dst: NkiTensor,
    op: Op,
    data: NkiTensor,
    imm0: Any,
    imm1: Any,
    op0: Op,
    op1: Op,
    relu_param: Any = 0.0,
    reverse0: bool = False,
    reverse1: bool = False,
    reduce_op: Op | None = None,
    reduce_res: NkiTensor | None = None,
    reduce_cmd: cmd = cmd.idle,
    name: str | None = None,
) -> Plan:
    """dst[P, F] = op((data[P, F] <op0> imm0) <op1> imm1); reduce_res[P, 1] = what reduce_cmd keeps in the registers.

    `reverse0` and `reverse1` put the immediate on the left. `relu_param` is the slope of nl.prelu below 0; with another
    function, which would ignore it, only 0 is taken.
    """
    m = machine()
    on_chip(dst=dst, data=data)
    same_tile("dst and data", dst, data)
    steps = _steps(op0, op1, reverse0, reverse1)
    f = op if isinstance(op, Op) and op.name == "prelu" else activation_function(op)
    slope, read = per_partition(relu_param, data, "relu_param")
    if f.name != "prelu" and (read or slope != 0):
        raise NkiValidationError(f"relu_param goes with nl.prelu, got it with {f!r}")
    operands = [per_partition(imm, data, what) for imm, what in ((imm0, "imm0"), (imm1, "imm1"))]
    kinds = {t.dtype for _, tiles in operands for t in tiles}
    if len(kinds) > 1:
        raise NkiValidationError(f"imm0 and imm1 must have the same dtype, got {' and '.join(sorted(kinds))}")
    check_command(reduce_cmd, (cmd.idle, cmd.reset, cmd.reduce, cmd.reset_reduce))
    fold: Fold = (None, 0.0)
    if reduce_cmd is not cmd.idle or reduce_op is not None:
        fold = fold_of(reduce_op, ("add", "maximum", "minimum", "abs_max", "abs_min"))
    check_result(reduce_res, data)
    used = [tiles if step is not None else () for step, (_, tiles) in zip(steps, operands, strict=True)]
    read = (data, *read, *used[0], *used[1])
    writes = [dst] if reduce_res is None else [dst, reduce_res]
    everything = (dst, f, data, slope, fold, reduce_cmd, reduce_res, *steps, *[imm for imm, _ in operands])
    use, ops = m.scalar_accumulator.used(data, reduce_cmd, reduce_res), (op0.name, op1.name, f.name)
    return Plan(eng.scalar, read, writes, _compute, everything, use=use, op=ops, bias=bool(used[1]))


def _compute(
    dst: NkiTensor, f: Op, data: NkiTensor, slope: Any, fold: Fold, command: cmd, result: Any, *pairs: Any
) -> None:
    """`pairs` are the two steps, and then their immediates."""
    m = machine()
    x: Any = data.f32()
    for step, imm in zip(pairs[:2], pairs[2:], strict=True):
        if step is not None:
            x = step(x, column(imm, data))
    check_range(m, f, x)
    computed = np.where(x >= 0, x, x * column(slope, data)) if f.act is None else f.act(x)
    m.scalar_accumulator.accumulate(data, command, *fold, computed.reshape(data.shape[0], -1))
    put(dst, computed)
    m.scalar_accumulator.read_out(data, result)


def _steps(op0: Any, op1: Any, reverse0: bool, reverse1: bool) -> list[Any]:
    """The two arithmetic steps as functions of data and immediate, None where one is bypassed."""
    names = tuple(o.name if isinstance(o, Op) else "" for o in (op0, op1))
    if names not in _PAIRS:
        known = ", ".join(f"(nl.{a}, nl.{b})" for a, b in _PAIRS)
        raise NkiValidationError(f"(op0, op1) must be one of {known}; got ({op0!r}, {op1!r})")
    steps = [_STEPS[n] for n in names]
    for i, (step, reverse) in enumerate(zip(steps, (reverse0, reverse1), strict=True)):
        if reverse and step is None:
            raise NkiValidationError(f"reverse{i} needs an op{i}, got nl.bypass")
        if reverse:
            steps[i] = lambda x, immediate, step=step: step(immediate, x)
    return steps
