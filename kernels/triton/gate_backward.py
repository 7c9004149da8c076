"""The gate of an MLP on a GPU, backward: of g, u and dh, all [M, F], h again and what dh is to g and to u.

    h  = silu(g) u                     silu(g) = g s,    s = 1 / (1 + exp(-g))
    du = dh silu(g)
    dg = dh u (s + silu(g) (1 - s))

Nothing but memory matters: six numbers move for an element, once each, and the exponential is taken once for all
three. h is made again rather than kept from the forward pass, which would have cost a seventh.

1 - s of a large g would be a difference of two equal numbers. With e = exp(-|g|), which cannot overflow, one of s and
1 - s is 1 / (1 + e) and the other e / (1 + e), and neither is a difference. silu is 0 at minus infinity.
"""

import triton
import triton.language as tl

BLOCK = 1024  # elements of a program: 8 a thread, as many loads of 16 bytes as three inputs keep on their way


@triton.jit
def _gate_backward_kernel(
    g,
    u,
    dh,
    h,
    dg,
    du,
    F,
    blocks,
    g_m,
    g_f,
    u_m,
    u_f,
    dh_m,
    dh_f,
    h_m,
    h_f,
    dg_m,
    dg_f,
    du_m,
    du_f,
    BLOCK: tl.constexpr,
):
    """Block program_id(0) % blocks of row program_id(0) // blocks."""
    m = (tl.program_id(0) // blocks).to(tl.int64)
    f = (tl.program_id(0) % blocks).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = f < F
    gate = tl.load(g + m * g_m + f * g_f, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(u + m * u_m + f * u_f, mask=inside, other=0.0).to(tl.float32)
    above = tl.load(dh + m * dh_m + f * dh_f, mask=inside, other=0.0).to(tl.float32)

    e = tl.exp(-tl.abs(gate))
    nearer = 1.0 / (1.0 + e)  # of s and 1 - s the larger one
    s = tl.where(gate >= 0, nearer, e * nearer)
    rest = tl.where(gate >= 0, e * nearer, nearer)
    gated = tl.where(gate == float("-inf"), 0.0, gate * s)

    tl.store(h + m * h_m + f * h_f, (gated * up).to(h.dtype.element_ty), mask=inside)
    tl.store(dg + m * dg_m + f * dg_f, (above * up * (s + gated * rest)).to(dg.dtype.element_ty), mask=inside)
    tl.store(du + m * du_m + f * du_f, (above * gated).to(du.dtype.element_ty), mask=inside)


def gate_backward(g, u, dh, h, dg, du):
    """h = silu(g) * u, dg and du."""
    arrays = {"g": g, "u": u, "dh": dh, "h": h, "dg": dg, "du": du}
    if len(g.shape) != 2 or any(tuple(x.shape) != tuple(g.shape) for x in arrays.values()):
        shapes = ", ".join(f"{name} {tuple(x.shape)}" for name, x in arrays.items())
        raise ValueError(f"gate_backward takes six matrices of one shape [M, F]: {shapes}")
    M, F = g.shape
    block = min(BLOCK, triton.next_power_of_2(F))
    blocks = triton.cdiv(F, block)
    strides = [x.stride(i) for x in arrays.values() for i in range(2)]
    _gate_backward_kernel[(M * blocks,)](
        *arrays.values(), F, blocks, *strides, BLOCK=block, num_warps=4, enable_fp_fusion=True
    )
