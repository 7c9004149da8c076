"""How a DMA is cut into descriptors, and which of the rings move them.

Each run of bytes that has no gap on either side is one. A ring moves its descriptors one after the other; each takes a
fixed time and its bytes over the ring's rate. Runs never cross partitions.

Each ring belongs to eight partitions of SBUF, so that a transfer of four rows keeps one ring busy and fifteen idle, as
the first trace of the overview shows. What touches HBM alone is cut down to 512 bytes, so that all rings have work
(nki/get-started/about/nki-dma-overview.rst; nki/deep-dives/nki-dma-bandwidth-guide.rst).

A transpose is written in blocks of 128 partitions x 16 elements, each by all rings together, which is a descriptor of
every ring. Fewer partitions, or a number of elements that 16 does not divide, still take whole blocks: full ones are
what its throughput presupposes (nki/guides/architecture/trainium2_arch.rst, DMA Transpose).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from triptych.simulator.analysis.boxes import box_of
from triptych.simulator.chip.record import Chip
from triptych.simulator.trace import Region

SMALLEST_CUT = 512  # bytes, below which a run between two places in HBM is not cut to occupy more rings
BLOCK = 128, 16  # partitions and elements that all rings write together in a transpose


@dataclass(frozen=True)
class Descriptors:
    """`count` descriptors of `nbytes` each, on some rings, of which one has `most` of them."""

    count: int
    nbytes: float
    rings: range
    most: int

    def busy_ns(self, chip: Chip, share: float = 1.0) -> float:
        """How long the ring with most of them is busy, at that share of its rate."""
        rate = chip.dma_gb_per_s.value / chip.dma_rings.value * share
        return self.most * (chip.dma_descriptor_ns.value + self.nbytes / rate)


def run_of(region: Region) -> int:
    """Elements that lie side by side; on chip, within a partition."""
    run = 1
    shape, strides = region.shape, region.strides
    first = 0 if region.allocation.buffer.endswith("hbm") else 1
    for dim in range(len(shape) - 1, first - 1, -1):
        if shape[dim] > 1:
            if strides[dim] != run:
                break
            run *= shape[dim]
    return run


def descriptors(reads: tuple[Region, ...], writes: tuple[Region, ...], chip: Chip) -> Descriptors:
    """Those of one transfer from the first region that is read to the first that is written."""
    src, dst = reads[0], writes[0]
    nbytes = max(src.nbytes, dst.nbytes)
    elements = nbytes // max(src.dtype.itemsize, dst.dtype.itemsize)
    count = elements // min(run_of(src), run_of(dst))
    on_chip = dst if dst.allocation.buffer == "sbuf" else src
    if on_chip.allocation.buffer == "sbuf":
        rings, rows = _of_partitions(on_chip, chip)
        most = -(-count * rows // on_chip.shape[0])
        return Descriptors(count, nbytes / count, rings, most)
    total = int(chip.dma_rings.value)
    count = max(count, min(total, nbytes // SMALLEST_CUT))
    used = min(count, total)
    return Descriptors(count, nbytes / count, range(used), -(-count // used))


def _of_partitions(region: Region, chip: Chip) -> tuple[range, int]:
    """The rings of the partitions that a view lies in, and the most partitions that one of them has."""
    each = int(chip.partitions.value // chip.dma_rings.value)
    _, first, last, _, _ = box_of(region)
    rings = range(first // each, last // each + 1)
    if len(rings) == 1:
        return rings, last - first + 1
    return rings, each if len(rings) > 2 else max(each - first % each, last % each + 1)


def transposed(dst: Region, chip: Chip) -> Descriptors:
    """Those of a transpose into dst[P, .., F]."""
    partitions, elements = BLOCK
    blocks = math.prod(dst.shape[1:-1]) * -(-dst.shape[-1] // elements)
    rings = int(chip.dma_rings.value)
    size = partitions * elements * dst.dtype.itemsize / rings
    return Descriptors(blocks * rings, size, range(rings), blocks)
