"""Matrix multiplication on a GPU: out[M, N] = lhsT[K, M].T @ rhs[K, N], accumulated in float32.

The left operand comes transposed, with K as the rows of both: the layout a systolic array wants, kept here so that
all panels compute on the same bytes. A GPU's tensor cores take either.

Two versions of one idea, a tile of `out` per program:

* `matmul_tiled` is the idea alone. Each program walks K, loads a [BLOCK_K, BLOCK_M] and a [BLOCK_K, BLOCK_N] tile and
  adds their product to an accumulator in registers. An element of lhsT is read N / BLOCK_N times from memory instead
  of N times: that is all that tiling does. Masks make ragged edges read as zero, which a sum does not notice.
* `matmul` keeps the tensor cores fed:
  - tiles are as large as the accumulator's registers allow (128 x 256), so that the two operand tiles are
    reused 128 and 256 times from shared memory; CONFIGURATIONS has other ones to measure;
  - programs run in groups of GROUP_M rows of tiles: those that run together share columns of rhs, which stay in L2;
  - loads of the next STAGES - 1 steps of K are in flight while one is multiplied (Triton's software pipeline);
  - the K loop masks only where K is ragged, and rows and columns past the edge wrap around instead of being masked:
    what they compute is never stored.

`matmul_mk`, whose left operand is lhs[M, K], and `matmul_batched`, B products at once, are the same kernel with other
strides: which of two axes is the short step in memory is seen when it is compiled, and a matrix unit takes either.

On Hopper and Blackwell a large product has one program a processor (`_persistent_kernel`), which walks over tiles: the
first loads of the next run while the last products of one do and while it is stored. TMA copies whole tiles by a
descriptor of the matrix: one thread asks for it, no address is computed, and what lies beyond an edge is zero.

With few rows (one token: M = 1) there are fewer tiles than processors, and reading rhs is all that takes time. K is
then split among SPLIT programs a tile. Each writes its float32 sum to memory of its own and a second kernel adds
those, part after part. So the same inputs give the same bits; atomic additions, which come in any order, would not.

float32 is multiplied as float32 (`input_precision="ieee"`), not as TF32: exact inputs, slower units.
"""

import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

# Tiles of 16-bit numbers by architecture, and how many steps of K are under way at most. The first row runs, unless
# `triptych bench --tune` found another to be faster there. The remarks are the compiler's, of 8192 x 8192 x 8192.
CONFIGURATIONS = {
    "sm_80": (
        # 244 registers, 80 KiB: the most reuse that spills nothing
        {"BLOCK_M": 128, "BLOCK_N": 256, "BLOCK_K": 64, "STAGES": 4},
        # 167 registers, 64 KiB: twice as many tiles, for a fuller last wave
        {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 64, "STAGES": 4},
    ),
    "sm_90": (
        # 154 registers, 224 KiB: the most reuse
        {"BLOCK_M": 128, "BLOCK_N": 256, "BLOCK_K": 64, "STAGES": 4},
        # 158 registers, 224 KiB: as much reuse, rhs read half as often and the left operand twice
        {"BLOCK_M": 256, "BLOCK_N": 128, "BLOCK_K": 64, "STAGES": 4},
        # 107 registers, 208 KiB: twice as many tiles, for a fuller last wave
        {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 64, "STAGES": 6},
    ),
    "sm_100": (
        # 139 registers, 224 KiB: the most reuse
        {"BLOCK_M": 128, "BLOCK_N": 256, "BLOCK_K": 64, "STAGES": 4},
        # 157 registers, 224 KiB: as much reuse, rhs read half as often and the left operand twice
        {"BLOCK_M": 256, "BLOCK_N": 128, "BLOCK_K": 64, "STAGES": 4},
        # 208 KiB: twice as many tiles, for a fuller last wave
        {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 64, "STAGES": 6},
    ),
    "gfx942": (
        # 188 registers, 48 KiB: the most reuse with K in steps of 64
        {"BLOCK_M": 128, "BLOCK_N": 256, "BLOCK_K": 64, "STAGES": 2},
        # 218 registers, 32 KiB: more reuse, in twice as many steps
        {"BLOCK_M": 256, "BLOCK_N": 256, "BLOCK_K": 32, "STAGES": 2},
        # 114 registers, 32 KiB: two programs a compute unit
        {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 64, "STAGES": 2},
    ),
}
FLOAT32 = {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 16, "STAGES": 4}
GROUP_M = 8  # rows of tiles whose programs share columns of rhs
FEWEST_STEPS = 4  # of K that are worth a program of their own
LARGE = 2**33  # M N K, from which a persistent kernel's descriptors, made on the host, are worth their launch


@triton.jit
def _matmul_tiled_kernel(
    lhsT,
    rhs,
    out,
    M,
    N,
    K,
    lhsT_k,
    lhsT_m,
    rhs_k,
    rhs_n,
    out_m,
    out_n,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    m = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tl.program_id(1).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K).to(tl.int64)
    a_tile = lhsT + k[:, None] * lhsT_k + m[None, :] * lhsT_m
    b_tile = rhs + k[:, None] * rhs_k + n[None, :] * rhs_n
    inside_m = m[None, :] < M
    inside_n = n[None, :] < N
    accumulator = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for k0 in range(0, K, BLOCK_K):
        inside_k = k[:, None] < K - k0
        a = tl.load(a_tile, mask=inside_k & inside_m, other=0.0)
        b = tl.load(b_tile, mask=inside_k & inside_n, other=0.0)
        accumulator = tl.dot(tl.trans(a), b, accumulator, input_precision="ieee")
        a_tile += BLOCK_K * lhsT_k
        b_tile += BLOCK_K * rhs_k
    tl.store(
        out + m[:, None] * out_m + n[None, :] * out_n,
        accumulator.to(out.dtype.element_ty),
        mask=(m[:, None] < M) & inside_n,
    )


@triton.jit
def _matmul_kernel(
    a,
    b,
    out,
    M,
    N,
    K,
    a_b,
    a_k,
    a_m,
    b_b,
    b_k,
    b_n,
    out_s,
    out_b,
    out_m,
    out_n,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
    EVEN_K: tl.constexpr,
    SPLIT: tl.constexpr,
):
    """A tile of out[b] = a[b]^T @ b[b] over all of K, or over part program_id(1) of SPLIT, in float32 then."""
    # Program p -> tile: down GROUP_M rows of tiles first, then to the next column; the last group may be shorter.
    tiles_m = tl.cdiv(M, BLOCK_M)
    tiles_n = tl.cdiv(N, BLOCK_N)
    batch = (tl.program_id(0) // (tiles_m * tiles_n)).to(tl.int64)
    program = tl.program_id(0) % (tiles_m * tiles_n)
    first_m = program // (GROUP_M * tiles_n) * GROUP_M
    group_m = tl.minimum(tiles_m - first_m, GROUP_M)
    in_group = program % (GROUP_M * tiles_n)
    tile_m = first_m + in_group % group_m
    tile_n = in_group // group_m

    first, end = 0, K
    if SPLIT > 1:
        part = tl.cdiv(tl.cdiv(K, BLOCK_K), SPLIT) * BLOCK_K
        first = tl.program_id(1) * part
        end = tl.minimum(first + part, K)
        out = out.to(tl.pointer_type(tl.float32)) + tl.program_id(1).to(tl.int64) * out_s
    m = (tile_m * BLOCK_M + tl.arange(0, BLOCK_M)) % M
    n = (tile_n * BLOCK_N + tl.arange(0, BLOCK_N)) % N
    k = first + tl.arange(0, BLOCK_K)
    a_tile = a + batch * a_b + k[:, None].to(tl.int64) * a_k + m[None, :].to(tl.int64) * a_m
    b_tile = b + batch * b_b + k[:, None].to(tl.int64) * b_k + n[None, :].to(tl.int64) * b_n
    accumulator = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for k0 in range(first, end, BLOCK_K):
        if EVEN_K:
            left = tl.load(a_tile)
            right = tl.load(b_tile)
        else:
            inside_k = (k0 + tl.arange(0, BLOCK_K))[:, None] < K
            left = tl.load(a_tile, mask=inside_k, other=0.0)
            right = tl.load(b_tile, mask=inside_k, other=0.0)
        accumulator = tl.dot(tl.trans(left), right, accumulator, input_precision="ieee")
        a_tile += BLOCK_K * a_k
        b_tile += BLOCK_K * b_k

    m = tile_m.to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tile_n.to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    tl.store(
        out + batch * out_b + m[:, None] * out_m + n[None, :] * out_n,
        accumulator.to(out.dtype.element_ty),
        mask=(m[:, None] < M) & (n[None, :] < N),
    )


@triton.jit
def _persistent_kernel(
    a, b, out, M, N, K, programs,
    A_IS_KM: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP_M: tl.constexpr,
):  # fmt: skip
    """Tiles program_id(0), + programs, + 2 programs, .. of out = a^T @ b, or a @ b; all three are descriptors."""
    tiles_m = tl.cdiv(M, BLOCK_M)
    tiles_n = tl.cdiv(N, BLOCK_N)
    for tile in tl.range(tl.program_id(0), tiles_m * tiles_n, programs, flatten=True):
        first_m = tile // (GROUP_M * tiles_n) * GROUP_M
        group_m = tl.minimum(tiles_m - first_m, GROUP_M)
        in_group = tile % (GROUP_M * tiles_n)
        m = (first_m + in_group % group_m) * BLOCK_M
        n = in_group // group_m * BLOCK_N
        accumulator = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
        for k in range(0, K, BLOCK_K):
            left = tl.trans(a.load([k, m])) if A_IS_KM else a.load([m, k])
            accumulator = tl.dot(left, b.load([k, n]), accumulator, input_precision="ieee")
        # Half by half, so that what waits to be copied out leaves shared memory for one more stage.
        halves = tl.permute(tl.reshape(accumulator, (BLOCK_M, 2, BLOCK_N // 2)), (0, 2, 1))
        left_half, right_half = tl.split(halves)
        out.store([m, n], left_half.to(out.dtype))
        out.store([m, n + BLOCK_N // 2], right_half.to(out.dtype))


@triton.jit
def _sum_kernel(parts, out, M, N, size, out_b, out_m, out_n, SPLIT: tl.constexpr, BLOCK: tl.constexpr):
    """out[B, M, N] = the sum over s of parts[SPLIT, B, M, N], float32, s ascending; size = B M N."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    part = parts.to(tl.pointer_type(tl.float32)) + i
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for s in range(SPLIT):
        total += tl.load(part + tl.cast(s, tl.int64) * size, mask=i < size, other=0.0)
    place = i // (M * N) * out_b + i // N % M * out_m + i % N * out_n
    tl.store(out + place, total.to(out.dtype.element_ty), mask=i < size)


def _rows(target):
    """Those of CONFIGURATIONS for a GPU."""
    if target.backend != "cuda":
        return CONFIGURATIONS["gfx942"]
    return CONFIGURATIONS["sm_90" if 90 <= target.arch < 100 else "sm_100" if 100 <= target.arch < 120 else "sm_80"]


def config(row, M, N, K, element_size, backend, processors, shared_bytes, batch=1):
    """Tile sizes, warps, pipeline stages and parts of K for one product on one kind of device.

    Starts from the tile of a row, and halves its longer side while the device has more processors than there are tiles
    to give them. What processors are left then take parts of K, of at least FEWEST_STEPS steps.
    """
    block_m, block_n, block_k = row["BLOCK_M"], row["BLOCK_N"], row["BLOCK_K"]
    block_m = min(block_m, max(16, triton.next_power_of_2(M)))
    block_n = min(block_n, max(16, triton.next_power_of_2(N)))
    if element_size == 2 and block_m <= 32:
        block_k *= 2  # few rows wait for memory: more bytes of rhs on their way
    block_k = min(block_k, max(16, triton.next_power_of_2(K)))
    tiles = batch * triton.cdiv(M, block_m) * triton.cdiv(N, block_n)
    while tiles < processors and max(block_m, block_n) > 64:
        block_m, block_n = (block_m, block_n // 2) if block_n >= block_m else (block_m // 2, block_n)
        tiles = batch * triton.cdiv(M, block_m) * triton.cdiv(N, block_n)
    # NVIDIA copies to shared memory asynchronously, so that each stage has its buffer; a CDNA compute unit has one
    # buffer, and the next stage in flight in registers.
    deepest, buffers = (row["STAGES"], 2) if backend == "cuda" else (2, 1)
    while buffers * block_k * (block_m + block_n) * element_size > shared_bytes and block_k > 16:
        block_k //= 2
    stage_bytes = block_k * (block_m + block_n) * element_size
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
        "num_stages": max(2, min(deepest, shared_bytes // stage_bytes)),
        "enable_fp_fusion": True,  # a * b + c rounds once; said aloud because Triton 3.10 changes the default
    }


def _shapes(lhsT, rhs, out, left="lhsT[K, M]"):
    """(M, N, K), or a ValueError that says which sizes disagree."""
    shapes = f"{left} {tuple(lhsT.shape)}, rhs[K, N] {tuple(rhs.shape)}, out[M, N] {tuple(out.shape)}"
    if not len(lhsT.shape) == len(rhs.shape) == len(out.shape) == 2:
        raise ValueError(f"matmul takes matrices: {shapes}")
    K, M = lhsT.shape if left == "lhsT[K, M]" else reversed(lhsT.shape)
    K2, N = rhs.shape
    if K != K2 or tuple(out.shape) != (M, N):
        raise ValueError(f"matmul's sizes disagree: {shapes}")
    return M, N, K


def matmul_tiled(lhsT, rhs, out):
    """out = lhsT.T @ rhs by one program per 128 x 128 tile."""
    M, N, K = _shapes(lhsT, rhs, out)
    tiles = {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 128 // lhsT.element_size(), "num_warps": 8, "num_stages": 2}
    tiles["enable_fp_fusion"] = True
    grid = (triton.cdiv(M, 128), triton.cdiv(N, 128))
    strides = [x.stride(i) for x in (lhsT, rhs, out) for i in range(2)]
    _matmul_tiled_kernel[grid](lhsT, rhs, out, M, N, K, *strides, **tiles)


def matmul(lhsT, rhs, out):
    """out = lhsT.T @ rhs, blocked in all dimensions."""
    M, N, K = _shapes(lhsT, rhs, out)
    _product(lhsT, rhs, out, 1, M, N, K, (0, *lhsT.stride()), (0, *rhs.stride()), (0, *out.stride()))


def matmul_mk(lhs, rhs, out):
    """out[M, N] = lhs[M, K] @ rhs[K, N]."""
    M, N, K = _shapes(lhs, rhs, out, "lhs[M, K]")
    _product(lhs, rhs, out, 1, M, N, K, (0, lhs.stride(1), lhs.stride(0)), (0, *rhs.stride()), (0, *out.stride()))


def matmul_batched(lhsT, rhs, out):
    """out[B, M, N] = lhsT[B, K, M].T @ rhs[B, K, N] for each of B."""
    shapes = f"lhsT[B, K, M] {tuple(lhsT.shape)}, rhs[B, K, N] {tuple(rhs.shape)}, out[B, M, N] {tuple(out.shape)}"
    if not len(lhsT.shape) == len(rhs.shape) == len(out.shape) == 3:
        raise ValueError(f"matmul_batched takes stacks of matrices: {shapes}")
    (B, K, M), N = lhsT.shape, rhs.shape[2]
    if tuple(rhs.shape) != (B, K, N) or tuple(out.shape) != (B, M, N):
        raise ValueError(f"matmul_batched's sizes disagree: {shapes}")
    _product(lhsT, rhs, out, B, M, N, K, lhsT.stride(), rhs.stride(), out.stride())


def _product(a, b, out, B, M, N, K, a_strides, b_strides, out_strides):
    """out[B, M, N] = a^T @ b of operands whose strides along (B, K, M) and (B, K, N) are given."""
    driver = triton.runtime.driver.active
    device = driver.utils.get_device_properties(driver.get_current_device())
    target = driver.get_current_target()
    processors, shared_bytes = device["multiprocessor_count"], device["max_shared_mem"]
    row = _rows(target)[0] if a.element_size() == 2 else FLOAT32
    tiles = config(row, M, N, K, a.element_size(), target.backend, processors, shared_bytes, B)
    has_tma = target.backend == "cuda" and target.arch >= 90
    copies = has_tma and a.element_size() == 2 and all(_copies(x) for x in (a, b, out))
    if copies and M * N * K >= LARGE and triton.cdiv(M, row["BLOCK_M"]) * triton.cdiv(N, row["BLOCK_N"]) > processors:
        _persistently(a, b, out, M, N, K, a_strides[2] == 1, processors, shared_bytes, row["STAGES"], tiles)
        return
    programs, split = B * triton.cdiv(M, tiles["BLOCK_M"]) * triton.cdiv(N, tiles["BLOCK_N"]), tiles["SPLIT"]
    size = B * M * N
    if split == 1:
        _matmul_kernel[(programs,)](a, b, out, M, N, K, *a_strides, *b_strides, 0, *out_strides, **tiles)
        return
    parts = out.new_empty(split, size * 4 // out.element_size())  # float32 in memory of out's dtype
    _matmul_kernel[(programs, split)](a, b, parts, M, N, K, *a_strides, *b_strides, size, M * N, N, 1, **tiles)
    _sum_kernel[(triton.cdiv(size, 1024),)](
        parts, out, M, N, size, *out_strides, SPLIT=split, BLOCK=1024, num_warps=4, enable_fp_fusion=True
    )


def _persistently(a, b, out, M, N, K, a_is_km, processors, shared_bytes, most_stages, tiles):
    """out = a^T @ b, or a @ b, by a program a processor; half of its tile waits in shared memory to be copied out."""
    block_m, block_n, block_k = tiles["BLOCK_M"], tiles["BLOCK_N"], tiles["BLOCK_K"]
    blocks = ([block_k, block_m] if a_is_km else [block_m, block_k]), [block_k, block_n], [block_m, block_n // 2]
    described = [TensorDescriptor.from_tensor(x, block) for x, block in zip((a, b, out), blocks, strict=True)]
    half_bytes, stage_bytes = block_m * block_n, block_k * (block_m + block_n) * 2
    tiles["num_stages"] = max(2, min(most_stages, (shared_bytes - half_bytes) // stage_bytes))
    del tiles["EVEN_K"], tiles["SPLIT"]
    _persistent_kernel[(processors,)](*described, M, N, K, processors, A_IS_KM=a_is_km, **tiles)


def _copies(x):
    """Whether TMA can copy tiles of a tensor: a matrix with rows of one piece that begin at multiples of 16 bytes."""
    if len(x.shape) != 2 or x.stride(1) != 1:
        return False
    try:
        address = x.data_ptr()
    except RuntimeError:  # a compiler of PyTorch or JAX traces the launch: no address yet, and no descriptor of it
        return False
    return x.stride(0) * x.element_size() % 16 == 0 and address % 16 == 0
