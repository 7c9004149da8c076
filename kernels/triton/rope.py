"""Rotary position embedding on a GPU: each pair (a, b) of a head's numbers is turned by the angle of its token.

    out[s, h, a] = x[s, h, a] cos[s, i] - x[s, h, b] sin[s, i]
    out[s, h, b] = x[s, h, b] cos[s, i] + x[s, h, a] sin[s, i]        i = 0 .. D/2 - 1

    x[S, H, D]    cos[S, D/2]    sin[S, D/2]    out[S, H, D]

The pair is (i, i + D/2), or (2 i, 2 i + 1) with `interleaved`. Memory is the limit: three operations for each
element. One program turns HEADS heads of one token, so that cos and sin, which they share, are read once for all of
them, into registers. Halves of a head are two tiles, each of whole lines of the cache. Neighbours are read as one
tile of whole lines and taken apart in registers, for a load of every second number would move each line twice.

Everything is float32 inside and rounded once.
"""

import triton
import triton.language as tl

PAIRS = 2048  # that a program turns, at most


@triton.jit
def _rope_kernel(
    x,
    cos,
    sin,
    out,
    H,
    D,
    x_s,
    x_h,
    x_d,
    cos_s,
    cos_d,
    sin_s,
    sin_d,
    out_s,
    out_h,
    out_d,
    INTERLEAVED: tl.constexpr,
    HEADS: tl.constexpr,
    HALF: tl.constexpr,
):
    s = tl.program_id(0).to(tl.int64)
    h = tl.program_id(1) * HEADS + tl.arange(0, HEADS).to(tl.int64)[:, None]
    i = tl.arange(0, HALF).to(tl.int64)[None, :]
    c = tl.load(cos + s * cos_s + i * cos_d, mask=i < D // 2, other=0.0).to(tl.float32)
    t = tl.load(sin + s * sin_s + i * sin_d, mask=i < D // 2, other=0.0).to(tl.float32)
    heads = x + s * x_s + h * x_h
    turned = out + s * out_s + h * out_h
    if INTERLEAVED:
        d = tl.arange(0, 2 * HALF).to(tl.int64)[None, :]
        inside = (h < H) & (d < D)
        pairs = tl.load(heads + d * x_d, mask=inside, other=0.0).to(tl.float32)
        a, b = tl.split(tl.reshape(pairs, (HEADS, HALF, 2)))
        both = tl.reshape(tl.join(a * c - b * t, b * c + a * t), (HEADS, 2 * HALF))
        tl.store(turned + d * out_d, both.to(out.dtype.element_ty), mask=inside)
    else:
        inside = (h < H) & (i < D // 2)
        a = tl.load(heads + i * x_d, mask=inside, other=0.0).to(tl.float32)
        b = tl.load(heads + (i + D // 2) * x_d, mask=inside, other=0.0).to(tl.float32)
        tl.store(turned + i * out_d, (a * c - b * t).to(out.dtype.element_ty), mask=inside)
        tl.store(turned + (i + D // 2) * out_d, (b * c + a * t).to(out.dtype.element_ty), mask=inside)


def rope(x, cos, sin, out, interleaved=False):
    """out = x, turned in pairs by the angles of its tokens."""
    shapes = f"x {tuple(x.shape)}, cos {tuple(cos.shape)}, sin {tuple(sin.shape)}, out {tuple(out.shape)}"
    if len(x.shape) != 3 or x.shape[2] % 2 or tuple(out.shape) != tuple(x.shape):
        raise ValueError(f"rope takes x[S, H, D] with D even, and out of the same shape: {shapes}")
    S, H, D = x.shape
    if tuple(cos.shape) != (S, D // 2) or tuple(sin.shape) != (S, D // 2):
        raise ValueError(f"rope takes cos and sin [S, D/2]: {shapes}")
    half = triton.next_power_of_2(D // 2)
    heads = min(max(1, PAIRS // half), triton.next_power_of_2(H))
    strides = [a.stride(i) for a in (x, cos, sin, out) for i in range(len(a.shape))]
    _rope_kernel[(S, triton.cdiv(H, heads))](
        x,
        cos,
        sin,
        out,
        H,
        D,
        *strides,
        INTERLEAVED=interleaved,
        HEADS=heads,
        HALF=half,
        num_warps=min(8, max(1, heads * half // 256)),
        enable_fp_fusion=True,  # a * b + c rounds once; said aloud because Triton 3.10 changes the default
    )
