"""The gated MLP of a Llama block: out[M, N] = (silu(x Wg) * (x Wu)) Wd, with x[M, K], Wg and Wu[K, F], Wd[F, N].

    g[f, m] = sum_k Wg[k, f] x[m, k],    u[f, m] = sum_k Wu[k, f] x[m, k]
    h[f, m] = g[f, m] / (1 + exp(-g[f, m])) * u[f, m]
    out[m, n] = sum_f h[f, m] Wd[f, n]

Why h stands transposed: the second product sums over F, and the Tensor Engine sums over partitions. With the weights
as stationary operand of the first product, h comes out with F on partitions, ready to be stationary in the second, and
nothing is transposed but x, by DMA on its way in. Per tile of h: Scalar takes silu(g) out of PSUM, Vector multiplies it
with u out of PSUM and rounds; g and u are never rounded.

Decode, up to 128 tokens: all weights pass through SBUF once, and h stays there. DMA is what it waits for, and the fixed
time of each run of bytes is what can be saved of it: runs are of as many columns as PSUM has sums for, 8 KiB with up to
32 tokens. Of Wd the last 512 columns are a block of their own, so that little is left to do behind the last byte.

With more tokens h is larger than SBUF and goes through HBM. Each product is then blocked as `matmul` is: blocks of the
output fill the eight banks of PSUM while the contraction streams by, four tiles of it at once.

Dimensions
    M    tokens
    K    width of the model, at most 8192
    F    width of the hidden layer
    N    width of the output, usually K

Inputs are float32, bfloat16 or float16, all the same; h is rounded to that dtype, and the output once.
"""

import nki
import nki.isa as nisa
import nki.language as nl

P = 128  # partitions
BANK = 512  # float32 numbers of a PSUM bank: columns of one matmul
BANKS = 8
RESIDENT = 128 * 1024  # bytes a partition that an operand may keep in SBUF while the other streams by


@nki.jit
def gated_mlp(x, wg, wu, wd, residual=None):
    """out[M, N] = (silu(x[M, K] @ wg[K, F]) * (x @ wu[K, F])) @ wd[F, N], and residual[M, N] added if it is given."""
    M, K, F, N = _check(x, wg, wu, wd)
    assert residual == None or residual.shape == (M, N), f"residual must have shape ({M}, {N}), got {residual.shape}"
    out = nl.ndarray((M, N), dtype=x.dtype, buffer=nl.shared_hbm)
    _warm_up()
    if M <= P:
        _decode(out, x, wg, wu, wd, residual)
    else:
        hidden = nl.ndarray((F, M), dtype=x.dtype, buffer=nl.private_hbm)
        _hidden(hidden, x, wg, wu)
        _down(out, hidden, wd, residual)
    return out


def _decode(out, x, wg, wu, wd, residual):
    """Up to 128 tokens. A panel is the columns of F whose g and u share two banks each, 1024 to 4096 of them."""
    (M, K), (F, N) = x.shape, wd.shape
    xT = _load_transposed(x, 0, M, 0, K)
    each = BANK // M  # tiles of a bank
    width = min(8 * BANK, 2 * each * P)
    h = []  # [128, M] for each tile of F
    for f0 in range(0, F, width):
        bf = min(width, F - f0)
        count = -(-bf // (each * P))
        g, u = _packed(count, each, M), _packed(count, each, M)
        rows = max(1, 8 * BANK // bf) * P  # of a load
        for k0 in range(0, K, rows):
            size = min(rows, K - k0)
            for w, banks in ((wg, g), (wu, u)):
                weights = _load(w, k0, size, f0, bf)
                for f, c in _tiles(bf):
                    for k, t in _tiles(size):
                        nisa.nc_matmul(
                            dst=banks[c // each][0:f, c % each, :],
                            stationary=weights[0:k, t, c * P : c * P + f],
                            moving=xT[0:k, k0 // P + t, :],
                            accumulate=k0 + t > 0,
                        )
        panel = nl.ndarray((P, -(-bf // P), M), dtype=x.dtype, buffer=nl.sbuf)
        for c in range(count):
            for f, begin, end in _rectangles(min(each * P, bf - c * each * P)):
                part = panel[0:f, c * each + begin : c * each + end, :]
                _gate(part, g[c][0:f, begin:end, :], u[c][0:f, begin:end, :])
        for _, c in _tiles(bf):
            h.append(panel[:, c, :])

    n0 = 0
    while n0 < N:
        bn = min((BANKS - 1) * BANK, N - n0)
        if n0 + bn == N and bn > BANK:
            bn -= BANK  # the last load is followed by the products and the copy of one bank, not of all
        banks = _banks(M, bn)
        for f0 in range(0, F, 2 * P):
            size = min(2 * P, F - f0)
            weights = _load(wd, f0, size, n0, bn)
            for f, t in _tiles(size):
                for c in range(len(banks)):
                    n = banks[c].shape[1]
                    nisa.nc_matmul(
                        dst=banks[c],
                        stationary=h[f0 // P + t][0:f, :],
                        moving=weights[0:f, t, c * BANK : c * BANK + n],
                        accumulate=f0 + t > 0,
                    )
        _store(out, 0, n0, banks, residual)
        n0 += bn


def _hidden(hidden, x, wg, wu):
    """hidden[F, M] = silu(g) * u, in HBM. Up to 1024 tokens of x stay in SBUF while all of Wg and Wu pass by."""
    (M, K), F = x.shape, wg.shape[1]
    width = 2 if x.dtype != nl.float32 else 4
    BLOCK_M = 2 * BANK if width * K * 2 * BANK // P <= RESIDENT // 2 else BANK
    for m0 in range(0, M, BLOCK_M):
        bm = min(BLOCK_M, M - m0)
        rows = BANKS // 2 // -(-bm // BANK)  # tiles of F whose g and u fill PSUM
        tokens = {}
        for p0 in range(0, F, 4 * P):
            bp = min(4 * P, F - p0)
            gates, ups = {}, {}
            for f0 in range(0, bp, rows * P):
                tiles = _tiles(min(rows * P, bp - f0))
                g, u = [], []
                for f, _ in tiles:
                    g.append(_banks(f, bm))
                    u.append(_banks(f, bm))
                for k0 in range(0, K, 4 * P):
                    size = min(4 * P, K - k0)
                    if k0 not in tokens:
                        tokens[k0] = _load_transposed(x, m0, bm, k0, size)
                    if k0 not in gates:
                        gates[k0], ups[k0] = _load(wg, k0, size, p0, bp), _load(wu, k0, size, p0, bp)
                    for i in range(len(tiles)):
                        begin = f0 + i * P
                        for c in range(len(g[i])):
                            for w, sums in ((gates[k0], g[i][c]), (ups[k0], u[i][c])):
                                _accumulate(sums, w, begin, tokens[k0], c * BANK, size, k0 == 0)
                for f, i in tiles:
                    row = nl.ndarray((f, bm), dtype=x.dtype, buffer=nl.sbuf)
                    for c in range(len(g[i])):
                        m = g[i][c].shape[1]
                        _gate(row[:, c * BANK : c * BANK + m], g[i][c], u[i][c])
                    first = p0 + f0 + i * P
                    nisa.dma_copy(dst=hidden[first : first + f, m0 : m0 + bm], src=row)


def _down(out, hidden, wd, residual):
    """out[M, N] = hidden[F, M].T @ wd[F, N]: 1024 columns of wd stay in SBUF, if they fit, while hidden passes by."""
    (F, M), N = hidden.shape, wd.shape[1]
    width = 2 if wd.dtype != nl.float32 else 4
    is_resident = width * F * 2 * BANK // P <= RESIDENT
    for n0 in range(0, N, 2 * BANK):
        bn = min(2 * BANK, N - n0)
        weights = {}
        for m0 in range(0, M, 4 * P):
            bm = min(4 * P, M - m0)
            sums = []
            for m, _ in _tiles(bm):
                sums.append(_banks(m, bn))
            if not is_resident:
                weights = {}
            for f0 in range(0, F, 4 * P):
                size = min(4 * P, F - f0)
                if f0 not in weights:
                    weights[f0] = _load(wd, f0, size, n0, bn)
                rows = _load(hidden, f0, size, m0, bm)
                for i in range(len(sums)):
                    for c in range(len(sums[i])):
                        _accumulate(sums[i][c], rows, i * P, weights[f0], c * BANK, size, f0 == 0)
            for i in range(len(sums)):
                _store(out, m0 + i * P, n0, sums[i], residual)


def _accumulate(sums, stationary, s0, moving, m0, size, is_first):
    """sums[a, b] (+)= stationary[size, s0 : s0+a].T @ moving[size, m0 : m0+b], tile of 128 after tile."""
    a, b = sums.shape
    for k, t in _tiles(size):
        nisa.nc_matmul(
            dst=sums,
            stationary=stationary[0:k, t, s0 : s0 + a],
            moving=moving[0:k, t, m0 : m0 + b],
            accumulate=not is_first or t > 0,
        )


def _gate(h, g, u):
    """h = silu(g) * u, out of PSUM."""
    gated = nl.ndarray(h.shape, dtype=nl.float32, buffer=nl.sbuf)
    nisa.activation(dst=gated, op=nl.silu, data=g)
    nisa.tensor_tensor(dst=h, data1=gated, data2=u, op=nl.multiply)


def _store(out, m0, n0, banks, residual):
    """Round a row of banks, with the residual added, and write it to out[m0 : m0+m, n0 : ...]."""
    m = banks[0].shape[0]
    bn = (len(banks) - 1) * BANK + banks[-1].shape[1]
    row = nl.ndarray((m, bn), dtype=out.dtype, buffer=nl.sbuf)
    if residual != None:
        added = nl.ndarray((m, bn), dtype=residual.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=added, src=residual[m0 : m0 + m, n0 : n0 + bn])
    for c in range(len(banks)):
        begin, end = c * BANK, c * BANK + banks[c].shape[1]
        part = row[:, begin:end]
        if residual != None:
            nisa.tensor_tensor(dst=part, data1=banks[c], data2=added[:, begin:end], op=nl.add)
        elif c % 2 == 0:
            nisa.tensor_copy(dst=part, src=banks[c])
        else:
            nisa.activation(dst=part, op=nl.copy, data=banks[c])
    nisa.dma_copy(dst=out[m0 : m0 + m, n0 : n0 + bn], src=row)


def _banks(rows, columns):
    """PSUM tiles [rows, up to 512] for so many columns."""
    found = []
    for c in range(0, columns, BANK):
        found.append(nl.ndarray((rows, min(BANK, columns - c)), dtype=nl.float32, buffer=nl.psum))
    return found


def _packed(count, each, M):
    """PSUM tiles [128, each, M]: the sums of so many tiles of F share a bank."""
    banks = []
    for _ in range(count):
        banks.append(nl.ndarray((P, each, M), dtype=nl.float32, buffer=nl.psum))
    return banks


def _load(source, k0, size, c0, columns):
    """source[k0 : k0+size, c0 : c0+columns] in tiles of 128 rows beside each other: [128, tiles, columns]."""
    loaded = nl.ndarray((P, -(-size // P), columns), dtype=source.dtype, buffer=nl.sbuf)
    for k, begin, end in _rectangles(size):
        rows = source[k0 + begin * P : k0 + (end - 1) * P + k, c0 : c0 + columns]
        nisa.dma_copy(dst=loaded[0:k, begin:end, :], src=rows.reshape((end - begin, k, columns)).permute((1, 0, 2)))
    return loaded


def _load_transposed(source, r0, rows, k0, size):
    """source[r0 : r0+rows, k0 : k0+size] transposed, in tiles of 128 of its columns: [128, tiles, rows]."""
    loaded = nl.ndarray((P, -(-size // P), rows), dtype=source.dtype, buffer=nl.sbuf)
    for k, begin, end in _rectangles(size):
        columns = source[r0 : r0 + rows, k0 + begin * P : k0 + (end - 1) * P + k]
        nisa.dma_transpose(dst=loaded[0:k, begin:end, :], src=columns.reshape((rows, end - begin, k)), axes=(2, 1, 0))
    return loaded


def _tiles(size):
    """(rows, index) of the tiles of 128 that hold so many rows."""
    found = []
    for k in range(0, size, P):
        found.append((min(P, size - k), k // P))
    return found


def _rectangles(size):
    """Tiles of 128 of so many rows as (rows, first tile, last tile + 1): the full ones, then one that is not."""
    found = []
    if size >= P:
        found.append((P, 0, size // P))
    if size % P:
        found.append((size % P, size // P, size // P + 1))
    return found


def _warm_up():
    """While the first loads are on their way: products of zeros, which raise the Tensor Engine's clock."""
    zeros = nl.ndarray((P, BANK), dtype=nl.bfloat16, buffer=nl.sbuf)
    nisa.memset(zeros, 0.0)
    nothing = nl.ndarray((P, BANK), dtype=nl.float32, buffer=nl.psum)
    for _ in range(7):
        nisa.nc_matmul(dst=nothing, stationary=zeros[:, 0:P], moving=zeros, accumulate=False)


def _check(x, wg, wu, wd):
    assert len(x.shape) == 2 and len(wg.shape) == 2 and len(wd.shape) == 2, (
        f"gated_mlp takes x[M, K], wg and wu[K, F] and wd[F, N], got shapes {x.shape}, {wg.shape} and {wd.shape}"
    )
    (M, K), (F, N) = x.shape, wd.shape
    assert wg.shape == (K, F) and wu.shape == (K, F), (
        f"wg and wu must have shape [K, F] = ({K}, {F}), got {wg.shape} and {wu.shape}"
    )
    assert K <= 8192, f"gated_mlp takes up to 8192 columns of x, got {K}"
    for w in (wg, wu, wd):
        assert w.dtype == x.dtype, f"x and the weights must have one dtype, got {x.dtype} and {w.dtype}"
    return M, K, F, N
