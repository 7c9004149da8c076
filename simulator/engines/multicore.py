"""What two cores of one kernel do together: exchange tiles, and wait for each other (from NeuronCore-v3 on)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from triptych.simulator import enums
from triptych.simulator.analysis import costs
from triptych.simulator.errors import NkiValidationError
from triptych.simulator.machine.cores import Who
from triptych.simulator.machine.instructions import choose, instruction
from triptych.simulator.machine.machine import Machine, NkiInstruction, machine
from triptych.simulator.machine.unwritten import pass_on, read_whole
from triptych.simulator.memory.storage import SBUF, MemoryRegion
from triptych.simulator.operands.operands import bits, describe, in_buffer, members_of
from triptych.simulator.tensors.tensor import NkiTensor

_GPSIMD_BYTES = {4: 1024, 2: 512, 1: 256}  # a partition, by element size


def _both(m: Machine) -> tuple[Who, Who]:
    """The two cores of this rank."""
    if m.cores != 2:
        raise NkiValidationError("needs a kernel that runs on two cores: launch it as kernel[2]")
    return (m.rank, 0), (m.rank, 1)


@instruction(enums.engine.dma, cost=costs.dma.assumed(), since=3)
def sendrecv(
    src: NkiTensor,
    dst: NkiTensor,
    send_to_rank: int,
    recv_from_rank: int,
    pipe_id: int,
    dma_engine: enums.dma_engine = enums.dma_engine.dma,
    name: str | None = None,
) -> NkiInstruction:
    """dst of core send_to_rank = src, and dst here = src of core recv_from_rank; both cores meet at pipe_id."""
    m = machine()
    both = _both(m)
    in_buffer(SBUF, src=src, dst=dst)
    if src.dtype != dst.dtype or src.shape != dst.shape:
        raise NkiValidationError(f"src and dst must have one shape and dtype, got {src!r} and {dst!r}")
    if not isinstance(pipe_id, int):
        raise NkiValidationError(f"pipe_id must be an integer, got {describe(pipe_id)}")
    if send_to_rank not in (0, 1) or recv_from_rank not in (0, 1):
        raise NkiValidationError(f"ranks are 0 or 1, got send_to_rank={send_to_rank}, recv_from_rank={recv_from_rank}")
    members_of(enums.dma_engine, dma_engine=dma_engine)
    if dma_engine is enums.dma_engine.gpsimd_dma:
        limit, need = _GPSIMD_BYTES[src.dtype.itemsize], src.free_size * src.dtype.itemsize
        if need > limit:
            raise NkiValidationError(f"gpsimd_dma moves at most {limit} bytes a partition of {src.dtype}, got {need}")
    offer = (send_to_rank, src.shape, src.dtype, bits(src).copy(), read_whole(m, "nisa.sendrecv", src))
    target, shape, dtype, values, missing = m.meet(f"pipe {pipe_id}", offer, both).offers[recv_from_rank]
    if target != m.core:
        raise NkiValidationError(f"receives from core {recv_from_rank}, which sends to core {target} in this pipe")
    if shape != dst.shape or dtype != dst.dtype:
        raise NkiValidationError(f"receives {dtype} {shape} from core {recv_from_rank} into {dst!r}")
    np.copyto(bits(dst), values)
    dst.wrote()
    pass_on(m, missing, dst)
    return m.record("sendrecv", enums.engine.dma, (src,), (dst,), name, pipe=pipe_id, by=dma_engine.name)


_ENGINES = (enums.engine.gpsimd, enums.engine.tensor, enums.engine.vector, enums.engine.scalar)


@instruction(*_ENGINES, cost=costs.free, since=3)
def core_barrier(
    data: NkiTensor,
    cores: Sequence[int],
    engine: enums.engine = enums.engine.gpsimd,
    name: str | None = None,
) -> NkiInstruction:
    """Both cores wait until both are here; what either wrote to `data`, in shared HBM, is then there for both."""
    m = machine()
    both = _both(m)
    plain = isinstance(data, NkiTensor) and data.index is None
    shared = plain and data.buffer is MemoryRegion.shared_hbm
    if not plain:
        raise NkiValidationError(f"data must be a tensor in shared HBM, got {describe(data)}")
    if not shared:
        message = f"core_barrier: data must be a tensor in shared HBM, got {describe(data)}"
        m.remark("barrier-buffer", message, "nki/api/nki/isa/__init__.py, core_barrier")
    if tuple(cores) != (0, 1):
        raise NkiValidationError(f"cores must be (0, 1), got {cores!r}")
    on = choose(engine, *_ENGINES)
    where = f"{data.name} {data.storage.allocation.id}" if shared else "data in SBUF"  # a name may be several tensors'
    m.meet(f"barrier on {where}", None, both, f"barrier on {data.name if shared else where}")
    m.epoch += 1
    return m.record("core_barrier", on, (data,), (), name)
