"""What kernels do most, once more in C: slices of tensors, instructions whose plan is known, and the clock of `timing`.

It stands in the place of the Python of `tensors` and `machine`, which it leaves as it is; launch puts it into use. The
clock is a function of arrays alone.
"""
