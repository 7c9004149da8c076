"""Attention of one head without blocks of keys, as a student project has it programmed: in one pass, and in three."""

import nki
import nki.isa as nisa
import nki.language as nl

P, N = 128, 512  # partitions, and columns of a bank of PSUM
HARDWARE, SCALAR, SYNC = nisa.dge_mode.hwdge, nisa.engine.scalar, nisa.engine.sync  # of scores on their way to HBM


@nki.jit
def attention_fused(q, k, v):
    """out[S, D] = softmax(q.T k) v.T of q, k, v [D, S], D = 128; scores stay on chip."""
    S = q.shape[1]
    out = nl.ndarray((S, P), q.dtype, buffer=nl.shared_hbm)
    q_tile, k_tile, v_tile = _load(q), _load(k), _load(v)
    v_turned = _turned(v_tile)
    for row in range(0, S, P):
        scores = [_scores(q_tile, k_tile, row, n) for n in range(0, S, N)]
        weights, rest = _softmax(scores)
        _output(out[row : row + P, :], _turned(weights), v_turned, rest)
    return out


@nki.jit
def attention_in_steps(q, k, v):
    """The same; scores go to HBM and come back for softmax, and so do its results."""
    S = q.shape[1]
    out = nl.ndarray((S, P), q.dtype, buffer=nl.shared_hbm)
    between = nl.ndarray((S, S), nl.float32, buffer=nl.shared_hbm)
    q_tile, k_tile, v_tile = _load(q), _load(k), _load(v)
    for row in range(0, S, P):
        tile = nl.ndarray((P, S), nl.float32, buffer=nl.sbuf)
        for n in range(0, S, N):
            nisa.tensor_copy(tile[:, n : n + N], _scores(q_tile, k_tile, row, n))
        nisa.dma_copy(between[row : row + P, :], tile, dge_mode=HARDWARE, engine=SCALAR)
    for row in range(0, S, P):
        tile = _back(between, row)
        weights, rest = _softmax([tile[:, n : n + N] for n in range(0, S, N)])
        for n in range(0, S, N):
            nisa.tensor_scalar(weights[:, n : n + N], weights[:, n : n + N], nl.multiply, rest)
        nisa.dma_copy(between[row : row + P, :], weights, dge_mode=HARDWARE, engine=SCALAR)
    v_turned = _turned(v_tile)
    for row in range(0, S, P):
        _output(out[row : row + P, :], _turned(_back(between, row)), v_turned, None)
    return out


def _load(source):
    tile = nl.ndarray(source.shape, source.dtype, buffer=nl.sbuf)
    nisa.dma_copy(tile, source)
    return tile


def _back(between, row):
    """Rows of scores as they lie in HBM."""
    tile = nl.ndarray((P, between.shape[1]), nl.float32, buffer=nl.sbuf)
    nisa.dma_copy(tile, between[row : row + P, :], dge_mode=HARDWARE, engine=SYNC)
    return tile


def _scores(q_tile, k_tile, row, n):
    """q.T k of P queries and N keys, in PSUM."""
    product = nl.ndarray((P, N), nl.float32, buffer=nl.psum)
    nisa.nc_matmul(product, q_tile[:, row : row + P], k_tile[:, n : n + N])
    return product


def _turned(tile):
    """[P, S / P, P]: the transposes of tile [P, S] by blocks of P columns, a bank of PSUM at a time."""
    S = tile.shape[1]
    turned = nl.ndarray((P, S), nl.float32, buffer=nl.sbuf)
    for n in range(0, S, N):
        bank = nl.ndarray((P, N), tile.dtype, buffer=nl.psum)
        for c in range(0, N, P):
            nisa.nc_transpose(bank[:, c : c + P], tile[:, n + c : n + c + P])
        nisa.tensor_copy(turned[:, n : n + N], bank)
    return turned


def _softmax(scores):
    """exp(scores - max), and one over the sum of it, of tiles of N columns beside each other."""
    count = len(scores)
    most, sums = (nl.ndarray((P, count), nl.float32, buffer=nl.sbuf) for _ in range(2))
    top, total, over = (nl.ndarray((P, 1), nl.float32, buffer=nl.sbuf) for _ in range(3))
    weights = nl.ndarray((P, count * N), nl.float32, buffer=nl.sbuf)
    for i, tile in enumerate(scores):
        nisa.tensor_reduce(most[:, i : i + 1], nl.maximum, tile, axis=1)
    nisa.tensor_reduce(top, nl.maximum, most, axis=1, negate=True)
    for i, tile in enumerate(scores):
        nisa.activation(weights[:, i * N : (i + 1) * N], nl.exp, tile, bias=top)
        nisa.tensor_reduce(sums[:, i : i + 1], nl.add, weights[:, i * N : (i + 1) * N], axis=1)
    nisa.tensor_reduce(total, nl.add, sums, axis=1)
    nisa.reciprocal(over, total)
    return weights, over


def _output(out, turned, v_turned, rest):
    """out[P, D] = weights[P, S] v.T[S, D], times a column if there is one."""
    product = nl.ndarray((P, P), nl.float32, buffer=nl.psum)
    for s in range(0, turned.shape[1], P):
        nisa.nc_matmul(product, turned[:, s : s + P], v_turned[:, s : s + P])
    tile = nl.ndarray((P, P), out.dtype, buffer=nl.sbuf)
    if rest is None:
        nisa.tensor_copy(tile, product)
    else:
        nisa.tensor_scalar(tile, product, nl.multiply, rest)
    nisa.dma_copy(out, tile)
