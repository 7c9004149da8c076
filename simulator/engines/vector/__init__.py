"""Vector Engine: one module per family of instructions.

Importing this package enters them in the table of instructions.
"""

from triptych.simulator.engines.vector import (
    accumulate,
    elementwise,
    match,
    reduce,
    scan,
    select,
    shuffle,
    statistics,
    tensor_scalar,
    top8,
)

__all__ = [
    "accumulate",
    "elementwise",
    "match",
    "reduce",
    "scan",
    "select",
    "shuffle",
    "statistics",
    "tensor_scalar",
    "top8",
]
