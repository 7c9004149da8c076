"""What kernels do most, once more in C: slices, calls whose plan is known, casts, and `timing`'s walks and clock.

The first two stand in the place of the Python of `tensors` and `machine`, which they leave as it is; launch puts them
into use. The walks over a trace are handed to `analysis` and `timing`; casts and clock are functions of arrays alone.
"""
