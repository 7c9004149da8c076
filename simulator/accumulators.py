"""The Vector Engine's accumulator: one float32 register a partition, which some instructions fold their results into.

A register holds a value from a reset on. An instruction in mode `idle` may change it (nki/api/nki/isa/__init__.py,
select_reduce), so after one the registers of its partitions hold nothing, and `reduce` without a reset is an error.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from triptych.simulator.enums import reduce_cmd
from triptych.simulator.errors import NkiValidationError
from triptych.simulator.machine import Machine
from triptych.simulator.operands import on_chip
from triptych.simulator.ops import Op
from triptych.simulator.tensor import NkiTensor

Array = NDArray[Any]
# operator -> (fold, value after a reset). nl.max and nl.min are the documentation's other names for the last two.
_FOLDS: dict[str, tuple[Any, float]] = {
    "add": (np.add, 0.0),
    "multiply": (np.multiply, 1.0),
    "maximum": (np.maximum, -np.inf),
    "minimum": (np.minimum, np.inf),
}
_ALIASES = {"max": "maximum", "min": "minimum"}


def fold_of(op: Any, allowed: tuple[str, ...]) -> tuple[Any, float]:
    """The fold that `op` names, and its identity."""
    name = op.name if isinstance(op, Op) else getattr(op, "__name__", "")
    name = _ALIASES.get(name, name)
    if name not in allowed:
        raise NkiValidationError(f"reduce_op must be {' or '.join(f'nl.{a}' for a in allowed)}, got {op!r}")
    return _FOLDS[name]


def check_command(command: Any, allowed: tuple[reduce_cmd, ...]) -> None:
    if command not in allowed:
        names = ", ".join(f"nisa.reduce_cmd.{c.name}" for c in allowed)
        raise NkiValidationError(f"reduce_cmd must be one of {names}, got {command!r}")


def check_result(reduce_res: Any, data: NkiTensor, command: reduce_cmd) -> None:
    """`reduce_res` is None, or a column that a defined accumulator can be read into."""
    if reduce_res is None:
        return
    on_chip(reduce_res=reduce_res)
    if reduce_res.shape[0] != data.shape[0] or reduce_res.free_size != 1:
        raise NkiValidationError(f"reduce_res must be ({data.shape[0]}, 1), got {reduce_res.shape}")
    if command is reduce_cmd.idle:
        raise NkiValidationError("reduce_res with reduce_cmd idle: the accumulator it would show is not defined")


def accumulate(
    m: Machine, data: NkiTensor, command: reduce_cmd, fold: Any, identity: float, values: Array, initial: Any = None
) -> Array:
    """Fold `values` [P, F] into the registers of data's partitions as `command` says; the registers [P, 1]."""
    first = data.offset * data.dtype.itemsize // (data.storage.allocation.nbytes // data.storage.allocation.shape[0])
    lanes = slice(first, first + data.shape[0])
    registers, started = m.vector_registers[lanes], m.vector_started[lanes]
    if command is reduce_cmd.idle:
        started[...] = False
        return registers
    if command is reduce_cmd.reduce and not started.all():
        raise NkiValidationError(
            "reduce_cmd reduce continues an accumulator that holds nothing: no reset_reduce has started it on "
            f"partition {first + int(np.argmin(started))}, or an instruction in mode idle has run since"
        )
    if command is reduce_cmd.load_reduce:
        registers[...] = initial
    elif command is not reduce_cmd.reduce:
        registers[...] = identity
    started[...] = True
    if command is not reduce_cmd.reset:
        fold(registers, fold.reduce(values, axis=1, keepdims=True), out=registers)
    return registers
