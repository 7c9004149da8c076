"""The pattern that memory starts out with, so that what was never written is known when it is read."""

from __future__ import annotations

from typing import Any

import numpy as np

from triptych.harness.arrays import Array

UNWRITTEN = {1: 0x7F, 2: 0x7FD3, 4: 0x7FD3D3D3, 8: 0x7FF3D3D3D3D3D3D3}  # by item size: a NaN in IEEE's wider formats


def fill(data: Array, dtype: np.dtype[Any]) -> None:
    """Give every element of `dtype` in these bytes the pattern; a bool, which has none, becomes true."""
    if dtype.itemsize in UNWRITTEN and dtype.kind != "c":
        data.view(f"u{dtype.itemsize}")[...] = 1 if dtype.kind == "b" else UNWRITTEN[dtype.itemsize]
