"""GpSimd Engine: gathers, within each partition or within the 16 partitions that one of its eight cores reaches."""

from __future__ import annotations

from typing import Any

import numpy as np

from triptych.simulator.analysis import costs
from triptych.simulator.enums import engine as eng
from triptych.simulator.errors import NkiValidationError, OutOfBounds
from triptych.simulator.machine.instructions import instruction
from triptych.simulator.machine.machine import machine
from triptych.simulator.machine.plan import Plan
from triptych.simulator.machine.unwritten import require_written
from triptych.simulator.memory.storage import MemoryRegion
from triptych.simulator.operands.operands import bits, describe, in_buffer, put_bits
from triptych.simulator.tensors.tensor import NkiTensor

CORE = 16  # partitions that one core reaches
_PER_INDEX = (1, 2, 4, 8, 16, 32)
_MAX_INDICES = 4096


@instruction(eng.gpsimd, cost=costs.local_gather, order="mixed")
def local_gather(
    dst: NkiTensor,
    src_buffer: NkiTensor,
    index: NkiTensor,
    num_elem_per_idx: int = 1,
    num_valid_indices: int | None = None,
    name: str | None = None,
) -> Plan:
    """dst[p, k, e] = src_buffer[p, i[k] + e], where i are the indices of p's sixteen partitions, partition first.

    An index counts elements of the flattened free dimensions; e runs over num_elem_per_idx, k over num_valid_indices.
    dst holds exactly those elements: with another size NKI 0.6.0 ignores num_elem_per_idx (its release notes). An index
    out of bounds is undefined and raises.
    """
    in_buffer(MemoryRegion.sbuf, dst=dst, src_buffer=src_buffer, index=index)
    p = src_buffer.shape[0]
    if index.shape[0] != p or p % CORE:
        raise NkiValidationError(
            f"src_buffer and index must have the same partitions, a multiple of {CORE}; got {src_buffer.shape} and "
            f"{index.shape}"
        )
    if index.dtype != "uint16":
        raise NkiValidationError(f"index must be uint16, got {index!r}")
    if dst.dtype != src_buffer.dtype:
        raise NkiValidationError(f"dst and src_buffer must have the same dtype, got {dst.dtype} and {src_buffer.dtype}")
    each = num_elem_per_idx
    if each not in _PER_INDEX or isinstance(each, bool):
        raise NkiValidationError(f"num_elem_per_idx must be one of {_PER_INDEX}, got {each!r}")
    count = _valid(num_valid_indices, CORE * index.free_size)
    if dst.shape[0] != p or dst.free_size != count * each:
        raise NkiValidationError(f"dst must have {p} partitions of {count} indices x {each} elements, got {dst.shape}")
    operands = (dst, src_buffer, index, count, each)
    reads = (src_buffer, index)
    return Plan(eng.gpsimd, reads, (dst,), _gather_groups, operands, needs=_check_gathered, indices=count, each=each)


def _check_gathered(dst: NkiTensor, data: NkiTensor, index: NkiTensor, *sizes: int) -> None:
    """Which elements are read is known by an index that has been written."""
    require_written(machine(), (index,))
    machine().check_reads((data,))


def _gather_groups(dst: NkiTensor, src_buffer: NkiTensor, index: NkiTensor, count: int, each: int) -> None:
    p = src_buffer.shape[0]
    positions = index.array.reshape(p // CORE, CORE, -1).transpose(0, 2, 1).reshape(p // CORE, -1)[:, :count]
    if int(positions.max()) + each > src_buffer.free_size:
        raise OutOfBounds(
            f"index {int(positions.max())} and {each} elements leave the {src_buffer.free_size} that a partition of "
            "src_buffer has"
        )
    every = (positions.astype(np.int64)[..., None] + np.arange(each)).reshape(p // CORE, 1, -1)
    data = bits(src_buffer).reshape(p // CORE, CORE, -1)
    gathered = np.take_along_axis(data, np.broadcast_to(every, (*data.shape[:2], every.shape[2])), axis=2)
    put_bits(dst, gathered)


def _valid(given: Any, most: int) -> int:
    if given is None:
        given = most
    if isinstance(given, bool) or not isinstance(given, (int, np.integer)) or not 1 <= given <= most:
        raise NkiValidationError(
            f"num_valid_indices must be 1 to {most}, what index holds a core, got {describe(given)}"
        )
    if given > _MAX_INDICES:
        raise NkiValidationError(f"a core gathers at most {_MAX_INDICES} indices, got {given}")
    return int(given)


@instruction(eng.gpsimd, cost=costs.gather, order="mixed")
def nc_n_gather(dst: NkiTensor, data: NkiTensor, indices: NkiTensor, name: str | None = None) -> Plan:
    """dst[p, k] = data[p, indices[p, k]], free dimensions flattened, bit for bit."""
    in_buffer(MemoryRegion.sbuf, dst=dst, data=data, indices=indices)
    if dst.dtype != data.dtype:
        raise NkiValidationError(f"dst and data must have the same dtype, got {dst.dtype} and {data.dtype}")
    if indices.dtype != "uint32":
        raise NkiValidationError(f"indices must be uint32, got {indices!r}")
    if not dst.shape[0] == data.shape[0] == indices.shape[0] or dst.free_size != indices.free_size:
        raise NkiValidationError(
            "dst, data and indices must have the same partitions, and dst as many elements as indices; got "
            f"{dst.shape}, {data.shape} and {indices.shape}"
        )
    return Plan(eng.gpsimd, (data, indices), (dst,), _gather, (dst, data, indices), needs=_check_gathered)


def _gather(dst: NkiTensor, data: NkiTensor, indices: NkiTensor) -> None:
    p = data.shape[0]
    at = indices.array.reshape(p, -1).astype(np.int64)
    if int(at.max()) >= data.free_size:
        raise OutOfBounds(f"index {int(at.max())} is outside the {data.free_size} elements per partition of data")
    put_bits(dst, np.take_along_axis(bits(data).reshape(p, -1), at, axis=1))
