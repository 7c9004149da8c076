"""GpSimd Engine: one module per family of instructions.

Importing this package enters them in the table of instructions.
"""

from triptych.simulator.engines.gpsimd import gather, patterns, reduce, search  # noqa: F401
