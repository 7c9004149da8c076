"""Another order of heads and tokens: out[h, s, :] = x[s, h, :], by DMA alone, from HBM to HBM.

A projection gives all heads of a token beside each other, attention wants all tokens of a head. Each row of D numbers
is one descriptor, so that small heads move at less than DMA's rate: 128 bytes at half of it.
"""

import nki
import nki.isa as nisa
import nki.language as nl


@nki.jit
def heads_first(x):
    """out[H, S, D] of x[S, H, D]; applied to out it gives x again."""
    S, H, D = x.shape
    out = nl.ndarray((H, S, D), dtype=x.dtype, buffer=nl.shared_hbm)
    ROWS = 512  # tokens of a transfer
    for s0 in range(0, S, ROWS):
        s = min(ROWS, S - s0)
        nisa.dma_copy(dst=out[:, s0 : s0 + s, :], src=x[s0 : s0 + s, :, :].permute((1, 0, 2)))
    return out
