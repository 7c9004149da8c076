"""How a launcher runs without a GPU: its tensors, its launches, and its kernels rewritten as Python that computes.

`rewriting` makes a kernel's Python mean what Triton's compiler takes it to mean, `language` has `triton.language`
compute, `launching` types the arguments as the compiler does and runs the programs, `tensors` and `torch_tensors` are
what a launcher holds, and `libdevice` is NVIDIA's library of functions in NumPy.
"""
