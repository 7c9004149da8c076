"""Vector Engine: data moved across partitions, within each quadrant of 32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from triptych.simulator.analysis import costs
from triptych.simulator.dtypes import Array
from triptych.simulator.enums import engine as eng
from triptych.simulator.errors import NkiValidationError, OutOfBounds
from triptych.simulator.machine.instructions import instruction
from triptych.simulator.machine.machine import machine
from triptych.simulator.machine.plan import Plan
from triptych.simulator.operands.operands import bits, on_chip
from triptych.simulator.tensors.partitions import partitions_of
from triptych.simulator.tensors.tensor import NkiTensor

_KEEP = 255
_STARTS = {32: (0, 32, 64, 96), 64: (0, 64), 96: (0,), 128: (0,)}  # first partition, by active partitions


@instruction(eng.vector, cost=costs.streamed)
def nc_stream_shuffle(dst: NkiTensor, src: NkiTensor, shuffle_mask: Sequence[int], name: str | None = None) -> Plan:
    """dst[32q + i] = src[32q + shuffle_mask[i]] for each quadrant q, bit for bit; where the mask is 255 dst stays.

    dst and src may be one tile. A partition that the mask names and src does not have raises: what the engine reads
    there is not documented.
    """
    on_chip(dst=dst, src=src)
    if dst.dtype != src.dtype:
        raise NkiValidationError(f"dst and src must have the same dtype, got {dst.dtype} and {src.dtype}")
    if dst.free_size != src.free_size:
        raise NkiValidationError(
            f"dst and src must have the same elements per partition, got {dst.shape} and {src.shape}"
        )
    mask = _mask(shuffle_mask)
    _check_starts(dst=dst, src=src)
    rows = np.arange(dst.shape[0])
    chosen = mask[rows % 32]
    moved = chosen != _KEEP
    sources = (rows - rows % 32 + chosen)[moved]
    if sources.size and sources.max() >= src.shape[0]:
        raise OutOfBounds(f"shuffle_mask names partition {sources.max()} of src, which has {src.shape[0]}")
    operands = (dst, src, moved, sources)
    return Plan(eng.vector, (src,), (dst,), _shuffle, operands, needs=_check_sources, marks=_mark_moved)


def _check_sources(dst: NkiTensor, src: NkiTensor, moved: Array, sources: Array) -> None:
    if src.storage.missing:
        machine().check_reads([src[r : r + 1] for r in np.unique(sources).tolist()])


def _shuffle(dst: NkiTensor, src: NkiTensor, moved: Array, sources: Array) -> None:
    bits(dst)[moved] = bits(src)[sources].reshape(-1, *dst.shape[1:])


def _mark_moved(dst: NkiTensor, src: NkiTensor, moved: Array, sources: Array) -> None:
    dst.wrote_where(np.broadcast_to(moved.reshape(-1, *(1,) * (dst.ndim - 1)), dst.shape))


def _mask(given: Any) -> Any:
    values = list(given) if isinstance(given, (list, tuple, range, np.ndarray)) else []
    whole = all(isinstance(v, (int, np.integer)) and not isinstance(v, bool) for v in values)
    if len(values) != 32 or not whole or any(v != _KEEP and not 0 <= v < 32 for v in values):
        raise NkiValidationError(f"shuffle_mask must be 32 integers from 0 to 31, or {_KEEP}; got {given!r}")
    return np.array(values, np.int64)


def _check_starts(**tiles: NkiTensor) -> None:
    active = -(-max(t.shape[0] for t in tiles.values()) // 32) * 32
    for what, t in tiles.items():
        start = partitions_of(t).start
        if start not in _STARTS[active]:
            raise NkiValidationError(
                f"with {active} active partitions {what} must start on partition "
                f"{' or '.join(map(str, _STARTS[active]))}, got {start}"
            )
