"""What an instruction costs its engine, in nanoseconds.

AWS gave these formulas, in engine cycles for NeuronCore-v2, until its 2.26.1 documentation and has since removed them
(nki/api/nki/isa/__init__.py at v2.26.1); N is the number of elements per partition. The faster modes of v3 and v4 are
those of the architecture guides. Every constant is a field of the chip record.
"""

from __future__ import annotations

import math

from triptych.simulator.chips import Chip
from triptych.simulator.trace import Event

_TWO_BYTES = ("bfloat16", "float16")


def ghz(event: Event, chip: Chip) -> float:
    """Clock of the engine that ran an event."""
    clocks = {
        "tensor": chip.tensor_ghz,
        "vector": chip.vector_ghz,
        "scalar": chip.scalar_ghz,
        "gpsimd": chip.gpsimd_ghz,
    }
    return clocks[event.engine].value


def _streamed(event: Event, chip: Chip, cycles: float) -> float:
    if event.engine == "gpsimd":
        cycles += chip.gpsimd_start_cycles.value
    return max(chip.min_cycles.value, cycles) / ghz(event, chip)


def _n(event: Event) -> int:
    return max(r.free_size for r in (*event.reads, *event.writes))


def per_element(event: Event, chip: Chip) -> float:
    """max(64, N) cycles; 4x faster on v3+ Vector where all is two-byte in SBUF, 2x where one side is in PSUM."""
    speed = 1.0
    tiles = [r for r in (*event.reads, *event.writes) if r.free_size > 1]
    if (
        chip.generation >= 3
        and event.engine == "vector"
        and event.op in ("tensor_copy", "tensor_scalar")
        and all(r.dtype in _TWO_BYTES for r in tiles)
    ):
        in_sbuf = all(r.allocation.buffer == "sbuf" for r in tiles)
        dense = all(r.strides[-1] == 1 for r in tiles)
        speed = 4.0 if in_sbuf and dense else 2.0 if in_sbuf or dense else 1.0
    return _streamed(event, chip, _n(event) / speed)


def two_inputs(event: Event, chip: Chip) -> float:
    """2N cycles; N where one input is in PSUM and the other in SBUF, or all are two-byte and in SBUF."""
    inputs = [r for r in event.reads if r.free_size > 1]
    buffers = {r.allocation.buffer for r in inputs}
    two_byte = all(r.dtype in _TWO_BYTES for r in (*inputs, *event.writes))
    fast = len(buffers) > 1 or (two_byte and "psum" not in buffers) or len(inputs) < 2
    return _streamed(event, chip, _n(event) * (1 if fast else 2))


def streamed(event: Event, chip: Chip) -> float:
    """max(64, N) cycles, with no faster mode."""
    return _streamed(event, chip, _n(event))


def assumed(event: Event, chip: Chip) -> float:
    """max(64, N) cycles, 150 + N on GpSimd: assumed, none is published."""
    return _streamed(event, chip, _n(event))


def streamed_and_read_out(event: Event, chip: Chip) -> float:
    """max(64, N) cycles, and 64 more for the accumulator."""
    return _streamed(event, chip, _n(event)) + chip.min_cycles.value / ghz(event, chip)


def quarter(event: Event, chip: Chip) -> float:
    """max(64, N/4) cycles: four elements per partition and cycle (nki/guides/architecture/trainium3_arch.rst)."""
    return _streamed(event, chip, _n(event) / 4)


def predicated(event: Event, chip: Chip) -> float:
    """2N cycles; N where one of tile and predicate is in PSUM and the other in SBUF, or the tile is a number."""
    inputs = [r for r in event.reads if r.free_size == event.writes[0].free_size]
    fast = len({r.allocation.buffer for r in inputs}) > 1 or len(inputs) < 2
    return _streamed(event, chip, _n(event) * (1 if fast else 2))


def scan(event: Event, chip: Chip) -> float:
    """max(64, 2N) cycles."""
    return _streamed(event, chip, 2 * _n(event))


def reduction(event: Event, chip: Chip) -> float:
    """N cycles; N/2 where input and output are two-byte."""
    fast = all(r.dtype in _TWO_BYTES for r in (*event.reads, *event.writes))
    return _streamed(event, chip, _n(event) / (2 if fast else 1))


def reciprocal(event: Event, chip: Chip) -> float:
    """max(64, 8N) cycles on Vector (nki/api/nki.api.shared.rst)."""
    return _streamed(event, chip, 8 * _n(event))


def gpsimd(event: Event, chip: Chip) -> float:
    """150 + N cycles, for what runs on GpSimd alone."""
    return _streamed(event, chip, _n(event))


def local_gather(event: Event, chip: Chip) -> float:
    """150 + n/C cycles for n elements; C = (28 + 4e)/(4e) / min(4/bytes, e), e of them an index."""
    each: int = event.attributes["each"]
    n: int = event.attributes["indices"] * each
    c = (28 + 4 * each) / (4 * each) / min(4 / event.reads[0].dtype.itemsize, each)
    return _streamed(event, chip, n / c)


def gather(event: Event, chip: Chip) -> float:
    """150 cycles for each 512 elements gathered, and one an element: the groups are documented, their cost assumed."""
    n = event.writes[0].free_size
    return _streamed(event, chip, n + (math.ceil(n / 512) - 1) * chip.gpsimd_start_cycles.value)


def topk(event: Event, chip: Chip) -> float:
    """4n + K cycles (nki/api/nki/isa/__init__.py, topk)."""
    n: int = event.attributes["n"]
    return (4 * n + event.writes[0].free_size) / ghz(event, chip)


def aggregate(event: Event, chip: Chip) -> float:
    """max(64, 13 * N/3) cycles for bn_aggr."""
    return _streamed(event, chip, 13 * event.reads[0].free_size / 3)


def activation(event: Event, chip: Chip) -> float:
    """max(64, N) cycles, and 64 more to read the accumulator out."""
    read_out = chip.min_cycles.value / ghz(event, chip) if len(event.writes) > 1 else 0.0
    return _streamed(event, chip, event.reads[0].free_size) + read_out


def matmul(event: Event, chip: Chip) -> float:
    """max(min(64, M), N) cycles of the PE array, four passes for float32, plus nothing for the hidden weight load."""
    stationary, moving = event.reads[0], event.reads[1]
    rows: int = event.attributes["rows"]
    n, m = moving.free_size // rows, stationary.free_size // rows
    passes: float = chip.fp32_matmul_passes.value if stationary.dtype == "float32" else 1
    return passes * max(min(chip.min_cycles.value, m), n) / chip.tensor_ghz.value


def transpose(event: Event, chip: Chip) -> float:
    """Tensor: max(P, min(64, F)) cycles; Vector: max(64, N)."""
    data = event.reads[0]
    if event.engine == "tensor":
        return max(data.shape[0], min(chip.min_cycles.value, data.free_size)) / chip.tensor_ghz.value
    return _streamed(event, chip, data.free_size)


def dma(event: Event, chip: Chip) -> float:
    """Bytes over the sixteen engines' rate together; a transpose reaches 90 % from HBM and 50 % within SBUF."""
    moved = max(event.reads[0].nbytes, event.writes[0].nbytes) / chip.dma_gb_per_s.value
    if event.op == "dma_transpose":
        return moved / (0.5 if event.reads[0].allocation.buffer == "sbuf" else 0.9)
    return moved


def dma_compute(event: Event, chip: Chip) -> float:
    """Bytes read over the engines' rate together, of which DMA with arithmetic reaches 50 %."""
    # nki/guides/architecture/trainium3_arch.rst; v4's faster read-add-write in SBUF has no API there.
    return sum(r.nbytes for r in event.reads) / chip.dma_gb_per_s.value / 0.5
