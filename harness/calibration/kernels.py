"""Kernels that issue one instruction `count` times: what one more costs is the difference of two counts.

Every result rests on every instruction, so that no compiler can leave one out, and all arithmetic but the matmul's and
the functions' is exact: halving, moving, permuting.
"""

import nki
import nki.isa as nisa
import nki.language as nl


@nki.jit
def matmuls(stationary, moving, count):
    """out[M, N] = count * stationary[K, M].T @ moving[K, N], in one tile of PSUM."""
    a, b = _load(stationary), _load(moving)
    total = nl.ndarray((a.shape[1], b.shape[1]), dtype=nl.float32, buffer=nl.psum)
    for i in range(count):
        nisa.nc_matmul(total, a, b, accumulate=i > 0)
    return _kept(total, moving.dtype)


@nki.jit
def halvings(x, count, ring, engine, by, memory):
    """Each of `ring` parts of x[P, F], side by side, halved in turn, `count` times in all: by one engine.

    by: what Vector and Scalar multiply by, "number" or "column", one element a partition
    memory: where the parts are, "sbuf" or "psum"
    """
    tile = _load(x)
    width = x.shape[1] // ring
    halves = nl.ndarray((x.shape[0], width), dtype=x.dtype, buffer=nl.sbuf)
    nisa.memset(halves, 0.5)
    half = halves[:, 0:1] if by == "column" else 0.5
    if memory == "psum":
        there = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.psum)
        nisa.tensor_copy(dst=there, src=tile, engine=nisa.engine.vector)
        tile = there
    for i in range(count):
        part = tile[:, (i % ring) * width : (i % ring + 1) * width]
        if engine == "scalar":
            nisa.activation(dst=part, op=nl.copy, data=part, scale=half)
        elif engine == "gpsimd":
            nisa.tensor_tensor(dst=part, data1=part, data2=halves, op=nl.multiply, engine=nisa.engine.gpsimd)
        else:
            nisa.tensor_scalar(dst=part, data=part, op0=nl.multiply, operand0=half, engine=nisa.engine.vector)
    return _kept(tile, x.dtype) if memory == "psum" else _stored(tile)


@nki.jit
def reciprocals(x, count, ring):
    """Each of `ring` parts of x[P, F], side by side, inverted in turn, `count` times in all."""
    tile = _load(x)
    width = x.shape[1] // ring
    for i in range(count):
        part = tile[:, (i % ring) * width : (i % ring + 1) * width]
        nisa.reciprocal(dst=part, data=part)
    return _stored(tile)


@nki.jit
def permutations(p, x, count):
    """p[K, K].T @ x[K, N], `count` times one after the other, by way of PSUM and back."""
    matrix, tile = _load(p), _load(x)
    for _ in range(count):
        moved = nl.ndarray(x.shape, dtype=nl.float32, buffer=nl.psum)
        nisa.nc_matmul(moved, matrix, tile)
        tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
        nisa.tensor_copy(dst=tile, src=moved, engine=nisa.engine.vector)
    return _stored(tile)


@nki.jit
def functions(x, count):
    """exp of x[P, F], or tanh of exp: each function needs its table."""
    tile = _load(x)
    for i in range(count):
        nisa.activation(dst=tile, op=nl.exp if i == 0 else nl.tanh, data=tile)
    return _stored(tile)


@nki.jit
def sums(x):
    """The sum of each row of x[P, F], along the free dimension."""
    tile = _load(x)
    total = nl.ndarray((x.shape[0], 1), dtype=x.dtype, buffer=nl.sbuf)
    nisa.tensor_reduce(total, nl.add, tile, axis=1)
    return _stored(total)


@nki.jit
def copies(x, queue):
    """x[C, P, W] by way of SBUF, a transfer in and one out for each of C, issued by a queue."""
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    for c in range(x.shape[0]):
        tile = nl.ndarray(x.shape[1:], dtype=x.dtype, buffer=nl.sbuf)
        _move(tile, x[c], queue)
        _move(out[c], tile, queue)
    return out


@nki.jit
def copies_by_two(x):
    """The same on two cores, each with half of C."""
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    half = x.shape[0] // 2
    for i in range(half):
        c = nl.program_id(0) * half + i
        tile = nl.ndarray(x.shape[1:], dtype=x.dtype, buffer=nl.sbuf)
        _move(tile, x[c], "static")
        _move(out[c], tile, "static")
    return out


@nki.jit
def meetings(x, count):
    """x[P, W] by way of SBUF, a half by each of two cores, which then meet `count` times."""
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    half = x.shape[0] // 2
    first = nl.program_id(0) * half
    nisa.dma_copy(dst=out[first : first + half], src=_load(x[first : first + half]))
    for _ in range(count):
        nisa.core_barrier(out, (0, 1))
    return out


@nki.jit
def pieces(x):
    """x[c, p, k, 0, s] of x[C, P, K, 2, S]: each row of a transfer is K pieces with gaps between them."""
    C, P, K, _, S = x.shape
    out = nl.ndarray((C, P, K, S), dtype=x.dtype, buffer=nl.shared_hbm)
    for c in range(C):
        tile = nl.ndarray((P, K, S), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=x[c, :, :, 0, :])
        nisa.dma_copy(dst=out[c], src=tile)
    return out


@nki.jit
def bounces(x, count, queue):
    """x[P, W] / 2, after it went to HBM and back `count` times, each transfer after the one before."""
    tile = _load(x)
    for _ in range(count):
        away = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.private_hbm)
        _move(away, tile, queue)
        tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
        _move(tile, away, queue)
    nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=0.5, engine=nisa.engine.vector)
    return _stored(tile)


def _move(dst, src, queue):
    if queue == "sync":
        nisa.dma_copy(dst=dst, src=src, dge_mode=nisa.dge_mode.hwdge)
    elif queue == "gpsimd":
        nisa.dma_copy(dst=dst, src=src, dge_mode=nisa.dge_mode.swdge)
    elif queue == "static":
        nisa.dma_copy(dst=dst, src=src, dge_mode=nisa.dge_mode.none)
    else:
        nisa.dma_copy(dst=dst, src=src)


def _load(x):
    tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=x)
    return tile


def _kept(psum, dtype):
    tile = nl.ndarray(psum.shape, dtype=dtype, buffer=nl.sbuf)
    nisa.tensor_copy(dst=tile, src=psum, engine=nisa.engine.vector)
    return _stored(tile)


def _stored(tile):
    out = nl.ndarray(tile.shape, dtype=tile.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=out, src=tile)
    return out
