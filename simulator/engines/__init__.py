"""One module per engine or family of instructions; importing this package fills `INSTRUCTIONS` and `COLLECTIVES`."""

from triptych.simulator.engines import (
    collectives,
    dma,
    dma_compute,
    gpsimd,
    multicore,
    mx,
    random_numbers,
    registers,
    scalar,
    scalar_activate2,
    tensor,
    vector,
)
from triptych.simulator.machine.table import COLLECTIVES, INSTRUCTIONS

__all__ = [
    "COLLECTIVES",
    "INSTRUCTIONS",
    "collectives",
    "dma",
    "dma_compute",
    "gpsimd",
    "multicore",
    "mx",
    "random_numbers",
    "registers",
    "scalar",
    "scalar_activate2",
    "tensor",
    "vector",
]
