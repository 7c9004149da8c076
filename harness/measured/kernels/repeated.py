"""One instruction again and again, each into its own tile of four: what one more of it costs."""

import nki
import nki.isa as nisa
import nki.language as nl

RING = 4


@nki.jit
def matmuls(stationary, moving, count):
    """ring[M, N] += stationary[K, M].T @ moving[K, N], `count` times in all."""
    a, b = _load(stationary), _load(moving)
    ring = [nl.ndarray((a.shape[1], b.shape[1]), nl.float32, nl.psum) for _ in range(RING)]
    for i in range(count):
        nisa.nc_matmul(ring[i % RING], a, b, accumulate=i >= RING)
    return _kept(ring)


@nki.jit
def on_tiles(x, kind, width, count):
    """`kind` on the first `width` columns of x[P, F], or on a bank of PSUM if its name ends so."""
    tile = _load(x)
    column, sums = nl.ndarray((x.shape[0], 1), nl.float32), nl.ndarray((x.shape[0], 1), nl.float32)
    nisa.memset(column, 0.5)
    data = tile[:, 0:width]
    if kind.endswith("psum"):
        data = nl.ndarray((x.shape[0], width), nl.float32, nl.psum)
        nisa.memset(data, 1.0)
    reduces = kind.startswith(("max", "add"))
    shape = (x.shape[0], 1 if reduces else width)
    dtype = nl.bfloat16 if kind.startswith(("copy", "exp")) else nl.float32
    ring = [nl.ndarray(shape, dtype) for _ in range(RING)]
    for i in range(count):
        out = ring[i % RING]
        if kind.startswith("max"):
            nisa.tensor_reduce(out, nl.maximum, data, axis=1)
        elif kind.startswith("add"):
            nisa.tensor_reduce(out, nl.add, data, axis=1)
        elif kind.startswith("copy"):
            nisa.tensor_copy(out, data, engine=nisa.engine.vector)
        elif kind.startswith("two scalars"):
            nisa.scalar_tensor_tensor(out, data, nl.multiply, 0.5, nl.add, tile[:, 0:width])
        elif kind.startswith("product"):
            nisa.tensor_tensor(out, data, tile[:, width : 2 * width], nl.multiply, engine=nisa.engine.vector)
        elif kind.startswith("scale"):
            nisa.tensor_scalar(out, data, nl.multiply, 0.5, engine=nisa.engine.vector)
        elif kind.startswith("count"):
            nisa.tensor_scalar_reduce(
                out, data=data, op0=nl.greater_equal, operand0=column, reduce_op=nl.add, reduce_res=sums
            )
        elif kind.startswith("exp"):
            nisa.activation_reduce(out, nl.exp, data, reduce_op=nl.add, reduce_res=sums, bias=column, scale=1.0)
        else:
            nisa.activation(out, nl.copy, data)
    return _kept(ring)


def _load(x):
    tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=x)
    return tile


def _kept(ring):
    out = nl.ndarray((RING, *ring[0].shape), nl.float32, nl.shared_hbm)
    for i, tile in enumerate(ring):
        last = nl.ndarray(tile.shape, nl.float32)
        nisa.reciprocal(last, tile)
        nisa.dma_copy(out[i], last)
    return out
