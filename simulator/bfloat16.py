"""bfloat16 and float32, many elements at a time: the upper half of a float32 is a bfloat16.

The bits of NumPy's casts (of ml_dtypes), which go element by element and take two to three times as long; in one pass
where that is compiled (simulator/compiled/casts.c).
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from triptych.simulator.built import built

Array = NDArray[Any]
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
_F32, _HALF, _WHOLE = np.dtype(np.float32), np.dtype(np.uint16), np.dtype(np.uint32)
_BELOW_HALF = np.uint32(0x7FFF)  # of what the lower bits count at most
_FEW, _BLOCK = 1 << 11, 1 << 15  # elements below which one cast is faster, and that are rounded at once
_casts = built("casts")


def to_float32(values: Array) -> Array:
    """The elements in float32, as `values.astype(numpy.float32)` gives them."""
    if values.dtype is not BFLOAT16:
        return values.astype(_F32)
    out = np.empty_like(values, _F32)
    bits = out.view(_WHOLE)
    if _casts is not None and _casts.widen(values.view(_HALF), bits):
        return out
    if values.size < _FEW:
        return values.astype(_F32)
    np.copyto(bits, values.view(_HALF))
    np.left_shift(bits, 16, out=bits)
    return out


def round_to_bfloat16(values: Array, out: Array) -> None:
    """out[...] = float32 values, to nearest even."""
    bits, halves = values.view(_WHOLE), out.view(_HALF)
    if _casts is not None and _casts.narrow(bits, halves):
        return
    if values.size < _FEW or np.isnan(values.max()):  # the largest is NaN if any is; it would be rounded like a number
        np.copyto(out, values, casting="unsafe")
        return
    rows = max(1, _BLOCK * len(values) // values.size)
    for first in range(0, len(values), rows):
        block = bits[first : first + rows]
        odd = np.right_shift(block, 16)
        np.bitwise_and(odd, 1, out=odd)
        odd += block
        odd += _BELOW_HALF
        np.right_shift(odd, 16, out=odd)
        np.copyto(halves[first : first + rows], odd, casting="unsafe")
