"""Matrix multiplication on the Tensor Engine: out[M, N] = lhsT[K, M].T @ rhs[K, N].

Both inputs have the contraction K first, because the systolic array contracts over the partitions: `lhsT` is the usual
left operand delivered transposed, so that no tile needs a transpose on the way.

    matmul_tiled       one output tile at a time; every tile of both inputs is loaded where it is used
    matmul             a block of the output fills PSUM while K streams by, and panels of both inputs stay in SBUF
    matmul_two_cores   the same on two cores that share their HBM: each computes half of the rows or of the columns
    matmul_mk          the same, of a left operand [M, K] as it is usually stored, which DMA transposes
    matmul_batched     the same for each of B products: lhsT[B, K, M] and rhs[B, K, N]

Any M, N and K work: the last tile of each dimension is as small as what is left. Inputs are float32, bfloat16 or
float16 (both the same), products accumulate in float32, and the output has the inputs' dtype.

Dimensions
    M    rows of the output: stationary columns, at most 128 a tile, then partitions of PSUM
    N    columns of the output: moving columns, at most 512 a tile, one PSUM bank of float32
    K    contraction: partitions of both inputs, at most 128 a tile
"""

import nki
import nki.isa as nisa
import nki.language as nl

PANEL = 1024  # rows of the output whose part of lhsT is loaded at once: 2 KiB a partition in two bytes
MOST_K = 4096  # contraction over which a panel of both inputs fits in SBUF in two bytes; half in float32
ROWS = 4  # of tiles in a block of the output, and
COLUMNS = 2  # of tiles: their product is at most the eight banks of PSUM
TURN = 4  # tiles of K that a bank takes before it is the next bank's turn

KNOBS = {  # what `triptych tune` may set in place of the above
    "PANEL": (512, 1024, 2048),
    "ROWS": (1, 2, 4, 8),
    "COLUMNS": (1, 2, 4),
    "TURN": (1, 2, 4, 8),
}


@nki.jit
def matmul_tiled(lhsT, rhs):
    """out[M, N] = lhsT[K, M].T @ rhs[K, N], tile by tile.

    For each tile of the output, the tiles of lhsT and rhs along K are loaded and their products accumulate in one PSUM
    bank. lhsT is read N/512 times from HBM and rhs M/128 times, so large products wait for DMA: `matmul` mends that.
    """
    K, M, N = _check(lhsT, rhs)
    TILE_K, TILE_M, TILE_N = _tile_sizes()
    out = nl.ndarray((M, N), dtype=lhsT.dtype, buffer=nl.shared_hbm)
    for m0 in range(0, M, TILE_M):
        m = min(TILE_M, M - m0)
        for n0 in range(0, N, TILE_N):
            n = min(TILE_N, N - n0)
            product = nl.ndarray((m, n), dtype=nl.float32, buffer=nl.psum)
            for k0 in range(0, K, TILE_K):
                k = min(TILE_K, K - k0)
                lhs_tile = nl.ndarray((k, m), dtype=lhsT.dtype, buffer=nl.sbuf)
                rhs_tile = nl.ndarray((k, n), dtype=rhs.dtype, buffer=nl.sbuf)
                nisa.dma_copy(dst=lhs_tile, src=lhsT[k0 : k0 + k, m0 : m0 + m])
                nisa.dma_copy(dst=rhs_tile, src=rhs[k0 : k0 + k, n0 : n0 + n])
                nisa.nc_matmul(dst=product, stationary=lhs_tile, moving=rhs_tile, accumulate=k0 > 0)
            out_tile = nl.ndarray((m, n), dtype=out.dtype, buffer=nl.sbuf)
            nisa.tensor_copy(dst=out_tile, src=product)  # PSUM -> SBUF, rounded to the output's dtype
            nisa.dma_copy(dst=out[m0 : m0 + m, n0 : n0 + n], src=out_tile)
    return out


@nki.jit
def matmul(lhsT, rhs):
    """out[M, N] = lhsT[K, M].T @ rhs[K, N], blocked: a block of the output fills PSUM while K streams by.

    A block of 512 x 1024 is eight tiles, one a bank. Loads bring four tiles of K at once, of 2 KiB a partition, and
    each bank takes four products from them before it is the next bank's turn: so in the last turn the banks finish one
    after the other, each emptied while the others still compute. In the first block, for whose loads products wait, a
    turn is one tile of K. The sums of up to MOST_K never leave PSUM, and are rounded once, on their way out; beyond
    that, blocks of K are added up in float32 in SBUF.

    Up to 128 rows wait for DMA alone, and nothing of rhs is needed twice: the eight tiles are one row of 4096 columns,
    which come in longer runs, a tile of K at once, and all of K stays in PSUM.

    A panel of rhs, 1024 columns, stays in SBUF while all panels of lhsT, 1024 rows of the output, pass by. Per
    partition, in KiB, for 4096 of K in two bytes: rhs 64 and lhsT 64, each tile replaced as soon as its last product is
    done, and rows of the output 4; for more K rhs 32, lhsT 32 and sums 64; of 192.
    """
    K, M, N = _check(lhsT, rhs)
    out = nl.ndarray((M, N), dtype=lhsT.dtype, buffer=nl.shared_hbm)
    _warm_up()
    if M > N:
        begin, end = _share(M, nl.tile_size.gemm_stationary_fmax)
        if begin < end:
            _multiply(out[begin:end, :], lhsT[:, begin:end], rhs, False)
    else:
        begin, end = _share(N, nl.tile_size.gemm_moving_fmax)
        if begin < end:
            _multiply(out[:, begin:end], lhsT, rhs[:, begin:end], False)
    return out


matmul_two_cores = matmul[2]


@nki.jit
def matmul_mk(lhs, rhs):
    """out[M, N] = lhs[M, K] @ rhs[K, N]: as `matmul`, of a left operand as it is usually stored.

    DMA transposes it on its way in (documented at up to 90 % of its rate), once for each 1024 columns of the output, so
    that the Tensor Engine does products alone.
    """
    K, M, N = _check(lhs.permute((1, 0)), rhs)
    out = nl.ndarray((M, N), dtype=lhs.dtype, buffer=nl.shared_hbm)
    _warm_up()
    _multiply(out, lhs, rhs, True)
    return out


@nki.jit
def matmul_batched(lhsT, rhs):
    """out[b, M, N] = lhsT[b, K, M].T @ rhs[b, K, N] for each b of B: as `matmul`, one product after the other."""
    assert len(lhsT.shape) == 3 and len(rhs.shape) == 3 and lhsT.shape[0] == rhs.shape[0], (
        f"matmul_batched takes lhsT[B, K, M] and rhs[B, K, N], got shapes {lhsT.shape} and {rhs.shape}"
    )
    K, M, N = _check(lhsT[0], rhs[0])
    out = nl.ndarray((lhsT.shape[0], M, N), dtype=lhsT.dtype, buffer=nl.shared_hbm)
    _warm_up()
    for b in range(lhsT.shape[0]):
        _multiply(out[b], lhsT[b], rhs[b], False)
    return out


def _share(size, tile):
    """This core's part of an axis, as (begin, end): whole tiles, the same number for each core as far as they go."""
    cores = nl.num_programs()
    each = -(-size // (tile * cores)) * tile
    return nl.program_id(0) * each, min(size, (nl.program_id(0) + 1) * each)


def _multiply(out, lhs, rhs, is_given):
    """The loops of all: lhs is [M, K] as given, or [K, M]."""
    M, N = out.shape
    K = rhs.shape[0]
    _, TILE_M, TILE_N = _tile_sizes()
    narrow = 2 if rhs.dtype == nl.float32 else 1
    few = M <= TILE_M  # one row of tiles: nothing of rhs is needed twice
    whole = few or K <= MOST_K // narrow
    BLOCK_K = K if whole else MOST_K // 2 // narrow
    BLOCK_M = M if whole else 2 * PANEL
    BLOCK_N = ROWS * COLUMNS * TILE_N if few else COLUMNS * TILE_N
    for n0 in range(0, N, BLOCK_N):
        bn = min(BLOCK_N, N - n0)
        resident = {}
        for m0 in range(0, M, BLOCK_M):
            sums = {}  # of rows m0 + mi, where one block of K is not all
            for k0 in range(0, K, BLOCK_K):
                bk = min(BLOCK_K, K - k0)
                is_last = k0 + bk == K
                if few:
                    turns = _turns(k0, bk, 1 if is_given else max(1, min(TURN, BLOCK_N // bn)))
                else:
                    turns = _turns(k0, bk, 1 if n0 == 0 and (whole or m0 + k0 == 0) else TURN)
                if not whole:
                    resident = {}
                for p0 in range(m0, min(m0 + BLOCK_M, M), PANEL):
                    bp = min(PANEL, min(m0 + BLOCK_M, M) - p0)
                    panel = {}
                    for b0 in range(0, bp, ROWS * TILE_M):
                        rows = range(b0, min(b0 + ROWS * TILE_M, bp), TILE_M)
                        banks = _block(rhs, lhs, is_given, turns, n0, bn, p0, bp, rows, resident, panel)
                        for mi in rows:
                            _drain(out, sums, banks[mi], p0 + mi, n0, bn, is_last)


def _block(rhs, lhs, is_given, turns, n0, bn, p0, bp, rows, resident, panel):
    """The sums over all turns of a block of the output, in PSUM: {first row: [tiles of 512 columns]}."""
    _, TILE_M, TILE_N = _tile_sizes()
    banks = {}
    for mi in rows:
        banks[mi] = []
        for ni in range(0, bn, TILE_N):
            banks[mi].append(nl.ndarray((min(TILE_M, bp - mi), min(TILE_N, bn - ni)), dtype=nl.float32, buffer=nl.psum))
    for g0, g in turns:
        if g0 not in resident:
            resident[g0] = _load_rows(rhs, g0, g, n0, bn)
        if g0 not in panel:
            panel[g0] = _load_transposed(lhs, g0, g, p0, bp) if is_given else _load_rows(lhs, g0, g, p0, bp)
        for mi in rows:
            for c in range(len(banks[mi])):
                product = banks[mi][c]
                m, n = product.shape
                for k, t in _tiles(g):
                    nisa.nc_matmul(
                        dst=product,
                        stationary=panel[g0][0:k, t, mi : mi + m],
                        moving=resident[g0][0:k, t, c * TILE_N : c * TILE_N + n],
                        accumulate=g0 + t > turns[0][0],
                    )
    return banks


def _warm_up():
    """While the first loads are on their way: products of zeros, which raise the Tensor Engine's clock."""
    P, N = nl.tile_size.pmax, nl.tile_size.gemm_moving_fmax
    zeros = nl.ndarray((P, N), dtype=nl.bfloat16, buffer=nl.sbuf)
    nisa.memset(zeros, 0.0)
    nothing = nl.ndarray((P, N), dtype=nl.float32, buffer=nl.psum)
    for _ in range(7):
        nisa.nc_matmul(dst=nothing, stationary=zeros[:, 0:P], moving=zeros, accumulate=False)


def _turns(k0, bk, most):
    """(first k, how many) of each turn: so many tiles, the last one full."""
    P = nl.tile_size.pmax
    turns, k, end = [], k0, k0 + bk
    while k < end:
        tiles = -(-(end - k) // P)
        size = (tiles - 1) % most + 1
        turns.append((k, min(size * P, end - k)))
        k += size * P
    return turns


def _tiles(g):
    """(rows, index) of the tiles of 128 that hold g rows."""
    P, found = nl.tile_size.pmax, []
    for k in range(0, g, P):
        found.append((min(P, g - k), k // P))
    return found


def _load_rows(source, k0, g, c0, bc):
    """The rows k0 .. k0+g of source, columns c0 .. c0+bc, in tiles of 128 rows beside each other: [128, tiles, bc]."""
    P = nl.tile_size.pmax
    loaded = nl.ndarray((P, -(-g // P), bc), dtype=source.dtype, buffer=nl.sbuf)
    full = g // P
    if full > 0:
        rows = source[k0 : k0 + full * P, c0 : c0 + bc]
        nisa.dma_copy(dst=loaded[:, 0:full, :], src=rows.reshape((full, P, bc)).permute((1, 0, 2)))
    if g > full * P:
        nisa.dma_copy(dst=loaded[0 : g - full * P, full, :], src=source[k0 + full * P : k0 + g, c0 : c0 + bc])
    return loaded


def _load_transposed(source, k0, g, r0, br):
    """The columns k0 .. k0+g of source, rows r0 .. r0+br, transposed: [128, tiles, br] as from `_load_rows`."""
    P = nl.tile_size.pmax
    loaded = nl.ndarray((P, -(-g // P), br), dtype=source.dtype, buffer=nl.sbuf)
    for k, t in _tiles(g):
        nisa.dma_transpose(dst=loaded[0:k, t, :], src=source[r0 : r0 + br, k0 + t * P : k0 + t * P + k])
    return loaded


def _drain(out, sums, banks, m0, n0, bn, is_last):
    """Take a row of tiles out of PSUM: to the output if all of K is in, else onto the sums of the blocks before.

    Vector and Scalar take turns: where K is short, one engine alone would be the limit.
    """
    m = banks[0].shape[0]
    TILE_N = nl.tile_size.gemm_moving_fmax
    is_first = m0 not in sums
    if is_last:
        row = nl.ndarray((m, bn), dtype=out.dtype, buffer=nl.sbuf)
    elif is_first:
        sums[m0] = nl.ndarray((m, bn), dtype=nl.float32, buffer=nl.sbuf)
        row = sums[m0]
    else:
        row = sums[m0]
    for c in range(len(banks)):
        n = banks[c].shape[1]
        part = row[:, c * TILE_N : c * TILE_N + n]
        if is_first and (c + m0 // m) % 2 == 0:
            nisa.tensor_copy(dst=part, src=banks[c])
        elif is_first:
            nisa.activation(dst=part, op=nl.copy, data=banks[c])
        else:
            before = sums[m0][:, c * TILE_N : c * TILE_N + n]
            nisa.tensor_tensor(dst=part, data1=before, data2=banks[c], op=nl.add)
    if is_last:
        nisa.dma_copy(dst=out[m0 : m0 + m, n0 : n0 + bn], src=row)


def _tile_sizes():
    """(TILE_K, TILE_M, TILE_N): partitions, stationary columns and moving columns of one matmul."""
    return nl.tile_size.pmax, nl.tile_size.gemm_stationary_fmax, nl.tile_size.gemm_moving_fmax


def _check(lhsT, rhs):
    assert len(lhsT.shape) == 2 and len(rhs.shape) == 2, (
        f"matmul takes lhsT[K, M] and rhs[K, N], got shapes {lhsT.shape} and {rhs.shape}"
    )
    K, M = lhsT.shape
    assert rhs.shape[0] == K, f"lhsT[K, M] and rhs[K, N] must share K, got shapes {lhsT.shape} and {rhs.shape}"
    assert lhsT.dtype == rhs.dtype, f"lhsT and rhs must have one dtype, got {lhsT.dtype} and {rhs.dtype}"
    assert lhsT.dtype == nl.float32 or lhsT.dtype == nl.bfloat16 or lhsT.dtype == nl.float16, (
        f"matmul takes float32, bfloat16 or float16, got {lhsT.dtype}"
    )
    return K, M, rhs.shape[1]
