"""Quantisation to float8 on a GPU, a scale for each row: q[M, N] = x[M, N] / scale[M], scale = max over n of |x| / 240.

240 is the largest number of float8_e4m3: 1 sign, 4 exponent and 3 mantissa bits with a bias of 7, and infinities. No
GPU has this float8, and neither have Triton and PyTorch. q is its bytes, which the GPUs' own float8 tell all but
entirely:

* float8e4nv (OCP's e4m3fn; NVIDIA from sm_89 on) has the same bytes for all numbers up to 240, and its NaN, 0x7F, is
  one;
* float8e4b8 (e4m3fnuz; gfx942) has a bias of 8, so that the same bytes are half as much; its zero has no sign, and
  the byte of minus zero is its NaN;
* older GPUs have none. The rounding to nearest even is then done on the bits of the float32, in integers.

A row of zeros has the scale 2^-100, below which none goes. A row with a NaN has a NaN for its scale, and of a row
with an infinity the scale is infinite, that element NaN and all others 0, as the formula says.

Memory is the limit: a row is read once and stays in registers until its maximum is known. Short rows stand together
in one program. One reciprocal a row takes the place of N divisions."""

import triton
import triton.language as tl

WIDEST = 65536  # numbers of a row, which registers hold
TILE = 4096  # numbers that a program should hold at least: short rows stand together


@triton.jit
def _bytes(v, FLOAT8: tl.constexpr):
    """The bytes of float8_e4m3 of float32 numbers of at most 240, rounded to nearest even."""
    if FLOAT8 == "e4nv":
        bits = v.to(tl.float8e4nv).to(tl.uint8, bitcast=True)
    elif FLOAT8 == "e4b8":
        bits = (v * 0.5).to(tl.float8e4b8).to(tl.uint8, bitcast=True)
    else:
        size = tl.abs(v)
        wide = size.to(tl.int32, bitcast=True)
        normal = ((wide + 0x7FFFF + (wide >> 20 & 1)) >> 20) - (120 << 3)  # 20 bits of mantissa and 120 of bias less
        subnormal = (size + 16384.0).to(tl.int32, bitcast=True) & 0xF  # in float32, 2^-9 is the unit beside 2^14
        code = tl.where(size < 0.015625, subnormal, normal) | (v.to(tl.int32, bitcast=True) >> 24 & 0x80)
        bits = code.to(tl.uint8)
    return tl.where(v != v, 0x7F, bits).to(tl.uint8)


@triton.jit
def _quantize_kernel(
    x,
    q,
    scale,
    M,
    N,
    x_m,
    x_n,
    q_m,
    q_n,
    scale_m,
    FLOAT8: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    m = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    n = tl.arange(0, BLOCK_N).to(tl.int64)
    inside = (m[:, None] < M) & (n[None, :] < N)
    wide = tl.load(x + m[:, None] * x_m + n[None, :] * x_n, mask=inside, other=0.0).to(tl.float32)
    largest = tl.maximum(tl.div_rn(tl.max(tl.abs(wide), 1), 240.0), 7.888609052210118e-31)  # 2^-100
    strange = tl.max((wide != wide).to(tl.int32), 1) > 0  # which a maximum would not tell
    factor = tl.where(strange, float("nan"), largest)
    tl.store(scale + m * scale_m, factor, mask=m < M)
    row = wide * tl.div_rn(1.0, factor)[:, None]
    places = q.to(tl.pointer_type(tl.uint8)) + m[:, None] * q_m + n[None, :] * q_n
    tl.store(places, _bytes(row, FLOAT8), mask=inside)


def float8_of(target):
    """Triton's name of the float8 that a device converts to and multiplies; "" where it has none of 4 exponent bits."""
    if target.backend == "cuda":
        return "e4nv" if target.arch >= 89 else ""
    return "e4b8" if target.arch.startswith("gfx94") else "e4nv" if target.arch.startswith(("gfx95", "gfx12")) else ""


def quantize_fp8(x, q, scale):
    """q[M, N], bytes of float8_e4m3, and scale[M], float32, of x[M, N]."""
    shapes = f"x {tuple(x.shape)}, q {tuple(q.shape)}, scale {tuple(scale.shape)}"
    if len(x.shape) != 2 or tuple(q.shape) != tuple(x.shape) or tuple(scale.shape) != tuple(x.shape[:1]):
        raise ValueError(f"quantize_fp8 takes x and q[M, N], scale[M]: {shapes}")
    M, N = x.shape
    if N > WIDEST:
        raise ValueError(f"quantize_fp8 takes rows of up to {WIDEST} numbers, which registers hold; got {N}")
    block_n = triton.next_power_of_2(N)
    rows = min(max(1, TILE // block_n), triton.next_power_of_2(M))
    _quantize_kernel[(triton.cdiv(M, rows),)](
        x,
        q,
        scale,
        M,
        N,
        *(x.stride(0), x.stride(1), q.stride(0), q.stride(1), scale.stride(0)),
        FLOAT8=float8_of(triton.runtime.driver.active.get_current_target()),
        ROWS=rows,
        BLOCK_N=block_n,
        num_warps=min(16, max(1, rows * block_n // 512)),
        enable_fp_fusion=True,  # a * b + c rounds once; said aloud because Triton 3.10 changes the default
    )
