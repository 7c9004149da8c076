"""Sums of vectors and a transpose, as a course on parallel computing has them programmed."""

import nki
import nki.isa as nisa
import nki.language as nl

STATIC = nisa.dge_mode.none  # as their profiles count: no transfer of theirs has descriptors made while it runs


@nki.jit
def chunks_added(a, b, rows):
    """out[M] = a[M] + b[M], `rows` elements at a time, one on each partition."""
    out = nl.ndarray(a.shape, a.dtype, nl.shared_hbm)
    for start in range(0, a.shape[0], rows):
        some = slice(start, start + rows)
        x, y, total = (nl.ndarray((rows, 1), a.dtype) for _ in range(3))
        nisa.dma_copy(x, a[some], dge_mode=STATIC)
        nisa.dma_copy(y, b[some], dge_mode=STATIC)
        nisa.tensor_scalar(total, x, nl.add, y)
        nisa.dma_copy(out[some], total, dge_mode=STATIC)
    return out


@nki.jit
def columns_added(a, b, columns):
    """out[P, F] = a[P, F] + b[P, F], so many columns at a time."""
    out = nl.ndarray(a.shape, a.dtype, nl.shared_hbm)
    for start in range(0, a.shape[1], columns):
        some = slice(start, start + columns)
        x, y, total = (nl.ndarray((a.shape[0], columns), a.dtype) for _ in range(3))
        nisa.dma_copy(x, a[:, some], dge_mode=STATIC)
        nisa.dma_copy(y, b[:, some], dge_mode=STATIC)
        nisa.tensor_tensor(total, x, y, nl.add)
        nisa.dma_copy(out[:, some], total, dge_mode=STATIC)
    return out


@nki.jit
def transposed(a):
    """out[N, M] = a[M, N].T by tiles of 128 x 128 on the Tensor Engine."""
    out = nl.ndarray((a.shape[1], a.shape[0]), a.dtype, nl.shared_hbm)
    for m in range(0, a.shape[0], 128):
        for n in range(0, a.shape[1], 128):
            tile, turned = nl.ndarray((128, 128), a.dtype), nl.ndarray((128, 128), a.dtype)
            product = nl.ndarray((128, 128), a.dtype, nl.psum)
            nisa.dma_copy(tile, a[m : m + 128, n : n + 128], dge_mode=STATIC)
            nisa.nc_transpose(product, tile)
            nisa.tensor_copy(turned, product)
            nisa.dma_copy(out[n : n + 128, m : m + 128], turned, dge_mode=STATIC)
    return out
