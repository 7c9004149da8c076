"""Matrix multiplication on a GPU: out[M, N] = lhsT[K, M].T @ rhs[K, N], accumulated in float32.

The left operand comes transposed, with K as the rows of both: the layout a systolic array wants, kept here so that
all panels compute on the same bytes. A GPU's tensor cores take either.

Two versions of one idea, a tile of `out` per program:

* `matmul_tiled` is the idea alone. Each program walks K, loads a [BLOCK_K, BLOCK_M] and a [BLOCK_K, BLOCK_N] tile and
  adds their product to an accumulator in registers. An element of lhsT is read N / BLOCK_N times from memory instead
  of N times: that is all that tiling does. Masks make ragged edges read as zero, which a sum does not notice.
* `matmul` keeps the tensor cores fed:
  - tiles are as large as the accumulator's registers allow (128 x 256), so that the two operand tiles are
    reused 128 and 256 times from shared memory;
  - programs run in groups of GROUP_M rows of tiles: those that run together share columns of rhs, which stay in L2;
  - loads of the next NUM_STAGES - 1 steps of K are in flight while one is multiplied (Triton's software pipeline);
  - the K loop masks only where K is ragged, and rows and columns past the edge wrap around instead of being masked:
    what they compute is never stored.

float32 is multiplied as float32 (`input_precision="ieee"`), not as TF32: exact inputs, slower units.
"""

import triton
import triton.language as tl

TILE_M = 128  # of two-byte elements, where the product is large enough; so are
TILE_N = 256
TILE_K = 64
GROUP_M = 8  # rows of tiles whose programs share columns of rhs
STAGES = 4  # at most, on NVIDIA

KNOBS = {  # what `triptych tune` may set in place of the above
    "TILE_M": (64, 128, 256),
    "TILE_N": (128, 256),
    "TILE_K": (32, 64),
    "GROUP_M": (4, 8),
    "STAGES": (3, 4),
}


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
    GROUP_M: tl.constexpr,
    EVEN_K: tl.constexpr,
):
    # Program p -> tile: down GROUP_M rows of tiles first, then to the next column; the last group may be shorter.
    program = tl.program_id(0)
    tiles_m = tl.cdiv(M, BLOCK_M)
    tiles_n = tl.cdiv(N, BLOCK_N)
    first_m = program // (GROUP_M * tiles_n) * GROUP_M
    group_m = tl.minimum(tiles_m - first_m, GROUP_M)
    in_group = program % (GROUP_M * tiles_n)
    tile_m = first_m + in_group % group_m
    tile_n = in_group // group_m

    m = (tile_m * BLOCK_M + tl.arange(0, BLOCK_M)) % M
    n = (tile_n * BLOCK_N + tl.arange(0, BLOCK_N)) % N
    k = tl.arange(0, BLOCK_K)
    a_tile = lhsT + k[:, None].to(tl.int64) * lhsT_k + m[None, :].to(tl.int64) * lhsT_m
    b_tile = rhs + k[:, None].to(tl.int64) * rhs_k + n[None, :].to(tl.int64) * rhs_n
    accumulator = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for k0 in range(0, K, BLOCK_K):
        if EVEN_K:
            a = tl.load(a_tile)
            b = tl.load(b_tile)
        else:
            a = tl.load(a_tile, mask=k[:, None] < K - k0, other=0.0)
            b = tl.load(b_tile, mask=k[:, None] < K - k0, other=0.0)
        accumulator = tl.dot(tl.trans(a), b, accumulator, input_precision="ieee")
        a_tile += BLOCK_K * lhsT_k
        b_tile += BLOCK_K * rhs_k

    m = tile_m.to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tile_n.to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    tl.store(
        out + m[:, None] * out_m + n[None, :] * out_n,
        accumulator.to(out.dtype.element_ty),
        mask=(m[:, None] < M) & (n[None, :] < N),
    )


def config(M, N, K, element_size, backend, processors, shared_bytes):
    """Tile sizes, warps and pipeline stages for one product on one kind of device.

    Starts from the largest tile whose float32 accumulator the registers of 8 warps hold, and halves its longer side
    while the device has more processors than there are tiles to give them.
    """
    block_m, block_n, block_k = (TILE_M, TILE_N, TILE_K) if element_size == 2 else (128, 128, 16)
    block_m = min(block_m, max(16, triton.next_power_of_2(M)))
    block_n = min(block_n, max(16, triton.next_power_of_2(N)))
    block_k = min(block_k, max(16, triton.next_power_of_2(K)))
    while triton.cdiv(M, block_m) * triton.cdiv(N, block_n) < processors and max(block_m, block_n) > 64:
        block_m, block_n = (block_m, block_n // 2) if block_n >= block_m else (block_m // 2, block_n)
    # NVIDIA copies to shared memory asynchronously, so that each stage has its buffer; a CDNA compute unit has one
    # buffer, and the next stage in flight in registers.
    deepest, buffers = (STAGES, 2) if backend == "cuda" else (2, 1)
    while buffers * block_k * (block_m + block_n) * element_size > shared_bytes and block_k > 16:
        block_k //= 2
    stage_bytes = block_k * (block_m + block_n) * element_size
    return {
        "BLOCK_M": block_m,
        "BLOCK_N": block_n,
        "BLOCK_K": block_k,
        "GROUP_M": GROUP_M,
        "EVEN_K": K % block_k == 0,
        "num_warps": 8 if block_m * block_n > 64 * 128 else 4,
        "num_stages": max(2, min(deepest, shared_bytes // stage_bytes)),
        "enable_fp_fusion": True,  # a * b + c rounds once; said aloud because Triton 3.10 changes the default
    }


def _shapes(lhsT, rhs, out):
    """(M, N, K), or a ValueError that says which sizes disagree."""
    shapes = f"lhsT[K, M] {tuple(lhsT.shape)}, rhs[K, N] {tuple(rhs.shape)}, out[M, N] {tuple(out.shape)}"
    if not len(lhsT.shape) == len(rhs.shape) == len(out.shape) == 2:
        raise ValueError(f"matmul takes matrices: {shapes}")
    (K, M), (K2, N) = lhsT.shape, rhs.shape
    if K != K2 or tuple(out.shape) != (M, N):
        raise ValueError(f"matmul's sizes disagree: {shapes}")
    return M, N, K


def _strides(lhsT, rhs, out):
    return (lhsT.stride(0), lhsT.stride(1), rhs.stride(0), rhs.stride(1), out.stride(0), out.stride(1))


def matmul_tiled(lhsT, rhs, out):
    """out = lhsT.T @ rhs by one program per 128 x 128 tile."""
    M, N, K = _shapes(lhsT, rhs, out)
    tiles = {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 128 // lhsT.element_size(), "num_warps": 8, "num_stages": 2}
    tiles["enable_fp_fusion"] = True
    grid = (triton.cdiv(M, 128), triton.cdiv(N, 128))
    _matmul_tiled_kernel[grid](lhsT, rhs, out, M, N, K, *_strides(lhsT, rhs, out), **tiles)


def matmul(lhsT, rhs, out):
    """out = lhsT.T @ rhs, blocked in all dimensions."""
    M, N, K = _shapes(lhsT, rhs, out)
    driver = triton.runtime.driver.active
    device = driver.utils.get_device_properties(driver.get_current_device())
    backend = driver.get_current_target().backend
    tiles = config(M, N, K, lhsT.element_size(), backend, device["multiprocessor_count"], device["max_shared_mem"])
    grid = (triton.cdiv(M, tiles["BLOCK_M"]) * triton.cdiv(N, tiles["BLOCK_N"]),)
    _matmul_kernel[grid](lhsT, rhs, out, M, N, K, *_strides(lhsT, rhs, out), **tiles)
