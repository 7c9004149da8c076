"""Vector Engine: results that are folded into its accumulator too, which may be read out beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from triptych.simulator.dtypes import Array
from triptych.simulator.enums import engine as eng
from triptych.simulator.enums import reduce_cmd as cmd
from triptych.simulator.machine.machine import machine
from triptych.simulator.machine.plan import Plan
from triptych.simulator.operands.accumulators import check_command, check_defined, check_result
from triptych.simulator.operands.operands import put
from triptych.simulator.tensors.tensor import NkiTensor

Fold = tuple[Any, float]  # a fold, and the value that it starts from after a reset


def check_folding(command: cmd, allowed: tuple[cmd, ...], result: NkiTensor | None, data: NkiTensor) -> None:
    """A command that the instruction takes, and None or a column [P, 1] for what the registers hold after it."""
    check_command(command, allowed)
    check_defined(result, command)
    check_result(result, data)


class Folding(NamedTuple):
    """What an instruction computes, and how that is folded into the registers of its data's partitions."""

    values: Callable[..., Array]  # of the data and of further operands
    fold: Fold
    command: cmd
    negates: bool = False  # what is read out, not the registers


def folded(
    dst: NkiTensor,
    data: NkiTensor,
    reads: Sequence[NkiTensor],
    how: Folding,
    operands: tuple[Any, ...],
    result: NkiTensor | None,
    start: Any = None,
    forgets: bool = True,
    **attributes: Any,
) -> Plan:
    """dst[P, F] = values(data, *operands), and result[P, 1] = what they leave in the registers, before rounding.

    start: what load_reduce loads; forgets: as in `Accumulator.used`
    """
    writes = (dst,) if result is None else (dst, result)
    use = machine().vector_accumulator.used(data, how.command, result, forgets)
    return Plan(eng.vector, reads, writes, _fold, (dst, data, how, result, start, *operands), use=use, **attributes)


def _fold(dst: NkiTensor, data: NkiTensor, how: Folding, result: NkiTensor | None, start: Any, *operands: Any) -> None:
    registers = machine().vector_accumulator
    computed = how.values(data, *operands)
    registers.accumulate(data, how.command, *how.fold, computed.reshape(data.shape[0], -1), start)
    put(dst, computed)
    registers.read_out(data, result, how.negates)
