"""A matrix copied transposed, bit for bit; in blocks where that is compiled (simulator/compiled/casts.c)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from triptych.simulator.built import built

Array = NDArray[Any]
_casts = built("casts")


def copy_transposed(out: Array, values: Array) -> None:
    """out[F, P] = values[P, F].T, of one dtype that is NumPy's own; they may share bytes."""
    if _casts is None or not _casts.transpose(values, out):
        # By way of padded rows: whole power-of-two rows would all fall on a few cache lines.
        padded = np.empty((values.shape[0], values.shape[1] + 4), values.dtype)[:, : values.shape[1]]
        padded[...] = values
        out[...] = padded.T
