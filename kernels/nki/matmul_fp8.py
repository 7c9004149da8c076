"""A product of float8 numbers with scales: out[M, N] = lhs_scale[m] * rhs_scale[n] * sum_k lhsT[k, m] rhs[k, n].

Each row of the left operand (a token) and each column of the right one (an output channel) has its own float32 scale,
by which its numbers were divided when they were rounded to float8: `quantize_fp8` makes them. The scales meet the
float32 sums on their way out of PSUM, in one instruction of Vector, which costs the product nothing.

From NeuronCore-v3 on, the Tensor Engine multiplies float8 in *double rows*: each of its rows holds two numbers of the
contraction, and 256 of it pass in the time of 128. Both operands then come as [128 partitions, 2, columns]. Which two
numbers of K share a row is free, as long as it is the same in both, so two tiles of 128 that were loaded beside each
other are one pair: nothing is rearranged. What is left of K below 256 is multiplied as usual.

Blocked as `matmul` is: eight banks of PSUM, four tiles of rows by two of columns; 1024 columns of rhs stay in SBUF, if
they fit, while lhsT streams by; four pairs of K are multiplied into one bank before it is the next bank's turn. Up to
128 rows need no column twice, and the eight banks are for columns alone: DMA, for which they wait, has longer runs.

Dimensions
    M, N    rows and columns of the output, any number
    K       contraction, any number

Inputs are float8_e4m3 or float8_e5m2 (float8_e4m3fn from NeuronCore-v4 on); the output is bfloat16.
"""

import nki
import nki.isa as nisa
import nki.language as nl

P = 128  # partitions
BANK = 512  # float32 numbers of a PSUM bank: columns of one matmul
RESIDENT = 64 * 1024  # bytes a partition that 1024 columns of rhs may keep in SBUF
TURN = 8 * P  # of K: four pairs of tiles


@nki.jit
def matmul_fp8(lhsT, rhs, lhs_scale, rhs_scale):
    """out[M, N] of lhsT[K, M], rhs[K, N], lhs_scale[M] and rhs_scale[N], in bfloat16."""
    K, M, N = _check(lhsT, rhs, lhs_scale, rhs_scale)
    out = nl.ndarray((M, N), dtype=nl.bfloat16, buffer=nl.shared_hbm)
    _warm_up()
    block_n = 8 * BANK if M <= P else 2 * BANK
    for n0 in range(0, N, block_n):
        bn = min(block_n, N - n0)
        columns = {}
        scales = nl.ndarray((P, bn), dtype=nl.float32, buffer=nl.sbuf)
        nisa.dma_copy(dst=scales, src=rhs_scale[n0 : n0 + bn].reshape((1, bn)).broadcast(0, P))
        for p0 in range(0, M, 8 * P):
            bp = min(8 * P, M - p0)
            rows = {}
            if K * 2 * BANK // P > RESIDENT:
                columns = {}
            for m0 in range(0, bp, 4 * P):
                bm = min(4 * P, bp - m0)
                sums = []
                for m, _ in _tiles(bm):
                    sums.append(_banks(m, bn))

                for k0, size in _turns(K, n0 == 0):
                    if k0 not in columns:
                        columns[k0] = _load(rhs, k0, size, n0, bn)
                    if k0 not in rows:
                        rows[k0] = _load(lhsT, k0, size, p0, bp)
                    for i in range(len(sums)):
                        for c in range(len(sums[i])):
                            _accumulate(sums[i][c], rows[k0], m0 + i * P, columns[k0], c * BANK, size, k0 == 0)
                for i in range(len(sums)):
                    _store(out, sums[i], p0 + m0 + i * P, n0, lhs_scale, scales)
    return out


def _turns(K, is_cold):
    """(first k, how many) of each turn: four pairs of tiles, or one while products wait for loads."""
    turns, k = [], 0
    while k < K:
        size = min(2 * P if is_cold else TURN, K - k)
        turns.append((k, size))
        k += size
    return turns


def _accumulate(sums, rows, m0, columns, n0, size, is_first):
    """sums[m, n] (+)= rows[size, m0 : m0+m].T @ columns[size, n0 : n0+n]: pairs of full tiles, then what is left."""
    m, n = sums.shape
    is_double = nisa.get_nc_version() >= nisa.nc_version.gen3
    pairs = size // (2 * P) if is_double else 0
    for t in range(pairs):
        nisa.nc_matmul(
            dst=sums,
            stationary=rows[:, 2 * t : 2 * t + 2, m0 : m0 + m],
            moving=columns[:, 2 * t : 2 * t + 2, n0 : n0 + n],
            accumulate=not is_first or t > 0,
            perf_mode=nisa.matmul_perf_mode.double_row,
        )
    for k, t in _tiles(size):
        if t >= 2 * pairs:
            nisa.nc_matmul(
                dst=sums,
                stationary=rows[0:k, t, m0 : m0 + m],
                moving=columns[0:k, t, n0 : n0 + n],
                accumulate=not is_first or t > 0,
            )


def _store(out, banks, m0, n0, lhs_scale, rhs_scales):
    """Write a row of banks to out[m0 : m0+m, n0 : ...], each sum times its row's scale and its column's."""
    m, bn = banks[0].shape[0], rhs_scales.shape[1]
    row_scale = nl.ndarray((m, 1), dtype=nl.float32, buffer=nl.sbuf)
    nisa.dma_copy(dst=row_scale, src=lhs_scale[m0 : m0 + m].reshape((m, 1)))
    row = nl.ndarray((m, bn), dtype=out.dtype, buffer=nl.sbuf)
    for c in range(len(banks)):
        begin, end = c * BANK, c * BANK + banks[c].shape[1]
        nisa.scalar_tensor_tensor(
            dst=row[:, begin:end],
            data=banks[c],
            op0=nl.multiply,
            operand0=row_scale,
            op1=nl.multiply,
            operand1=rhs_scales[0:m, begin:end],
        )
    nisa.dma_copy(dst=out[m0 : m0 + m, n0 : n0 + bn], src=row)


def _banks(rows, columns):
    """PSUM tiles [rows, up to 512] for so many columns."""
    found = []
    for c in range(0, columns, BANK):
        found.append(nl.ndarray((rows, min(BANK, columns - c)), dtype=nl.float32, buffer=nl.psum))
    return found


def _load(source, k0, size, c0, columns):
    """source[k0 : k0+size, c0 : c0+columns] in tiles of 128 rows beside each other: [128, tiles, columns]."""
    loaded = nl.ndarray((P, -(-size // P), columns), dtype=source.dtype, buffer=nl.sbuf)
    for k, begin, end in _rectangles(size):
        rows = source[k0 + begin * P : k0 + (end - 1) * P + k, c0 : c0 + columns]
        nisa.dma_copy(dst=loaded[0:k, begin:end, :], src=rows.reshape((end - begin, k, columns)).permute((1, 0, 2)))
    return loaded


def _tiles(size):
    """(rows, index) of the tiles of 128 that hold so many rows."""
    found = []
    for k in range(0, size, P):
        found.append((min(P, size - k), k // P))
    return found


def _rectangles(size):
    """Tiles of 128 of so many rows as (rows, first tile, last tile + 1): the full ones, then one that is not."""
    found = []
    if size >= P:
        found.append((P, 0, size // P))
    if size % P:
        found.append((size % P, size // P, size // P + 1))
    return found


def _warm_up():
    """While the first loads are on their way: products of zeros, which raise the Tensor Engine's clock."""
    zeros = nl.ndarray((P, BANK), dtype=nl.bfloat16, buffer=nl.sbuf)
    nisa.memset(zeros, 0.0)
    nothing = nl.ndarray((P, BANK), dtype=nl.float32, buffer=nl.psum)
    for _ in range(7):
        nisa.nc_matmul(dst=nothing, stationary=zeros[:, 0:P], moving=zeros, accumulate=False)


def _check(lhsT, rhs, lhs_scale, rhs_scale):
    assert len(lhsT.shape) == 2 and len(rhs.shape) == 2 and lhsT.shape[0] == rhs.shape[0], (
        f"matmul_fp8 takes lhsT[K, M] and rhs[K, N], got shapes {lhsT.shape} and {rhs.shape}"
    )
    (K, M), N = lhsT.shape, rhs.shape[1]
    assert lhs_scale.shape == (M,) and rhs_scale.shape == (N,), (
        f"lhs_scale and rhs_scale must have shapes ({M},) and ({N},), got {lhs_scale.shape} and {rhs_scale.shape}"
    )
    return K, M, N
