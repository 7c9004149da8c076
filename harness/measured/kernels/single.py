"""Kernels of one instruction or transfer each, for the measurements of single instructions that are public."""

import nki
import nki.isa as nisa
import nki.language as nl


@nki.jit
def exp_of_tile(x):
    """out[P, F] = exp(x[P, F]): one load, one activation, one store."""
    tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    result = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=tile, src=x)
    nisa.activation(dst=result, op=nl.exp, data=tile)
    nisa.dma_copy(dst=out, src=result)
    return out


@nki.jit
def dependent_activations(x, count):
    """out[P, 1] = x[P, 1] after `count` identities of one element, each waiting for the one before."""
    tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=tile, src=x)
    for _ in range(count):
        nisa.activation(dst=tile, op=nl.copy, data=tile)
    nisa.dma_copy(dst=out, src=tile)
    return out


@nki.jit
def sum_of_squares(x):
    """out[P, 1] = sum over F of x[P, F]^2 on the Scalar Engine."""
    tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    squares = nl.ndarray(x.shape, dtype=nl.float32, buffer=nl.sbuf)
    total = nl.ndarray((x.shape[0], 1), dtype=nl.float32, buffer=nl.sbuf)
    zero = nl.ndarray((x.shape[0], 1), dtype=nl.float32, buffer=nl.sbuf)
    out = nl.ndarray((x.shape[0], 1), dtype=nl.float32, buffer=nl.shared_hbm)
    nisa.memset(dst=zero, value=0.0)
    nisa.dma_copy(dst=tile, src=x)
    nisa.activation_reduce(
        dst=squares, op=nl.square, data=tile, reduce_op=nl.add, reduce_res=total, bias=zero, scale=1.0
    )
    nisa.dma_copy(dst=out, src=total)
    return out


@nki.jit
def largest_magnitude(x):
    """out[P, 1] = max over F of |x[P, F]|, and what it is multiplied by to fill float8: the Vector Engine's part."""
    tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    magnitudes = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    largest = nl.ndarray((x.shape[0], 1), dtype=nl.float32, buffer=nl.sbuf)
    quantized = nl.ndarray(x.shape, dtype=nl.float8_e4m3, buffer=nl.sbuf)
    out = nl.ndarray(x.shape, dtype=nl.float8_e4m3, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=tile, src=x)
    nisa.tensor_scalar_reduce(
        dst=magnitudes, data=tile, op0=nl.abs, operand0=0.0, reduce_op=nl.maximum, reduce_res=largest
    )
    nisa.tensor_scalar(dst=quantized, data=tile, op0=nl.multiply, operand0=largest)
    nisa.dma_copy(dst=out, src=quantized)
    return out


@nki.jit
def load(x):
    """Load a tile and store one element of each row: the load's time is looked at."""
    tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    out = nl.ndarray((x.shape[0], 1), dtype=x.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=tile, src=x)
    nisa.dma_copy(dst=out, src=tile[:, 0:1])
    return out


@nki.jit
def chain_of_matmuls(lhsT, rhs, count):
    """out[M, N] = count * lhsT[K, M].T @ rhs[K, N], accumulated in PSUM and copied out."""
    stationary = nl.ndarray(lhsT.shape, dtype=lhsT.dtype, buffer=nl.sbuf)
    moving = nl.ndarray(rhs.shape, dtype=rhs.dtype, buffer=nl.sbuf)
    product = nl.ndarray((lhsT.shape[1], rhs.shape[1]), dtype=nl.float32, buffer=nl.psum)
    result = nl.ndarray(product.shape, dtype=nl.float32, buffer=nl.sbuf)
    out = nl.ndarray(product.shape, dtype=nl.float32, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=stationary, src=lhsT)
    nisa.dma_copy(dst=moving, src=rhs)
    for i in range(count):
        nisa.nc_matmul(dst=product, stationary=stationary, moving=moving, accumulate=i > 0)
    nisa.tensor_copy(dst=result, src=product)
    nisa.dma_copy(dst=out, src=result)
    return out
