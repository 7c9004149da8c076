"""Collectives: one module per family of instructions, and what all of them share.

Importing this package enters them in the table of collectives.
"""

from triptych.simulator.engines.collectives import equal, permute, prepared, variable  # noqa: F401
