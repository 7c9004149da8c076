"""Collectives: one module per family of instructions, and what all of them share."""

from triptych.simulator.engines.collectives import equal, permute, variable

__all__ = ["equal", "permute", "variable"]
