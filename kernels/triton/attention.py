"""Flash attention, forward: out[b, h] = softmax(q[b, h] @ k[b, h'].T / sqrt(D)) @ v[b, h'] without the Sq x Sk matrix.

    q[B, H, Sq, D]    k[B, Hkv, Sk, D]    v[B, Hkv, Sk, D]    out[B, H, Sq, D]    h' = h // (H // Hkv)

The scores of one head are Sq x Sk numbers, too many to leave the chip and return. One program keeps BLOCK_M rows of q
and walks over k and v in tiles of BLOCK_N keys. A softmax needs its row's maximum and sum before the first term can be
weighted; the *online* softmax (Milakov and Gimelshein 2018) keeps those found so far and repairs the past when a
larger maximum turns up:

    m' = max(m, max_j s_j)        p_j = exp(s_j - m')        alpha = exp(m - m')
    l' = alpha l + sum_j p_j      acc' = alpha acc + p @ v   and at the end   out = acc / l

What this does for the hardware (Dao et al. 2022, Dao 2023):

* q stays in shared memory or registers, scores and `acc` in registers; k and v stream through a pipeline of stages;
* exp(x) = exp2(x log2 e), with log2 e folded into the scale: the GPU has a unit for exp2, and not for exp;
* `causal` skips tiles above the diagonal and masks only those that the diagonal crosses, in a loop of their own: the
  other tiles pay for no mask. The rows with the most keys start first, so that short ones fill the tail;
* the heads that share one head of k and v are neighbours in the grid, so that it is read from L2 by all but one.

Everything is float32 inside but for the operands of the two products, which have the inputs' dtype: p is rounded to it.
The causal mask is aligned to the bottom right: row i sees the keys j <= i + Sk - Sq. A row that sees none gives 0. A
masked key takes no part, whatever it holds, and NaN and infinities in visible ones go where the formula takes them.
"""

import math

import triton
import triton.language as tl


@triton.jit
def _step(
    q,
    k_tile,
    v_tile,
    k_s,
    v_s,
    rows,
    first,
    Sk,
    offset,
    scale,
    m_i,
    l_i,
    acc,
    inside_d,
    BLOCK_N: tl.constexpr,
    CAUSAL: tl.constexpr,
    MASKED: tl.constexpr,
):
    """Fold the keys [first, first + BLOCK_N) into the running (m_i, l_i, acc)."""
    keys = first + tl.arange(0, BLOCK_N)
    k_at = k_tile + keys[:, None].to(tl.int64) * k_s
    v_at = v_tile + keys[:, None].to(tl.int64) * v_s
    if MASKED:
        present = inside_d & (keys[:, None] < Sk)
        k = tl.load(k_at, mask=present, other=0.0)
        v = tl.load(v_at, mask=present, other=0.0)
    else:
        k = tl.load(k_at, mask=inside_d, other=0.0)
        v = tl.load(v_at, mask=inside_d, other=0.0)

    s = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
    if MASKED:
        visible = (keys < Sk)[None, :]
        if CAUSAL:
            visible = visible & (keys[None, :] <= rows[:, None] + offset)
        s = tl.where(visible, s, float("-inf"))

    m_new = tl.maximum(m_i, tl.max(s, 1))
    m_safe = tl.where(m_new == float("-inf"), 0.0, m_new)  # nothing seen yet: exp2(-inf - 0) is 0, not NaN
    p = tl.exp2(s - m_safe[:, None])
    alpha = tl.exp2(m_i - m_safe)
    l_i = l_i * alpha + tl.sum(p, 1)
    acc = acc * alpha[:, None]
    p = p.to(v.dtype)
    if MASKED and CAUSAL:
        # A row's invisible keys have p = 0, but 0 * inf is NaN. If v holds such values, go key by key.
        strange = tl.sum(tl.sum(tl.where(tl.abs(v.to(tl.float32)) < float("inf"), 0, 1), 1), 0)
        if strange > 0:
            for j in range(BLOCK_N):
                is_j = tl.arange(0, BLOCK_N) == j
                p_j = tl.sum(tl.where(is_j[None, :], p.to(tl.float32), 0.0), 1)
                v_j = tl.load(v_tile + tl.cast(first + j, tl.int64) * v_s, mask=inside_d & (first + j < Sk), other=0.0)
                acc += tl.where((first + j <= rows + offset)[:, None], p_j[:, None] * v_j.to(tl.float32), 0.0)
        else:
            acc = tl.dot(p, v, acc, input_precision="ieee")
    else:
        acc = tl.dot(p, v, acc, input_precision="ieee")
    return m_new, l_i, acc


@triton.jit
def _attention_kernel(
    q,
    k,
    v,
    out,
    q_b,
    q_h,
    q_s,
    q_d,
    k_b,
    k_h,
    k_s,
    k_d,
    v_b,
    v_h,
    v_s,
    v_d,
    out_b,
    out_h,
    out_s,
    out_d,
    H,
    GROUP,
    Sq,
    Sk,
    scale,
    D: tl.constexpr,
    CAUSAL: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    tile = tl.num_programs(1) - 1 - tl.program_id(1)
    b = (tl.program_id(0) // H).to(tl.int64)
    h = (tl.program_id(0) % H).to(tl.int64)
    h_kv = h // GROUP
    rows = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    d = tl.arange(0, BLOCK_D)
    inside_d = (d < D)[None, :]
    inside = inside_d & (rows < Sq)[:, None]

    q_tile = tl.load(
        q + b * q_b + h * q_h + rows[:, None].to(tl.int64) * q_s + d[None, :] * q_d, mask=inside, other=0.0
    )
    k_tile = k + b * k_b + h_kv * k_h + d[None, :] * k_d
    v_tile = v + b * v_b + h_kv * v_h + d[None, :] * v_d
    m_i = tl.full((BLOCK_M,), float("-inf"), dtype=tl.float32)
    l_i = tl.zeros((BLOCK_M,), dtype=tl.float32)
    acc = tl.zeros((BLOCK_M, BLOCK_D), dtype=tl.float32)

    # Keys [0, whole) are seen by every row of the tile, [whole, end) by some, the rest by none.
    offset = Sk - Sq
    end = Sk
    whole = Sk // BLOCK_N * BLOCK_N
    if CAUSAL:
        end = tl.maximum(tl.minimum(Sk, (tile + 1) * BLOCK_M + offset), 0)
        whole = tl.minimum(whole, tl.maximum(tile * BLOCK_M + offset + 1, 0) // BLOCK_N * BLOCK_N)
    for first in range(0, whole, BLOCK_N):
        m_i, l_i, acc = _step(
            q_tile,
            k_tile,
            v_tile,
            k_s,
            v_s,
            rows,
            first,
            Sk,
            offset,
            scale,
            m_i,
            l_i,
            acc,
            inside_d,
            BLOCK_N,
            CAUSAL,
            False,
        )
    for first in range(whole, end, BLOCK_N):
        m_i, l_i, acc = _step(
            q_tile,
            k_tile,
            v_tile,
            k_s,
            v_s,
            rows,
            first,
            Sk,
            offset,
            scale,
            m_i,
            l_i,
            acc,
            inside_d,
            BLOCK_N,
            CAUSAL,
            MASKED=True,
        )

    acc = acc / l_i[:, None]
    if CAUSAL:
        acc = tl.where((rows + offset >= 0)[:, None], acc, 0.0)
    tl.store(
        out + b * out_b + h * out_h + rows[:, None].to(tl.int64) * out_s + d[None, :] * out_d,
        acc.to(out.dtype.element_ty),
        mask=inside,
    )


def config(Sq, Sk, D, element_size, causal, backend, shared_bytes):
    """Tile sizes, warps and pipeline stages, such that `acc`, the scores and p fit the registers without spills.

    `causal` needs room for the masks. float32 has no tensor cores: its operands take registers too.
    """
    block_d = max(16, triton.next_power_of_2(D))
    if element_size == 4:
        block_m, block_n = 64, 16
    else:
        block_m, block_n = 128, 64 if causal or shared_bytes < 200 * 1024 else 128
    block_m = min(block_m, max(16, triton.next_power_of_2(Sq)))
    block_n = min(block_n, max(16, triton.next_power_of_2(Sk)))
    stage_bytes = 2 * block_n * block_d * element_size
    fit = (shared_bytes - block_m * block_d * element_size) // stage_bytes
    deepest = 3 if backend == "cuda" else 2
    return {
        "BLOCK_M": block_m,
        "BLOCK_N": block_n,
        "BLOCK_D": block_d,
        "num_warps": 8 if block_m >= 64 else 4,
        "num_stages": max(1, min(deepest, fit)),
        "enable_fp_fusion": True,  # a * b + c rounds once; said aloud because Triton 3.10 changes the default
    }


def attention(q, k, v, out, causal=False):
    """out = softmax(q k^T / sqrt(D)) v for each head."""
    shapes = f"q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}, out {tuple(out.shape)}"
    if any(len(x.shape) != 4 for x in (q, k, v, out)):
        raise ValueError(f"attention takes q[B, H, Sq, D], k and v[B, Hkv, Sk, D]: {shapes}")
    B, H, Sq, D = q.shape
    Hkv, Sk = k.shape[1], k.shape[2]
    if tuple(k.shape) != (B, Hkv, Sk, D) or tuple(v.shape) != tuple(k.shape) or tuple(out.shape) != tuple(q.shape):
        raise ValueError(f"attention's sizes disagree: {shapes}")
    if H % Hkv or D > 128:
        raise ValueError(f"attention takes H a multiple of Hkv, and D up to 128: {shapes}")
    driver = triton.runtime.driver.active
    device = driver.utils.get_device_properties(driver.get_current_device())
    tiles = config(Sq, Sk, D, q.element_size(), causal, driver.get_current_target().backend, device["max_shared_mem"])
    strides = [x.stride(i) for x in (q, k, v, out) for i in range(4)]
    grid = (B * H, triton.cdiv(Sq, tiles["BLOCK_M"]))
    _attention_kernel[grid](
        q, k, v, out, *strides, H, H // Hkv, Sq, Sk, math.log2(math.e) / math.sqrt(D), D=D, CAUSAL=causal, **tiles
    )
