"""Copies of a matrix through SBUF, by tiles of 128 rows or by chunks of it all, and RMSNorm by tiles of 128 rows."""

import nki
import nki.isa as nisa
import nki.language as nl

ROWS = 128


@nki.jit
def copied_by_tiles(x):
    """One load and one store for 128 rows."""
    out = nl.ndarray(x.shape, x.dtype, nl.shared_hbm)
    for first in range(0, x.shape[0], ROWS):
        tile = nl.ndarray((ROWS, x.shape[1]), x.dtype)
        nisa.dma_copy(tile, x[first : first + ROWS])
        nisa.dma_copy(out[first : first + ROWS], tile)
    return out


@nki.jit
def copied_in_chunks(x, chunks):
    """Each partition has a 128th of the rows, one after the other, and moves as many elements in each chunk."""
    out = nl.ndarray(x.shape, x.dtype, nl.shared_hbm)
    elements = x.shape[0] // ROWS * x.shape[1]
    source, target = (y.reshape((ROWS, elements)) for y in (x, out))
    width = elements // chunks
    for first in range(0, elements, width):
        tile = nl.ndarray((ROWS, width), x.dtype)
        nisa.dma_copy(tile, source[:, first : first + width])
        nisa.dma_copy(target[:, first : first + width], tile)
    return out


@nki.jit
def normalised_by_tiles(x, w):
    """out = x / sqrt(mean(x^2) + 1e-6) * w by rows, in float32. Each partition loads w by a transfer of its own."""
    rows, columns = x.shape
    out = nl.ndarray(x.shape, x.dtype, nl.shared_hbm)
    weights = nl.ndarray((ROWS, columns), w.dtype)
    for partition in range(ROWS):
        nisa.dma_copy(weights[partition : partition + 1], w)
    for first in range(0, rows, ROWS):
        tile = nl.ndarray((ROWS, columns), x.dtype)
        nisa.dma_copy(tile, x[first : first + ROWS])
        squares = nl.ndarray((ROWS, columns), nl.float32)
        total, factor = (nl.ndarray((ROWS, 1), nl.float32) for _ in range(2))
        nisa.activation_reduce(squares, nl.square, tile, reduce_op=nl.add, reduce_res=total)
        nisa.activation(factor, nl.rsqrt, total, scale=1 / columns, bias=1e-6)
        scaled = nl.ndarray((ROWS, columns), nl.float32)
        nisa.tensor_scalar(scaled, tile, nl.multiply, factor)
        result = nl.ndarray((ROWS, columns), x.dtype)
        nisa.tensor_tensor(result, scaled, weights, nl.multiply)
        nisa.dma_copy(out[first : first + ROWS], result)
    return out
