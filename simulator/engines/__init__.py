"""One module per engine or family of instructions; importing this room fills `INSTRUCTIONS` and `COLLECTIVES`.

An engine checks operands, computes and records; it imports the machine, operands and the costs of `analysis`, and the
language imports it.
"""

from triptych.simulator.engines import (  # noqa: F401
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
    scalars,
    tensor,
    vector,
)
from triptych.simulator.machine.table import COLLECTIVES, INSTRUCTIONS

__all__ = ["COLLECTIVES", "INSTRUCTIONS"]
