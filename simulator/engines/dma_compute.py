"""DMA: a sum of several tensors, added up on the way, without an engine of the core."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from triptych.simulator import enums
from triptych.simulator.analysis import costs
from triptych.simulator.dtypes import F32
from triptych.simulator.engines.dma import check_memory, check_row_indices, check_rows, index_read
from triptych.simulator.errors import NkiValidationError
from triptych.simulator.machine.dynamic import Rows, same_view
from triptych.simulator.machine.instructions import instruction
from triptych.simulator.machine.machine import machine
from triptych.simulator.machine.plan import Plan
from triptych.simulator.memory.storage import SBUF
from triptych.simulator.operands.operands import as_stored, members_of, put
from triptych.simulator.operands.operators import Op
from triptych.simulator.tensors.tensor import NkiTensor

_DMA = enums.engine.dma
_MAX_SOURCES = 16


@instruction(_DMA, cost=costs.dma_compute, reads_indices=True)
def dma_compute(
    dst: NkiTensor,
    srcs: Sequence[NkiTensor],
    reduce_op: Op,
    scales: Sequence[float] | None = None,
    unique_indices: bool = True,
    oob_mode: enums.oob_mode = enums.oob_mode.error,
    name: str | None = None,
) -> Plan:
    """dst[...] = srcs[0] + srcs[1] + .., in float32 and in that order, cast to dst's dtype; in HBM or SBUF.

    NKI 0.6 takes no other operator than add and no other scale than 1. With one index a row in HBM, and two sources of
    which one is dst itself, it adds in place: dst += source[index] in SBUF, or dst[index] += source from SBUF.
    """
    tensors = list(srcs) if isinstance(srcs, (list, tuple)) else []
    if not 1 <= len(tensors) <= _MAX_SOURCES:
        raise NkiValidationError(f"srcs must be a list of 1 to {_MAX_SOURCES} tensors, got {srcs!r}")
    check_memory(dst=dst, **{f"srcs[{i}]": t for i, t in enumerate(tensors)})
    if not isinstance(reduce_op, Op) or reduce_op.name != "add":
        raise NkiValidationError(f"reduce_op must be nl.add, got {reduce_op!r}")
    _check_scales(scales, len(tensors))
    members_of(enums.oob_mode, oob_mode=oob_mode)
    if unique_indices is not True:
        raise NkiValidationError(f"unique_indices must be True, got {unique_indices!r}")
    for i, t in enumerate(tensors):
        if t.size != dst.size:
            raise NkiValidationError(f"srcs[{i}] and dst must hold as many elements, got {t.shape} and {dst.shape}")
        if t.dtype.kind == "x" or dst.dtype.kind == "x":
            raise NkiValidationError(f"packed dtypes hold no numbers to add, got {t.dtype} and {dst.dtype}")
    if any(t.is_indirect() for t in (dst, *tensors)):
        return _adding_rows(dst, tensors, oob_mode)
    return Plan(_DMA, tensors, (dst,), _sum, (dst, *tensors), op="add")


def _sum(dst: NkiTensor, *tensors: NkiTensor) -> None:
    total = tensors[0].f32().reshape(dst.shape).copy()
    for t in tensors[1:]:
        np.add(total, t.f32().reshape(dst.shape), out=total)
    put(dst, total)


def _adding_rows(dst: NkiTensor, tensors: list[NkiTensor], oob: enums.oob_mode) -> Plan:
    """dst[p] += source[index[p]], or dst[index[p]] += source[p]; with oob_mode skip, no index out of bounds is used."""
    others = [t for t in tensors if not same_view(t, dst)]
    indirect, plain = (dst, others[0]) if dst.is_indirect() and others else (others[0] if others else dst, dst)
    fits = len(tensors) == 2 and len(others) == 1 and plain.buffer is SBUF and not plain.is_indirect()
    if not fits or not indirect.index.vector:  # type: ignore[union-attr]  # if it fits, one of them is indirect
        raise NkiValidationError(
            "with a dynamic address, dma_compute takes two sources, one of them dst itself: dst in SBUF and a view of "
            "HBM with one index for each of its partitions, or such a view as dst and a tile in SBUF; got "
            f"dst {dst!r} and srcs {tensors!r}"
        )
    check_row_indices(indirect)
    if plain.shape[0] != indirect.shape[0]:
        raise NkiValidationError(f"{indirect.shape[0]} rows need as many partitions in SBUF, got {plain.shape}")
    rows = Rows(indirect, skip=oob is enums.oob_mode.skip)
    if indirect is dst and rows.repeat:
        raise NkiValidationError(
            "the scatter has one index twice, and unique_indices, which has to be True, says that it has not"
        )
    views, read, operands = rows.touched(), index_read(indirect), (rows, plain, dst)
    more: dict[str, Any] = {"scattered": True, "results": (rows.table,)} if indirect is dst else {"gathered": True}
    reads, writes = ((*views, plain), views) if indirect is dst else ((dst, *views), (dst,))
    return Plan(_DMA, (*reads, *read), writes, _add_rows, operands, needs=_check_added, op="add", **more)


def _check_added(rows: Rows, plain: NkiTensor, dst: NkiTensor) -> None:
    check_rows(rows)
    machine().check_reads((plain,))


def _add_rows(rows: Rows, plain: NkiTensor, dst: NkiTensor) -> None:
    mine = rows.of(plain).astype(F32)
    total = as_stored(dst, None, rows.read().astype(F32).reshape(mine.shape) + mine)
    if dst is plain:
        rows.put(dst, total)
    else:
        rows.write(total)


def _check_scales(scales: Any, count: int) -> None:
    if scales is None:
        return
    if not isinstance(scales, (list, tuple)) or len(scales) != count or any(s != 1 for s in scales):
        raise NkiValidationError(f"scales must be None or {count} times 1.0, got {scales!r}")
