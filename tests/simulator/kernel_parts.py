"""What kernels in the tests are made of: loads, stores and registers that come from arguments."""

from __future__ import annotations

from triptych.simulator.lend import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl


def in_sbuf(x):
    """A tile that holds a tensor of HBM."""
    tile = nl.ndarray(x.shape, x.dtype)
    nisa.dma_copy(dst=tile, src=x)
    return tile


def in_hbm(tile):
    """An output that holds a tile."""
    out = nl.ndarray(tile.shape, tile.dtype, nl.shared_hbm)
    nisa.dma_copy(dst=out, src=tile)
    return out


def register_of(x):
    """A register that holds the one element of a tensor of HBM."""
    register = nisa.register_alloc()
    nisa.register_load(register, in_sbuf(x))
    return register
