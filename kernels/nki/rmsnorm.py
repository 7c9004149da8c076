"""RMSNorm: out[m, n] = x[m, n] / sqrt(mean over n of x[m, n]^2 + eps) * gain[n].

Rows lie on partitions, so that the mean of a row is a sum along the free dimension. Per tile of 128 rows:

    DMA      brings the rows and takes the outputs away: 2 N elements a row, which is what the kernel waits for
    Scalar   squares and their sum in one instruction
    Vector   (sum / N + eps)^-0.5, a column, by power because Scalar's rsqrt is documented for finite inputs alone; then
             (x * that column) * gain in one instruction

gain[N] is copied to all partitions once. Inputs are float32, bfloat16 or float16; all arithmetic is float32, and the
output is rounded once.

Dimensions
    M    rows, any number
    N    columns, 1 to 8192: a row, its squares, its outputs and the gain lie in SBUF at once
"""

import nki
import nki.isa as nisa
import nki.language as nl


@nki.jit
def rmsnorm(x, gain, eps=1e-5):
    """out[M, N] of x[M, N] and gain[N], in x's dtype."""
    M, N = x.shape
    assert gain.shape == (N,), f"gain must have shape ({N},), got {gain.shape}"
    assert N <= 8192, f"rmsnorm takes up to 8192 columns, got {N}"
    P = nl.tile_size.pmax
    out = nl.ndarray((M, N), dtype=x.dtype, buffer=nl.shared_hbm)
    gains = _on_all_partitions(gain, min(P, M))
    for m0 in range(0, M, P):
        m = min(P, M - m0)
        rows = nl.ndarray((m, N), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=rows, src=x[m0 : m0 + m, :])
        squares = nl.ndarray((m, N), dtype=nl.bfloat16, buffer=nl.sbuf)  # which nobody reads
        total = nl.ndarray((m, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.activation_reduce(dst=squares, op=nl.square, data=rows, reduce_op=nl.add, reduce_res=total)
        inverse = nl.ndarray((m, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_scalar(dst=inverse, data=total, op0=nl.multiply, operand0=1.0 / N, op1=nl.add, operand1=eps)
        nisa.tensor_scalar(dst=inverse, data=inverse, op0=nl.power, operand0=-0.5)
        result = nl.ndarray((m, N), dtype=out.dtype, buffer=nl.sbuf)
        nisa.scalar_tensor_tensor(
            dst=result, data=rows, op0=nl.multiply, operand0=inverse, op1=nl.multiply, operand1=gains[0:m, :]
        )
        nisa.dma_copy(dst=out[m0 : m0 + m, :], src=result)
    return out


def _on_all_partitions(row, n):
    """row[N] as an SBUF tile [n, N], each partition with a copy."""
    N = row.shape[0]
    copies = nl.ndarray((n, N), dtype=row.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=copies, src=row.reshape((1, N)).broadcast(0, n))
    return copies
