"""GpSimd Engine: one module per family of instructions."""

from triptych.simulator.engines.gpsimd import gather, patterns, reduce, search

__all__ = ["gather", "patterns", "reduce", "search"]
