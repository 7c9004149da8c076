"""DMA: sixteen engines that move data between HBM and SBUF, casting through float32 where dtypes differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from triptych.simulator import enums
from triptych.simulator.analysis import costs
from triptych.simulator.errors import NkiValidationError
from triptych.simulator.machine.dynamic import Rows, moved
from triptych.simulator.machine.instructions import instruction
from triptych.simulator.machine.machine import Machine, machine
from triptych.simulator.machine.plan import Late, Plan, nothing
from triptych.simulator.memory.layout import Layout, laid_out, row_major
from triptych.simulator.memory.storage import MemoryRegion
from triptych.simulator.operands.operands import as_stored, bits, describe, in_buffer, members_of, move, same_elements
from triptych.simulator.tensors.index import Gather
from triptych.simulator.tensors.tensor import NkiTensor

_DMA, _UNKNOWN, _TRIGGERS = enums.engine.dma, enums.engine.unknown, (enums.engine.sync, enums.engine.scalar)
_HWDGE, _GATHERING = enums.dge_mode.hwdge, (enums.dge_mode.unknown, enums.dge_mode.swdge)


@instruction(_DMA, cost=costs.dma, reads_indices=True)
def dma_copy(
    dst: NkiTensor,
    src: NkiTensor,
    priority: int | None = None,
    oob_mode: enums.oob_mode = enums.oob_mode.error,
    dge_mode: enums.dge_mode = enums.dge_mode.unknown,
    engine: enums.engine = enums.engine.unknown,
    name: str | None = None,
) -> Plan:
    """dst[...] = src[...], element by element in row-major order; between HBM and SBUF, either way.

    `oob_mode` is about dynamic addresses: a static one cannot leave its tensor, and skip changes nothing there.
    """
    m = machine()
    check_memory(dst=dst, src=src)
    _check_queue(m, priority, dge_mode, oob_mode, engine)
    if dst.size != src.size:
        raise NkiValidationError(f"src and dst must hold the same number of elements, got {src.shape} and {dst.shape}")
    if dge_mode is _HWDGE and dst.dtype != src.dtype:
        raise NkiValidationError(f"hwdge does not cast: src is {src.dtype} and dst {dst.dtype}")
    if src.is_indirect() or dst.is_indirect():
        return _indirect_copy(dst, src, oob_mode, dge_mode, _asked(dge_mode, engine))
    return Plan(_DMA, (src,), (dst,), move, (dst, src), moves=same_elements, **_asked(dge_mode, engine))


def _asked(mode: enums.dge_mode, trigger: enums.engine = _UNKNOWN) -> dict[str, Any]:
    """What an event keeps of who makes the descriptors and who triggers the transfer; nothing of what is left open."""
    asked = {} if mode is enums.dge_mode.unknown else {"dge": mode.name}
    return asked if trigger is _UNKNOWN else asked | {"trigger": trigger.name}


def _indirect_copy(
    dst: NkiTensor, src: NkiTensor, oob: enums.oob_mode, dge: enums.dge_mode, asked: dict[str, Any]
) -> Plan:
    """Copy where one side has a dynamic address: moved as a whole by one index, or row by row."""
    if src.is_indirect() and dst.is_indirect():
        raise NkiValidationError("only one of src and dst can have a dynamic address")
    indirect, plain = (src, dst) if src.is_indirect() else (dst, src)
    assert indirect.index is not None
    skip, read = oob is enums.oob_mode.skip, index_read(indirect)
    asked = {**asked, "gathered" if indirect is src else "scattered": True}
    if indirect.index.vector:
        check_row_indices(indirect)
        if dge not in _GATHERING or plain.shape[0] != indirect.shape[0]:
            raise NkiValidationError(
                f"a gather or scatter takes dge_mode swdge or unknown, and {indirect.shape[0]} rows on the other side; "
                f"got {dge} and {plain.shape}"
            )
        operands = (dst, src, skip)
        if indirect is src:
            asked |= {"late": _rows_to_read, "needs": check_rows, "moves": _rows_moved}
            return Plan(_DMA, (src, *read), (dst,), _gather_rows, operands, **asked)
        asked |= {"late": _rows_to_write, "needs": _check_source}
        return Plan(_DMA, (src, *read), (dst,), _scatter_rows, operands, **asked)
    view = moved(indirect, skip)
    if view is None:
        return _left_out(read, (dst,), **asked) if indirect is src else _left_out((src, *read), (), **asked)
    source, target = (view, dst) if indirect is src else (src, view)
    return Plan(_DMA, (source, *read), (target,), move, (target, source), moves=same_elements, **asked)


def _left_out(reads: Sequence[NkiTensor], writes: Sequence[NkiTensor], **asked: Any) -> Plan:
    """A transfer whose one index is out of bounds, which moves nothing in `oob_mode` skip."""
    return Plan(_DMA, reads, writes, nothing, (), needs=nothing, marks=nothing, **asked)


def _rows_to_read(dst: NkiTensor, src: NkiTensor, skip: bool) -> Late:
    rows = Rows(src, skip)
    return Late((*rows.touched(), *index_read(src)), (dst,), (dst,), (rows, dst, src))


def _rows_to_write(dst: NkiTensor, src: NkiTensor, skip: bool) -> Late:
    rows = Rows(dst, skip)
    return Late((src, *index_read(dst)), tuple(rows.touched()), (rows.table,), (rows, src, dst))


def check_rows(rows: Rows, *operands: Any) -> None:
    """What of the rows of HBM that a gather reads has been written."""
    rows.check_reads(machine())


def _rows_moved(rows: Rows, dst: NkiTensor, src: NkiTensor) -> tuple[Rows, Layout] | None:
    return None if rows.kept is not None else (rows, laid_out(0, dst.shape, row_major(dst.shape), dst.dtype))


def _gather_rows(rows: Rows, dst: NkiTensor, src: NkiTensor) -> None:
    rows.put(dst, as_stored(dst, src, rows.read(dst)))


def _check_source(rows: Rows, src: NkiTensor, dst: NkiTensor) -> None:
    machine().check_reads((src,))


def _scatter_rows(rows: Rows, src: NkiTensor, dst: NkiTensor) -> None:
    rows.write(as_stored(dst, src, rows.of(src)))
    if rows.repeat:
        machine().note("rows of this scatter have the same index; in which order they are written is not documented")


def check_row_indices(t: NkiTensor) -> None:
    """Raise unless a gather or scatter has a tile (P, 1) of indices, one for each row."""
    assert t.index is not None
    chip = machine().chip
    if chip.generation < 3:
        raise NkiValidationError(
            f"a gather or scatter of rows needs NeuronCore-v3 or newer, and the target is {chip.name}",
            source="nki/deep-dives/nki-dge.rst",
        )
    if t.index.source.shape[0] != t.shape[0] or t.index.source.free_size != 1:
        raise NkiValidationError(f"vector_offset must be ({t.shape[0]}, 1), got {t.index.source!r}")


def index_read(t: NkiTensor) -> tuple[NkiTensor, ...]:
    """The tensor that a view's index is read from, unless it is a register."""
    return (t.index.source,) if t.index is not None and isinstance(t.index.source, NkiTensor) else ()


def check_memory(**tensors: Any) -> None:
    """DMA moves data between HBM and SBUF."""
    for what, t in tensors.items():
        if isinstance(t, NkiTensor) and isinstance(t.index, Gather):
            raise NkiValidationError(f"{what} cannot be an indirect view: DMA takes .ap with vector_offset; got {t!r}")
        if not isinstance(t, NkiTensor) or t.buffer is MemoryRegion.psum:
            raise NkiValidationError(
                f"{what} must be a tensor in HBM or SBUF, got {describe(t)}; DMA cannot reach PSUM, copy it to SBUF "
                "with nisa.tensor_copy"
            )


def _check_queue(
    m: Machine, priority: int | None, mode: enums.dge_mode, oob: enums.oob_mode, on: enums.engine = _UNKNOWN
) -> None:
    members_of(enums.dge_mode, dge_mode=mode)
    members_of(enums.oob_mode, oob_mode=oob)
    members_of(enums.engine, engine=on)
    if priority is not None and (m.chip.generation < 4 or priority not in range(4)):
        raise NkiValidationError(f"priority is 0 to 3 and needs NeuronCore-v4, got {priority} on {m.chip.name}")
    if mode is _HWDGE and m.chip.generation < 3:
        raise NkiValidationError(f"hwdge needs NeuronCore-v3 or newer, and the target is {m.chip.name}")
    if on is not _UNKNOWN and (mode is not _HWDGE or on not in _TRIGGERS):
        raise NkiValidationError(f"engine is sync or scalar and goes with dge_mode hwdge, got {on} with {mode}")


_AXES = {2: (1, 0), 3: (2, 1, 0), 4: (3, 1, 2, 0)}


@instruction(_DMA, cost=costs.dma, reads_indices=True, order="mixed")
def dma_transpose(
    dst: NkiTensor,
    src: NkiTensor,
    axes: tuple[int, ...] | None = None,
    priority: int | None = None,
    dge_mode: enums.dge_mode = enums.dge_mode.unknown,
    oob_mode: enums.oob_mode = enums.oob_mode.error,
    name: str | None = None,
) -> Plan:
    """dst = src with axes permuted: (1, 0), (2, 1, 0) or (3, 1, 2, 0); from HBM or SBUF into SBUF, dtype kept.

    Rows (entries of dimension 0) of src may be gathered by a tile of indices: row i is src[index.T.flatten()[i]].
    """
    m = machine()
    check_memory(src=src)
    in_buffer(MemoryRegion.sbuf, dst=dst)
    _check_queue(m, priority, dge_mode, oob_mode)
    given = tuple(axes) if isinstance(axes, Sequence) else axes
    if src.ndim not in _AXES or given not in (None, _AXES[src.ndim]):
        raise NkiValidationError(
            f"axes must be (1, 0), (2, 1, 0) or (3, 1, 2, 0) for 2, 3 or 4 dimensions, got {axes} for {src.shape}"
        )
    order = _AXES[src.ndim]
    expected = tuple(src.shape[a] for a in order)
    if dst.shape != expected or dst.dtype != src.dtype:
        raise NkiValidationError(f"dst must be {expected} in {src.dtype}, got {dst.shape} in {dst.dtype}")
    skip, asked = oob_mode is enums.oob_mode.skip, _asked(dge_mode)
    if src.index is not None and src.index.vector:
        return _gathered_transpose(m, dst, src, order, dge_mode, skip)
    if src.index is None:
        _check_direct_transpose(m, dge_mode, oob_mode)
    source = src if src.index is None else moved(src, skip)
    if dge_mode is _HWDGE:
        _check_hardware_transpose(src)
    if source is None:
        return _left_out(index_read(src) or (src,), (dst,), **asked)
    return Plan(_DMA, (source, *index_read(src)), (dst,), _permute, (dst, source, order), moves=_permuted, **asked)


def _gathered_transpose(
    m: Machine, dst: NkiTensor, src: NkiTensor, order: tuple[int, ...], mode: enums.dge_mode, skip: bool
) -> Plan:
    """Columns of dst from rows of src with an index each."""
    _check_gathered_transpose(m, src, src.index.source, mode)  # type: ignore[union-attr]
    rows = Rows(src, skip)
    reads, operands = (*rows.touched(), *index_read(src)), (rows, dst, order)
    return Plan(_DMA, reads, (dst,), _transpose_rows, operands, needs=check_rows, **_asked(mode))


def _transpose_rows(rows: Rows, dst: NkiTensor, order: tuple[int, ...]) -> None:
    values = rows.read().transpose(order)
    if rows.kept is None:
        dst.array[...] = values
        dst.wrote()
    else:
        dst.array[..., rows.kept] = values
        dst.wrote_where(np.broadcast_to(np.isin(np.arange(dst.shape[-1]), rows.kept), dst.shape))


def _permuted(dst: NkiTensor, src: NkiTensor, order: tuple[int, ...]) -> tuple[NkiTensor, Layout]:
    return src, src.layout.permute(order)


def _permute(dst: NkiTensor, src: NkiTensor, order: tuple[int, ...]) -> None:
    bits(dst)[...] = bits(src).transpose(order)
    dst.wrote()


def _check_direct_transpose(m: Machine, dge_mode: enums.dge_mode, oob_mode: enums.oob_mode) -> None:
    if oob_mode is not enums.oob_mode.error:
        raise NkiValidationError(f"oob_mode skip goes with indirect indexing of src, got {oob_mode!r}")
    message = f"a direct transpose takes dge_mode unknown or hwdge, got {dge_mode}"
    if dge_mode.name == "swdge":
        raise NkiValidationError(message)
    if dge_mode.name == "none":
        m.remark("transpose-mode", message, "nki/api/nki/isa/__init__.py, dma_transpose")


def _check_gathered_transpose(m: Machine, src: NkiTensor, index: NkiTensor, mode: enums.dge_mode) -> None:
    """The limits of an indirect transpose (dma_transpose; nki/deep-dives/nki-dge.rst, swdge)."""
    if m.chip.generation < 3:
        raise NkiValidationError(f"a gathering transpose needs NeuronCore-v3 or newer, and the target is {m.chip.name}")
    if mode not in _GATHERING:
        raise NkiValidationError(f"a gathering transpose takes dge_mode unknown or swdge, got {mode}")
    if src.dtype.itemsize != 2 or src.shape[0] % 16:
        raise NkiValidationError(f"a gathering transpose needs a two-byte dtype and a multiple of 16 rows; got {src!r}")
    if src.ndim == 4 and src.shape[1] != 1 and src.shape[2] != 1:
        raise NkiValidationError(f"dimension 1 or 2 of a four-dimensional src must have size 1, got {src.shape}")
    partitions, columns = index.shape[0], index.free_size
    fits = partitions % 16 == 0 and (columns == 1 or partitions == 128)
    if index.dtype != "uint32" or not fits or index.size < src.shape[0]:
        raise NkiValidationError(
            f"the indices of {src.shape[0]} rows must be uint32 in 16 to 128 partitions, a multiple of 16 of them, and "
            f"128 if there is more than one column; got {index!r}"
        )


def _check_hardware_transpose(src: NkiTensor) -> None:
    rows = src.shape[0]
    fits = rows == 16 if src.ndim == 2 else rows in (1, 2, 4, 8, 16) and rows * src.shape[-2] % 16 == 0
    if not fits or src.dtype.itemsize != 2:
        raise NkiValidationError(
            "a hwdge transpose needs a two-byte dtype, and 16 rows (2-D) or 1, 2, 4, 8 or 16 with a multiple of 16 "
            f"rows in all (3-D, 4-D); got {src!r}"
        )
