"""One module per engine or family of instructions; importing this package fills `INSTRUCTIONS`."""

from triptych.simulator.engines import (
    dma,
    dma_compute,
    gpsimd,
    gpsimd_gather,
    gpsimd_reduce,
    gpsimd_search,
    scalar,
    tensor,
    vector,
    vector_accumulate,
    vector_match,
    vector_reduce,
    vector_scan,
    vector_select,
    vector_shuffle,
    vector_statistics,
    vector_top8,
)
from triptych.simulator.machine import INSTRUCTIONS

__all__ = [
    "INSTRUCTIONS",
    "dma",
    "dma_compute",
    "gpsimd",
    "gpsimd_gather",
    "gpsimd_reduce",
    "gpsimd_search",
    "scalar",
    "tensor",
    "vector",
    "vector_accumulate",
    "vector_match",
    "vector_reduce",
    "vector_scan",
    "vector_select",
    "vector_shuffle",
    "vector_statistics",
    "vector_top8",
]
