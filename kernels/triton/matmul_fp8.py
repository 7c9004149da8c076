"""Products of float8 numbers on a GPU: out[M, N] = lhs_scale[M] * rhs_scale[N] * (lhsT[K, M].T @ rhs[K, N]).

lhsT and rhs are bytes of float8_e4m3 (4 exponent bits with a bias of 7, 240 the largest number, infinities), as
`quantize_fp8` gives them; the scales are float32 and belong to the whole of K, so that they are factors of the float32
sums. `matmul` says how a product keeps a GPU's matrix units fed, and why K is split where rows are few. No GPU has this
float8. What one multiplies in its place:

| GPU | what the bytes are read as | the product is |
| --- | --- | --- |
| NVIDIA from sm_89 on | float8e4nv, OCP's e4m3fn: the same numbers up to 240 | the same |
| gfx942 | float8e4b8, whose bias is 8: half as much; the byte of minus zero is its NaN, and read as zero | 1/4 |
| older ones | float16 with 5 bits of exponent: the bits moved to its top are 2^-8 times as much, exactly | 2^-16 |

and a power of two beside the scales puts it right, exactly. The last numbers of each sign, whose exponent is all ones,
are above 240 in all three, where float8_e4m3 has infinities and NaN: operands must be finite.

Hopper's and Ada's matrix units want float8 with K innermost in both operands, and here it is outermost. So:

* with many rows a kernel first writes both operands turned, (M + N) K bytes out and back. Turned on their way to the
  matrix unit they would have to pass through registers, and no load would be under way while a step is multiplied;
* with few rows, where memory is the limit, they are read as float16, and the matrix unit has time.

Hopper adds float8 products with 14 bits of mantissa. Its sums of BLOCK_K products are therefore added to the float32
accumulator by ordinary instructions (`max_num_imprecise_acc`), which takes a second set of registers and so a smaller
tile.
"""

import triton
import triton.language as tl

# Tiles by architecture, and how many steps of K are under way at most. The first row runs, unless `triptych bench
# --tune` found another to be faster there. The remarks are the compiler's, of 2048 x 4096 x 4096.
CONFIGURATIONS = {
    "sm_80": (
        # 246 registers, 40 KiB: beside the accumulator stand the operands as float16
        {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 64, "STAGES": 4},
        # 252 registers, 32 KiB: two programs a processor
        {"BLOCK_M": 64, "BLOCK_N": 128, "BLOCK_K": 64, "STAGES": 4},
    ),
    "sm_90": (
        # 159 registers, 128 KiB: beside the accumulator stand the sums of a step
        {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 128, "STAGES": 4},
        # 171 registers, 160 KiB: as large a tile, lhs read twice as often
        {"BLOCK_M": 64, "BLOCK_N": 256, "BLOCK_K": 128, "STAGES": 4},
        # 164 registers, 96 KiB: two programs a processor
        {"BLOCK_M": 64, "BLOCK_N": 128, "BLOCK_K": 128, "STAGES": 4},
    ),
    "sm_100": (
        # 206 registers, 192 KiB: the most reuse
        {"BLOCK_M": 128, "BLOCK_N": 256, "BLOCK_K": 128, "STAGES": 4},
        # 150 registers, 192 KiB: twice as many tiles, for a fuller last wave
        {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 128, "STAGES": 6},
    ),
    "gfx942": (
        # 138 registers, 32 KiB, in tiles of 128 x 128: fewer would leave compute units idle
        {"BLOCK_M": 128, "BLOCK_N": 256, "BLOCK_K": 128, "STAGES": 2},
        # 102 registers, 16 KiB: two programs a compute unit, in twice as many steps
        {"BLOCK_M": 128, "BLOCK_N": 256, "BLOCK_K": 64, "STAGES": 2},
    ),
}
GROUP_M = 8  # rows of tiles whose programs share columns of rhs
FEW = 64  # rows, up to which memory is the limit
FEWEST_STEPS = 4  # of K that are worth a program of their own


@triton.jit
def _turn_kernel(x, out, K, M, x_k, x_m, pitch, BLOCK: tl.constexpr):
    """out[M, K], whose rows are `pitch` apart, = x[K, M] transposed, bytes, a tile of BLOCK x BLOCK."""
    m = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    k = tl.program_id(1).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = (k[:, None] < K) & (m[None, :] < M)
    tile = tl.load(x + k[:, None] * x_k + m[None, :] * x_m, mask=inside)
    tl.store(out + m[:, None] * pitch + k[None, :], tl.trans(tile), mask=tl.trans(inside))


@triton.jit
def _numbers(held, FLOAT8: tl.constexpr):
    """What the matrix unit multiplies in place of what was loaded."""
    if FLOAT8 == "e4b8":
        held = tl.where(held == 0x80, 0, held).to(tl.uint8).to(tl.float8e4b8, bitcast=True)
    elif FLOAT8 == "":
        wide = held.to(tl.uint16)
        held = ((wide & 0x80) << 8 | (wide & 0x7F) << 7).to(tl.float16, bitcast=True)
    return held


@triton.jit
def _product_kernel(
    lhsT,
    rhs,
    lhs_scale,
    rhs_scale,
    out,
    M,
    N,
    K,
    lhsT_k,
    lhsT_m,
    rhs_k,
    rhs_n,
    lhs_scale_m,
    rhs_scale_n,
    out_s,
    out_m,
    out_n,
    FLOAT8: tl.constexpr,
    FACTOR: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
    EVEN_K: tl.constexpr,
    SPLIT: tl.constexpr,
):
    """A tile of the output; or of part program_id(1) of the sums over K, in float32 and without the scales."""
    tiles_n = tl.cdiv(N, BLOCK_N)
    first_m = tl.program_id(0) // (GROUP_M * tiles_n) * GROUP_M
    group_m = tl.minimum(tl.cdiv(M, BLOCK_M) - first_m, GROUP_M)
    in_group = tl.program_id(0) % (GROUP_M * tiles_n)
    tile_m = first_m + in_group % group_m
    tile_n = in_group // group_m

    first, end = 0, K
    if SPLIT > 1:
        part = tl.cdiv(tl.cdiv(K, BLOCK_K), SPLIT) * BLOCK_K
        first = tl.program_id(1) * part
        end = tl.minimum(first + part, K)
    read_as: tl.constexpr = tl.pointer_type(tl.float8e4nv) if FLOAT8 == "e4nv" else tl.pointer_type(tl.uint8)
    m = (tile_m * BLOCK_M + tl.arange(0, BLOCK_M)) % M
    n = (tile_n * BLOCK_N + tl.arange(0, BLOCK_N)) % N
    k = (first + tl.arange(0, BLOCK_K)).to(tl.int64)
    a_tile = lhsT.to(read_as) + k[:, None] * lhsT_k + m[None, :].to(tl.int64) * lhsT_m
    b_tile = rhs.to(read_as) + k[:, None] * rhs_k + n[None, :].to(tl.int64) * rhs_n
    accumulator = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for k0 in range(first, end, BLOCK_K):
        if EVEN_K:
            left = tl.load(a_tile)
            right = tl.load(b_tile)
        else:
            inside_k = (k0 + tl.arange(0, BLOCK_K))[:, None] < K
            left = tl.load(a_tile, mask=inside_k)
            right = tl.load(b_tile, mask=inside_k)
            if FLOAT8 == "e4nv":
                zero = tl.zeros((1, 1), tl.uint8).to(tl.float8e4nv, bitcast=True)
                left = tl.where(inside_k, left, zero)
                right = tl.where(inside_k, right, zero)
        accumulator = tl.dot(
            tl.trans(_numbers(left, FLOAT8)), _numbers(right, FLOAT8), accumulator, max_num_imprecise_acc=BLOCK_K
        )
        a_tile += BLOCK_K * lhsT_k
        b_tile += BLOCK_K * rhs_k

    m = tile_m.to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tile_n.to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    accumulator *= FACTOR
    if SPLIT > 1:
        out = out.to(tl.pointer_type(tl.float32)) + tl.program_id(1).to(tl.int64) * out_s
    else:
        rows = tl.load(lhs_scale + m * lhs_scale_m, mask=m < M, other=0.0)
        columns = tl.load(rhs_scale + n * rhs_scale_n, mask=n < N, other=0.0)
        accumulator *= rows[:, None] * columns[None, :]
    tl.store(
        out + m[:, None] * out_m + n[None, :] * out_n,
        accumulator.to(out.dtype.element_ty),
        mask=(m[:, None] < M) & (n[None, :] < N),
    )


@triton.jit
def _sum_kernel(
    parts,
    lhs_scale,
    rhs_scale,
    out,
    N,
    size,
    lhs_scale_m,
    rhs_scale_n,
    out_m,
    out_n,
    SPLIT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The scales times the sum over s of parts[SPLIT, M, N], float32, s ascending; size = M N."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    part = parts.to(tl.pointer_type(tl.float32)) + i
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for s in range(SPLIT):
        total += tl.load(part + tl.cast(s, tl.int64) * size, mask=i < size, other=0.0)
    m, n, inside = i // N, i % N, i < size
    rows = tl.load(lhs_scale + m * lhs_scale_m, mask=inside, other=0.0)
    columns = tl.load(rhs_scale + n * rhs_scale_n, mask=inside, other=0.0)
    tl.store(out + m * out_m + n * out_n, (total * (rows * columns)).to(out.dtype.element_ty), mask=inside)


FACTORS = {"e4nv": 1.0, "e4b8": 4.0, "": 65536.0}  # of the product, by what the bytes are read as


def float8_of(target):
    """Triton's name of the float8 that a device multiplies; "" where it has none of 4 exponent bits."""
    if target.backend == "cuda":
        return "e4nv" if target.arch >= 89 else ""
    return "e4b8" if target.arch.startswith("gfx94") else "e4nv" if target.arch.startswith(("gfx95", "gfx12")) else ""


def _rows(target):
    """Those of CONFIGURATIONS for a GPU."""
    if target.backend != "cuda":
        return CONFIGURATIONS["gfx942"]
    return CONFIGURATIONS["sm_90" if 90 <= target.arch < 100 else "sm_100" if 100 <= target.arch < 120 else "sm_80"]


def config(M, N, K, target, processors, shared_bytes):
    """As `matmul`'s: a row's tile, or a smaller one that leaves no processor idle, and parts of K if even that does."""
    row = _rows(target)[0]
    float8 = float8_of(target)
    wants_k_innermost = target.backend == "cuda" and target.arch // 10 != 10
    if wants_k_innermost and M <= FEW:
        float8 = ""
    block_m, block_n, block_k = row["BLOCK_M"], row["BLOCK_N"], 128 if M <= FEW else row["BLOCK_K"]
    block_m = min(block_m, max(16, triton.next_power_of_2(M)))
    block_n = min(block_n, max(16, triton.next_power_of_2(N)))
    block_k = min(block_k, max(32, triton.next_power_of_2(K)))
    tiles = triton.cdiv(M, block_m) * triton.cdiv(N, block_n)
    while tiles < processors and max(block_m, block_n) > 64:
        block_m, block_n = (block_m, block_n // 2) if block_n >= block_m else (block_m // 2, block_n)
        tiles = triton.cdiv(M, block_m) * triton.cdiv(N, block_n)
    deepest, buffers = (row["STAGES"], 2) if target.backend == "cuda" else (2, 1)  # see `matmul`
    while buffers * block_k * (block_m + block_n) > shared_bytes and block_k > 32:
        block_k //= 2
    steps = triton.cdiv(K, block_k)
    most = 2 * processors // tiles if tiles < processors else 1
    return {
        "FLOAT8": float8,
        "FACTOR": FACTORS[float8],
        "BLOCK_M": block_m,
        "BLOCK_N": block_n,
        "BLOCK_K": block_k,
        "GROUP_M": GROUP_M,
        "EVEN_K": K % block_k == 0,
        "SPLIT": triton.cdiv(steps, max(FEWEST_STEPS, triton.cdiv(steps, most))),
        "num_warps": 8 if block_m * block_n > 64 * 128 else 4,
        "num_stages": max(2, min(deepest, shared_bytes // (block_k * (block_m + block_n)))),
        "enable_fp_fusion": True,  # a * b + c rounds once; said aloud because Triton 3.10 changes the default
    }, bool(float8) and wants_k_innermost


def _turned(x):
    """(x[K, M] with K innermost, its strides along K and M): as it is, or a copy whose rows begin at 16 bytes."""
    if x.stride(0) == 1:
        return x, x.stride()
    K, M = x.shape
    pitch = triton.cdiv(K, 16) * 16
    out = x.new_empty(M, pitch)
    _turn_kernel[(triton.cdiv(M, 64), triton.cdiv(K, 64))](
        x, out, K, M, *x.stride(), pitch, BLOCK=64, num_warps=4, enable_fp_fusion=True
    )
    return out, (1, pitch)


def matmul_fp8(lhsT, rhs, lhs_scale, rhs_scale, out):
    """out = (lhsT.T @ rhs) * lhs_scale[:, None] * rhs_scale, of bytes of float8_e4m3."""
    given = {"lhsT": lhsT, "rhs": rhs, "lhs_scale": lhs_scale, "rhs_scale": rhs_scale, "out": out}
    shapes = ", ".join(f"{name} {tuple(x.shape)}" for name, x in given.items())
    if not len(lhsT.shape) == len(rhs.shape) == 2 or lhsT.element_size() != 1 or rhs.element_size() != 1:
        raise ValueError(f"matmul_fp8 takes lhsT[K, M] and rhs[K, N] of one byte a number: {shapes}")
    (K, M), N = lhsT.shape, rhs.shape[1]
    sizes = {"rhs": (K, N), "lhs_scale": (M,), "rhs_scale": (N,), "out": (M, N)}
    if any(tuple(given[name].shape) != size for name, size in sizes.items()):
        raise ValueError(f"matmul_fp8's sizes disagree: {shapes}")
    driver = triton.runtime.driver.active
    device = driver.utils.get_device_properties(driver.get_current_device())
    processors, shared_bytes = device["multiprocessor_count"], device["max_shared_mem"]
    tiles, turns = config(M, N, K, driver.get_current_target(), processors, shared_bytes)
    split, scales = tiles["SPLIT"], (lhs_scale.stride(0), rhs_scale.stride(0))
    grid = (triton.cdiv(M, tiles["BLOCK_M"]) * triton.cdiv(N, tiles["BLOCK_N"]), split)
    (left, by_left), (right, by_right) = (_turned(x) if turns else (x, x.stride()) for x in (lhsT, rhs))
    operands, strides = (left, right, lhs_scale, rhs_scale), (*by_left, *by_right, *scales)
    if split == 1:
        _product_kernel[grid](*operands, out, M, N, K, *strides, 0, *out.stride(), **tiles)
        return
    parts = out.new_empty(split, M * N * 4 // out.element_size())  # float32 in memory of out's dtype
    _product_kernel[grid](*operands, parts, M, N, K, *strides, M * N, N, 1, **tiles)
    _sum_kernel[(triton.cdiv(M * N, 1024),)](
        parts,
        lhs_scale,
        rhs_scale,
        out,
        N,
        M * N,
        *scales,
        *out.stride(),
        SPLIT=split,
        BLOCK=1024,
        num_warps=4,
        enable_fp_fusion=True,
    )
