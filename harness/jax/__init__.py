"""JAX's functions out of the collection's kernels, with their derivatives: what `triptych.jax` hands on.

Importing its files imports JAX. It imports the functions that it shares with PyTorch's room, and the emulators.
"""
