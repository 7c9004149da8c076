"""The collection's rows as functions on arrays: what the operators of PyTorch and those of JAX share.

Where a call runs, how it runs on the CPU, and who hears of it. It imports the collection, backends and emulators,
and no framework.
"""
