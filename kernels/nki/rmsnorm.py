"""RMSNorm, forward and backward: out[m, n] = x[m, n] r[m] gain[n], r[m] = 1 / sqrt(mean over n of x[m, n]^2 + eps).

Rows lie on partitions, so that the mean of a row is a sum along the free dimension. Forward, per tile of 128 rows:

    DMA      brings the rows and takes the outputs away: 2 N elements a row, which is what the kernel waits for
    Scalar   squares and their sum in one instruction
    Vector   (sum / N + eps)^-0.5, a column, by power because Scalar's rsqrt is documented for finite inputs alone; then
             (x * that column) * gain in one instruction

Backward, with g = dy * gain:

    dx[m, n] = r[m] g[m, n] - x[m, n] r[m]^3 / N * sum over n of g[m, n] x[m, n]
    dgain[n] = sum over m of dy[m, n] x[m, n] r[m]

It has more arithmetic than bytes, so that four engines share it: GpSimd makes x * dy, Vector multiplies that by gain,
Scalar sums it along the row, and Vector combines. On NeuronCore-v2 two inputs of SBUF take turns, and one of each
memory does not: there r g stands in PSUM, and so does gain where it fits. dgain is summed over tiles of rows element by
element, by Scalar and GpSimd, and over the partitions by one matmul with ones at the end.

gain[N] is copied to all partitions once. Inputs are float32, bfloat16 or float16; all arithmetic is float32, and the
outputs are rounded once.

Dimensions
    M    rows, any number
    N    columns, 1 to 8192: a row, its squares, its outputs and the gain lie in SBUF at once; backward in float32, 4096
"""

import nki
import nki.isa as nisa
import nki.language as nl

WIDE = 2048  # columns of the backward's products that are there at once


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
        inverse = _inverse_root(rows, eps)
        result = nl.ndarray((m, N), dtype=out.dtype, buffer=nl.sbuf)
        nisa.scalar_tensor_tensor(
            dst=result, data=rows, op0=nl.multiply, operand0=inverse, op1=nl.multiply, operand1=gains[0:m, :]
        )
        nisa.dma_copy(dst=out[m0 : m0 + m, :], src=result)
    return out


@nki.jit
def rmsnorm_backward(x, gain, dy, residual=None, eps=1e-5):
    """dx[M, N] and dgain[N] of x[M, N], gain[N] and dy[M, N], in x's and gain's dtype.

    residual[M, N], if it is given, is added to dx: what comes to x past the norm.
    """
    M, N = x.shape
    assert gain.shape == (N,), f"gain must have shape ({N},), got {gain.shape}"
    assert dy.shape == x.shape, f"dy must have x's shape {x.shape}, got {dy.shape}"
    assert residual == None or residual.shape == x.shape, f"residual must have shape {x.shape}, got {residual.shape}"
    most = 4096 if x.dtype == nl.float32 else 8192
    assert N <= most, f"rmsnorm_backward takes up to {most} columns in {x.dtype}, got {N}"
    P = nl.tile_size.pmax
    is_gen2 = nisa.get_nc_version() == nisa.nc_version.gen2
    step = 2 * nl.tile_size.psum_bank_fmax if is_gen2 else WIDE  # columns of r g that are there at once
    dx = nl.ndarray((M, N), dtype=x.dtype, buffer=nl.shared_hbm)
    dgain = nl.ndarray((N,), dtype=gain.dtype, buffer=nl.shared_hbm)
    gains = _on_all_partitions(gain, min(P, M))
    if is_gen2 and 4 * N <= 8 * 1024:  # half of PSUM
        close = nl.ndarray((min(P, M), N), dtype=nl.float32, buffer=nl.psum)
        nisa.activation(dst=close, op=nl.copy, data=gains)
        gains = close
    sums = nl.ndarray((min(P, M), N), dtype=nl.float32, buffer=nl.sbuf)  # of dy x r over the tiles of rows
    nisa.memset(sums, 0.0)
    for m0 in range(0, M, P):
        m = min(P, M - m0)
        rows = nl.ndarray((m, N), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=rows, src=x[m0 : m0 + m, :])
        above = nl.ndarray((m, N), dtype=dy.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=above, src=dy[m0 : m0 + m, :])
        inverse = _inverse_root(rows, eps)

        parts = nl.ndarray((m, -(-N // WIDE)), dtype=nl.float32, buffer=nl.sbuf)  # of the sum of x dy gain
        for n0 in range(0, N, WIDE):
            n = min(WIDE, N - n0)
            product = nl.ndarray((m, n), dtype=nl.float32, buffer=nl.sbuf)  # x dy
            nisa.tensor_tensor(
                dst=product,
                data1=rows[:, n0 : n0 + n],
                data2=above[:, n0 : n0 + n],
                op=nl.multiply,
                engine=nisa.engine.gpsimd,
            )
            weighed = nl.ndarray((m, n), dtype=nl.float32, buffer=nl.sbuf)  # x dy gain, which only its sum needs
            nisa.tensor_tensor(dst=weighed, data1=product, data2=gains[0:m, n0 : n0 + n], op=nl.multiply)
            part = parts[:, n0 // WIDE : n0 // WIDE + 1]
            nisa.activation_reduce(dst=weighed, op=nl.copy, data=weighed, reduce_op=nl.add, reduce_res=part)
            nisa.activation(dst=product, op=nl.copy, data=product, scale=inverse)
            so_far = sums[0:m, n0 : n0 + n]
            nisa.tensor_tensor(dst=so_far, data1=so_far, data2=product, op=nl.add, engine=nisa.engine.gpsimd)
        total = nl.ndarray((m, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_reduce(dst=total, op=nl.add, data=parts, axis=1)
        minus = _minus_share(inverse, total, N)

        result = nl.ndarray((m, N), dtype=dx.dtype, buffer=nl.sbuf)
        if residual != None:
            past = nl.ndarray((m, N), dtype=residual.dtype, buffer=nl.sbuf)
            nisa.dma_copy(dst=past, src=residual[m0 : m0 + m, :])
        for n0 in range(0, N, step):
            n = min(step, N - n0)
            straight = nl.ndarray((m, n), dtype=nl.float32, buffer=nl.psum if is_gen2 else nl.sbuf)  # r g
            nisa.scalar_tensor_tensor(
                dst=straight,
                data=above[:, n0 : n0 + n],
                op0=nl.multiply,
                operand0=inverse,
                op1=nl.multiply,
                operand1=gains[0:m, n0 : n0 + n],
            )
            if residual != None:
                nisa.tensor_tensor(dst=straight, data1=straight, data2=past[:, n0 : n0 + n], op=nl.add)
            nisa.scalar_tensor_tensor(
                dst=result[:, n0 : n0 + n],
                data=rows[:, n0 : n0 + n],
                op0=nl.multiply,
                operand0=minus,
                op1=nl.add,
                operand1=straight,
            )
        nisa.dma_copy(dst=dx[m0 : m0 + m, :], src=result)
    _sum_over_partitions(dgain, sums)
    return dx, dgain


def _inverse_root(rows, eps):
    """r[m, 1] of rows[m, N]."""
    m, N = rows.shape
    squares = nl.ndarray((m, N), dtype=nl.bfloat16, buffer=nl.sbuf)  # which nobody reads
    total = nl.ndarray((m, 1), dtype=nl.float32, buffer=nl.sbuf)
    nisa.activation_reduce(dst=squares, op=nl.square, data=rows, reduce_op=nl.add, reduce_res=total)
    inverse = nl.ndarray((m, 1), dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_scalar(dst=inverse, data=total, op0=nl.multiply, operand0=1.0 / N, op1=nl.add, operand1=eps)
    nisa.tensor_scalar(dst=inverse, data=inverse, op0=nl.power, operand0=-0.5)
    return inverse


def _minus_share(inverse, total, N):
    """-r^3 total / N, a column: (r total) r r would overflow no earlier than its factors."""
    minus = nl.ndarray(inverse.shape, dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_scalar(dst=minus, data=total, op0=nl.multiply, operand0=inverse, op1=nl.multiply, operand1=-1.0 / N)
    nisa.tensor_scalar(dst=minus, data=minus, op0=nl.multiply, operand0=inverse, op1=nl.multiply, operand1=inverse)
    return minus


def _sum_over_partitions(out, sums):
    """out[N] = the sum of sums[m, N] over m, by products with ones."""
    m, N = sums.shape
    CHUNK = nl.tile_size.psum_bank_fmax
    ones = nl.ndarray((m, 1), dtype=nl.float32, buffer=nl.sbuf)
    nisa.memset(ones, 1.0)
    row = nl.ndarray((1, N), dtype=out.dtype, buffer=nl.sbuf)
    for n0 in range(0, N, CHUNK):
        n = min(CHUNK, N - n0)
        total = nl.ndarray((1, n), dtype=nl.float32, buffer=nl.psum)
        nisa.nc_matmul(dst=total, stationary=ones, moving=sums[:, n0 : n0 + n], accumulate=False)
        nisa.tensor_copy(dst=row[:, n0 : n0 + n], src=total)
    nisa.dma_copy(dst=out.reshape((1, N)), src=row)


def _on_all_partitions(row, n):
    """row[N] as an SBUF tile [n, N], each partition with a copy."""
    N = row.shape[0]
    copies = nl.ndarray((n, N), dtype=row.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=copies, src=row.reshape((1, N)).broadcast(0, n))
    return copies
