"""A product by its tiles, as AWS's first step of its matmul tutorial has it, and what a hackathon made of that step.

All compute out[M, N] = a[K, M].T @ b[K, N] in tiles of 128 x 128 of a and 128 x 512 of b, and sum over K in PSUM.
"""

import nki
import nki.isa as nisa
import nki.language as nl

ROWS, COLUMNS = 128, 512  # of a tile of the output


@nki.jit
def product_of_tiles(a, b, columns_first=False):
    """Each product loads both of its tiles; tiles of the output by rows or, the other way round, by columns."""
    out = _output(a, b)
    for m, n in _places(out, columns_first):
        total = nl.ndarray((ROWS, COLUMNS), nl.float32, nl.psum)
        for k in range(a.shape[0] // ROWS):
            nisa.nc_matmul(total, _loaded(_at(a, k, m, ROWS)), _loaded(_at(b, k, n, COLUMNS)))
        _store(out, m, n, total)
    return out


@nki.jit
def product_with_a_kept(a, b):
    """A strip of a stays in SBUF for all tiles of its rows."""
    out = _output(a, b)
    for m in range(out.shape[0] // ROWS):
        strip = _strip(a, m, ROWS)
        for n in range(out.shape[1] // COLUMNS):
            total = nl.ndarray((ROWS, COLUMNS), nl.float32, nl.psum)
            for k in range(a.shape[0] // ROWS):
                nisa.nc_matmul(total, strip[:, k], _loaded(_at(b, k, n, COLUMNS)))
            _store(out, m, n, total)
    return out


@nki.jit
def product_with_b_kept(a, b, tiles=1, one_buffer=False):
    """A strip of b, that many tiles wide, stays in SBUF for all tiles of its columns.

    Tiles of a are loaded to memory of their own or, all of one strip's product, to the same.
    """
    out = _output(a, b)
    for first in range(0, out.shape[1] // COLUMNS, tiles):
        strip = _strip(b, first // tiles, tiles * COLUMNS)
        for m in range(out.shape[0] // ROWS):
            totals = nl.ndarray((ROWS, tiles, COLUMNS), nl.float32, nl.psum)
            shared = nl.ndarray((ROWS, ROWS), a.dtype) if one_buffer else None
            for k in range(a.shape[0] // ROWS):
                tile = _loaded(_at(a, k, m, ROWS), shared)
                for i in range(tiles):
                    nisa.nc_matmul(totals[:, i], tile, strip[:, k, i * COLUMNS : (i + 1) * COLUMNS])
            for i in range(tiles):
                _store(out, m, first + i, totals[:, i])
    return out


@nki.jit
def product_in_halves(a, b):
    """Both halves of K have a sum of their own in PSUM, which Vector adds."""
    out = _output(a, b)
    half = a.shape[0] // ROWS // 2
    for m, n in _places(out):
        halves = []
        for begin in (0, half):
            total = nl.ndarray((ROWS, COLUMNS), nl.float32, nl.psum)
            for k in range(begin, begin + half):
                nisa.nc_matmul(total, _loaded(_at(a, k, m, ROWS)), _loaded(_at(b, k, n, COLUMNS)))
            halves.append(total)
        copies = []
        for total in halves:
            copies.append(nl.ndarray((ROWS, COLUMNS), nl.float32))
            nisa.tensor_copy(copies[-1], total)
        tile = nl.ndarray((ROWS, COLUMNS), out.dtype)
        nisa.tensor_tensor(tile, copies[0], copies[1], nl.add)
        nisa.dma_copy(_at(out, m, n, COLUMNS), tile)
    return out


@nki.jit
def product_by_dma_that_computes(a, b):
    """All transfers are sums of a single term."""
    out = _output(a, b)
    for m, n in _places(out):
        total = nl.ndarray((ROWS, COLUMNS), nl.float32, nl.psum)
        for k in range(a.shape[0] // ROWS):
            pair = []
            for part in (_at(a, k, m, ROWS), _at(b, k, n, COLUMNS)):
                pair.append(nl.ndarray(part.shape, part.dtype))
                nisa.dma_compute(pair[-1], [part], reduce_op=nl.add)
            nisa.nc_matmul(total, *pair)
        tile = nl.ndarray((ROWS, COLUMNS), out.dtype)
        nisa.tensor_copy(tile, total)
        nisa.dma_compute(_at(out, m, n, COLUMNS), [tile], reduce_op=nl.add)
    return out


@nki.jit
def product_of_transposed(a, b):
    """DMA transposes each tile of a, and Tensor transposes it back."""
    out = _output(a, b)
    for m, n in _places(out):
        total = nl.ndarray((ROWS, COLUMNS), nl.float32, nl.psum)
        for k in range(a.shape[0] // ROWS):
            tile, transposed = (nl.ndarray((ROWS, ROWS), a.dtype) for _ in range(2))
            nisa.dma_transpose(transposed, _at(a, k, m, ROWS))
            back = nl.ndarray((ROWS, ROWS), a.dtype, nl.psum)
            nisa.nc_transpose(back, transposed)
            nisa.tensor_copy(tile, back)
            nisa.nc_matmul(total, tile, _loaded(_at(b, k, n, COLUMNS)))
        _store(out, m, n, total)
    return out


def _output(a, b):
    return nl.ndarray((a.shape[1], b.shape[1]), a.dtype, nl.shared_hbm)


def _places(out, columns_first=False):
    rows, columns = out.shape[0] // ROWS, out.shape[1] // COLUMNS
    if columns_first:
        return [(m, n) for n in range(columns) for m in range(rows)]
    return [(m, n) for m in range(rows) for n in range(columns)]


def _at(x, row, column, width):
    return x[row * ROWS : (row + 1) * ROWS, column * width : (column + 1) * width]


def _loaded(part, tile=None):
    if tile is None:
        tile = nl.ndarray(part.shape, part.dtype)
    nisa.dma_copy(tile, part)
    return tile


def _strip(x, column, width):
    strip = nl.ndarray((ROWS, x.shape[0] // ROWS, width), x.dtype)
    for k in range(x.shape[0] // ROWS):
        nisa.dma_copy(strip[:, k], _at(x, k, column, width))
    return strip


def _store(out, m, n, total):
    tile = nl.ndarray((ROWS, COLUMNS), out.dtype)
    nisa.tensor_copy(tile, total)
    nisa.dma_copy(_at(out, m, n, COLUMNS), tile)
