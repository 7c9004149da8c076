"""Kernels that copy, scale and overwrite an argument, for the tests of what goes into a kernel and comes out."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

A = np.arange(12, dtype=np.float32).reshape(3, 4)
BF16 = ml_dtypes.bfloat16
SHARED = ("float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "int8", "int16", "int32", "uint8", "bool")


def copied(a, dtype=None):
    """A new tensor in HBM that holds `a`, by way of a tile."""
    tile, out = nl.ndarray(a.shape, a.dtype), nl.ndarray(a.shape, dtype or a.dtype, nl.shared_hbm)
    nisa.dma_copy(tile, a)
    nisa.dma_copy(out, tile)
    return out


def scaled(a, factor=2.0):
    """a * factor, in a's dtype"""
    tile, out = nl.ndarray(a.shape, a.dtype), nl.ndarray(a.shape, a.dtype, nl.shared_hbm)
    nisa.dma_copy(tile, a)
    nisa.tensor_scalar(tile, tile, nl.multiply, factor)
    nisa.dma_copy(out, tile)
    return out


def both(a, b):
    return scaled(a, 3.0), scaled(b, -1.0)


def fill(a, value):
    """Sets all but the first row of `a`."""
    tile = nl.ndarray((a.shape[0] - 1, a.shape[1]), a.dtype)
    nisa.memset(tile, value)
    nisa.dma_copy(a[1:], tile)


def overwrite(a, value=7.0):
    """Sets all but the first row of its input, and returns a copy of what it then holds."""
    fill(a, value)
    return copied(a)


def overwritten(a, value=7.0):
    expected = a.copy()
    expected[1:] = value
    return expected


def returns(value):
    def kernel(a):
        return value(a)

    return kernel


def same(out, expected):
    np.testing.assert_array_equal(np.asarray(out).astype(np.float32), np.asarray(expected).astype(np.float32))
