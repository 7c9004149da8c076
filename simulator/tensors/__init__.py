"""Tensors as kernels hold them: views of storage by the rules of NKI's language, and indices that are read late.

A tensor reaches the machine by `triptych.simulator.running` alone. Operands, the machine and everything above may
import it.
"""
