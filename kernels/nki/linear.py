"""Linear layers with what surrounds them, of x[M, K] and w[K, N] as they are usually stored.

    linear               out[M, N] = activation(scale * (x @ w) + bias[N]) + residual[M, N]
    rmsnorm_linear       out[M, N] = (x / sqrt(mean over K of x^2 + eps) * gain[K]) @ w
    linear_transposed    out[M, N] = x @ w.T + residual[M, N], of w[N, K]: what a layer's gradient is to its inputs

One loop serves them all, and few tokens as well as many. DMA transposes a panel of x, up to 1024 tokens, on its way in;
it stays in SBUF while all of w streams by: w is read once for each panel, and in decode once at all. A block of the
output fills the eight banks of PSUM, four tiles of tokens by two of columns, or for few tokens one by four, so that w
comes in runs of 2 to 4 KiB. Two tiles of K are multiplied into one bank before it is the next one's turn: banks are
complete one after the other, and are emptied while the others still compute.

Bias, activation and residual meet the float32 sums on their way out of PSUM, so that the product is never rounded:
Vector adds, Scalar takes the activation. A norm is applied on both sides of the product, which need not wait for it:

    out[m, n] = r[m] * sum_k (x[m, k] gain[k]) w[k, n],    r[m] = 1 / sqrt(sum_k x[m, k]^2 / K + eps)

gain is one number a partition of the transposed panel, and r one number a partition of the output.

Dimensions
    M    tokens, any number
    K    contraction, at most 32768, half of it in float32; 8192 with a norm
    N    columns, any number

Inputs are float32, bfloat16 or float16, all the same; the output is rounded to that dtype once.
"""

import nki
import nki.isa as nisa
import nki.language as nl

P = 128  # partitions
BANK = 512  # float32 numbers of a PSUM bank: columns of one matmul
BANKS = 8
TURN = 2 * P  # of K: what is loaded at once, and multiplied into one bank before it is the next one's turn
RESIDENT = 64 * 1024  # bytes a partition that 1024 tokens of x may keep in SBUF; fewer tokens may keep twice as much
ACTIVATIONS = {"silu": nl.silu, "gelu": nl.gelu, "relu": nl.relu}


@nki.jit
def linear(x, w, bias=None, residual=None, activation=None, scale=1.0):
    """out[M, N] of x[M, K], w[K, N], bias[N] and residual[M, N], each of the two left out or given.

    activation: None, "silu", "gelu" (with erf) or "relu"
    """
    M, K, N = _check(x, w)
    assert bias == None or bias.shape == (N,), f"bias must have shape ({N},), got {bias.shape}"
    assert residual == None or residual.shape == (M, N), f"residual must have shape ({M}, {N}), got {residual.shape}"
    assert activation == None or activation in ACTIVATIONS, (
        f"activation must be None, 'silu', 'gelu' or 'relu', got {activation!r}"
    )
    out = nl.ndarray((M, N), dtype=x.dtype, buffer=nl.shared_hbm)
    _multiply(
        out, x, w, False, None, 0.0, {"bias": bias, "residual": residual, "activation": activation, "scale": scale}
    )
    return out


@nki.jit
def rmsnorm_linear(x, gain, w, eps=1e-5):
    """out[M, N] of x[M, K], gain[K] and w[K, N]: the norm of a Llama block and the projection after it."""
    M, K, N = _check(x, w)
    assert gain.shape == (K,), f"gain must have shape ({K},), got {gain.shape}"
    assert K <= 8192, f"rmsnorm_linear takes up to 8192 columns of x, got {K}"
    out = nl.ndarray((M, N), dtype=x.dtype, buffer=nl.shared_hbm)
    _multiply(out, x, w, False, gain, eps, {"bias": None, "residual": None, "activation": None})
    return out


@nki.jit
def linear_transposed(x, w, residual=None):
    """out[M, N] = x[M, K] @ w[N, K].T + residual[M, N], which may be left out. DMA transposes w too."""
    M, K, N = _check(x, w.permute((1, 0)))
    assert residual == None or residual.shape == (M, N), f"residual must have shape ({M}, {N}), got {residual.shape}"
    out = nl.ndarray((M, N), dtype=x.dtype, buffer=nl.shared_hbm)
    _multiply(out, x, w, True, None, 0.0, {"bias": None, "residual": residual, "activation": None, "scale": 1.0})
    return out


def _multiply(out, x, w, is_transposed, gain, eps, epilogue):
    """The loop of all: w is [K, N], or [N, K]. With gain, x is multiplied by it before, and the sums by r after it."""
    (M, K), N = x.shape, out.shape[1]
    _warm_up()
    tokens = _panel_size(K, 2 if x.dtype != nl.float32 else 4)
    gains = None if gain == None else _as_columns(gain)
    for p0 in range(0, M, tokens):
        bp = min(tokens, M - p0)
        rows = min(4, -(-bp // P))  # tiles of tokens of a block
        block_n = min(4, BANKS // rows) * BANK
        panel, row_scales = {}, {}
        for n0 in range(0, N, block_n):
            bn = min(block_n, N - n0)
            weights = {}
            for m0 in range(0, bp, rows * P):
                sums = []
                for m, _ in _tiles(min(rows * P, bp - m0)):
                    sums.append(_banks(m, bn))
                for k0 in range(0, K, TURN):
                    size = min(TURN, K - k0)
                    if k0 not in panel:
                        panel[k0] = _load_transposed(x, p0, bp, k0, size)
                        if gain != None:
                            _scale(panel[k0], gains, k0, size)
                    if k0 not in weights:
                        if is_transposed:
                            weights[k0] = _load_transposed(w, n0, bn, k0, size)
                        else:
                            weights[k0] = _load(w, k0, size, n0, bn)
                    for i in range(len(sums)):
                        for c in range(len(sums[i])):
                            _accumulate(sums[i][c], panel[k0], m0 + i * P, weights[k0], c * BANK, size, k0 == 0)
                for i in range(len(sums)):
                    first = p0 + m0 + i * P
                    if gain != None and first not in row_scales:
                        row_scales[first] = _inverse_root(x[first : first + sums[i][0].shape[0], :], eps)
                    scale = epilogue["scale"] if gain == None else row_scales[first]
                    _store(out, sums[i], first, n0, epilogue, scale)


def _panel_size(K, width):
    """Tokens of a panel: up to 1024, fewer where K is large."""
    for tokens, room in ((8 * P, RESIDENT), (4 * P, 2 * RESIDENT), (2 * P, 2 * RESIDENT)):
        if width * K * tokens // P <= room:
            return tokens
    return P


def _accumulate(sums, panel, m0, weights, n0, size, is_first):
    """sums[m, n] (+)= panel[size, m0 : m0+m].T @ weights[size, n0 : n0+n], tile of 128 after tile."""
    m, n = sums.shape
    for k, t in _tiles(size):
        nisa.nc_matmul(
            dst=sums,
            stationary=panel[0:k, t, m0 : m0 + m],
            moving=weights[0:k, t, n0 : n0 + n],
            accumulate=not is_first or t > 0,
        )


def _store(out, banks, m0, n0, epilogue, scale):
    """Write a row of banks to out[m0 : m0+m, n0 : ...] with the epilogue applied; scale is a number or r[m, 1]."""
    m = banks[0].shape[0]
    bn = (len(banks) - 1) * BANK + banks[-1].shape[1]
    bias, residual = epilogue["bias"], epilogue["residual"]
    if bias != None:
        bias = _loaded(bias[n0 : n0 + bn].reshape((1, bn)).broadcast(0, m))
    if residual != None:
        residual = _loaded(residual[m0 : m0 + m, n0 : n0 + bn])
    row = nl.ndarray((m, bn), dtype=out.dtype, buffer=nl.sbuf)
    for c in range(len(banks)):
        begin, end = c * BANK, c * BANK + banks[c].shape[1]
        added = None if bias == None else bias[:, begin:end]
        kept = None if residual == None else residual[:, begin:end]
        _finish(row[:, begin:end], banks[c], added, kept, epilogue["activation"], scale)
    nisa.dma_copy(dst=out[m0 : m0 + m, n0 : n0 + bn], src=row)


def _finish(out, sums, bias, residual, activation, scale):
    """out = activation(scale * sums + bias) + residual, in float32, rounded once; sums lie in PSUM."""
    y = sums
    if bias != None:
        y = out if activation == None and residual == None else nl.ndarray(out.shape, dtype=nl.float32, buffer=nl.sbuf)
        nisa.scalar_tensor_tensor(dst=y, data=sums, op0=nl.multiply, operand0=scale, op1=nl.add, operand1=bias)
        scale = 1.0
    if activation != None or (bias == None and residual == None):
        op = nl.copy if activation == None else ACTIVATIONS[activation]
        before = y
        y = out if residual == None else nl.ndarray(out.shape, dtype=nl.float32, buffer=nl.sbuf)
        nisa.activation(dst=y, op=op, data=before, scale=scale)
        scale = 1.0
    if residual != None:
        nisa.scalar_tensor_tensor(dst=out, data=y, op0=nl.multiply, operand0=scale, op1=nl.add, operand1=residual)


def _loaded(source):
    """source[m, n] in SBUF."""
    tile = nl.ndarray(source.shape, dtype=source.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=source)
    return tile


def _inverse_root(rows, eps):
    """r[m, 1] = 1 / sqrt(mean of rows[m, K]^2 + eps), by power, which takes infinities too; Scalar's rsqrt does not."""
    m, K = rows.shape
    loaded = _loaded(rows)
    squares = nl.ndarray((m, K), dtype=nl.bfloat16, buffer=nl.sbuf)  # which nobody reads
    total = nl.ndarray((m, 1), dtype=nl.float32, buffer=nl.sbuf)
    nisa.activation_reduce(dst=squares, op=nl.square, data=loaded, reduce_op=nl.add, reduce_res=total)
    inverse = nl.ndarray((m, 1), dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_scalar(dst=inverse, data=total, op0=nl.multiply, operand0=1.0 / K, op1=nl.add, operand1=eps)
    nisa.tensor_scalar(dst=inverse, data=inverse, op0=nl.power, operand0=-0.5)
    return inverse


def _as_columns(gain):
    """gain[K] as float32 columns, one for each tile of 128: [128, tiles]."""
    K = gain.shape[0]
    loaded = nl.ndarray((P, -(-K // P), 1), dtype=gain.dtype, buffer=nl.sbuf)
    columns = nl.ndarray((P, -(-K // P), 1), dtype=nl.float32, buffer=nl.sbuf)
    for k, begin, end in _rectangles(K):
        part = gain[begin * P : (end - 1) * P + k]
        nisa.dma_copy(dst=loaded[0:k, begin:end, :], src=part.reshape((end - begin, k, 1)).permute((1, 0, 2)))
        nisa.tensor_copy(dst=columns[0:k, begin:end, :], src=loaded[0:k, begin:end, :])
    return columns


def _scale(panel, gains, k0, size):
    """panel[k, :] *= gain[k0 + k], in place."""
    for k, t in _tiles(size):
        tile = panel[0:k, t, :]
        nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=gains[0:k, k0 // P + t, :])


def _banks(rows, columns):
    """PSUM tiles [rows, up to 512] for so many columns."""
    found = []
    for c in range(0, columns, BANK):
        found.append(nl.ndarray((rows, min(BANK, columns - c)), dtype=nl.float32, buffer=nl.psum))
    return found


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


def _check(x, w):
    assert len(x.shape) == 2 and len(w.shape) == 2 and w.shape[0] == x.shape[1], (
        f"x[M, K] and w[K, N] must share K, got shapes {x.shape} and {w.shape}"
    )
    most = RESIDENT // (2 if x.dtype != nl.float32 else 4)
    assert x.shape[1] <= most, f"K is at most {most} in {x.dtype}, got {x.shape[1]}"
    assert w.dtype == x.dtype, f"x and w must have one dtype, got {x.dtype} and {w.dtype}"
    return x.shape[0], x.shape[1], w.shape[1]
