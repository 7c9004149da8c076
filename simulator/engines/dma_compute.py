"""DMA: a sum of several tensors, added up on the way, without an engine of the core."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from triptych.simulator import costs, enums
from triptych.simulator.dynamic import resolve
from triptych.simulator.engines.dma import _check_memory
from triptych.simulator.errors import NkiValidationError
from triptych.simulator.machine import Machine, NkiInstruction, instruction, machine
from triptych.simulator.memory import SBUF
from triptych.simulator.operands import put
from triptych.simulator.ops import Op
from triptych.simulator.tensor import NkiTensor, as_shape

_DMA = enums.engine.dma
_MAX_SOURCES = 16


@instruction(_DMA, cost=costs.dma_compute)
def dma_compute(
    dst: NkiTensor,
    srcs: Sequence[NkiTensor],
    reduce_op: Op,
    scales: Sequence[float] | None = None,
    unique_indices: bool = True,
    oob_mode: enums.oob_mode = enums.oob_mode.error,
    name: str | None = None,
) -> NkiInstruction:
    """dst[...] = srcs[0] + srcs[1] + .., in float32 and in that order, cast to dst's dtype; in HBM or SBUF.

    NKI 0.6 takes no other operator than add and no other scale than 1. One of two sources may be a gather of rows from
    HBM, dst += src[indices], where the other source is dst itself, in SBUF.
    """
    m = machine()
    tensors = list(srcs) if isinstance(srcs, (list, tuple)) else []
    if not 1 <= len(tensors) <= _MAX_SOURCES:
        raise NkiValidationError(f"srcs must be a list of 1 to {_MAX_SOURCES} tensors, got {srcs!r}")
    _check_memory(dst=dst, **{f"srcs[{i}]": t for i, t in enumerate(tensors)})
    if not isinstance(reduce_op, Op) or reduce_op.name != "add":
        raise NkiValidationError(f"reduce_op must be nl.add, got {reduce_op!r}")
    _check_scales(scales, len(tensors))
    if unique_indices is not True:
        raise NkiValidationError(f"unique_indices must be True, got {unique_indices!r}")
    for i, t in enumerate(tensors):
        if t.size != dst.size:
            raise NkiValidationError(f"srcs[{i}] and dst must hold as many elements, got {t.shape} and {dst.shape}")
        if t.dtype.kind == "x" or dst.dtype.kind == "x":
            raise NkiValidationError(f"packed dtypes hold no numbers to add, got {t.dtype} and {dst.dtype}")
    if any(t.dynamic for t in tensors):
        return _gather(m, dst, tensors, oob_mode, name)
    if oob_mode is not enums.oob_mode.error:
        raise NkiValidationError(f"oob_mode skip goes with indirect indexing, got {oob_mode!r}")
    m.check_reads(tensors)
    total = as_shape(tensors[0].f32(), dst.shape).copy()
    for t in tensors[1:]:
        np.add(total, as_shape(t.f32(), dst.shape), out=total)
    put(dst, total)
    return m.record("dma_compute", _DMA, tensors, (dst,), name, op="add")


def _gather(
    m: Machine, dst: NkiTensor, tensors: list[NkiTensor], oob: enums.oob_mode, name: str | None
) -> NkiInstruction:
    """dst[p] += source[index[p]]; with oob_mode skip, rows whose index is out of bounds stay as they are."""
    source = next(t for t in tensors if t.dynamic)
    assert source.dynamic is not None
    others = [t for t in tensors if t is not source]
    same = len(others) == 1 and others[0].storage is dst.storage and others[0].at == dst.at and not others[0].dynamic
    in_place = same and dst.buffer is SBUF and not source.on_chip and source.shape[0] == dst.shape[0]
    if not in_place or not source.dynamic.vector:
        raise NkiValidationError(
            "a gather takes two sources, dst itself in SBUF and a view of HBM with one index for each of its "
            f"partitions; got dst {dst!r} and srcs {tensors!r}"
        )
    touched = []
    for rows, view in resolve(source, skip=oob is enums.oob_mode.skip):
        row = dst[rows]
        m.check_reads((view, row))
        put(row, row.f32() + as_shape(view.f32(), row.shape))
        touched.append(view)
    index = source.dynamic.index
    read = (dst, *touched, *((index,) if isinstance(index, NkiTensor) else ()))
    return m.record("dma_compute", _DMA, read, (dst,), name, op="add", gathered=True)


def _check_scales(scales: Any, count: int) -> None:
    if scales is None:
        return
    if not isinstance(scales, (list, tuple)) or len(scales) != count or any(s != 1 for s in scales):
        raise NkiValidationError(f"scales must be None or {count} times 1.0, got {scales!r}")
