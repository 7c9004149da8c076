"""Rotary position embedding: out[s, h, a] = x[s, h, a] cos[s, i] - x[s, h, b] sin[s, i],
                               out[s, h, b] = x[s, h, b] cos[s, i] + x[s, h, a] sin[s, i].

The pair (a, b) is (i, i + D/2), the two halves of a head, or (2 i, 2 i + 1) with `interleaved`. Tokens lie on
partitions, and all heads of a token beside each other, because they share its angles. With two tables of D columns,

    out = x * [cos | cos] + swapped(x) * [-sin | sin]

Per tile of 128 tokens:

    DMA      brings x, cos and sin and takes the outputs away
    Scalar   writes both tables, in float32
    GpSimd   the product with the first
    Vector   the product with the second, and the sum, in float32

On NeuronCore-v2 two inputs of SBUF take turns, but one of SBUF and one of PSUM do not: there the tables and the second
product stand in PSUM, which GpSimd cannot read, and Vector makes both products.

Inputs are float32, bfloat16 or float16, the output is rounded once.

Dimensions
    S    tokens, any number
    H    heads: query and key heads may come in one call
    D    head dimension, even, 2 to 512
"""

import nki
import nki.isa as nisa
import nki.language as nl

BANK = 512  # float32 numbers of a PSUM bank


@nki.jit
def rope(x, cos, sin, interleaved=False):
    """out[S, H, D] of x[S, H, D], cos[S, D/2] and sin[S, D/2], in x's dtype."""
    S, H, D = _check(x, cos, sin)
    P = nl.tile_size.pmax
    out = nl.ndarray((S, H, D), dtype=x.dtype, buffer=nl.shared_hbm)
    heads = max(1, 2 * BANK // D)  # a group of heads: two banks of products
    for s0 in range(0, S, P):
        s = min(P, S - s0)
        rows = nl.ndarray((s, H, D), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=rows, src=x[s0 : s0 + s])
        same, swap = _tables(cos[s0 : s0 + s], sin[s0 : s0 + s], interleaved)
        result = nl.ndarray((s, H, D), dtype=x.dtype, buffer=nl.sbuf)
        for h0 in range(0, H, heads):
            h = min(heads, H - h0)
            group = rows[:, h0 : h0 + h, :]
            straight = nl.ndarray((s, h, D), dtype=nl.float32, buffer=nl.sbuf)
            nisa.tensor_tensor(
                dst=straight,
                data1=group,
                data2=_to_heads(same, h),
                op=nl.multiply,
                engine=nisa.engine.vector if _is_gen2() else nisa.engine.gpsimd,
            )
            crossed = nl.ndarray((s, h, D), dtype=nl.float32, buffer=_beside_sbuf())
            for into, of in ((0, 1), (1, 0)):
                nisa.tensor_tensor(
                    dst=_part(crossed, into, interleaved),
                    data1=_part(group, of, interleaved),
                    data2=_part(_to_heads(swap, h), into, interleaved),
                    op=nl.multiply,
                )
            nisa.tensor_tensor(dst=result[:, h0 : h0 + h, :], data1=straight, data2=crossed, op=nl.add)
        nisa.dma_copy(dst=out[s0 : s0 + s], src=result)
    return out


def _tables(cos, sin, interleaved):
    """[cos | cos] and [-sin | sin], or in turns, of s tokens: two tiles [s, 1, D]."""
    s, half = cos.shape
    same = nl.ndarray((s, 1, 2 * half), dtype=nl.float32, buffer=_beside_sbuf())
    swap = nl.ndarray((s, 1, 2 * half), dtype=nl.float32, buffer=_beside_sbuf())
    for table, source, signs in ((same, cos, (1.0, 1.0)), (swap, sin, (-1.0, 1.0))):
        loaded = nl.ndarray((s, 1, half), dtype=source.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=loaded, src=source.reshape((s, 1, half)))
        for c in range(2):
            nisa.activation(dst=_part(table, c, interleaved), op=nl.copy, data=loaded, scale=signs[c])
    return same, swap


def _is_gen2():
    return nisa.get_nc_version() == nisa.nc_version.gen2


def _beside_sbuf():
    """Where a tile lies that Vector reads at full speed beside one of SBUF."""
    return nl.psum if _is_gen2() else nl.sbuf


def _part(tile, c, interleaved):
    """The first (c = 0) or second numbers of all pairs of tile[s, h, D]: [s, h, D/2]."""
    D = tile.shape[2]
    return tile[:, :, c:D:2] if interleaved else tile[:, :, c * D // 2 : (c + 1) * D // 2]


def _to_heads(table, h):
    """table[s, 1, D] for each of h heads."""
    return table.broadcast(1, h)


def _check(x, cos, sin):
    assert len(x.shape) == 3, f"rope takes x[S, H, D], got shape {x.shape}"
    S, H, D = x.shape
    assert D % 2 == 0 and D <= BANK, f"the head dimension must be even and at most {BANK}, got {D}"
    assert cos.shape == (S, D // 2) and sin.shape == (S, D // 2), (
        f"cos and sin must have shape ({S}, {D // 2}), got {cos.shape} and {sin.shape}"
    )
    return S, H, D
