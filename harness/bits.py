"""How two arrays of one shape and dtype differ: in their bits, and in where they are NaN or infinite."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from triptych.harness.arrays import Array


def same_bits(a: Array, b: Array) -> Array:
    """Which elements have the same bits."""
    bits = f"u{a.dtype.itemsize}"
    return np.asarray(np.ascontiguousarray(a).view(bits) == np.ascontiguousarray(b).view(bits))


def first_difference(a: Array, b: Array) -> tuple[int, list[int]] | None:
    """How many elements have other bits, and the first; None if none. All NaNs count as one."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return max(a.size, b.size), [0] * a.ndim
    other = ~same_bits(a, b)
    if other.any():
        other &= ~(np.isnan(a.astype(np.float64)) & np.isnan(b.astype(np.float64)))
    if not other.any():
        return None
    first = np.unravel_index(int(np.argmax(other)), other.shape)
    return int(other.sum()), [int(i) for i in first]


def both_finite(a: Array, b: Array) -> Array:
    """Where two float64 arrays are both finite."""
    return np.asarray(np.isfinite(a) & np.isfinite(b))


def nonfinite_apart(a: Array, b: Array) -> Array:
    """Where one of two float64 arrays is NaN or infinite and the other is not so in the same way."""
    return np.asarray(~both_finite(a, b) & ~((a == b) | (np.isnan(a) & np.isnan(b))))


def digest(x: Array) -> int:
    """A number that changes with the bytes of `x`."""
    flat: Any = np.ascontiguousarray(x).reshape(-1).view(np.uint8)
    return zlib.crc32(flat)
