"""The gated MLP of a Llama block on a GPU: out[M, N] = (silu(x @ wg) * (x @ wu)) @ wd + residual, in two products.

    x[M, K]    wg[K, F]    wu[K, F]    wd[F, N]    residual[M, N]    out[M, N]    silu(g) = g / (1 + exp(-g))

`matmul` says how one product keeps a GPU's matrix units fed. Here:

* gate and up are **one kernel**: a program holds the same tile of x wg and of x wu in two accumulators, for which it
  loads x once, multiplies silu(g) u in registers and writes h[M, F], rounded to the inputs' dtype. So g and u never
  leave the chip.
* h goes through memory to the second product: a program of that one needs all of F, which no multiprocessor holds.
* down adds the residual to its float32 sums. It has N / BLOCK_N columns of tiles and F to sum over: with few rows,
  fewer tiles than processors, so that F is split among programs. Each writes a float32 sum to memory of its own, and
  a second kernel adds those in a fixed order.

With one token all that matters is that the weights arrive: 2 K F + F N numbers, each used once. Tiles are then narrow
and deep, so that two programs share a multiprocessor and one loads while the other waits."""

import triton
import triton.language as tl

# Tiles of 16-bit numbers by architecture, whose columns gate and up share, and how many steps of the axis that is
# summed over are under way at most. The first row runs, unless `triptych bench --tune` found another to be faster
# there. The remarks are the compiler's, of gate and up, then of down, for 2048 tokens of Llama 3.1 8B.
CONFIGURATIONS = {
    "sm_80": (
        # 255 registers, 96 bytes spilled, and 244: the most reuse
        {"BLOCK_M": 128, "BLOCK_N": 256, "BLOCK_K": 64, "STAGES": 4},
        # 128 registers, two programs a processor, and 184: nothing is spilled
        {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 64, "STAGES": 4},
    ),
    "sm_90": (
        # 255 registers, and 182; 192 KiB: the most reuse
        {"BLOCK_M": 128, "BLOCK_N": 256, "BLOCK_K": 64, "STAGES": 4},
        # 255 registers, and 216; 192 KiB: weights read half as often and x twice
        {"BLOCK_M": 256, "BLOCK_N": 128, "BLOCK_K": 64, "STAGES": 4},
        # 136 registers, and 116; 192 KiB: twice as many tiles, for a fuller last wave
        {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 64, "STAGES": 6},
    ),
    "sm_100": (
        # 195 registers, and 174; 192 KiB: the most reuse
        {"BLOCK_M": 128, "BLOCK_N": 256, "BLOCK_K": 64, "STAGES": 4},
        # 197 registers, and 217; 192 KiB: weights read half as often and x twice
        {"BLOCK_M": 256, "BLOCK_N": 128, "BLOCK_K": 64, "STAGES": 4},
        # 77 registers, and 94; 192 KiB: twice as many tiles, for a fuller last wave
        {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 64, "STAGES": 6},
    ),
    "gfx942": (
        # 132 registers, 48 KiB, and 134, 32 KiB, in tiles of 128 x 128: fewer would leave compute units idle
        {"BLOCK_M": 128, "BLOCK_N": 256, "BLOCK_K": 64, "STAGES": 2},
        # 199 registers, and 78 in tiles of 128 x 128, of which two programs are on a compute unit; 32 KiB
        {"BLOCK_M": 256, "BLOCK_N": 256, "BLOCK_K": 32, "STAGES": 2},
    ),
}
FLOAT32 = {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 16, "STAGES": 4}
GROUP_M = 8  # rows of tiles whose programs share columns of the weights
FEWEST_STEPS = 4  # of the axis that is summed over, which are worth a program of their own


@triton.jit
def _tile_of(M, N, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, GROUP_M: tl.constexpr):
    """(row, column) of the tile of program_id(0): down GROUP_M rows of tiles first, then to the next column."""
    tiles_n = tl.cdiv(N, BLOCK_N)
    first_m = tl.program_id(0) // (GROUP_M * tiles_n) * GROUP_M
    group_m = tl.minimum(tl.cdiv(M, BLOCK_M) - first_m, GROUP_M)
    in_group = tl.program_id(0) % (GROUP_M * tiles_n)
    return first_m + in_group % group_m, in_group // group_m


@triton.jit
def _hidden_kernel(
    x,
    wg,
    wu,
    h,
    M,
    F,
    K,
    x_m,
    x_k,
    wg_k,
    wg_f,
    wu_k,
    wu_f,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
    EVEN_K: tl.constexpr,
):
    """A tile of h[M, F] = silu(x @ wg) * (x @ wu), which is contiguous."""
    tile_m, tile_f = _tile_of(M, F, BLOCK_M, BLOCK_N, GROUP_M)
    m = (tile_m * BLOCK_M + tl.arange(0, BLOCK_M)) % M
    f = (tile_f * BLOCK_N + tl.arange(0, BLOCK_N)) % F
    k = tl.arange(0, BLOCK_K).to(tl.int64)
    x_tile = x + m[:, None].to(tl.int64) * x_m + k[None, :] * x_k
    g_tile = wg + k[:, None] * wg_k + f[None, :].to(tl.int64) * wg_f
    u_tile = wu + k[:, None] * wu_k + f[None, :].to(tl.int64) * wu_f
    g = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    u = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for k0 in range(0, K, BLOCK_K):
        if EVEN_K:
            left = tl.load(x_tile)
            gate = tl.load(g_tile)
            up = tl.load(u_tile)
        else:
            left = tl.load(x_tile, mask=k[None, :] < K - k0, other=0.0)
            gate = tl.load(g_tile, mask=k[:, None] < K - k0, other=0.0)
            up = tl.load(u_tile, mask=k[:, None] < K - k0, other=0.0)
        g = tl.dot(left, gate, g, input_precision="ieee")
        u = tl.dot(left, up, u, input_precision="ieee")
        x_tile += BLOCK_K * x_k
        g_tile += BLOCK_K * wg_k
        u_tile += BLOCK_K * wu_k

    e = tl.exp(-tl.abs(g))  # which cannot overflow
    gated = tl.where(g == float("-inf"), 0.0, g * tl.where(g >= 0, 1.0, e) / (1.0 + e))
    m = tile_m.to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)[:, None]
    f = tile_f.to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)[None, :]
    tl.store(h + m * F + f, (gated * u).to(h.dtype.element_ty), mask=(m < M) & (f < F))


@triton.jit
def _down_kernel(
    h,
    wd,
    residual,
    out,
    M,
    N,
    F,
    wd_f,
    wd_n,
    residual_m,
    residual_n,
    out_s,
    out_m,
    out_n,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
    EVEN_K: tl.constexpr,
    SPLIT: tl.constexpr,
):
    """A tile of out = h @ wd + residual; or of part program_id(1) of the sums over F, in float32."""
    tile_m, tile_n = _tile_of(M, N, BLOCK_M, BLOCK_N, GROUP_M)
    first, end = 0, F
    if SPLIT > 1:
        part = tl.cdiv(tl.cdiv(F, BLOCK_K), SPLIT) * BLOCK_K
        first = tl.program_id(1) * part
        end = tl.minimum(first + part, F)
    m = (tile_m * BLOCK_M + tl.arange(0, BLOCK_M)) % M
    n = (tile_n * BLOCK_N + tl.arange(0, BLOCK_N)) % N
    f = first + tl.arange(0, BLOCK_K)
    h_tile = h + m[:, None].to(tl.int64) * F + f[None, :]
    w_tile = wd + f[:, None].to(tl.int64) * wd_f + n[None, :].to(tl.int64) * wd_n
    accumulator = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for f0 in range(first, end, BLOCK_K):
        if EVEN_K:
            left = tl.load(h_tile)
            right = tl.load(w_tile)
        else:
            inside_f = f0 + tl.arange(0, BLOCK_K) < F
            left = tl.load(h_tile, mask=inside_f[None, :], other=0.0)
            right = tl.load(w_tile, mask=inside_f[:, None], other=0.0)
        accumulator = tl.dot(left, right, accumulator, input_precision="ieee")
        h_tile += BLOCK_K
        w_tile += BLOCK_K * wd_f

    m = tile_m.to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)[:, None]
    n = tile_n.to(tl.int64) * BLOCK_N
    # In two halves: the residual would not find registers beside a whole accumulator of 128 x 256.
    halves = tl.permute(tl.reshape(accumulator, (BLOCK_M, 2, BLOCK_N // 2)), (0, 2, 1))
    for half in tl.static_range(2):
        y = tl.split(halves)[half]
        columns = n + half * (BLOCK_N // 2) + tl.arange(0, BLOCK_N // 2)[None, :]
        inside = (m < M) & (columns < N)
        if SPLIT > 1:
            part_out = out.to(tl.pointer_type(tl.float32)) + tl.program_id(1).to(tl.int64) * out_s
            tl.store(part_out + m * out_m + columns * out_n, y, mask=inside)
        else:
            if residual is not None:
                past = tl.load(residual + m * residual_m + columns * residual_n, mask=inside, other=0.0)
                y += past.to(tl.float32)
            tl.store(out + m * out_m + columns * out_n, y.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _sum_kernel(
    parts,
    residual,
    out,
    N,
    size,
    residual_m,
    residual_n,
    out_m,
    out_n,
    SPLIT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """out[M, N] = the sum over s of parts[SPLIT, M, N], float32, s ascending, + residual; size = M N."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    part = parts.to(tl.pointer_type(tl.float32)) + i
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for s in range(SPLIT):
        total += tl.load(part + tl.cast(s, tl.int64) * size, mask=i < size, other=0.0)
    m, n, inside = i // N, i % N, i < size
    if residual is not None:
        total += tl.load(residual + m * residual_m + n * residual_n, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + m * out_m + n * out_n, total.to(out.dtype.element_ty), mask=inside)


def _rows(target):
    """Those of CONFIGURATIONS for a GPU."""
    if target.backend != "cuda":
        return CONFIGURATIONS["gfx942"]
    return CONFIGURATIONS["sm_90" if 90 <= target.arch < 100 else "sm_100" if 100 <= target.arch < 120 else "sm_80"]


def config(row, M, N, K, weights, element_size, backend, processors, shared_bytes):
    """Tile sizes, warps and stages of a product with one or two weights of [K, N], and how many parts of K fill it.

    As `matmul`'s: a row's tile, whose columns two weights share, halved along its longer side while the device has more
    processors than there are tiles.
    """
    block_m, block_n, block_k = row["BLOCK_M"], row["BLOCK_N"] // weights, row["BLOCK_K"]
    block_m = min(block_m, max(16, triton.next_power_of_2(M)))
    block_n = min(block_n, max(16, triton.next_power_of_2(N)))
    few = block_m <= 32
    if weights == 2 and backend == "cuda" and shared_bytes < 200 * 1024:
        block_k //= 2  # before Hopper operands stand in registers, too: those of two products would spill
    if element_size == 2 and few:
        block_k *= 2  # few rows wait for memory: more bytes of the weights on their way
    block_k = min(block_k, max(16, triton.next_power_of_2(K)))
    tiles = triton.cdiv(M, block_m) * triton.cdiv(N, block_n)
    while tiles < processors and max(block_m, block_n) > 64:
        block_m, block_n = (block_m, block_n // 2) if block_n >= block_m else (block_m // 2, block_n)
        tiles = triton.cdiv(M, block_m) * triton.cdiv(N, block_n)
    deepest, buffers = (row["STAGES"], 2) if backend == "cuda" else (2, 1)  # see `matmul`
    room = shared_bytes // 2 if few else shared_bytes
    while buffers * block_k * (block_m + weights * block_n) * element_size > room and block_k > 16:
        block_k //= 2
    steps = triton.cdiv(K, block_k)
    most = 2 * processors // tiles if tiles < processors else 1
    tile = {
        "BLOCK_M": block_m,
        "BLOCK_N": block_n,
        "BLOCK_K": block_k,
        "GROUP_M": GROUP_M,
        "EVEN_K": K % block_k == 0,
        "num_warps": 8 if weights * block_m * block_n > 64 * 128 else 4,
        "num_stages": max(2, min(deepest, room // (block_k * (block_m + weights * block_n) * element_size))),
        "enable_fp_fusion": True,  # a * b + c rounds once; said aloud because Triton 3.10 changes the default
    }
    return tile, triton.cdiv(steps, max(FEWEST_STEPS, triton.cdiv(steps, most)))


def gated_mlp(x, wg, wu, wd, out, residual=None):
    """out = (silu(x @ wg) * (x @ wu)) @ wd + residual."""
    given = {"x": x, "wg": wg, "wu": wu, "wd": wd, "residual": residual, "out": out}
    shapes = ", ".join(f"{name} {tuple(a.shape)}" for name, a in given.items() if a is not None)
    if not all(len(a.shape) == 2 for a in given.values() if a is not None):
        raise ValueError(f"gated_mlp takes matrices: {shapes}")
    (M, K), (F, N) = x.shape, wd.shape
    sizes = {"wg": (K, F), "wu": (K, F), "residual": (M, N), "out": (M, N)}
    if any(given[name] is not None and tuple(given[name].shape) != size for name, size in sizes.items()):
        raise ValueError(f"gated_mlp takes x[M, K], wg and wu[K, F], wd[F, N], residual and out[M, N]: {shapes}")
    driver = triton.runtime.driver.active
    device = driver.utils.get_device_properties(driver.get_current_device())
    target = driver.get_current_target()
    row = _rows(target)[0] if x.element_size() == 2 else FLOAT32
    gpu = (x.element_size(), target.backend, device["multiprocessor_count"], device["max_shared_mem"])

    h = x.new_empty(M, F)
    tile, _ = config(row, M, F, K, 2, *gpu)
    grid = (triton.cdiv(M, tile["BLOCK_M"]) * triton.cdiv(F, tile["BLOCK_N"]),)
    _hidden_kernel[grid](x, wg, wu, h, M, F, K, *x.stride(), *wg.stride(), *wu.stride(), **tile)

    tile, split = config(row, M, N, F, 1, *gpu)
    grid = (triton.cdiv(M, tile["BLOCK_M"]) * triton.cdiv(N, tile["BLOCK_N"]), split)
    past = residual.stride() if residual is not None else (0, 0)
    if split == 1:
        _down_kernel[grid](h, wd, residual, out, M, N, F, *wd.stride(), *past, 0, *out.stride(), SPLIT=1, **tile)
        return
    parts = out.new_empty(split, M * N * 4 // out.element_size())  # float32 in memory of out's dtype
    _down_kernel[grid](h, wd, residual, parts, M, N, F, *wd.stride(), *past, M * N, N, 1, SPLIT=split, **tile)
    _sum_kernel[(triton.cdiv(M * N, 1024),)](
        parts,
        residual,
        out,
        N,
        M * N,
        *past,
        *out.stride(),
        SPLIT=split,
        BLOCK=1024,
        num_warps=4,
        enable_fp_fusion=True,
    )
