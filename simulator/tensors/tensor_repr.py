"""What print and nl.device_print show of a tensor: its values at that moment, and -- where nothing was written."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from triptych.simulator.dtypes import DType

Array = NDArray[Any]


def values_text(values: Array, dtype: DType, written: Array | bool) -> str:
    """The elements as NumPy prints them; packed ones as their bits."""
    shown = values
    if dtype.kind == "x":
        digits = 2 * dtype.itemsize + 2
        shown = np.array([f"{bits:#0{digits}x}" for bits in values.ravel()]).reshape(values.shape)
    if written is True:
        return str(shown)
    return str(np.ma.masked_array(shown, ~np.broadcast_to(np.asarray(written), values.shape)))
