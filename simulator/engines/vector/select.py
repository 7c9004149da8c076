"""Vector Engine: selection by a range of indices or by a predicate tile, with a running maximum where it is offered."""

from __future__ import annotations

from typing import Any

import numpy as np

from triptych.simulator.analysis import costs
from triptych.simulator.dtypes import F32, Array
from triptych.simulator.engines.vector.folding import Folding, check_folding, folded
from triptych.simulator.enums import engine as eng
from triptych.simulator.enums import reduce_cmd as cmd
from triptych.simulator.errors import NkiValidationError
from triptych.simulator.machine.instructions import instruction
from triptych.simulator.machine.plan import Plan
from triptych.simulator.machine.table import Indirect
from triptych.simulator.operands.accumulators import fold_of
from triptych.simulator.operands.operands import (
    bits,
    column,
    describe,
    not_both_in_psum,
    on_chip,
    per_partition,
    same_tile,
    stored,
)
from triptych.simulator.operands.operators import OPS, Op
from triptych.simulator.tensors.tensor import NkiTensor

FP32_MIN = float(np.finfo(np.float32).min)
_COMPARE = ("equal", "less", "less_equal", "greater", "greater_equal")


@instruction(eng.vector, cost=costs.streamed, since=3)
def range_select(
    dst: NkiTensor,
    on_true_tile: NkiTensor,
    comp_op0: Op,
    comp_op1: Op,
    bound0: NkiTensor,
    bound1: NkiTensor,
    reduce_cmd: cmd = cmd.reset_reduce,
    reduce_res: NkiTensor | None = None,
    reduce_op: Op = OPS["maximum"],
    range_start: int = 0,
    on_false_value: float = FP32_MIN,
    name: str | None = None,
) -> Plan:
    """dst[p, i] = on_true_tile[p, i] where j <comp_op0> bound0[p] and j <comp_op1> bound1[p], else FP32_MIN.

    j = range_start + i, where i counts p's free elements. reduce_res[P, 1] = the running maximum of what was selected,
    before rounding to dst's dtype; in dtypes narrower than float32 FP32_MIN rounds to -inf.
    """
    on_chip(dst=dst, on_true_tile=on_true_tile, bound0=bound0, bound1=bound1)
    same_tile("dst and on_true_tile", dst, on_true_tile)
    if not on_true_tile.dtype.is_float:
        raise NkiValidationError(f"on_true_tile must have a floating-point dtype, got {on_true_tile!r}")
    compare0, compare1 = _comparison(comp_op0, "comp_op0"), _comparison(comp_op1, "comp_op1")
    for what, bound in (("bound0", bound0), ("bound1", bound1)):
        if bound.dtype != "float32" or bound.shape[0] != on_true_tile.shape[0] or bound.free_size != 1:
            raise NkiValidationError(f"{what} must be ({on_true_tile.shape[0]}, 1) in float32, got {bound!r}")
    _check_indices(range_start, on_true_tile.free_size)
    if F32.type(on_false_value) != F32.type(FP32_MIN):
        raise NkiValidationError(f"on_false_value must be FP32_MIN, {FP32_MIN!r}, got {on_false_value!r}")
    fold = fold_of(reduce_op, ("maximum",))
    check_folding(reduce_cmd, (cmd.idle, cmd.reset, cmd.reduce, cmd.reset_reduce), reduce_res, on_true_tile)
    reads, operands = (on_true_tile, bound0, bound1), (compare0, bound0, compare1, bound1, int(range_start))
    return folded(dst, on_true_tile, reads, Folding(_within, fold, reduce_cmd), operands, reduce_res)


def _within(data: NkiTensor, compare0: Any, bound0: NkiTensor, compare1: Any, bound1: NkiTensor, start: int) -> Array:
    # In float32, in which the comparison is done and which is exact up to 2^24.
    index = np.arange(start, start + data.free_size, dtype=F32)[None, :]
    mask = compare0(index, bound0.f32().reshape(-1, 1)) & compare1(index, bound1.f32().reshape(-1, 1))
    return np.where(mask, data.f32().reshape(mask.shape), F32.type(FP32_MIN))


def _comparison(op: Any, what: str) -> Any:
    if not isinstance(op, Op) or op.name not in _COMPARE:
        raise NkiValidationError(f"{what} must be one of nl.{', nl.'.join(_COMPARE)}, got {op!r}")
    return getattr(np, op.name)


def _check_indices(start: Any, count: int) -> None:
    if isinstance(start, bool) or not isinstance(start, (int, np.integer)):
        raise NkiValidationError(f"range_start must be an integer, got {describe(start)}")
    if max(abs(int(start)), abs(int(start) + count - 1)) > 1 << 24:
        raise NkiValidationError(
            f"indices are compared in float32 and must stay within 2^24, got {start} + {count - 1}"
        )


@instruction(eng.vector, cost=costs.predicated.assumed())
def select_reduce(
    dst: NkiTensor,
    predicate: NkiTensor,
    on_true: NkiTensor,
    on_false: Any,
    reduce_res: NkiTensor | None = None,
    reduce_cmd: cmd = cmd.idle,
    reduce_op: Op = OPS["maximum"],
    reverse_pred: bool = False,
    name: str | None = None,
) -> Plan:
    """dst[P, F] = on_true where predicate != 0, else on_false, a number or a column; reduce_res = the running maximum.

    No cost is published; tensor_copy_predicated's is taken, which reads the same operands.
    """
    on_chip(dst=dst, predicate=predicate, on_true=on_true)
    not_both_in_psum(on_true, predicate, "on_true and predicate")
    same_tile("dst and on_true", dst, on_true)
    same_tile("predicate and on_true", predicate, on_true)
    _check_predicate(predicate, ("int8", "uint8", "int16", "uint16"))
    if on_true.dtype in ("tfloat32", "int32", "uint32") or on_true.dtype.kind == "x":
        raise NkiValidationError(
            f"on_true may be any dtype but tfloat32, int32, uint32 and packed ones, got {on_true!r}"
        )
    other, tiles = per_partition(on_false, on_true, "on_false")
    fold = fold_of(reduce_op, ("maximum",))
    check_folding(reduce_cmd, (cmd.idle, cmd.reduce, cmd.reset_reduce), reduce_res, on_true)
    if reduce_res is not None and not reduce_res.dtype.is_float:
        raise NkiValidationError(f"reduce_res must have a floating-point dtype, got {reduce_res!r}")
    reads, operands = (predicate, on_true, *tiles), (predicate, reverse_pred, other)
    return folded(dst, on_true, reads, Folding(_chosen, fold, reduce_cmd), operands, reduce_res)


def _chosen(on_true: NkiTensor, predicate: NkiTensor, reverse: bool, on_false: Any) -> Array:
    return np.where(_truth(predicate, on_true.shape, reverse), on_true.f32(), column(on_false, on_true))


@instruction(eng.vector, cost=costs.predicated, indirect=Indirect(("predicate",)))
def tensor_copy_predicated(
    dst: NkiTensor, src: Any, predicate: NkiTensor, reverse_pred: bool = False, name: str | None = None
) -> Plan:
    """dst[P, F] = src where predicate != 0, bit for bit; elsewhere dst stays as it is. src is a tile or a number."""
    on_chip(dst=dst, predicate=predicate)
    same_tile("dst and predicate", dst, predicate)
    _check_predicate(predicate, ("uint8", "uint16", "uint32"))
    tiles: tuple[NkiTensor, ...] = ()
    if isinstance(src, NkiTensor):
        on_chip(src=src)
        not_both_in_psum(src, predicate, "src and predicate")
        same_tile("dst and src", dst, src)
        if src.dtype != dst.dtype:
            raise NkiValidationError(f"src and dst must have the same dtype, got {src.dtype} and {dst.dtype}")
        tiles = (src,)
    else:
        _check_number(src, dst)
    return Plan(eng.vector, (*tiles, predicate), (dst,), _copy_where, (dst, src, predicate, reverse_pred), keeps=True)


def _copy_where(dst: NkiTensor, src: Any, predicate: NkiTensor, reverse: bool) -> None:
    mask = _truth(predicate, dst.shape, reverse)
    if isinstance(src, NkiTensor):
        values = bits(src).reshape(dst.shape)
    else:  # a compile-time constant as the bits of dst's dtype
        values = stored(dst, np.array([src], F32 if dst.dtype.is_float else np.int64)).view(bits(dst).dtype)
    np.copyto(bits(dst), values, where=mask)
    dst.wrote_where(mask)


def _check_number(value: Any, dst: NkiTensor) -> None:
    number = isinstance(value, (int, float, np.integer, np.floating))
    whole = number and float(value).is_integer()
    if not number or dst.dtype.kind == "x" or (dst.dtype.is_int and not whole):
        raise NkiValidationError(f"src must be a tile or a number that {dst.dtype} holds, got {describe(value)}")


def _check_predicate(predicate: NkiTensor, allowed: tuple[str, ...]) -> None:
    """bool_ is stored as uint8 (nki.language) and taken as such."""
    if predicate.dtype not in (*allowed, "bool_"):
        raise NkiValidationError(f"predicate must be {', '.join(allowed)}, got {predicate!r}")


def _truth(predicate: NkiTensor, shape: tuple[int, ...], reverse: bool) -> Array:
    """Where the predicate holds. The documentation's `~predicate` is meant as a logical not, as its text says."""
    values = predicate.array.reshape(shape)
    truth: Array = values == 0 if reverse else values != 0
    return truth
