"""Root mean square normalisation on a GPU, forward and backward: out = x r gain with r = 1 / sqrt(mean(x^2) + eps).

    x[M, N]    gain[N]    out[M, N]    dy[M, N]    residual[M, N]    dx[M, N]    dgain[N]

Memory is the limit: a handful of operations for each element. So a row is read once, and stays in registers until its
mean is known; what a row of up to 64 K numbers takes is a matter of how many warps share it. Short rows stand
together in one program, so that its warps have work. Everything is float32 inside and rounded once.

Backward, with g = dy gain:

    dx[m, n] = r g - x r^3 mean over n of g x + residual
    dgain[n] = sum over m of dy x r

dx goes row by row. dgain is a sum over rows, which different programs hold. Each of PROGRAMS programs takes a block
of neighbouring rows, adds them up in registers and writes one partial sum[N] in float32; a second kernel adds those.
The order of both sums is fixed, so that the same inputs give the same bits; atomic additions would give others each
time."""

import triton
import triton.language as tl

WIDEST = 65536  # numbers of a row, which registers hold
TILE = 4096  # numbers that a program should hold at least: short rows stand together
RESIDENT = 4  # programs a processor in the backward: enough loads in flight, few partial sums


@triton.jit
def _rmsnorm_kernel(x, gain, out, M, N, eps, x_m, x_n, gain_n, out_m, out_n, ROWS: tl.constexpr, BLOCK_N: tl.constexpr):
    m = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    n = tl.arange(0, BLOCK_N).to(tl.int64)
    inside = (m[:, None] < M) & (n[None, :] < N)
    wide = tl.load(x + m[:, None] * x_m + n[None, :] * x_n, mask=inside, other=0.0).to(tl.float32)
    weight = tl.load(gain + n * gain_n, mask=n < N, other=0.0).to(tl.float32)
    root = tl.sqrt_rn(tl.sum(wide * wide, 1) / N + eps)
    r = tl.div_rn(1.0, root)
    tl.store(
        out + m[:, None] * out_m + n[None, :] * out_n,
        (wide * r[:, None] * weight[None, :]).to(out.dtype.element_ty),
        mask=inside,
    )


@triton.jit
def _backward_kernel(
    x,
    gain,
    dy,
    residual,
    dx,
    partial,
    M,
    N,
    rows_each,
    eps,
    x_m,
    x_n,
    gain_n,
    dy_m,
    dy_n,
    residual_m,
    residual_n,
    dx_m,
    dx_n,
    ROWS: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """dx of the rows [p rows_each, (p + 1) rows_each) and their part of dgain, which is row p of `partial`."""
    first = tl.program_id(0).to(tl.int64) * rows_each
    end = tl.minimum(first + rows_each, M)
    n = tl.arange(0, BLOCK_N).to(tl.int64)
    weight = tl.load(gain + n * gain_n, mask=n < N, other=0.0).to(tl.float32)
    total = tl.zeros((BLOCK_N,), dtype=tl.float32)
    for start in range(first, end, ROWS):
        m = start + tl.arange(0, ROWS)
        inside = (m[:, None] < end) & (n[None, :] < N)
        wide = tl.load(x + m[:, None] * x_m + n[None, :] * x_n, mask=inside, other=0.0).to(tl.float32)
        above = tl.load(dy + m[:, None] * dy_m + n[None, :] * dy_n, mask=inside, other=0.0).to(tl.float32)
        r = tl.div_rn(1.0, tl.sqrt_rn(tl.sum(wide * wide, 1) / N + eps))
        weighed = above * weight[None, :]
        mean = tl.sum(weighed * wide, 1) / N
        below = r[:, None] * weighed - wide * (r * r * r * mean)[:, None]
        if residual is not None:
            past = tl.load(residual + m[:, None] * residual_m + n[None, :] * residual_n, mask=inside, other=0.0)
            below += past.to(tl.float32)
        tl.store(dx + m[:, None] * dx_m + n[None, :] * dx_n, below.to(dx.dtype.element_ty), mask=inside)
        total += tl.sum(above * wide * r[:, None], 0)
    sums = partial.to(tl.pointer_type(tl.float32))
    tl.store(sums + tl.program_id(0).to(tl.int64) * N + n, total, mask=n < N)


@triton.jit
def _gain_kernel(partial, dgain, N, PROGRAMS, dgain_n, BLOCK_P: tl.constexpr, BLOCK_N: tl.constexpr):
    """dgain: the sum of the rows of partial[PROGRAMS, N], in their order."""
    n = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    sums = partial.to(tl.pointer_type(tl.float32))
    total = tl.zeros((BLOCK_N,), dtype=tl.float32)
    for start in range(0, PROGRAMS, BLOCK_P):
        p = start + tl.arange(0, BLOCK_P).to(tl.int64)
        total += tl.sum(
            tl.load(sums + p[:, None] * N + n[None, :], mask=(p[:, None] < PROGRAMS) & (n[None, :] < N), other=0.0),
            0,
        )
    tl.store(dgain + n * dgain_n, total.to(dgain.dtype.element_ty), mask=n < N)


def _tile(M, N, held):
    """Rows and columns of a program that holds `held` numbers for each element, and its warps: 16 elements a thread."""
    if N > WIDEST:
        raise ValueError(f"rmsnorm takes rows of up to {WIDEST} numbers, which registers hold; got {N}")
    block_n = triton.next_power_of_2(N)
    rows = min(max(1, TILE // held // block_n), triton.next_power_of_2(M))
    warps = min(16, max(1, held * rows * block_n // 512))
    return {"ROWS": rows, "BLOCK_N": block_n, "num_warps": warps, "enable_fp_fusion": True}  # a * b + c rounds once


def _check(name, x, gain, **others):
    shapes = ", ".join(f"{key} {tuple(a.shape)}" for key, a in {"x": x, "gain": gain, **others}.items())
    if len(x.shape) != 2 or tuple(gain.shape) != tuple(x.shape[1:]):
        raise ValueError(f"{name} takes x[M, N] and gain[N]: {shapes}")
    for key, a in others.items():
        if tuple(a.shape) != tuple(gain.shape if key == "dgain" else x.shape):
            raise ValueError(f"{name}'s sizes disagree: {shapes}")
    return x.shape


def rmsnorm(x, gain, out, eps=1e-5):
    """out = x / sqrt(mean(x^2) + eps) * gain, the mean over each row."""
    M, N = _check("rmsnorm", x, gain, out=out)
    tile = _tile(M, N, held=1)
    _rmsnorm_kernel[(triton.cdiv(M, tile["ROWS"]),)](
        x, gain, out, M, N, eps, x.stride(0), x.stride(1), gain.stride(0), out.stride(0), out.stride(1), **tile
    )


def rmsnorm_backward(x, gain, dy, dx, dgain, residual=None, eps=1e-5):
    """dx[M, N] and dgain[N]: what dy is to the inputs of `rmsnorm`; residual is added to dx."""
    M, N = _check(
        "rmsnorm_backward",
        x,
        gain,
        dy=dy,
        dx=dx,
        dgain=dgain,
        **({"residual": residual} if residual is not None else {}),
    )
    driver = triton.runtime.driver.active
    processors = driver.utils.get_device_properties(driver.get_current_device())["multiprocessor_count"]
    tile = _tile(M, N, held=2)
    blocks = triton.cdiv(M, tile["ROWS"])
    rows_each = triton.cdiv(blocks, RESIDENT * processors) * tile["ROWS"]
    programs = triton.cdiv(M, rows_each)
    partial = gain.new_empty(programs, N * 4 // gain.element_size())  # float32 in memory of gain's dtype
    past = (0, 0) if residual is None else (residual.stride(0), residual.stride(1))
    _backward_kernel[(programs,)](
        x,
        gain,
        dy,
        residual,
        dx,
        partial,
        M,
        N,
        rows_each,
        eps,
        x.stride(0),
        x.stride(1),
        gain.stride(0),
        dy.stride(0),
        dy.stride(1),
        *past,
        dx.stride(0),
        dx.stride(1),
        **tile,
    )
    _gain_kernel[(triton.cdiv(N, 64),)](
        partial, dgain, N, programs, dgain.stride(0), BLOCK_P=16, BLOCK_N=64, num_warps=4, enable_fp_fusion=True
    )
