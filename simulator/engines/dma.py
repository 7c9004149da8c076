"""DMA: sixteen engines that move data between HBM and SBUF, casting through float32 where dtypes differ."""

from __future__ import annotations

from typing import Any

import numpy as np

from triptych.simulator import costs, enums
from triptych.simulator.dynamic import resolve
from triptych.simulator.errors import NkiValidationError
from triptych.simulator.machine import Machine, NkiInstruction, instruction, machine
from triptych.simulator.memory import MemoryRegion
from triptych.simulator.operands import bits, describe, in_buffer, move
from triptych.simulator.tensor import NkiTensor

_DMA = enums.engine.dma


@instruction(_DMA, cost=costs.dma)
def dma_copy(
    dst: NkiTensor,
    src: NkiTensor,
    priority: int | None = None,
    oob_mode: enums.oob_mode = enums.oob_mode.error,
    dge_mode: enums.dge_mode = enums.dge_mode.unknown,
    engine: enums.engine = enums.engine.unknown,
    name: str | None = None,
) -> NkiInstruction:
    """dst[...] = src[...], element by element in row-major order; between HBM and SBUF, either way."""
    m = machine()
    _check_memory(dst=dst, src=src)
    _check_queue(m, priority, dge_mode, engine)
    if dst.size != src.size:
        raise NkiValidationError(f"src and dst must hold the same number of elements, got {src.shape} and {dst.shape}")
    if dge_mode.name == "hwdge" and dst.dtype != src.dtype:
        raise NkiValidationError(f"hwdge does not cast: src is {src.dtype} and dst {dst.dtype}")
    if src.dynamic or dst.dynamic:
        return _indirect_copy(m, dst, src, oob_mode, dge_mode, name)
    if oob_mode.name == "skip":
        raise NkiValidationError("oob_mode.skip goes with a dynamic address; the one here is static")
    m.check_reads((src,))
    move(dst, src)
    return m.record("dma_copy", _DMA, (src,), (dst,), name)


def _indirect_copy(
    m: Machine, dst: NkiTensor, src: NkiTensor, oob: enums.oob_mode, dge: enums.dge_mode, name: str | None
) -> NkiInstruction:
    """The copy where one side has a dynamic address: all of it moved by one index, or row by row for a vector."""
    if src.dynamic and dst.dynamic:
        raise NkiValidationError("only one of src and dst can have a dynamic address")
    indirect, plain = (src, dst) if src.dynamic else (dst, src)
    assert indirect.dynamic is not None
    if indirect.dynamic.vector and (dge.name not in ("unknown", "swdge") or plain.shape[0] != indirect.shape[0]):
        raise NkiValidationError(
            f"a gather or scatter takes dge_mode swdge or unknown, and {indirect.shape[0]} rows on the other side; got "
            f"{dge} and {plain.shape}"
        )
    touched = []
    for rows, view in resolve(indirect, skip=oob.name == "skip"):
        other = plain[rows] if indirect.dynamic.vector else plain
        to, come = (other, view) if indirect is src else (view, other)
        m.check_reads((come,))
        move(to, come)
        touched.append(view)
    index = indirect.dynamic.index
    read = [index] if isinstance(index, NkiTensor) else []
    if indirect is src:
        return m.record("dma_copy", _DMA, (*touched, *read) or (dst,), (dst,), name, gathered=True)
    return m.record("dma_copy", _DMA, (src, *read), touched or (dst,), name, scattered=True)


def _check_memory(**tensors: Any) -> None:
    for what, t in tensors.items():
        if type(t) is not NkiTensor or t.buffer is MemoryRegion.psum:
            raise NkiValidationError(
                f"{what} must be a tensor in HBM or SBUF, got {describe(t)}; DMA cannot reach PSUM, copy it to SBUF "
                "with nisa.tensor_copy"
            )


def _check_queue(m: Machine, priority: int | None, mode: enums.dge_mode, on: enums.engine) -> None:
    if priority is not None and (m.chip.generation < 4 or priority not in range(4)):
        raise NkiValidationError(f"priority is 0 to 3 and needs NeuronCore-v4, got {priority} on {m.chip.name}")
    if not isinstance(mode, enums.dge_mode):
        raise NkiValidationError(f"dge_mode must be a nisa.dge_mode, got {mode!r}")
    if mode.name == "hwdge" and m.chip.generation < 3:
        raise NkiValidationError(f"hwdge needs NeuronCore-v3 or newer, and the target is {m.chip.name}")
    if on.name != "unknown" and (mode.name != "hwdge" or on.name not in ("sync", "scalar")):
        raise NkiValidationError(f"engine is sync or scalar and goes with dge_mode hwdge, got {on} with {mode}")


_AXES = {2: (1, 0), 3: (2, 1, 0), 4: (3, 1, 2, 0)}


@instruction(_DMA, cost=costs.dma)
def dma_transpose(
    dst: NkiTensor,
    src: NkiTensor,
    axes: tuple[int, ...] | None = None,
    priority: int | None = None,
    dge_mode: enums.dge_mode = enums.dge_mode.unknown,
    oob_mode: enums.oob_mode = enums.oob_mode.error,
    name: str | None = None,
) -> NkiInstruction:
    """dst = src with axes permuted: (1, 0), (2, 1, 0) or (3, 1, 2, 0); from HBM or SBUF into SBUF, dtype kept."""
    m = machine()
    _check_memory(src=src)
    in_buffer(MemoryRegion.sbuf, dst=dst)
    _check_queue(m, priority, dge_mode, enums.engine.unknown)
    if src.ndim not in _AXES or (axes is not None and tuple(axes) != _AXES[src.ndim]):
        raise NkiValidationError(
            f"axes must be (1, 0), (2, 1, 0) or (3, 1, 2, 0) for 2, 3 or 4 dimensions, got {axes} for {src.shape}"
        )
    order = _AXES[src.ndim]
    expected = tuple(src.shape[a] for a in order)
    if dst.shape != expected or dst.dtype != src.dtype:
        raise NkiValidationError(f"dst must be {expected} in {src.dtype}, got {dst.shape} in {dst.dtype}")
    if oob_mode is not enums.oob_mode.error:
        raise NkiValidationError(f"oob_mode skip goes with indirect indexing of src, got {oob_mode!r}")
    if dge_mode.name == "swdge" or dge_mode.name == "none":
        raise NkiValidationError(f"a direct transpose takes dge_mode unknown or hwdge, got {dge_mode}")
    if dge_mode.name == "hwdge":
        _check_hardware_transpose(src)
    m.check_reads((src,))
    np.copyto(bits(dst), bits(src).transpose(order))
    dst.wrote()
    return m.record("dma_transpose", _DMA, (src,), (dst,), name)


def _check_hardware_transpose(src: NkiTensor) -> None:
    rows = src.shape[0]
    fits = rows == 16 if src.ndim == 2 else rows in (1, 2, 4, 8, 16) and rows * src.shape[-2] % 16 == 0
    if not fits or src.shape[-1] > 128 or src.dtype.itemsize != 2:
        raise NkiValidationError(
            "a hwdge transpose needs a two-byte dtype, a last dimension of at most 128, and 16 rows (2-D) or 1, 2, 4, "
            f"8 or 16 with a multiple of 16 rows in all (3-D, 4-D); got {src!r}"
        )
