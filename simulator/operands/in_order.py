"""Sums as the Vector Engine makes them: strictly in order, in float32.

    s[0] = x[0],   s[i] = fl(s[i - 1] + x[i])

NumPy adds pairwise along a row, and differs from this in the last bits. Measured on trn1 (nki 0.6.0, neuronx-cc
2.27.5334; LaelaZorana/kernel-grader-mi300x-rocm-trainium-nki, kernel-nki/README.md): `nisa.tensor_reduce` with add
over 128 float32 is the sequential sum bit for bit in 4096 of 4096 rows of each of four seeds, where AWS's simulator,
which is NumPy's sum, agrees in 875 to 921. That other folds of the same engine, and other generations, do as this one
is taken from it; the order of the Scalar Engine's accumulator, of bn_stats and of PSUM is not published.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from triptych.simulator.transposing import copy_transposed

Array = NDArray[Any]
ORDERED = (np.add, np.subtract, np.multiply)  # what depends on the order; maximum and minimum do not
_CHUNK = 128  # elements of a row at a time: what is turned around stays in the cache
_FEW = 4  # rows that are faster one by one, and that NumPy would add pairwise if they were turned around


def in_order(f: np.ufunc, values: Array) -> Array:
    """x[..., 0] <f> x[..., 1] <f> .., strictly from left to right, for values [..., B] of float32 or integers.

    Rows are turned into columns, which NumPy folds one after the other, all of them at once.
    """
    *outer, b = values.shape
    k = values.size // b
    if k <= _FEW:
        return f.accumulate(values, axis=-1)[..., -1]
    flat = values.reshape(k, b)
    width = min(_CHUNK, b)
    turned = np.empty((width + 1, k + 4), values.dtype)[:, :k]
    folded = np.empty(k, values.dtype)
    for start in range(0, b, width):
        n = min(width, b - start)
        copy_transposed(turned[1 : n + 1], flat[:, start : start + n])
        if start:
            turned[0] = folded
        f.reduce(turned[0 if start else 1 : n + 1], axis=0, out=folded)
    return folded.reshape(outer)
