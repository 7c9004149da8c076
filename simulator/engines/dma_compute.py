"""DMA: a sum of several tensors, added up on the way, without an engine of the core."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from triptych.simulator import costs, enums
from triptych.simulator.engines.dma import _check_memory
from triptych.simulator.errors import NkiValidationError
from triptych.simulator.machine import NkiInstruction, instruction, machine
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

    The form without `vector_offset`. NKI 0.6 takes no other operator than add and no other scale than 1.
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
    if oob_mode is not enums.oob_mode.error:
        raise NkiValidationError(f"oob_mode skip goes with indirect indexing, got {oob_mode!r}")
    for i, t in enumerate(tensors):
        if t.size != dst.size:
            raise NkiValidationError(f"srcs[{i}] and dst must hold as many elements, got {t.shape} and {dst.shape}")
        if t.dtype.kind == "x" or dst.dtype.kind == "x":
            raise NkiValidationError(f"packed dtypes hold no numbers to add, got {t.dtype} and {dst.dtype}")
    m.check_reads(tensors)
    total = as_shape(tensors[0].f32(), dst.shape).copy()
    for t in tensors[1:]:
        np.add(total, as_shape(t.f32(), dst.shape), out=total)
    put(dst, total)
    return m.record("dma_compute", _DMA, tensors, (dst,), name, op="add")


def _check_scales(scales: Any, count: int) -> None:
    if scales is None:
        return
    if not isinstance(scales, (list, tuple)) or len(scales) != count or any(s != 1 for s in scales):
        raise NkiValidationError(f"scales must be None or {count} times 1.0, got {scales!r}")
