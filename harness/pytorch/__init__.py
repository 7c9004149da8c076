"""PyTorch's operators out of the collection's kernels, and models that run on them: what `triptych.torch` hands on.

Importing its files imports PyTorch. It imports the collection, the backends, the emulators and the reports' table.
"""
