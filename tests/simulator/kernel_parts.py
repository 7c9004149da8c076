"""What kernels in the tests are made of, and what is asked of their traces."""

from __future__ import annotations

import inspect

from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.collectives as ncc
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


def product(lhsT, rhs):
    """A kernel: one tile of a matmul, each transfer on a line of its own."""
    out = nl.ndarray((lhsT.shape[1], rhs.shape[1]), "float32", nl.shared_hbm)
    a, b = nl.ndarray(lhsT.shape, lhsT.dtype), nl.ndarray(rhs.shape, rhs.dtype)
    nisa.dma_copy(a, lhsT)
    nisa.dma_copy(b, rhs)
    tile = nl.ndarray(out.shape, "float32", nl.psum)
    nisa.nc_matmul(tile, a, b)
    copied = nl.ndarray(out.shape, "float32")
    nisa.tensor_copy(copied, tile)
    nisa.dma_copy(out, copied)
    return out


def chained_matmuls():
    """Ten matmuls, each after a copy of the last, which keep the Tensor Engine cold."""
    t, tile = nl.ndarray((128, 512), "bfloat16"), nl.ndarray((128, 512), "float32", nl.psum)
    nisa.memset(t, 1.0)
    for _ in range(10):
        nisa.nc_matmul(tile, t[:, 0:128], t)
        nisa.activation(t, nl.copy, tile)


def register_of(x):
    """A register that holds the one element of a tensor of HBM."""
    register = nisa.register_alloc()
    nisa.register_load(register, in_sbuf(x))
    return register


def hbm():
    """Where a collective's tensors lie: in a core's own HBM, or where two cores share a rank in that of both."""
    return nl.shared_hbm if nl.num_programs() > 1 else nl.private_hbm


def world(ranks):
    """All ranks in one group."""
    return ncc.ReplicaGroup([list(range(ranks))])


def issued(c):
    """(instruction, engine) of a core's events."""
    return [(e.op, e.engine) for e in c.trace.events]


def here():
    """(file, line) of the caller."""
    frame = inspect.currentframe().f_back
    return frame.f_code.co_filename, frame.f_lineno
