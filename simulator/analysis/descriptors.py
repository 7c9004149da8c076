"""How a DMA is cut into descriptors, which are spread over the rings.

Each run of bytes that has no gap on either side is one. A ring moves its descriptors one after the other; each takes a
fixed time and its bytes over the ring's rate. Runs never cross partitions. A long run is cut further, down to 512
bytes, so that all rings have work (nki/get-started/about/nki-dma-overview.rst;
nki/deep-dives/nki-dma-bandwidth-guide.rst).
"""

from __future__ import annotations

from dataclasses import dataclass

from triptych.simulator.chips import Chip
from triptych.simulator.trace import Region

SMALLEST_CUT = 512  # bytes, below which a run is not cut to occupy more rings


@dataclass(frozen=True)
class Descriptors:
    """`count` descriptors of `nbytes` each."""

    count: int
    nbytes: float

    def rings(self, chip: Chip) -> int:
        """How many rings they occupy."""
        return min(self.count, int(chip.dma_rings.value))

    def busy_ns(self, chip: Chip) -> float:
        """How long each of those rings is busy."""
        rings = self.rings(chip)
        rate = chip.dma_gb_per_s.value / chip.dma_rings.value
        return -(-self.count // rings) * (chip.dma_descriptor_ns.value + self.nbytes / rate)


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
    elements = max(nbytes // max(src.dtype.itemsize, dst.dtype.itemsize), 1)
    count = max(elements // min(run_of(src), run_of(dst)), 1)
    rings = int(chip.dma_rings.value)
    if count < rings:
        count = max(count, min(rings, nbytes // SMALLEST_CUT))
    return Descriptors(count, nbytes / count)
