"""Quantisation to float8, a scale for each row: q[m, n] = x[m, n] / scale[m], scale[m] = max of |x[m, :]| / MOST.

MOST is the largest number of float8_e4m3, 240: what is largest in a row becomes it, and nothing overflows. A row of
zeros has the smallest scale that the kernel gives, 2^-100, and stays zeros. Rows lie on partitions. Per tile of 128:

    Vector   |x| and its maximum along the row: of bfloat16 in two instructions, at four and two elements a cycle, else
             in one, at one; then maximum / MOST and its inverse, columns
    Scalar   x times the inverse, rounded to float8

Dimensions
    M    rows: tokens, or output channels of a weight that is stored transposed
    N    columns, 1 to 16384: a row and its magnitudes lie in SBUF at once

x is float32, bfloat16 or float16, q is float8_e4m3, scale is float32.
"""

import nki
import nki.isa as nisa
import nki.language as nl

MOST = 240.0  # the largest number of float8_e4m3
SMALLEST = 2.0**-100 * MOST  # the maximum from which the smallest scale follows


@nki.jit
def quantize_fp8(x):
    """q[M, N] and scale[M] of x[M, N]."""
    M, N = x.shape
    assert N <= 16384, f"quantize_fp8 takes up to 16384 columns, got {N}"
    P = nl.tile_size.pmax
    q = nl.ndarray((M, N), dtype=nl.float8_e4m3, buffer=nl.shared_hbm)
    scale = nl.ndarray((M,), dtype=nl.float32, buffer=nl.shared_hbm)
    for m0 in range(0, M, P):
        m = min(P, M - m0)
        rows = nl.ndarray((m, N), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=rows, src=x[m0 : m0 + m, :])
        magnitudes = nl.ndarray((m, N), dtype=nl.bfloat16, buffer=nl.sbuf)  # of bfloat16 alone they are read
        largest = nl.ndarray((m, 1), dtype=nl.float32, buffer=nl.sbuf)
        if x.dtype == nl.bfloat16:
            top = nl.ndarray((m, 1), dtype=nl.bfloat16, buffer=nl.sbuf)
            nisa.tensor_scalar(dst=magnitudes, data=rows, op0=nl.abs, operand0=0.0)
            nisa.tensor_reduce(dst=top, op=nl.maximum, data=magnitudes, axis=1)
            nisa.tensor_copy(dst=largest, src=top)
        else:
            nisa.tensor_scalar_reduce(
                dst=magnitudes, data=rows, op0=nl.abs, operand0=0.0, reduce_op=nl.maximum, reduce_res=largest
            )
        nisa.tensor_scalar(dst=largest, data=largest, op0=nl.maximum, operand0=SMALLEST)
        column = nl.ndarray((m, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_scalar(dst=column, data=largest, op0=nl.multiply, operand0=1.0 / MOST)
        nisa.dma_copy(dst=scale[m0 : m0 + m].reshape((m, 1)), src=column)
        inverse = nl.ndarray((m, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.reciprocal(dst=inverse, data=column)
        scaled = nl.ndarray((m, N), dtype=nl.float8_e4m3, buffer=nl.sbuf)
        nisa.activation(dst=scaled, op=nl.copy, data=rows, scale=inverse)
        nisa.dma_copy(dst=q[m0 : m0 + m, :], src=scaled)
    return q, scale
