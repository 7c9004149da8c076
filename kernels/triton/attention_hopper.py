"""Flash attention, forward, for Hopper alone: out[b, h] = softmax(q[b, h] @ k[b, h'].T / sqrt(D)) @ v[b, h'].

    q[B, H, Sq, 128]    k[B, Hkv, Sk, 128]    v[B, Hkv, Sk, 128]    out[B, H, Sq, 128]    h' = h // (H // Hkv)

The same online softmax as attention.py, in Gluon, where the program says who does what, and when. A program has 128
rows of q and three roles, which run at the same time (Shah et al. 2024, FlashAttention-3):

* a *producer*, one warp: TMA copies tiles of BLOCK_N keys and values into two rings of STAGES places each;
* two *consumers*, four warps and 64 rows each: wgmma multiplies from the rings and keeps scores and `acc` in registers.
  The producer needs few registers, and so the consumers get 216 each, which hold it all.

What they tell each other are barriers in shared memory. One that was passed n times is waited for by the parity of n:

    k_ready[s], v_ready[s]   the tile at place s has arrived, all of its bytes
    k_empty[s], v_empty[s]   both consumers have multiplied with it, and the next may be copied over it
    turns[g]                 consumer g may hand its products to the tensor cores, because the other one has

A consumer's tensor cores would idle while it computes exponentials, and its units for those while it multiplies. Both
are kept busy twice over: scores of tile i are multiplied beside p @ v of tile i - 1, and while p @ v still runs the
softmax of tile i is computed; and by their turns one consumer multiplies while the other computes exponentials.

Tiles are taken from the last to the first: those that hide keys come first, in a loop of their own, and the others pay
for no mask. Rows and keys beyond the end are zeros that TMA puts there, and rows beyond it are not written.

Everything is float32 inside but for the operands of the two products, which have the inputs' dtype. A row that sees no
key gives 0. Values at hidden keys must be finite: they are multiplied by 0.
"""

import math

import triton
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_init,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

D = gl.constexpr(128)
ROWS = gl.constexpr(64)  # of a consumer: what one wgmma multiplies
BLOCK_N = gl.constexpr(128)
STAGES = gl.constexpr(2)
# 504 = 3 * 168 registers are shared out. The producer needs fewer than 72, but with 24 for it ptxas took variants of
# this kernel to be short of registers, and then makes every wgmma wait for the one before.
CONSUMER_REGISTERS = gl.constexpr(216)
PRODUCER_REGISTERS = gl.constexpr(72)
MOST_REGISTERS = 168  # of a thread, on average: 65536 for 384 threads

SCORES = gl.constexpr(gl.NVMMADistributedLayout([3, 0], [4, 1], [16, 128, 16]))  # of s[ROWS, BLOCK_N] and acc[ROWS, D]
ROW = gl.constexpr(gl.SliceLayout(1, SCORES.value))
KEY = gl.constexpr(gl.SliceLayout(0, SCORES.value))
WEIGHTS = gl.constexpr(gl.DotOperandLayout(0, SCORES.value, 2))  # of p, from registers


@gluon.jit
def _softmax(s, m_i, l_i, last, first, scale, HIDES: gl.constexpr):
    """(p, m_i, l_i, alpha) of scores s[ROWS, BLOCK_N] of keys from `first` on; those behind `last[ROWS]` are hidden."""
    if HIDES:
        s = gl.where((first + gl.arange(0, BLOCK_N, layout=KEY))[None, :] <= last[:, None], s, float("-inf"))
    m_new = gl.maximum(m_i, gl.max(s, 1) * scale)
    base = gl.where(m_new == float("-inf"), 0.0, m_new)  # no key seen yet: exp2(-inf) = 0
    p = gl.exp2(s * scale - base[:, None])
    alpha = gl.exp2(m_i - base)
    return p, m_new, l_i * alpha + gl.sum(p, 1), alpha


@gluon.jit
def _step(
    i, p, m_i, l_i, acc, q, rings, bars, last, tiles, scale, GROUP: gl.constexpr, HIDES: gl.constexpr,
):  # fmt: skip
    """Scores of tile i and p @ v of the tile before, which is `p`'s; k_ready of tile i was waited for."""
    k_ring, v_ring = rings
    k_ready, k_empty, v_ready, v_empty, turns = bars
    now, before, after = i % STAGES, (i - 1) % STAGES, (i + 1) % STAGES
    mbarrier.wait(turns.index(GROUP), (i & 1) ^ (1 - GROUP))
    s = warpgroup_mma(
        q, k_ring.index(now).reshape([BLOCK_N, D]).permute([1, 0]),
        gl.zeros([ROWS, BLOCK_N], gl.float32, layout=SCORES), use_acc=False, is_async=True,
    )  # fmt: skip
    mbarrier.wait(v_ready.index(before), ((i - 1) // STAGES) & 1)
    acc = warpgroup_mma(p, v_ring.index(before).reshape([BLOCK_N, D]), acc, is_async=True)
    mbarrier.arrive(turns.index(1 - GROUP), count=1)
    s = warpgroup_mma_wait(1, deps=(s,))
    mbarrier.arrive(k_empty.index(now), count=1)
    p_now, m_i, l_i, alpha = _softmax(s, m_i, l_i, last, (tiles - 1 - i) * BLOCK_N, scale, HIDES)
    p_now = gl.convert_layout(p_now.to(q.dtype), WEIGHTS)
    # A loop, over which ptxas moves no exponential: behind the next line they would no longer run beside p @ v.
    mbarrier.wait(k_ready.index(after), ((i + 1) // STAGES) & 1, pred=i + 1 < tiles)
    o, p = warpgroup_mma_wait(0, deps=(acc, p))  # p, too: its registers are read until then
    mbarrier.arrive(v_empty.index(before), count=1)
    return p_now, m_i, l_i, warpgroup_mma_init(o * alpha[:, None])


@gluon.jit
def _consumer(
    out, q_tile, rings, q_ready, bars, b, h, row, tiles, hiding, Sq, Sk, scale,
    GROUP: gl.constexpr, CAUSAL: gl.constexpr,
):  # fmt: skip
    """Rows [row + 64 GROUP, row + 64 GROUP + 64) of out[b, h]; of `tiles` the first `hiding` hide keys."""
    k_ring, v_ring = rings
    k_ready, k_empty, v_ready, v_empty, turns = bars
    q = q_tile.index(GROUP).reshape([ROWS, D])
    rows = row + GROUP * ROWS + gl.arange(0, ROWS, layout=ROW)
    last = gl.minimum(rows + (Sk - Sq), Sk - 1) if CAUSAL else gl.full([ROWS], Sk - 1, gl.int32, layout=ROW)
    m_i = gl.full([ROWS], float("-inf"), gl.float32, layout=ROW)
    l_i = gl.zeros([ROWS], gl.float32, layout=ROW)
    o = gl.zeros([ROWS, D], gl.float32, layout=SCORES)
    if tiles > 0:
        mbarrier.wait(q_ready, 0)
        mbarrier.wait(k_ready.index(0), 0)
        mbarrier.wait(turns.index(GROUP), 1 - GROUP)
        s = warpgroup_mma(q, k_ring.index(0).reshape([BLOCK_N, D]).permute([1, 0]), o, use_acc=False, is_async=True)
        mbarrier.arrive(turns.index(1 - GROUP), count=1)
        s = warpgroup_mma_wait(0, deps=(s,))
        mbarrier.arrive(k_empty.index(0), count=1)
        p, m_i, l_i, alpha = _softmax(s, m_i, l_i, last, (tiles - 1) * BLOCK_N, scale, True)
        p = gl.convert_layout(p.to(q.dtype), WEIGHTS)
        mbarrier.wait(k_ready.index(1 % STAGES), 1 // STAGES, pred=tiles > 1)
        acc = warpgroup_mma_init(o)
        begun = 1
        if CAUSAL:  # else tile 0 alone hides keys: those beyond the end
            begun = gl.maximum(hiding, 1)
            for i in range(1, hiding):
                p, m_i, l_i, acc = _step(i, p, m_i, l_i, acc, q, rings, bars, last, tiles, scale, GROUP, HIDES=True)
        for i in range(begun, tiles):
            p, m_i, l_i, acc = _step(i, p, m_i, l_i, acc, q, rings, bars, last, tiles, scale, GROUP, HIDES=False)
        place, filled = (tiles - 1) % STAGES, ((tiles - 1) // STAGES) & 1
        mbarrier.wait(v_ready.index(place), filled)
        acc = warpgroup_mma(p, v_ring.index(place).reshape([BLOCK_N, D]), acc, is_async=True)
        o, p = warpgroup_mma_wait(0, deps=(acc, p))
    o = o / gl.where(l_i == 0, 1.0, l_i)[:, None]
    q.store(o.to(q.dtype))  # where q was: this consumer alone read it
    fence_async_shared()
    tma.async_store(out, [b, h, row + GROUP * ROWS, 0], q_tile.index(GROUP))
    tma.store_wait(0)


@gluon.jit
def _producer(q, k, v, q_tile, rings, q_ready, bars, b, h, h_kv, row, tiles):
    """Both halves of q, and every tile of k and v, each as soon as its place is empty."""
    k_ring, v_ring = rings
    k_ready, k_empty, v_ready, v_empty, turns = bars
    if tiles > 0:
        mbarrier.expect(q_ready, 2 * q.nbytes_per_cta)
        tma.async_load(q, [b, h, row, 0], q_ready, q_tile.index(0))
        tma.async_load(q, [b, h, row + ROWS, 0], q_ready, q_tile.index(1))
    for i in range(tiles):
        place, emptied = i % STAGES, ((i // STAGES) & 1) ^ 1
        first = (tiles - 1 - i) * BLOCK_N
        mbarrier.wait(k_empty.index(place), emptied)
        mbarrier.expect(k_ready.index(place), k.nbytes_per_cta)
        tma.async_load(k, [b, h_kv, first, 0], k_ready.index(place), k_ring.index(place))
        mbarrier.wait(v_empty.index(place), emptied)
        mbarrier.expect(v_ready.index(place), v.nbytes_per_cta)
        tma.async_load(v, [b, h_kv, first, 0], v_ready.index(place), v_ring.index(place))


@gluon.jit
def _attention_hopper_kernel(q, k, v, out, H, GROUP_SIZE, Sq, Sk, scale, CAUSAL: gl.constexpr):
    """2 * ROWS rows of one head; the rows with the most keys start first."""
    b = gl.program_id(0) // H
    h = gl.program_id(0) % H
    row = (gl.num_programs(1) - 1 - gl.program_id(1)) * (2 * ROWS)
    end = Sk
    whole = Sk // BLOCK_N  # tiles from the first on that hide nothing
    if CAUSAL:
        end = gl.minimum(Sk, gl.maximum(row + 2 * ROWS + Sk - Sq, 0))
        whole = gl.minimum(whole, gl.maximum(row + 1 + Sk - Sq, 0) // BLOCK_N)
    tiles = gl.cdiv(end, BLOCK_N)
    hiding = tiles - gl.minimum(whole, tiles)

    q_tile = gl.allocate_shared_memory(q.dtype, [2, 1, 1, ROWS, D], q.layout)
    k_ring = gl.allocate_shared_memory(q.dtype, [STAGES, 1, 1, BLOCK_N, D], k.layout)
    v_ring = gl.allocate_shared_memory(q.dtype, [STAGES, 1, 1, BLOCK_N, D], v.layout)
    q_ready = gl.allocate_shared_memory(gl.int64, [1], mbarrier.MBarrierLayout())
    k_ready = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    k_empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    v_ready = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    v_empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    turns = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    mbarrier.init(q_ready, count=1)
    for place in gl.static_range(STAGES):
        mbarrier.init(k_ready.index(place), count=1)
        mbarrier.init(v_ready.index(place), count=1)
        mbarrier.init(k_empty.index(place), count=2)
        mbarrier.init(v_empty.index(place), count=2)
    for group in gl.static_range(2):
        mbarrier.init(turns.index(group), count=1)
    fence_async_shared()

    rings = (k_ring, v_ring)
    bars = (k_ready, k_empty, v_ready, v_empty, turns)
    gl.warp_specialize(
        [
            (_consumer, (out, q_tile, rings, q_ready, bars, b, h, row, tiles, hiding, Sq, Sk, scale, 0, CAUSAL)),
            (_consumer, (out, q_tile, rings, q_ready, bars, b, h, row, tiles, hiding, Sq, Sk, scale, 1, CAUSAL)),
            (_producer, (q, k, v, q_tile, rings, q_ready, bars, b, h, h // GROUP_SIZE, row, tiles)),
        ],
        [4, 1],
        [CONSUMER_REGISTERS, PRODUCER_REGISTERS],
    )


def attention_hopper(q, k, v, out, causal=False):
    """out = softmax(q k^T / sqrt(D)) v for each head, on Hopper. ValueError says what it does not take."""
    B, H, Hkv, Sq, Sk = _check(q, k, v, out)
    q, k, v = (x if _copies(x) else x.contiguous() for x in (q, k, v))
    result = out if _copies(out) else out.new_empty(out.shape)
    layout = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=4)
    rows, keys = [1, 1, ROWS.value, D.value], [1, 1, BLOCK_N.value, D.value]
    described = [
        TensorDescriptor.from_tensor(x, block, layout) for x, block in ((q, rows), (k, keys), (v, keys), (result, rows))
    ]
    grid = (B * H, triton.cdiv(Sq, 2 * ROWS.value))
    _attention_hopper_kernel[grid](
        *described, H, H // Hkv, Sq, Sk, math.log2(math.e) / math.sqrt(D.value), CAUSAL=bool(causal),
        num_warps=4, maxnreg=MOST_REGISTERS,
    )  # fmt: skip
    if result is not out:
        out.copy_(result)


def _copies(x):
    """Whether TMA can copy tiles of a tensor: rows of one piece that begin at multiples of 16 bytes."""
    return x.stride(3) == 1 and all(x.stride(axis) * 2 % 16 == 0 for axis in range(3)) and x.data_ptr() % 16 == 0


def _check(q, k, v, out):
    """(B, H, Hkv, Sq, Sk), or a ValueError that says what does not go together."""
    if not hasattr(tma, "async_load"):
        raise ValueError(f"attention_hopper is written in the Gluon of Triton 3.9, got Triton {triton.__version__}")
    target = triton.runtime.driver.active.get_current_target()
    if (target.backend, target.arch) != ("cuda", 90):
        raise ValueError(f"attention_hopper runs on Hopper (sm_90), got {target.backend} {target.arch}; take attention")
    shapes = f"q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}, out {tuple(out.shape)}"
    if any(len(x.shape) != 4 or x.shape[3] != D.value or 0 in x.shape for x in (q, k, v, out)):
        raise ValueError(f"attention_hopper takes q[B, H, Sq, 128], k and v[B, Hkv, Sk, 128], none empty: {shapes}")
    B, H, Sq, _ = q.shape
    _, Hkv, Sk, _ = k.shape
    if tuple(k.shape[:2]) != (B, Hkv) or tuple(v.shape) != tuple(k.shape) or tuple(out.shape) != tuple(q.shape):
        raise ValueError(f"attention_hopper's sizes disagree: {shapes}")
    if H % Hkv:
        raise ValueError(f"attention_hopper takes H a multiple of Hkv: {shapes}")
    if any(x.element_size() != 2 or x.dtype != q.dtype for x in (q, k, v, out)):
        raise ValueError(f"attention_hopper takes bfloat16 or float16, the same for all, got {q.dtype}, {k.dtype}")
    return B, H, Hkv, Sq, Sk
