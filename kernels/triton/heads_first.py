"""Heads first, on a GPU: out[h, s, d] = x[s, h, d], so that all tokens of a head lie beside each other.

    x[S, H, D]    out[H, S, D]

Nothing is computed: memory is the limit. The D numbers of a head stay together, and 64 of them are as long as a line
of the cache, so that both sides move whole lines and nothing passes through shared memory. One program moves BLOCK_S
tokens of one head; its neighbours in the grid have the other heads of the same tokens, which lie next to them in x."""

import triton
import triton.language as tl

TILE = 4096  # numbers of a program


@triton.jit
def _heads_first_kernel(x, out, S, D, x_s, x_h, x_d, out_h, out_s, out_d, BLOCK_S: tl.constexpr, BLOCK_D: tl.constexpr):
    h = tl.program_id(0).to(tl.int64)
    s = tl.program_id(1).to(tl.int64) * BLOCK_S + tl.arange(0, BLOCK_S)[:, None]
    d = tl.arange(0, BLOCK_D).to(tl.int64)[None, :]
    inside = (s < S) & (d < D)
    tile = tl.load(x + s * x_s + h * x_h + d * x_d, mask=inside)
    tl.store(out + h * out_h + s * out_s + d * out_d, tile, mask=inside)


def heads_first(x, out):
    """out[h, s, d] = x[s, h, d]."""
    shapes = f"x {tuple(x.shape)}, out {tuple(out.shape)}"
    if len(x.shape) != 3 or tuple(out.shape) != (x.shape[1], x.shape[0], x.shape[2]):
        raise ValueError(f"heads_first takes x[S, H, D] and out[H, S, D]: {shapes}")
    S, H, D = x.shape
    block_d = triton.next_power_of_2(D)
    block_s = min(max(1, TILE // block_d), triton.next_power_of_2(S))
    strides = [a.stride(i) for a in (x, out) for i in range(3)]
    _heads_first_kernel[(H, triton.cdiv(S, block_s))](
        x, out, S, D, *strides, BLOCK_S=block_s, BLOCK_D=block_d, num_warps=4, enable_fp_fusion=True
    )
