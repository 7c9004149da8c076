"""GpSimd Engine: positions of nonzero elements, of segments and of the largest values."""

from __future__ import annotations

from typing import Any

import numpy as np

from triptych.simulator.analysis import costs
from triptych.simulator.dtypes import F32
from triptych.simulator.engines.gpsimd.gather import CORE
from triptych.simulator.engines.gpsimd.patterns import INT32, int32
from triptych.simulator.enums import engine as eng
from triptych.simulator.errors import NkiValidationError
from triptych.simulator.machine.instructions import instruction
from triptych.simulator.machine.machine import machine
from triptych.simulator.machine.plan import Plan
from triptych.simulator.memory.storage import MemoryRegion
from triptych.simulator.operands.operands import describe, in_buffer, in_dtype, put
from triptych.simulator.tensors.tensor import NkiTensor


@instruction(eng.gpsimd, cost=costs.gpsimd.assumed(), since=3)
def nonzero_with_count(
    dst: NkiTensor, src: NkiTensor, index_offset: int = 0, padding_val: int = -1, name: str | None = None
) -> Plan:
    """dst[p, :T + 1] = index_offset + the indices of src[p, :T] != 0, then padding_val, then their count; p = 0, 16, ..

    Partitions that are no multiple of sixteen are neither read nor written.
    """
    in_buffer(MemoryRegion.sbuf, dst=dst, src=src)
    in_dtype(("float32", "int32"), src=src)
    in_dtype(("int32",), dst=dst)
    p, n = src.shape[0], src.free_size
    if dst.shape[0] != p or dst.free_size != n + 1:
        raise NkiValidationError(f"dst must have {p} partitions of {n} + 1 elements, got {dst.shape}")
    offset, padding = int32("index_offset", index_offset), int32("padding_val", padding_val)
    if offset + n - 1 > INT32.max:
        raise NkiValidationError(f"index_offset + {n - 1} must be an int32, got {offset}")
    operands = (dst, src, offset, padding)
    return Plan(eng.gpsimd, (src,), (dst,), _positions, operands, needs=_check_firsts, marks=_mark_firsts)


def _check_firsts(dst: NkiTensor, src: NkiTensor, *numbers: int) -> None:
    if src.storage.missing:
        machine().check_reads([src[r : r + 1] for r in range(0, src.shape[0], CORE)])


def _positions(dst: NkiTensor, src: NkiTensor, offset: int, padding: int) -> None:
    p, n = src.shape[0], src.free_size
    nonzero = src.array.reshape(p, n)[::CORE] != 0
    count = nonzero.sum(axis=1)
    order = np.argsort(~nonzero, axis=1, kind="stable")  # indices of the nonzero ones first, in order
    out = np.where(np.arange(n) < count[:, None], order + offset, padding)
    dst.array[::CORE] = np.column_stack((out, count)).reshape(-1, *dst.shape[1:])


def _mark_firsts(dst: NkiTensor, *operands: Any) -> None:
    chosen = np.zeros(dst.shape, bool)
    chosen[::CORE] = True
    dst.wrote_where(chosen)


@instruction(eng.gpsimd, cost=costs.gpsimd.assumed())
def sequence_bounds(dst: NkiTensor, segment_ids: NkiTensor, name: str | None = None) -> Plan:
    """dst[0, 0, i], dst[0, 1, i] = where the segment of element i begins and where it ends (exclusive); padding: n, -1.

    A segment is a run of equal IDs; ID 0 is padding. That the end is exclusive is in AWS's test of the instruction
    (nki/test/test_nki_isa_sequence_bounds.py), not in its text.
    """
    in_buffer(MemoryRegion.sbuf, dst=dst, segment_ids=segment_ids)
    in_dtype(("float32", "int32"), dst=dst, segment_ids=segment_ids)
    n = segment_ids.free_size
    if segment_ids.shape[0] != 1:
        raise NkiValidationError(f"segment_ids must have 1 partition, got {segment_ids.shape}")
    if dst.shape != (1, 2, n):
        raise NkiValidationError(f"dst must be (1, 2, {n}), got {dst.shape}")
    return Plan(eng.gpsimd, (segment_ids,), (dst,), _bounds, (dst, segment_ids))


def _bounds(dst: NkiTensor, segment_ids: NkiTensor) -> None:
    n = segment_ids.free_size
    ids = segment_ids.array.reshape(-1)
    wrong = (ids < 0) | (ids != np.floor(ids))
    if wrong.any():
        raise NkiValidationError(f"segment_ids must be integers of 0 or more, got {ids[np.argmax(wrong)]}")

    first = np.flatnonzero(np.concatenate(([True], ids[1:] != ids[:-1])))  # where runs begin
    lengths = np.diff(np.append(first, n))
    starts, ends = np.repeat(first, lengths), np.repeat(first + lengths, lengths)
    bounds = np.stack((np.where(ids == 0, n, starts), np.where(ids == 0, -1, ends)))
    put(dst, bounds.astype(F32) if dst.dtype.is_float else bounds)


@instruction(eng.gpsimd, cost=costs.topk, order="late")
def topk(val_dst: NkiTensor, idx_dst: NkiTensor, src: NkiTensor, n: int, name: str | None = None) -> Plan:
    """val_dst[P, K], idx_dst[P, K] = the K largest of n values and their positions, ascending, for each 16 partitions.

    Value i of a group of sixteen partitions lies in its partition i % 16 and column i // 16. The documentation has each
    partition write K results, and does not say how those of a group are spread over it: here every partition gets the
    group's, and a note in the trace says so. Of equal values the earlier counts as larger; a NaN counts as largest,
    so that it is seen.
    """
    in_buffer(MemoryRegion.sbuf, val_dst=val_dst, idx_dst=idx_dst, src=src)
    for what, t, dtype in (("src", src, "bfloat16"), ("val_dst", val_dst, "bfloat16"), ("idx_dst", idx_dst, "uint32")):
        if t.dtype != dtype or t.ndim != 2:
            raise NkiValidationError(f"{what} must be [P, free] in {dtype}, got {t!r}")
    p, k = val_dst.shape
    if p % CORE or src.shape[0] != p or idx_dst.shape != (p, k):
        raise NkiValidationError(
            f"src, val_dst and idx_dst must have the same partitions, a multiple of {CORE}, and the last two one "
            f"shape; got {src.shape}, {val_dst.shape} and {idx_dst.shape}"
        )
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or not 8 <= n < 65536:
        raise NkiValidationError(f"n must be 8 to 65535, got {describe(n)}")
    columns = -(-n // CORE)
    if src.shape[1] < columns:
        raise NkiValidationError(f"{n} values take {columns} columns of src, got {src.shape}")
    if not 1 <= k <= min(n, 32767):
        raise NkiValidationError(f"K, the free size of val_dst, must be 1 to {min(n, 32767)}, got {k}")
    machine().note_once(
        "topk: how a group's results lie over its sixteen partitions is not documented; each gets all of them here"
    )
    operands = (val_dst, idx_dst, src, int(n))
    return Plan(eng.gpsimd, (src,), (val_dst, idx_dst), _largest, operands, needs=_check_used, n=int(n))


def _check_used(val_dst: NkiTensor, idx_dst: NkiTensor, src: NkiTensor, n: int) -> None:
    if not src.storage.missing:
        return
    whole, rest = divmod(n, CORE)
    used = [src[:, :whole]] if whole else []
    used += [src[r : r + rest, whole : whole + 1] for r in range(0, src.shape[0], CORE)] if rest else []
    machine().check_reads(used)


def _largest(val_dst: NkiTensor, idx_dst: NkiTensor, src: NkiTensor, n: int) -> None:
    (p, k), columns = val_dst.shape, -(-n // CORE)
    snake = src.f32()[:, :columns].reshape(p // CORE, CORE, columns).transpose(0, 2, 1).reshape(p // CORE, -1)[:, :n]
    order = np.lexsort((-snake, ~np.isnan(snake)), axis=1)[:, :k][:, ::-1]
    put(val_dst, np.repeat(np.take_along_axis(snake, order, axis=1), CORE, axis=0))
    put(idx_dst, np.repeat(order, CORE, axis=0))
