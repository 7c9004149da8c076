"""The records of the chips, a generation a file: every number with its unit, its source and how it is known.

Who asks for the chip of a target takes `triptych.simulator.chips`.
"""
