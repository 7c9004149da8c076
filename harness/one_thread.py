"""The threads of matrix libraries: one, set before NumPy is imported.

Emulated kernels make many small products, which threads slow down: on two busy cores the model cases took 300 s with
them and 180 s without, and threads of PyTorch wait for each other. A process of one thread can also be forked.
"""

from __future__ import annotations

ONE_THREAD = {  # what a process that runs kernels sets, unless whoever started it did
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
}
