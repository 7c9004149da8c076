"""What kernels do most, once more in C: slices, instructions whose plan is known, casts, and the clock of `timing`.

What stands in the place of the Python of `tensors` and `machine` leaves that as it is; launch puts it into use. The
casts of bfloat16 and the clock are functions of arrays alone.
"""
