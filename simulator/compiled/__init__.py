"""What kernels do most, once more in C: slices of tensors, and instructions whose plan is known.

It stands in the place of the Python of `tensors` and `machine`, which it leaves as it is; launch puts it into use.
"""
