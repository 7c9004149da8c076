"""Matrix multiplication on the Tensor Engine: out[M, N] = lhsT[K, M].T @ rhs[K, N].

Both inputs have the contraction K first, because the systolic array contracts over the partitions: `lhsT` is the usual
left operand delivered transposed, so that no tile needs a transpose on the way.

    matmul_tiled   one output tile at a time; every tile of both inputs is loaded where it is used
    matmul         blocked in M, N and K: a loaded tile is used for a whole block before it is dropped

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
    """out[M, N] = lhsT[K, M].T @ rhs[K, N], blocked in all three dimensions.

    A block of the output, up to 2048 x 1024, is accumulated in SBUF while blocks of K pass by. Within a block of K the
    partial product of each tile accumulates in PSUM; only the blocks of K are added on the Vector Engine. Each load
    moves a whole row of a block, 2 KiB or more a partition, at which DMA runs near its peak.

    SBUF per partition, in KiB, for two-byte inputs (float32 halves the block of M and doubles the size of an element):
    accumulators 64, and lhsT 32 and rhs 16 for each of the two blocks of K that loads and matmuls overlap: 160 of 192.
    """
    K, M, N = _check(lhsT, rhs)
    TILE_K, TILE_M, TILE_N = _tile_sizes()
    BLOCK_K = 8 * TILE_K
    BLOCK_N = 2 * TILE_N
    BLOCK_M = (8 if lhsT.dtype == nl.float32 else 16) * TILE_M

    out = nl.ndarray((M, N), dtype=lhsT.dtype, buffer=nl.shared_hbm)
    # Partial sums of several blocks of K are kept in float32; a single block is rounded once, on its way out of PSUM.
    sum_dtype = out.dtype if K <= BLOCK_K else nl.float32
    for n0 in range(0, N, BLOCK_N):
        bn = min(BLOCK_N, N - n0)
        for m0 in range(0, M, BLOCK_M):
            bm = min(BLOCK_M, M - m0)
            sums = []
            for mi in range(0, bm, TILE_M):
                sums.append(nl.ndarray((min(TILE_M, bm - mi), bn), dtype=sum_dtype, buffer=nl.sbuf))

            for k0 in range(0, K, BLOCK_K):
                bk = min(BLOCK_K, K - k0)
                lhs_tiles = _load_rows(lhsT, k0, bk, m0, bm)
                rhs_tiles = _load_rows(rhs, k0, bk, n0, bn)
                for mi in range(0, bm, TILE_M):
                    m = min(TILE_M, bm - mi)
                    for ni in range(0, bn, TILE_N):
                        n = min(TILE_N, bn - ni)
                        product = nl.ndarray((m, n), dtype=nl.float32, buffer=nl.psum)
                        for ki in range(len(lhs_tiles)):
                            nisa.nc_matmul(
                                dst=product,
                                stationary=lhs_tiles[ki][:, mi : mi + m],
                                moving=rhs_tiles[ki][:, ni : ni + n],
                                accumulate=ki > 0,
                            )
                        total = sums[mi // TILE_M][:, ni : ni + n]
                        if k0 == 0:
                            nisa.tensor_copy(dst=total, src=product)
                        else:
                            nisa.tensor_tensor(dst=total, data1=total, data2=product, op=nl.add)

            for mi in range(0, bm, TILE_M):
                m = min(TILE_M, bm - mi)
                total = sums[mi // TILE_M]
                if total.dtype != out.dtype:
                    rounded = nl.ndarray((m, bn), dtype=out.dtype, buffer=nl.sbuf)
                    nisa.tensor_copy(dst=rounded, src=total)
                    total = rounded
                nisa.dma_copy(dst=out[m0 + mi : m0 + mi + m, n0 : n0 + bn], src=total)
    return out


def _load_rows(source, k0, bk, c0, bc):
    """The rows k0 .. k0+bk of source, columns c0 .. c0+bc, as SBUF tiles of up to 128 rows."""
    tiles = []
    for ki in range(0, bk, nl.tile_size.pmax):
        k = min(nl.tile_size.pmax, bk - ki)
        tile = nl.ndarray((k, bc), dtype=source.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=source[k0 + ki : k0 + ki + k, c0 : c0 + bc])
        tiles.append(tile)
    return tiles


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
