"""A product in MXFP8 on NeuronCore-v4: out[M, N] = lhsT[K, M].T @ rhs[K, N], both rounded to float8 in groups of 32.

MX numbers share a scale, a power of two, in groups of 32 along the contraction. Vector's `quantize_mx` takes eight
partitions by four elements as a group and packs the four; the Tensor Engine multiplies 512 of K in the time of 128.

Which four of K are packed together is free, as long as it is the same in both operands. Four tiles of 128 rows of K
are loaded beside each other, [128, 4, columns], in long runs; the instruction reads them with the four innermost, by
strides, so that nothing is rearranged: partition p packs k = p, p + 128, p + 256 and p + 384. What is missing of the
last 512 rows is zeros, which change no sum.

Blocked as `matmul` is. 1024 columns of rhs are quantised once and stay in SBUF, packed to one byte a number, while lhsT
streams by in panels of 1024 columns, each quantised as it comes. Up to 128 rows need no column twice: then 4096 columns
of rhs come at once, as many as PSUM has sums for, in longer runs, unless two panels are all. Sums are float32 in PSUM.

Dimensions
    M, N    rows and columns of the output, any number
    K       contraction, any number; beyond 8192 both operands are quantised anew for each block

Inputs are bfloat16 or float16 and finite; the output has their dtype.
"""

import nki
import nki.isa as nisa
import nki.language as nl

P = 128  # partitions
BANK = 512  # float32 numbers of a PSUM bank: columns of one matmul
PACK = 4  # numbers of K in one packed element
PANEL = 1024  # columns of an operand that are quantised at once
RESIDENT = 8192  # of K, up to which panels of both operands fit in SBUF; longer ones are quantised for each block


@nki.jit
def matmul_mx(lhsT, rhs):
    """out[M, N] = lhsT[K, M].T @ rhs[K, N], of both in MXFP8 (e4m3fn)."""
    K, M, N = _check(lhsT, rhs)
    out = nl.ndarray((M, N), dtype=lhsT.dtype, buffer=nl.shared_hbm)
    block_n = 4 * PANEL if M <= P and N > 2 * PANEL else PANEL
    for n0 in range(0, N, block_n):
        bn = min(block_n, N - n0)
        columns = {}
        for p0 in range(0, M, PANEL):
            bp = min(PANEL, M - p0)
            rows = {}
            for m0 in range(0, bp, 4 * P):
                tiles = range(m0, min(m0 + 4 * P, bp), P)
                sums = {}
                for m in tiles:
                    sums[m] = _banks(min(P, bp - m), bn)
                if K > RESIDENT:
                    columns, rows = {}, {}
                for k0 in range(0, K, PACK * P):
                    if k0 not in columns:
                        columns[k0] = _quantized(rhs, k0, n0, bn)
                    if k0 not in rows:
                        rows[k0] = _quantized(lhsT, k0, p0, bp)
                    for m in tiles:
                        for c in range(len(sums[m])):
                            _accumulate(sums[m][c], rows[k0], m, columns[k0], c * BANK, k0 > 0)
                for m in tiles:
                    _store(out, sums[m], p0 + m, n0, bn, min(P, bp - m))
    return out


def _quantized(source, k0, c0, columns):
    """512 rows of source from k0 on, columns c0 .. c0+columns, in MXFP8: values [128, columns] of four, and scales."""
    size = min(PACK * P, source.shape[0] - k0)
    even = columns + columns % 2  # a stationary operand has an even number of columns
    loaded = nl.ndarray((P, PACK, even), dtype=source.dtype, buffer=nl.sbuf)
    if size < PACK * P or even > columns:
        nisa.memset(loaded, 0.0)
    full = size // P
    if full > 0:
        block = source[k0 : k0 + full * P, c0 : c0 + columns]
        nisa.dma_copy(dst=loaded[:, 0:full, 0:columns], src=block.reshape((full, P, columns)).permute((1, 0, 2)))
    if size > full * P:
        rest = source[k0 + full * P : k0 + size, c0 : c0 + columns]
        nisa.dma_copy(dst=loaded[0 : size - full * P, full, 0:columns], src=rest)
    values = nl.ndarray((P, even), dtype=nl.float8_e4m3fn_x4, buffer=nl.sbuf)
    scales = nl.ndarray((P, even), dtype=nl.uint8, buffer=nl.sbuf)
    nisa.quantize_mx(dst=values, src=loaded.permute((0, 2, 1)), dst_scale=scales)
    return values, scales


def _accumulate(sums, rows, m0, columns, n0, is_later):
    """sums[m, n] (+)= rows[512, m0 : m0+m].T @ columns[512, n0 : n0+n], in MXFP8."""
    m, n = sums.shape
    nisa.nc_matmul_mx(
        dst=sums,
        stationary=rows[0][:, m0 : m0 + m],
        moving=columns[0][:, n0 : n0 + n],
        stationary_scale=rows[1][:, m0 : m0 + m],
        moving_scale=columns[1][:, n0 : n0 + n],
        accumulate=is_later,
    )


def _store(out, banks, m0, n0, bn, m):
    """Round a row of banks and write it to out[m0 : m0+m, n0 : n0+bn]; two engines take turns."""
    row = nl.ndarray((m, bn), dtype=out.dtype, buffer=nl.sbuf)
    for c in range(len(banks)):
        part = row[:, c * BANK : c * BANK + banks[c].shape[1]]
        if c % 2 == 0:
            nisa.tensor_copy(dst=part, src=banks[c][0:m, :])
        else:
            nisa.activation(dst=part, op=nl.copy, data=banks[c][0:m, :])
    nisa.dma_copy(dst=out[m0 : m0 + m, n0 : n0 + bn], src=row)


def _banks(rows, columns):
    """PSUM tiles [rows, up to 512] for so many columns; an odd number of rows has one more, of zeros."""
    found = []
    for c in range(0, columns, BANK):
        found.append(nl.ndarray((rows + rows % 2, min(BANK, columns - c)), dtype=nl.float32, buffer=nl.psum))
    return found


def _check(lhsT, rhs):
    assert len(lhsT.shape) == 2 and len(rhs.shape) == 2 and lhsT.shape[0] == rhs.shape[0], (
        f"matmul_mx takes lhsT[K, M] and rhs[K, N], got shapes {lhsT.shape} and {rhs.shape}"
    )
    assert lhsT.dtype == rhs.dtype and lhsT.dtype in (nl.bfloat16, nl.float16), (
        f"matmul_mx takes bfloat16 or float16, both the same, got {lhsT.dtype} and {rhs.dtype}"
    )
    return lhsT.shape[0], lhsT.shape[1], rhs.shape[1]
