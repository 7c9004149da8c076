"""A product in MXFP8 on a GPU: out[M, N] = lhsT[K, M].T @ rhs[K, N], both operands rounded to MXFP8 first.

32 numbers of a column share a scale X = 2^(floor(log2 of the largest magnitude) - 7), and each becomes a float8_e4m3fn
times X. Which 32 is Trainium's choice: k = 512 b + 128 j + 8 i + r for j < 4 and r < 8, with b and i the group's. A sum
does not mind in which order its terms come, so a first kernel writes each operand once, with K turned innermost and in
the order (b, i, j, r), k' = 512 b + 32 i + 8 j + r: then 32 neighbours share a scale, as a GPU's matrix unit wants it.

* Where the matrix unit takes scales (sm_100) that kernel writes a byte a number and a byte a scale, the exponent plus
  127, and the product is `tl.dot_scaled`.
* Elsewhere it writes the rounded numbers as bfloat16, which holds them exactly (4 bits of mantissa, and the scale is in
  the exponent) down to 2^-133, and the product is an ordinary one: as right, and no faster than bfloat16.

To round inside of the product would be to round each number of lhsT once for every tile of columns: twenty operations
each time, where the matrix unit is through with it in a fraction of one.
"""

import triton
import triton.language as tl

# Tiles of 16-bit numbers by architecture, and how many steps of K are under way at most. The first row runs, unless
# `triptych bench --tune` found another to be faster there. The remarks are the compiler's, of 2048 x 4096 x 4096.
CONFIGURATIONS = {
    "sm_80": (
        # 236 registers, 96 KiB: the most reuse that spills nothing
        {"BLOCK_M": 128, "BLOCK_N": 256, "BLOCK_K": 64, "STAGES": 4},
        # 180 registers, 96 KiB: twice as many tiles, for a fuller last wave
        {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 64, "STAGES": 4},
    ),
    "sm_90": (
        # 188 registers, 192 KiB: the most reuse
        {"BLOCK_M": 128, "BLOCK_N": 256, "BLOCK_K": 64, "STAGES": 4},
        # 111 registers, 192 KiB: twice as many tiles, for a fuller last wave
        {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 64, "STAGES": 6},
    ),
    "sm_100": (
        # 93 registers, 96.5 KiB: two programs a processor
        {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 128, "STAGES": 4},
        # 178 registers, 97 KiB: more reuse, and no second program
        {"BLOCK_M": 128, "BLOCK_N": 256, "BLOCK_K": 128, "STAGES": 3},
    ),
    "gfx942": (
        # 102 registers, 32 KiB, in tiles of 128 x 128: fewer would leave compute units idle
        {"BLOCK_M": 128, "BLOCK_N": 256, "BLOCK_K": 64, "STAGES": 2},
        # half as many numbers of K a step: shared memory for two programs a compute unit
        {"BLOCK_M": 128, "BLOCK_N": 256, "BLOCK_K": 32, "STAGES": 2},
    ),
}
GROUP_M = 8  # rows of tiles whose programs share columns of rhs
BLOCK_K = 128  # of the kernel that rounds
ORDER = 512  # numbers of K whose order is changed among themselves


@triton.jit
def _round_kernel(
    x,
    out,
    scales,
    K,
    M,
    pitch,
    x_k,
    x_m,
    SCALED: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """out[M, pitch], x[K, M] in MXFP8 with K innermost and in order of its groups; scales[M, pitch / 32], or None."""
    m = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)[None, :]
    at = tl.program_id(1) * BLOCK_K + tl.arange(0, BLOCK_K)[:, None]
    inner = at % 512
    k = (at // 512 * 512 + inner // 8 % 4 * 128 + inner // 32 * 8 + inner % 8).to(tl.int64)
    wide = tl.load(x + k * x_k + m * x_m, mask=(k < K) & (m < M), other=0.0).to(tl.float32)

    groups = tl.reshape(wide, (BLOCK_K // 32, 32, BLOCK_M))
    largest = tl.max(tl.abs(groups), 1)
    exponent = tl.maximum((largest.to(tl.int32, bitcast=True) >> 23) - 127 - 7, -127)
    down = ((127 - exponent) << 23).to(tl.float32, bitcast=True)  # 2^-exponent
    small = groups * down[:, None, :]
    if SCALED:
        rounded = tl.reshape(small, (BLOCK_K, BLOCK_M)).to(tl.float8e4nv).to(tl.uint8, bitcast=True)
        group = tl.program_id(1) * (BLOCK_K // 32) + tl.arange(0, BLOCK_K // 32)[:, None]
        tl.store(
            scales.to(tl.pointer_type(tl.uint8)) + m * (pitch // 32) + group, (exponent + 127).to(tl.uint8), mask=m < M
        )
    else:
        # To nearest even at 4 bits of a float32, by its bits; what is subnormal in e4m3fn has the unit 2^-9, which is
        # a float32's beside 1.5 x 2^14.
        bits = small.to(tl.int32, bitcast=True)
        normal = (bits + 0x7FFFF + (bits >> 20 & 1) & -0x100000).to(tl.float32, bitcast=True)
        near = tl.where(tl.abs(small) < 0.015625, (small + 24576.0) - 24576.0, normal)
        # 2^exponent in two factors, for that of 2^-127 is no normal number.
        half = exponent >> 1
        up = ((half + 127) << 23).to(tl.float32, bitcast=True)
        rest = ((exponent - half + 127) << 23).to(tl.float32, bitcast=True)
        rounded = tl.reshape(near * up[:, None, :] * rest[:, None, :], (BLOCK_K, BLOCK_M)).to(tl.bfloat16)
    place = out.to(tl.pointer_type(rounded.dtype)) + m * pitch + at
    tl.store(place, rounded, mask=m < M)


@triton.jit
def _product_kernel(
    lhs,
    rhs,
    lhs_scales,
    rhs_scales,
    out,
    M,
    N,
    pitch,
    out_m,
    out_n,
    SCALED: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
):
    """A tile of out = lhs[M, pitch] @ rhs[N, pitch].T as `_round_kernel` has written them."""
    tiles_n = tl.cdiv(N, BLOCK_N)
    first_m = tl.program_id(0) // (GROUP_M * tiles_n) * GROUP_M
    group_m = tl.minimum(tl.cdiv(M, BLOCK_M) - first_m, GROUP_M)
    in_group = tl.program_id(0) % (GROUP_M * tiles_n)
    tile_m = first_m + in_group % group_m
    tile_n = in_group // group_m

    held: tl.constexpr = tl.pointer_type(tl.float8e4nv) if SCALED else tl.pointer_type(tl.bfloat16)
    m = ((tile_m * BLOCK_M + tl.arange(0, BLOCK_M)) % M).to(tl.int64)
    n = ((tile_n * BLOCK_N + tl.arange(0, BLOCK_N)) % N).to(tl.int64)
    k = tl.arange(0, BLOCK_K)
    group = tl.arange(0, BLOCK_K // 32)
    left_tile = lhs.to(held) + m[:, None] * pitch + k[None, :]
    right_tile = rhs.to(held) + k[:, None] + n[None, :] * pitch
    accumulator = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for k0 in range(0, pitch, BLOCK_K):
        left = tl.load(left_tile + k0)
        right = tl.load(right_tile + k0)
        if SCALED:
            by_left = tl.load(
                lhs_scales.to(tl.pointer_type(tl.uint8)) + m[:, None] * (pitch // 32) + k0 // 32 + group[None, :]
            )
            by_right = tl.load(
                rhs_scales.to(tl.pointer_type(tl.uint8)) + n[:, None] * (pitch // 32) + k0 // 32 + group[None, :]
            )
            accumulator = tl.dot_scaled(left, by_left, "e4m3", right, by_right, "e4m3", accumulator)
        else:
            accumulator = tl.dot(left, right, accumulator)

    m = tile_m.to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tile_n.to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    tl.store(
        out + m[:, None] * out_m + n[None, :] * out_n,
        accumulator.to(out.dtype.element_ty),
        mask=(m[:, None] < M) & (n[None, :] < N),
    )


def _rows(target):
    """Those of CONFIGURATIONS for a GPU."""
    if target.backend != "cuda":
        return CONFIGURATIONS["gfx942"]
    return CONFIGURATIONS["sm_90" if 90 <= target.arch < 100 else "sm_100" if 100 <= target.arch < 120 else "sm_80"]


def config(M, N, target, processors, shared_bytes):
    """A row's tile, or a smaller one that leaves no processor idle; scaled products take whole tiles of 128 rows."""
    row = _rows(target)[0]
    scaled = target.backend == "cuda" and target.arch // 10 == 10
    block_m, block_n, size = row["BLOCK_M"], row["BLOCK_N"], 1 if scaled else 2
    if not scaled:
        block_m = min(block_m, max(16, triton.next_power_of_2(M)))
    block_n = min(block_n, max(16, triton.next_power_of_2(N)))
    while triton.cdiv(M, block_m) * triton.cdiv(N, block_n) < processors and max(block_m, block_n) > 64 and not scaled:
        block_m, block_n = (block_m, block_n // 2) if block_n >= block_m else (block_m // 2, block_n)
    deepest, buffers = (row["STAGES"], 2) if target.backend == "cuda" else (2, 1)  # see `matmul`
    block_k = row["BLOCK_K"] if scaled or block_m > 32 else 128
    while buffers * block_k * (block_m + block_n) * size > shared_bytes:
        block_k //= 2
    return {
        "SCALED": scaled,
        "BLOCK_M": block_m,
        "BLOCK_N": block_n,
        "BLOCK_K": block_k,
        "GROUP_M": GROUP_M,
        "num_warps": 8 if block_m * block_n > 64 * 128 else 4,
        "num_stages": max(2, min(deepest, shared_bytes // (block_k * (block_m + block_n) * size))),
        "enable_fp_fusion": True,  # a * b + c rounds once; said aloud because Triton 3.10 changes the default
    }


def _rounded(x, pitch, scaled):
    """x[K, M] as `_round_kernel` writes it, and its scales; both in memory of x's dtype, of two bytes."""
    K, M = x.shape
    out = x.new_empty(M, pitch // 2 if scaled else pitch)
    scales = x.new_empty(M, pitch // 64) if scaled else None
    _round_kernel[(triton.cdiv(M, 64), pitch // BLOCK_K)](
        x,
        out,
        scales,
        K,
        M,
        pitch,
        *x.stride(),
        SCALED=scaled,
        BLOCK_M=64,
        BLOCK_K=BLOCK_K,
        num_warps=8,
        enable_fp_fusion=True,
    )
    return out, scales


def matmul_mx(lhsT, rhs, out):
    """out = lhsT.T @ rhs, of operands in bfloat16 or float16 that are rounded to MXFP8."""
    shapes = f"lhsT[K, M] {tuple(lhsT.shape)}, rhs[K, N] {tuple(rhs.shape)}, out[M, N] {tuple(out.shape)}"
    if not len(lhsT.shape) == len(rhs.shape) == len(out.shape) == 2 or lhsT.element_size() != 2:
        raise ValueError(f"matmul_mx takes matrices of two bytes a number: {shapes}")
    (K, M), N = lhsT.shape, rhs.shape[1]
    if rhs.shape[0] != K or tuple(out.shape) != (M, N):
        raise ValueError(f"matmul_mx's sizes disagree: {shapes}")
    driver = triton.runtime.driver.active
    device = driver.utils.get_device_properties(driver.get_current_device())
    tiles = config(M, N, driver.get_current_target(), device["multiprocessor_count"], device["max_shared_mem"])
    pitch = triton.cdiv(K, ORDER) * ORDER
    left, left_scales = _rounded(lhsT, pitch, tiles["SCALED"])
    right, right_scales = _rounded(rhs, pitch, tiles["SCALED"])
    _product_kernel[(triton.cdiv(M, tiles["BLOCK_M"]) * triton.cdiv(N, tiles["BLOCK_N"]),)](
        left, right, left_scales, right_scales, out, M, N, pitch, *out.stride(), **tiles
    )
