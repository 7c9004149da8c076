"""Linear layers on a GPU: a product whose sums get their epilogue in registers, before they are rounded and stored.

    linear            out[M, N] = activation(scale * (x[M, K] @ w[K, N]) + bias[N]) + residual[M, N]
    linear_transposed out[M, N] = x[M, K] @ w[N, K].T + residual[M, N]
    rmsnorm_linear    out[M, N] = (x[M, K] / sqrt(mean over K of x^2 + eps) * gain[K]) @ w[K, N]

`matmul` says how a product keeps a GPU's matrix units fed; this one differs in three things.

* **Epilogue.** Scale, bias, activation and residual are applied to the float32 accumulator, which stands in registers
  when K is through: the output is written once, and nothing is read but the bias and the residual.
* **Few rows.** Where there are fewer tiles than processors, K is split among programs, each of which writes a float32
  sum to memory of its own. A second kernel adds them in a fixed order, and then does the epilogue.
* **Weights as they are stored.** w[N, K] is w[K, N] with its strides exchanged: a matrix unit takes either.

The norm is not an epilogue here. r[m] could stand behind the product, but gain[k] belongs to x inside of it, and an
operand that is changed on its way must pass through registers; the others go from memory to shared memory, past the
registers, and the matrix unit reads them there. So a kernel of its own writes the normalised x, rounded: M K numbers
out and back, beside the product's M N K multiplications. (On Trainium the norm rides along: gain is a number a
partition.)"""

import triton
import triton.language as tl

# Tiles of 16-bit numbers by architecture, and how many steps of K are under way at most. The first row runs, unless
# `triptych bench --tune` found another to be faster there. The remarks are the compiler's, of 2048 x 4096 x 4096.
CONFIGURATIONS = {
    "sm_80": (
        # 242 registers, 96 KiB: the most reuse that spills nothing
        {"BLOCK_M": 128, "BLOCK_N": 256, "BLOCK_K": 64, "STAGES": 4},
        # 182 registers, 96 KiB: twice as many tiles, for a fuller last wave
        {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 64, "STAGES": 4},
    ),
    "sm_90": (
        # 186 registers, 192 KiB: the most reuse
        {"BLOCK_M": 128, "BLOCK_N": 256, "BLOCK_K": 64, "STAGES": 4},
        # 214 registers, 192 KiB: as much reuse, w read half as often and x twice
        {"BLOCK_M": 256, "BLOCK_N": 128, "BLOCK_K": 64, "STAGES": 4},
        # 120 registers, 192 KiB: twice as many tiles, for a fuller last wave
        {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 64, "STAGES": 6},
    ),
    "sm_100": (
        # 194 registers, 192 KiB: the most reuse
        {"BLOCK_M": 128, "BLOCK_N": 256, "BLOCK_K": 64, "STAGES": 4},
        # 234 registers, 192 KiB: as much reuse, w read half as often and x twice
        {"BLOCK_M": 256, "BLOCK_N": 128, "BLOCK_K": 64, "STAGES": 4},
        # 106 registers, 192 KiB: twice as many tiles, for a fuller last wave
        {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 64, "STAGES": 6},
    ),
    "gfx942": (
        # 134 registers, 32 KiB, in tiles of 128 x 128: fewer would leave compute units idle
        {"BLOCK_M": 128, "BLOCK_N": 256, "BLOCK_K": 64, "STAGES": 2},
        # 78 registers, 32 KiB: two programs a compute unit, in twice as many steps
        {"BLOCK_M": 128, "BLOCK_N": 256, "BLOCK_K": 32, "STAGES": 2},
    ),
}
FLOAT32 = {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 16, "STAGES": 4}
GROUP_M = 8  # rows of tiles whose programs share columns of w
FEWEST_STEPS = 4  # of K that are worth a program of their own
ACTIVATIONS = (None, "silu", "gelu", "relu")


@triton.jit
def _epilogue(y, m, n, inside, bias, residual, scale, bias_n, residual_m, residual_n, ACTIVATION: tl.constexpr):
    """activation(scale y + bias) + residual of a block of float32 sums at rows m and columns n, which broadcast."""
    y = y * scale
    if bias is not None:
        y += tl.load(bias + n * bias_n, mask=inside, other=0.0).to(tl.float32)
    if ACTIVATION == "silu":
        e = tl.exp(-tl.abs(y))  # which cannot overflow
        y = tl.where(y == float("-inf"), 0.0, y * tl.where(y >= 0, 1.0, e) / (1.0 + e))
    elif ACTIVATION == "gelu":
        y = tl.where(y == float("-inf"), 0.0, y * (1.0 + tl.erf(y * 0.7071067811865476)) * 0.5)
    elif ACTIVATION == "relu":
        y = tl.where(y < 0, 0.0, y)  # a NaN stays
    if residual is not None:
        y += tl.load(residual + m * residual_m + n * residual_n, mask=inside, other=0.0).to(tl.float32)
    return y


@triton.jit
def _linear_kernel(
    x,
    w,
    bias,
    residual,
    out,
    M,
    N,
    K,
    scale,
    x_m,
    x_k,
    w_k,
    w_n,
    bias_n,
    residual_m,
    residual_n,
    out_s,
    out_m,
    out_n,
    ACTIVATION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
    EVEN_K: tl.constexpr,
    SPLIT: tl.constexpr,
):
    """A tile of the output; or of part program_id(1) of the sums over K, in float32 and without the epilogue."""
    tiles_m = tl.cdiv(M, BLOCK_M)
    tiles_n = tl.cdiv(N, BLOCK_N)
    first_m = tl.program_id(0) // (GROUP_M * tiles_n) * GROUP_M
    group_m = tl.minimum(tiles_m - first_m, GROUP_M)
    in_group = tl.program_id(0) % (GROUP_M * tiles_n)
    tile_m = first_m + in_group % group_m
    tile_n = in_group // group_m

    first, end = 0, K
    if SPLIT > 1:
        part = tl.cdiv(tl.cdiv(K, BLOCK_K), SPLIT) * BLOCK_K
        first = tl.program_id(1) * part
        end = tl.minimum(first + part, K)
    m = (tile_m * BLOCK_M + tl.arange(0, BLOCK_M)) % M
    n = (tile_n * BLOCK_N + tl.arange(0, BLOCK_N)) % N
    k = first + tl.arange(0, BLOCK_K)
    x_tile = x + m[:, None].to(tl.int64) * x_m + k[None, :].to(tl.int64) * x_k
    w_tile = w + k[:, None].to(tl.int64) * w_k + n[None, :].to(tl.int64) * w_n
    accumulator = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for k0 in range(first, end, BLOCK_K):
        if EVEN_K:
            left = tl.load(x_tile)
            right = tl.load(w_tile)
        else:
            inside_k = k0 + tl.arange(0, BLOCK_K) < K
            left = tl.load(x_tile, mask=inside_k[None, :], other=0.0)
            right = tl.load(w_tile, mask=inside_k[:, None], other=0.0)
        accumulator = tl.dot(left, right, accumulator, input_precision="ieee")
        x_tile += BLOCK_K * x_k
        w_tile += BLOCK_K * w_k

    m = tile_m.to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)[:, None]
    n = tile_n.to(tl.int64) * BLOCK_N
    if SPLIT > 1:
        n += tl.arange(0, BLOCK_N)[None, :]
        part = out.to(tl.pointer_type(tl.float32)) + tl.program_id(1).to(tl.int64) * out_s
        tl.store(part + m * out_m + n * out_n, accumulator, mask=(m < M) & (n < N))
    else:
        # In two halves: what the epilogue reads would not find registers beside a whole accumulator of 128 x 256.
        halves = tl.permute(tl.reshape(accumulator, (BLOCK_M, 2, BLOCK_N // 2)), (0, 2, 1))
        for half in tl.static_range(2):
            y = tl.split(halves)[half]
            columns = n + half * (BLOCK_N // 2) + tl.arange(0, BLOCK_N // 2)[None, :]
            inside = (m < M) & (columns < N)
            y = _epilogue(y, m, columns, inside, bias, residual, scale, bias_n, residual_m, residual_n, ACTIVATION)
            tl.store(out + m * out_m + columns * out_n, y.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _finish_kernel(
    parts,
    bias,
    residual,
    out,
    N,
    size,
    scale,
    bias_n,
    residual_m,
    residual_n,
    out_m,
    out_n,
    ACTIVATION: tl.constexpr,
    SPLIT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The epilogue of the sum over s of parts[SPLIT, M, N], float32, s ascending; size = M N."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    part = parts.to(tl.pointer_type(tl.float32)) + i
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for s in range(SPLIT):
        total += tl.load(part + tl.cast(s, tl.int64) * size, mask=i < size, other=0.0)
    m, n, inside = i // N, i % N, i < size
    total = _epilogue(total, m, n, inside, bias, residual, scale, bias_n, residual_m, residual_n, ACTIVATION)
    tl.store(out + m * out_m + n * out_n, total.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _norm_kernel(x, gain, out, M, K, eps, x_m, x_k, gain_k, ROWS: tl.constexpr, BLOCK_K: tl.constexpr):
    """ROWS rows of out[M, K] = x / sqrt(mean(x^2) + eps) * gain, contiguous."""
    m = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    k = tl.arange(0, BLOCK_K).to(tl.int64)[None, :]
    inside = (m < M) & (k < K)
    wide = tl.load(x + m * x_m + k * x_k, mask=inside, other=0.0).to(tl.float32)
    weight = tl.load(gain + k * gain_k, mask=k < K, other=0.0).to(tl.float32)
    r = tl.div_rn(1.0, tl.sqrt_rn(tl.sum(wide * wide, 1) / K + eps))
    tl.store(out + m * K + k, (wide * r[:, None] * weight).to(out.dtype.element_ty), mask=inside)


def _rows(target):
    """Those of CONFIGURATIONS for a GPU."""
    if target.backend != "cuda":
        return CONFIGURATIONS["gfx942"]
    return CONFIGURATIONS["sm_90" if 90 <= target.arch < 100 else "sm_100" if 100 <= target.arch < 120 else "sm_80"]


def config(row, M, N, K, element_size, backend, processors, shared_bytes):
    """As `matmul`'s: a row's tile, or a smaller one that leaves no processor idle, and parts of K if even that does."""
    block_m, block_n, block_k = row["BLOCK_M"], row["BLOCK_N"], row["BLOCK_K"]
    block_m = min(block_m, max(16, triton.next_power_of_2(M)))
    block_n = min(block_n, max(16, triton.next_power_of_2(N)))
    if element_size == 2 and block_m <= 32:
        block_k *= 2  # few rows wait for memory: more bytes of w on their way
    block_k = min(block_k, max(16, triton.next_power_of_2(K)))
    tiles = triton.cdiv(M, block_m) * triton.cdiv(N, block_n)
    while tiles < processors and max(block_m, block_n) > 64:
        block_m, block_n = (block_m, block_n // 2) if block_n >= block_m else (block_m // 2, block_n)
        tiles = triton.cdiv(M, block_m) * triton.cdiv(N, block_n)
    deepest, buffers = (row["STAGES"], 2) if backend == "cuda" else (2, 1)  # see `matmul`
    while buffers * block_k * (block_m + block_n) * element_size > shared_bytes and block_k > 16:
        block_k //= 2
    steps = triton.cdiv(K, block_k)
    most = 2 * processors // tiles if tiles < processors else 1  # two programs of these small tiles fit on a processor
    return {
        "BLOCK_M": block_m,
        "BLOCK_N": block_n,
        "BLOCK_K": block_k,
        "GROUP_M": GROUP_M,
        "EVEN_K": K % block_k == 0,
        "SPLIT": triton.cdiv(steps, max(FEWEST_STEPS, triton.cdiv(steps, most))),
        "num_warps": 8 if block_m * block_n > 64 * 128 else 4,
        "num_stages": max(2, min(deepest, shared_bytes // (block_k * (block_m + block_n) * element_size))),
        "enable_fp_fusion": True,  # a * b + c rounds once; said aloud because Triton 3.10 changes the default
    }


def _layer(name, x, w, out, w_strides, N, bias=None, residual=None, activation=None, scale=1.0):
    """The product of x[M, K] and of w, whose strides along K and N are given, with its epilogue."""
    given = {"x": x, "w": w, "bias": bias, "residual": residual, "out": out}
    shapes = ", ".join(f"{key} {tuple(a.shape)}" for key, a in given.items() if a is not None)
    M, K = x.shape if len(x.shape) == 2 else (0, 0)
    if len(w.shape) != 2 or {*w.shape} != {K, N} or tuple(out.shape) != (M, N):
        raise ValueError(f"{name} takes x[M, K], a w that goes with it, and out[M, N]: {shapes}")
    if bias is not None and tuple(bias.shape) != (N,) or residual is not None and tuple(residual.shape) != (M, N):
        raise ValueError(f"{name} takes bias[N] and residual[M, N]: {shapes}")
    if activation not in ACTIVATIONS:
        raise ValueError(f"{name} takes as activation one of {ACTIVATIONS}, got {activation!r}")
    driver = triton.runtime.driver.active
    device = driver.utils.get_device_properties(driver.get_current_device())
    target = driver.get_current_target()
    processors, shared_bytes = device["multiprocessor_count"], device["max_shared_mem"]
    row = _rows(target)[0] if x.element_size() == 2 else FLOAT32
    tiles = config(row, M, N, K, x.element_size(), target.backend, processors, shared_bytes)
    programs, split = triton.cdiv(M, tiles["BLOCK_M"]) * triton.cdiv(N, tiles["BLOCK_N"]), tiles["SPLIT"]
    added = (bias.stride(0) if bias is not None else 0, *(residual.stride() if residual is not None else (0, 0)))
    into, strides = (out, (0, *out.stride()))
    if split > 1:
        into = out.new_empty(split, M * N * 4 // out.element_size())  # float32 in memory of out's dtype
        strides = (M * N, N, 1)
    _linear_kernel[(programs, split)](
        x, w, bias, residual, into, M, N, K, scale, *x.stride(), *w_strides, *added, *strides, activation, **tiles
    )
    if split > 1:
        _finish_kernel[(triton.cdiv(M * N, 1024),)](
            into,
            bias,
            residual,
            out,
            N,
            M * N,
            scale,
            *added,
            *out.stride(),
            activation,
            SPLIT=split,
            BLOCK=1024,
            num_warps=4,
            enable_fp_fusion=True,
        )


def linear(x, w, out, bias=None, residual=None, activation=None, scale=1.0):
    """out = activation(scale * (x @ w) + bias) + residual."""
    _layer("linear", x, w, out, w.stride(), w.shape[-1], bias, residual, activation, float(scale))


def linear_transposed(x, w, out, residual=None):
    """out = x @ w.T + residual, of w[N, K]."""
    _layer("linear_transposed", x, w, out, w.stride()[::-1], w.shape[0], residual=residual)


def rmsnorm_linear(x, gain, w, out, eps=1e-5):
    """out = (x / sqrt(mean(x^2) + eps) * gain) @ w, the normalised x rounded to its dtype."""
    if len(x.shape) != 2 or tuple(gain.shape) != tuple(x.shape[1:]):
        raise ValueError(f"rmsnorm_linear takes x[M, K] and gain[K]: x {tuple(x.shape)}, gain {tuple(gain.shape)}")
    M, K = x.shape
    normed = x.new_empty(M, K)
    block_k = triton.next_power_of_2(K)
    rows = min(max(1, 4096 // block_k), triton.next_power_of_2(M))  # short rows stand together in a program
    _norm_kernel[(triton.cdiv(M, rows),)](
        x,
        gain,
        normed,
        M,
        K,
        eps,
        *x.stride(),
        gain.stride(0),
        ROWS=rows,
        BLOCK_K=block_k,
        num_warps=min(16, max(1, rows * block_k // 512)),
        enable_fp_fusion=True,
    )
    _layer("rmsnorm_linear", normed, w, out, w.stride(), w.shape[-1])
