"""What two cores of one kernel do together: exchange tiles, and wait for each other (from NeuronCore-v3 on).

They meet whether or not there is data (`Plan.decide`). What a core sends may be unwritten, and counts as unwritten
where it arrives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from triptych.simulator import enums
from triptych.simulator.analysis import costs
from triptych.simulator.engines.dma import check_memory
from triptych.simulator.errors import NkiValidationError
from triptych.simulator.machine.cores import Who
from triptych.simulator.machine.instructions import choose, instruction
from triptych.simulator.machine.machine import Machine, machine
from triptych.simulator.machine.plan import Plan, nothing
from triptych.simulator.machine.unwritten import pass_on, read_whole
from triptych.simulator.memory.storage import SBUF, MemoryRegion
from triptych.simulator.operands.operands import bits, describe, in_buffer, members_of, put, put_bits
from triptych.simulator.operands.operators import Op
from triptych.simulator.tensors.tensor import NkiTensor

_DMA = enums.engine.dma
_Sent = tuple[Any, Any]  # numbers or bits, and which of them are unwritten
_GPSIMD_BYTES = {4: 1024, 2: 512, 1: 256}  # a partition, by element size


def _both(m: Machine) -> tuple[Who, Who]:
    """The two cores of this rank."""
    if m.cores != 2:
        raise NkiValidationError("needs a kernel that runs on two cores: launch it as kernel[2]")
    return (m.rank, 0), (m.rank, 1)


@instruction(_DMA, cost=costs.dma.assumed(), since=3)
def sendrecv(
    src: NkiTensor,
    dst: NkiTensor,
    send_to_rank: int,
    recv_from_rank: int,
    pipe_id: int,
    dma_engine: enums.dma_engine = enums.dma_engine.dma,
    name: str | None = None,
) -> Plan:
    """dst of core send_to_rank = src, and dst here = src of core recv_from_rank; both cores meet at pipe_id."""
    in_buffer(SBUF, src=src, dst=dst)
    if not isinstance(pipe_id, int):
        raise NkiValidationError(f"pipe_id must be an integer, got {describe(pipe_id)}")
    _check_exchange(src, dst, send_to_rank, recv_from_rank)
    members_of(enums.dma_engine, dma_engine=dma_engine)
    if dma_engine is enums.dma_engine.gpsimd_dma:
        limit, need = _GPSIMD_BYTES[src.dtype.itemsize], src.free_size * src.dtype.itemsize
        if need > limit:
            raise NkiValidationError(f"gpsimd_dma moves at most {limit} bytes a partition of {src.dtype}, got {need}")
    operands, by = (dst, src, f"pipe {pipe_id}", send_to_rank, recv_from_rank), dma_engine.name
    return Plan(_DMA, (src,), (dst,), _take, operands, needs=nothing, decide=_exchange, pipe=pipe_id, by=by)


def _exchange(dst: NkiTensor, src: NkiTensor, pipe: str, to: int, source: int) -> _Sent:
    m = machine()
    unwritten = read_whole(m, "nisa.sendrecv", src)  # first: it may put in the zeros of a scale tile
    return _received(m, pipe, to, source, src, (bits(src).copy(), unwritten))


def _take(dst: NkiTensor, src: NkiTensor, pipe: str, to: int, source: int, received: _Sent) -> None:
    values, missing = received
    put_bits(dst, values)
    pass_on(machine(), missing, dst)


def _check_exchange(src: NkiTensor, dst: NkiTensor, to: int, source: int) -> None:
    if src.dtype != dst.dtype or src.shape != dst.shape:
        raise NkiValidationError(f"src and dst must have one shape and dtype, got {src!r} and {dst!r}")
    if to not in (0, 1) or source not in (0, 1):
        raise NkiValidationError(f"ranks are 0 or 1, got send_to_rank={to}, recv_from_rank={source}")


def _received(m: Machine, meeting: str, to: int, source: int, src: NkiTensor, sent: _Sent) -> _Sent:
    """What core `source` sends here; core `to` gets what is `sent`: values like src's, and which are unwritten."""
    target, shape, dtype, values, missing = m.meet(meeting, (to, src.shape, src.dtype, *sent), _both(m)).offers[source]
    if target != m.core:
        raise NkiValidationError(f"receives from core {source}, which sends to core {target} in this pipe")
    if shape != src.shape or dtype != src.dtype:
        raise NkiValidationError(f"receives {dtype} {shape} from core {source}, and takes {src.dtype} {src.shape}")
    return values, missing


@instruction(_DMA, cost=costs.dma.assumed(), since=3, source="nki.isa.sendrecv_compute.html of SDK 2.33")
def sendrecv_compute(
    src: NkiTensor, dst: NkiTensor, send_to_rank: int, recv_from_rank: int, reduce_op: Op, name: str | None = None
) -> Plan:
    """dst here = reduce_op(src, src of core recv_from_rank), in float32, rounded to dst's dtype; both cores meet.

    Both lie in SBUF or both in a core's own HBM; reduce_op is nl.add, nl.maximum or nl.minimum. The page was read up to
    its first constraint: that src and dst have one shape and dtype is taken from sendrecv.
    """
    if not isinstance(reduce_op, Op) or reduce_op.name not in ("add", "maximum", "minimum"):
        raise NkiValidationError(f"reduce_op must be nl.add, nl.maximum or nl.minimum, got {describe(reduce_op)}")
    check_memory(src=src, dst=dst)
    if src.buffer is not dst.buffer or src.buffer not in (SBUF, MemoryRegion.private_hbm):
        raise NkiValidationError(
            f"src and dst must both be in SBUF or both in nl.private_hbm, got {src.buffer.value} and {dst.buffer.value}"
        )
    if src.dtype.kind == "x":
        raise NkiValidationError(f"{src!r} is packed: its elements are no numbers to reduce")
    _check_exchange(src, dst, send_to_rank, recv_from_rank)
    operands = (dst, src, send_to_rank, recv_from_rank, reduce_op)
    return Plan(_DMA, (src,), (dst,), _reduce, operands, needs=nothing, decide=_exchange_numbers, pipe=None)


def _exchange_numbers(dst: NkiTensor, src: NkiTensor, to: int, source: int, reduce_op: Op) -> tuple[_Sent, _Sent]:
    """Of this core and of the other."""
    m = machine()
    missing = read_whole(m, "nisa.sendrecv_compute", src)
    mine = (src.array.astype(np.int64) if src.dtype.is_int else src.f32().copy()), missing
    return mine, _received(m, "sendrecv_compute", to, source, src, mine)


def _reduce(
    dst: NkiTensor, src: NkiTensor, to: int, source: int, reduce_op: Op, exchanged: tuple[_Sent, _Sent]
) -> None:
    (mine, missing), (theirs, unwritten) = exchanged
    put(dst, reduce_op.alu(mine, theirs))
    pass_on(machine(), missing, dst)
    pass_on(machine(), unwritten, dst)


_ENGINES = (enums.engine.gpsimd, enums.engine.tensor, enums.engine.vector, enums.engine.scalar)


@instruction(*_ENGINES, cost=costs.barrier, since=3)
def core_barrier(
    data: NkiTensor, cores: Sequence[int], engine: enums.engine = enums.engine.gpsimd, name: str | None = None
) -> Plan:
    """Both cores wait until both are here; what either wrote to `data`, in shared HBM, is then there for both."""
    plain = isinstance(data, NkiTensor) and data.index is None
    shared = plain and data.buffer is MemoryRegion.shared_hbm
    if not plain:
        raise NkiValidationError(f"data must be a tensor in shared HBM, got {describe(data)}")
    if not shared:
        message = f"core_barrier: data must be a tensor in shared HBM, got {describe(data)}"
        machine().remark("barrier-buffer", message, "nki/api/nki/isa/__init__.py, core_barrier")
    if not isinstance(cores, Sequence) or tuple(cores) != (0, 1):
        raise NkiValidationError(f"cores must be (0, 1), got {cores!r}")
    on = choose(engine, *_ENGINES)
    return Plan(on, (data,), (), nothing, (data,), needs=nothing, decide=_wait)


def _wait(data: NkiTensor) -> None:
    m = machine()
    name = at = "data in SBUF"
    if data.buffer is MemoryRegion.shared_hbm:
        name, at = data.name, f"{data.name} {data.storage.allocation.id}"  # a name may be several tensors'
    m.meet(f"barrier on {at}", None, _both(m), f"barrier on {name}")
    m.epoch += 1
