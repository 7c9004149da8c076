"""The gate of a gated MLP, backward: of h = silu(g) * u, with s = 1 / (1 + exp(-g)) and silu(g) = g s,

    h = silu(g) u,    dg = dh u silu'(g),    du = dh silu(g),    silu'(g) = s + silu(g) (1 - s)

h is computed again, because the gradient of the weights after it needs it, and its bytes are three of seven anyway. Per
tile of 128 tokens and 1024 columns:

    Scalar   silu(g) and silu'(g), to PSUM: from there Vector reads them beside an input of SBUF at full speed
    Vector   h, du, and dg of dh u
    GpSimd   dh u
    DMA      brings three tiles and takes three away, which is what the kernel waits for

Dimensions
    M    tokens, any number
    F    width of the hidden layer, any number

Inputs are float32, bfloat16 or float16, all the same; arithmetic is float32, and each output is rounded once.
"""

import nki
import nki.isa as nisa
import nki.language as nl

COLUMNS = 1024  # two banks of PSUM each for silu and its derivative, twice


@nki.jit
def gate_backward(g, u, dh):
    """h[M, F], dg[M, F] and du[M, F] of g, u and dh[M, F]."""
    M, F = g.shape
    assert u.shape == g.shape and dh.shape == g.shape, (
        f"g, u and dh must have one shape, got {g.shape}, {u.shape} and {dh.shape}"
    )
    P = nl.tile_size.pmax
    h = nl.ndarray((M, F), dtype=g.dtype, buffer=nl.shared_hbm)
    dg = nl.ndarray((M, F), dtype=g.dtype, buffer=nl.shared_hbm)
    du = nl.ndarray((M, F), dtype=g.dtype, buffer=nl.shared_hbm)
    for m0 in range(0, M, P):
        m = min(P, M - m0)
        for f0 in range(0, F, 4 * COLUMNS):
            f = min(4 * COLUMNS, F - f0)
            gates, ups, above = _load(g, m0, m, f0, f), _load(u, m0, m, f0, f), _load(dh, m0, m, f0, f)
            product = nl.ndarray((m, f), dtype=nl.float32, buffer=nl.sbuf)  # dh u
            nisa.tensor_tensor(dst=product, data1=above, data2=ups, op=nl.multiply, engine=nisa.engine.gpsimd)
            results = []
            for _ in range(3):
                results.append(nl.ndarray((m, f), dtype=g.dtype, buffer=nl.sbuf))
            for c in range(0, f, COLUMNS):
                end = min(c + COLUMNS, f)
                gated = nl.ndarray((m, end - c), dtype=nl.float32, buffer=nl.psum)
                slope = nl.ndarray((m, end - c), dtype=nl.float32, buffer=nl.psum)
                nisa.activation(dst=gated, op=nl.silu, data=gates[:, c:end])
                nisa.activation(dst=slope, op=nl.silu_dx, data=gates[:, c:end])
                for result, left, right in (
                    (results[0], gated, ups),
                    (results[1], slope, product),
                    (results[2], gated, above),
                ):
                    nisa.tensor_tensor(dst=result[:, c:end], data1=left, data2=right[:, c:end], op=nl.multiply)
            for target, result in ((h, results[0]), (dg, results[1]), (du, results[2])):
                nisa.dma_copy(dst=target[m0 : m0 + m, f0 : f0 + f], src=result)
    return h, dg, du


def _load(source, m0, m, f0, f):
    """source[m0 : m0+m, f0 : f0+f] in SBUF."""
    tile = nl.ndarray((m, f), dtype=source.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=source[m0 : m0 + m, f0 : f0 + f])
    return tile
