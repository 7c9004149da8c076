"""A matrix product in blocks whose columns the cores share, as AWS's last step of its matmul tutorial has it."""

import nki
import nki.isa as nisa
import nki.language as nl

ROWS, COLUMNS = 128, 512  # of a tile


@nki.jit
def product_in_blocks(a, b, m_tiles, n_tiles, k_tiles, wide=True):
    """out[M, N] = a[K, M].T @ b[K, N], that many tiles of M, N and K at a time.

    Each core has its part of N, and sums in SBUF, in float32 or, as AWS has it, in the dtype of the output.
    """
    (length, rows), columns = a.shape, b.shape[1]
    cores = nl.num_programs() if nl.program_ndim() else 1
    own = columns // cores
    begin = own * (nl.program_id(0) if cores > 1 else 0)
    width = n_tiles * COLUMNS
    out = nl.ndarray((rows, columns), a.dtype, nl.shared_hbm)
    for first in range(begin, begin + own, width):
        sums = [nl.ndarray((ROWS, n_tiles, COLUMNS), nl.float32 if wide else out.dtype) for _ in range(0, rows, ROWS)]
        for total in sums:
            nisa.memset(total, 0.0)
        for start in range(0, length, k_tiles * ROWS):
            moving = _loaded(b[start : start + k_tiles * ROWS, first : first + width], k_tiles)
            for above in range(0, rows // ROWS, m_tiles):
                part = a[start : start + k_tiles * ROWS, above * ROWS : (above + m_tiles) * ROWS]
                stationary = _loaded(part, k_tiles)
                for n in range(n_tiles):
                    for m, total in enumerate(sums[above : above + m_tiles]):
                        product = nl.ndarray((ROWS, COLUMNS), nl.float32, nl.psum)
                        for k in range(k_tiles):
                            tile = stationary[:, k, m * ROWS : (m + 1) * ROWS]
                            nisa.nc_matmul(product, tile, moving[:, k, n * COLUMNS : (n + 1) * COLUMNS])
                        nisa.tensor_tensor(total[:, n], total[:, n], product, nl.add)
        for m, total in enumerate(sums):
            nisa.dma_copy(out[m * ROWS : (m + 1) * ROWS, first : first + width], total.reshape((ROWS, width)))
    return out


def _loaded(part, tiles):
    block = nl.ndarray((ROWS, tiles, part.shape[1]), part.dtype)
    for k in range(tiles):
        nisa.dma_copy(block[:, k], part[k * ROWS : (k + 1) * ROWS])
    return block
