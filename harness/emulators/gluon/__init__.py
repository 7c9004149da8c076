"""Kernels in Gluon for Hopper, run on NumPy: roles of a program side by side, asynchronous copies and products late.

Triton has no interpreter for Gluon. Here a kernel's own Python runs; the interpreter's session launches it through
`launching`. It may import the memory that emulated kernels see, errors, and NumPy; what it lacks it refuses by name.
"""
