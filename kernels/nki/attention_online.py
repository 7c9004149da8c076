"""Flash attention, forward, as a GPU does it: out = softmax(q k^T / sqrt(D)) v with a running maximum.

The step before `attention`, kept because it teaches: it never holds the scores of a whole row.

    out[b, h, i, :] = sum_j p[i, j] v[b, g, j, :] / sum_j p[i, j]
    p[i, j] = exp((s[i, j] - max_j s[i, j]) / sqrt(D))
    s[i, j] = q[b, h, i, :] . k[b, g, j, :],    g = h // (H // Hkv)

Keys pass by in blocks of 1024. Each row keeps three numbers' worth of state: the largest score so far m, the sum of
weights l, and the weighted sum of values o; when m grows to m', l and o are scaled by exp((m - m') / sqrt(D)).

Dimensions
    B, H, Hkv   batch, query heads, key and value heads; H is a multiple of Hkv (grouped-query attention)
    Sq, Sk      queries and keys; any lengths, and they may differ
    D           head dimension, 1 to 128

With `causal`, query i sees the keys j <= i + Sk - Sq: the last query sees all keys. Blocks above the diagonal are not
visited, blocks on it are masked by GpSimd. A query that sees no key (Sq > Sk) gives zeros. NaN and infinities come out
as the definition says, with one exception: in v at a key that is masked on a diagonal block they reach that block's
rows, because a weight of 0 times infinity is NaN.

Engines: scores, transposes and p v on Tensor; exp and its row sum in one instruction on Scalar; maxima and rescaling on
Vector; the mask on GpSimd. Inputs are float32, bfloat16 or float16; scores, m, l and o are float32, and p is rounded to
the inputs' dtype for its product with v, as on every flash attention.
"""

import nki
import nki.isa as nisa
import nki.language as nl

KEY_BLOCK = 1024  # keys between two updates of m, l and o: scores of two PSUM banks, so that two blocks fit beside
BANK = 512  # the float32 elements of a bank, which hold one matmul's result or the transposes of four tiles
TILES_IN_GROUP = 8  # query tiles that share one load of a key block: 8 x 128 queries
LOWEST = -1.0e38  # floor of m, so that a row whose scores are all -inf so far weighs nothing instead of NaN
MASKED = -3.4028235e38  # score of a key that a query does not see; exp((MASKED - m) / sqrt(D)) is 0 for every m


@nki.jit
def attention_online(q, k, v, causal=False):
    """out[B, H, Sq, D] = attention of q[B, H, Sq, D] over k[B, Hkv, Sk, D] and v[B, Hkv, Sk, D]."""
    B, H, Hkv, Sq, Sk, D = _check(q, k, v)
    out = nl.ndarray(q.shape, dtype=q.dtype, buffer=nl.shared_hbm)
    P = nl.tile_size.pmax
    shift = Sk - Sq  # with causal, query i sees the keys up to i + shift
    first = max(0, -shift) if causal else 0

    for b in range(B):
        for g in range(Hkv):
            heads = range(g * (H // Hkv), (g + 1) * (H // Hkv))
            tiles = []  # (head, first query, queries); neighbours see about as many keys
            for i0 in range(first, Sq, P):
                for h in heads:
                    tiles.append((h, i0, min(P, Sq - i0)))
            for h in heads:
                for i0 in range(0, first, P):
                    _write_zeros(out[b, h], i0, min(P, first - i0))
            for t in range(0, len(tiles), TILES_IN_GROUP):
                _attend(out[b], q[b], k[b, g], v[b, g], tiles[t : t + TILES_IN_GROUP], shift if causal else Sk)
    return out


def _attend(out, q, k, v, tiles, shift):
    """Attention of a group of query tiles of q[H, Sq, D] over the keys of one head, k[Sk, D] and v[Sk, D].

    A query i sees the keys up to i + shift.
    """
    Sk, D = k.shape
    scale = 1.0 / D**0.5
    queries, states = [], []
    for h, i0, n in tiles:
        queries.append(_load_transposed(q[h], i0, n))
        states.append(None)
    _, last_i0, last_n = tiles[len(tiles) - 1]
    seen = min(Sk, last_i0 + last_n + shift)  # keys that the last tile's last query sees

    for j0 in range(0, seen, KEY_BLOCK):
        n_keys = min(KEY_BLOCK, seen - j0)
        keys = _load_transposed(k, j0, n_keys)
        values = _load_chunks(v, j0, n_keys)
        for t in range(len(tiles)):
            _, i0, n = tiles[t]
            visible = min(n_keys, i0 + n + shift - j0)  # keys of this block that some query of the tile sees
            if visible > 0:
                scores = nl.ndarray((n, visible), dtype=nl.float32, buffer=nl.psum)
                for c in range(0, visible, BANK):
                    end = min(c + BANK, visible)
                    nisa.nc_matmul(dst=scores[:, c:end], stationary=queries[t], moving=keys[:, c:end], accumulate=False)
                if j0 + visible - 1 > i0 + shift:  # the first query does not see them all
                    scores = _mask(scores, i0 + shift - j0)
                states[t] = _update(states[t], scores, values, q.dtype, scale)

    for t in range(len(tiles)):
        h, i0, n = tiles[t]
        _, weight, o = states[t]
        inverse = nl.ndarray((n, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.reciprocal(dst=inverse, data=weight)
        result = nl.ndarray((n, D), dtype=out.dtype, buffer=nl.sbuf)
        nisa.tensor_scalar(dst=result, data=o, op0=nl.multiply, operand0=inverse)
        nisa.dma_copy(dst=out[h, i0 : i0 + n, :], src=result)


def _update(state, scores, values, dtype, scale):
    """The state (m[n, 1], l[n, 1] as `weight`, o[n, D]) of a query tile after a block of scores[n, keys]."""
    n, n_keys = scores.shape
    D = values[0].shape[1]
    m = nl.ndarray((n, 1), dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_reduce(dst=m, op=nl.maximum, data=scores, axis=1)
    if state == None:
        nisa.tensor_scalar(dst=m, data=m, op0=nl.maximum, operand0=LOWEST)
    else:
        nisa.tensor_tensor(dst=m, data1=m, data2=state[0], op=nl.maximum)
    bias = nl.ndarray((n, 1), dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_scalar(dst=bias, data=m, op0=nl.multiply, operand0=-scale)

    # p = exp(scale * scores - scale * m), and its row sum before rounding
    p = nl.ndarray((n, n_keys), dtype=dtype, buffer=nl.sbuf)
    weight = nl.ndarray((n, 1), dtype=nl.float32, buffer=nl.sbuf)
    nisa.activation(
        dst=p,
        op=nl.exp,
        data=scores,
        bias=bias,
        scale=scale,
        reduce_op=nl.add,
        reduce_res=weight,
        reduce_cmd=nisa.reduce_cmd.reset_reduce,
    )
    weighted = nl.ndarray((n, D), dtype=nl.float32, buffer=nl.psum)
    transposed = _transpose(p)
    for c in range(len(transposed)):
        nisa.nc_matmul(
            dst=weighted, stationary=transposed[c], moving=values[c][0 : transposed[c].shape[0], :], accumulate=c > 0
        )

    o = nl.ndarray((n, D), dtype=nl.float32, buffer=nl.sbuf)
    if state == None:
        nisa.tensor_copy(dst=o, src=weighted)
    else:
        m_before, weight_before, o_before = state
        shrink = nl.ndarray((n, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.activation(dst=shrink, op=nl.exp, data=m_before, bias=bias, scale=scale)
        nisa.scalar_tensor_tensor(
            dst=weight, data=weight_before, op0=nl.multiply, operand0=shrink, op1=nl.add, operand1=weight
        )
        nisa.scalar_tensor_tensor(dst=o, data=o_before, op0=nl.multiply, operand0=shrink, op1=nl.add, operand1=weighted)
    return m, weight, o


def _mask(scores, shift):
    """scores[i, j] where j <= i + shift, else MASKED; in SBUF, because GpSimd cannot reach PSUM."""
    n, n_keys = scores.shape
    masked = nl.ndarray((n, n_keys), dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_copy(dst=masked, src=scores)
    first = max(0, shift + 1)  # all queries see the keys before it
    diagonal = masked[:, first:n_keys]
    nisa.affine_select(
        dst=diagonal,
        pattern=[[-1, n_keys - first]],
        channel_multiplier=1,
        on_true_tile=diagonal,
        on_false_value=MASKED,
        cmp_op=nl.greater_equal,
        offset=shift - first,
    )
    return masked


def _transpose(p):
    """p[n, keys] as SBUF tiles [up to 128 keys, n]; the transposes that fill a bank share one copy out of PSUM."""
    n, n_keys = p.shape
    P = nl.tile_size.pmax
    tiles = []
    for j0 in range(0, n_keys, BANK):
        end = min(j0 + BANK, n_keys)
        whole = j0 + (end - j0) // P * P
        if whole > j0:
            tiles.extend(_transpose_chunks(p[:, j0:whole], P))
        if end > whole:
            tiles.extend(_transpose_chunks(p[:, whole:end], end - whole))
    return tiles


def _transposed_dtype(dtype):
    """What the Tensor Engine transposes `dtype` into: NeuronCore-v2 writes float32 to PSUM, whatever the tile is."""
    if nisa.get_nc_version() == nisa.nc_version.gen2:
        return nl.float32
    return dtype


def _transpose_chunks(p, rows):
    """p[n, chunks * rows] as the SBUF tiles [rows, n] of its chunks."""
    n, n_keys = p.shape
    chunks = n_keys // rows
    in_psum = nl.ndarray((rows, chunks, n), dtype=_transposed_dtype(p.dtype), buffer=nl.psum)
    for c in range(chunks):
        nisa.nc_transpose(dst=in_psum[:, c, :], data=p[:, c * rows : (c + 1) * rows])
    in_sbuf = nl.ndarray((rows, chunks, n), dtype=p.dtype, buffer=nl.sbuf)
    nisa.tensor_copy(dst=in_sbuf, src=in_psum)
    tiles = []
    for c in range(chunks):
        tiles.append(in_sbuf[:, c, :])
    return tiles


def _load_chunks(source, s0, n):
    """The rows s0 .. s0+n of source[S, D] as SBUF tiles of up to 128 rows."""
    tiles = []
    for c in range(0, n, nl.tile_size.pmax):
        rows = min(nl.tile_size.pmax, n - c)
        tile = nl.ndarray((rows, source.shape[1]), dtype=source.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=source[s0 + c : s0 + c + rows, :])
        tiles.append(tile)
    return tiles


def _load_transposed(source, s0, n):
    """The rows s0 .. s0+n of source[S, D] as one SBUF tile [D, n], transposed on the Tensor Engine."""
    D = source.shape[1]
    transposed = nl.ndarray((D, n), dtype=source.dtype, buffer=nl.sbuf)
    in_psum = nl.ndarray((D, n), dtype=_transposed_dtype(source.dtype), buffer=nl.psum)
    c = 0
    for tile in _load_chunks(source, s0, n):
        rows = tile.shape[0]
        nisa.nc_transpose(dst=in_psum[:, c : c + rows], data=tile)
        c += rows
    nisa.tensor_copy(dst=transposed, src=in_psum)
    return transposed


def _write_zeros(out, i0, n):
    zeros = nl.ndarray((n, out.shape[1]), dtype=out.dtype, buffer=nl.sbuf)
    nisa.memset(dst=zeros, value=0.0)
    nisa.dma_copy(dst=out[i0 : i0 + n, :], src=zeros)


def _check(q, k, v):
    assert len(q.shape) == 4 and len(k.shape) == 4 and len(v.shape) == 4, (
        f"attention_online takes q[B, H, Sq, D], k and v[B, Hkv, Sk, D], got shapes {q.shape}, {k.shape} and {v.shape}"
    )
    B, H, Sq, D = q.shape
    _, Hkv, Sk, _ = k.shape
    assert k.shape == v.shape, f"k and v must have one shape, got {k.shape} and {v.shape}"
    assert k.shape[0] == B and k.shape[3] == D, f"q and k must share B and D, got {q.shape} and {k.shape}"
    assert H % Hkv == 0, f"query heads must be a multiple of key heads, got {H} and {Hkv}"
    assert D <= nl.tile_size.pmax, f"the head dimension is at most {nl.tile_size.pmax}, got {D}"
    assert q.dtype == k.dtype and q.dtype == v.dtype, (
        f"q, k and v must have one dtype, got {q.dtype}, {k.dtype} and {v.dtype}"
    )
    assert q.dtype == nl.float32 or q.dtype == nl.bfloat16 or q.dtype == nl.float16, (
        f"attention_online takes float32, bfloat16 or float16, got {q.dtype}"
    )
    return B, H, Hkv, Sq, Sk, D
