"""Vector Engine: one module per family of instructions.

Importing this package enters them in the table of instructions.
"""

from triptych.simulator.engines.vector import (  # noqa: F401
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
