"""The threads of matrix libraries: one, set before NumPy is imported.

Emulated kernels make many small products, which threads slow down: on two busy cores the model cases took 300 s with
them and 180 s without, and threads of PyTorch wait for each other. A process of one thread can also be forked.
"""

from __future__ import annotations

import os

ONE_THREAD = {  # what a process that runs kernels sets, unless whoever started it did
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
}
_ours = False


def take_over() -> None:
    """This process is the command line's alone: nobody else's modules, data or threads are in it."""
    global _ours
    _ours = True
    os.environ.update({name: one for name, one in ONE_THREAD.items() if name not in os.environ})


def is_ours() -> bool:
    """Whether this process, or the one that it was forked off, was taken over."""
    return _ours
