"""Flash attention, forward: out[b, h] = softmax(q[b, h] @ k[b, h'].T / sqrt(D)) @ v[b, h'] without the Sq x Sk matrix.

    q[B, H, Sq, D]    k[B, Hkv, Sk, D]    v[B, Hkv, Sk, D]    out[B, H, Sq, D]    h' = h // (H // Hkv)    D <= 256

The scores of one head are Sq x Sk numbers, too many to leave the chip and return. One program keeps BLOCK_M rows of q
and walks over k and v in tiles of BLOCK_N keys. A softmax needs its row's maximum and sum before the first term can be
weighted; the *online* softmax (Milakov and Gimelshein 2018) keeps those found so far and repairs the past when a
larger maximum turns up:

    m' = max(m, max_j s_j)        p_j = exp(s_j - m')        alpha = exp(m - m')
    l' = alpha l + sum_j p_j      acc' = alpha acc + p @ v   and at the end   out = acc / l

What this does for the hardware (Dao et al. 2022, Dao 2023):

* q stays in shared memory or registers, scores and `acc` in registers; k and v stream through a pipeline of stages;
* exp(x) = exp2(x log2 e), with log2 e folded into the scale: the GPU has a unit for exp2, and not for exp;
* tiles of keys that no row sees are skipped, and only tiles of which some row sees a part are masked, in a loop of
  their own: the other tiles pay for no mask. The rows with the most keys start first, so that short ones fill the tail;
* the heads that share one head of k and v are neighbours in the grid, so that it is read from L2 by all but one.

Options are compiled in, or not: a kernel without them has no trace of them.

    causal     row i sees the keys j <= i + Sk - Sq: the mask is aligned to the bottom right
    window     of these the last `window`
    segments   [B, S], S = Sq = Sk: a row sees keys of its own segment. A program looks for the first and the last key
               whose segment lies between the least and the greatest of its rows, and visits no tile before or behind;
               if all between are of one segment, the tiles there are as without segments
    softcap    s becomes c tanh(s / c)
    mask       [B or 1, H or 1, Sq, Sk], added to s; minus infinity hides a key
    sinks      [H]: a score that has no value: m begins as the sink and l as 1
    lse        [B, H, Sq], written: m + log l

Everything is float32 inside but for the operands of the two products, which have the inputs' dtype: p is rounded to it.
A row that sees no key gives 0, and -inf as lse. A hidden key takes no part, whatever it holds, and NaN and infinities
in visible ones go where the formula takes them. Where v has such values, p = 0 of a hidden key times infinity would be
NaN; that shows in `acc`, and such rows are computed again, one by one and without the matrix unit.
"""

import math

import triton
import triton.language as tl
from triton.language.extra import libdevice

LOG2_E = tl.constexpr(math.log2(math.e))
SCAN = tl.constexpr(1024)  # segments that are looked at at once
# Tiles of queries and of keys, for heads of up to 128 numbers of 16 bits, by architecture: keys where some are hidden
# from some queries, and where all see all. The first row runs, unless `triptych bench --tune` found another to be
# faster there. The remarks are the compiler's, of causal attention with heads of 128.
CONFIGURATIONS = {
    "sm_80": (
        # 255 registers, 96 KiB: the largest that spills nothing
        {"BLOCK_M": 128, "BLOCK_N": 64, "BLOCK_N_OF_ALL": 64, "WARPS": 8, "STAGES": 3},
        # 176 registers, 64 KiB: room between two products, in twice as many steps
        {"BLOCK_M": 128, "BLOCK_N": 32, "BLOCK_N_OF_ALL": 32, "WARPS": 8, "STAGES": 3},
    ),
    "sm_90": (
        # 212 registers, 128 KiB: two groups of warps that share k and v
        {"BLOCK_M": 128, "BLOCK_N": 64, "BLOCK_N_OF_ALL": 128, "WARPS": 8, "STAGES": 3},
        # 172 registers, 112 KiB: two programs a processor, of which one multiplies while the other's softmax runs
        {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_N_OF_ALL": 64, "WARPS": 4, "STAGES": 3},
        # 242 registers, 160 KiB: half as many steps, each with its maximum and its repair of `acc`
        {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_N_OF_ALL": 128, "WARPS": 8, "STAGES": 2},
    ),
    "sm_100": (
        # 243 registers, 129 KiB: two groups of warps that share k and v
        {"BLOCK_M": 128, "BLOCK_N": 64, "BLOCK_N_OF_ALL": 128, "WARPS": 8, "STAGES": 3},
        # 215 registers, 113 KiB: two programs a processor
        {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_N_OF_ALL": 64, "WARPS": 4, "STAGES": 3},
        # 238 registers, 161 KiB: half as many steps
        {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_N_OF_ALL": 128, "WARPS": 8, "STAGES": 2},
    ),
    "gfx942": (
        # 256 registers, 32 KiB: the most queries for each key that is read
        {"BLOCK_M": 128, "BLOCK_N": 64, "BLOCK_N_OF_ALL": 64, "WARPS": 8, "STAGES": 2},
        # 241 registers, 32 KiB: two programs a compute unit
        {"BLOCK_M": 128, "BLOCK_N": 32, "BLOCK_N_OF_ALL": 32, "WARPS": 4, "STAGES": 2},
        # 315 registers, 32 KiB: four wavefronts, each with twice as many queries
        {"BLOCK_M": 128, "BLOCK_N": 64, "BLOCK_N_OF_ALL": 64, "WARPS": 4, "STAGES": 2},
    ),
}


@triton.jit
def _scores(s, rows, keys, mask_rows, of_rows, options, CAUSAL: tl.constexpr, HIDES: tl.constexpr):
    """(s, visible) of products s[rows, keys]: exponents of 2, -inf where hidden. HIDES: some key may be."""
    Sq, Sk, scale, window, softcap, mask_k, segments, segments_s = options
    s *= scale
    if softcap is not None:
        s = softcap * libdevice.tanh(s)
    visible = (keys < Sk)[None, :]
    if HIDES:
        last = rows + Sk - Sq
        if CAUSAL:
            visible = visible & (keys[None, :] <= last[:, None])
        if window is not None:
            visible = visible & (keys[None, :] > (last - window)[:, None])
        if segments is not None:
            of_keys = tl.load(segments + keys.to(tl.int64) * segments_s, mask=keys < Sk, other=0)
            visible = visible & (of_keys[None, :] == of_rows[:, None])
        if mask_rows is not None:
            inside = (rows < Sq)[:, None] & (keys < Sk)[None, :]
            added = tl.load(mask_rows + keys[None, :].to(tl.int64) * mask_k, mask=inside, other=0.0).to(tl.float32)
            visible = visible & (added != float("-inf"))
            s += added * LOG2_E
        s = tl.where(visible, s, float("-inf"))
    return s, visible


@triton.jit
def _fold(
    q, k_tile, v_tile, k_s, v_s, first, rows, mask_rows, of_rows, options, m_i, l_i, acc, seen, inside_d,
    BLOCK_N: tl.constexpr, CAUSAL: tl.constexpr, HIDES: tl.constexpr,
):  # fmt: skip
    """Fold the keys [first, first + BLOCK_N) into the running (m_i, l_i, acc, seen)."""
    keys = first + tl.arange(0, BLOCK_N)
    there = inside_d & (keys < options[1])[:, None] if HIDES else inside_d
    k = tl.load(k_tile + keys[:, None].to(tl.int64) * k_s, mask=there, other=0.0)
    v = tl.load(v_tile + keys[:, None].to(tl.int64) * v_s, mask=there, other=0.0)
    products = tl.dot(q, tl.trans(k), input_precision="ieee")
    s, visible = _scores(products, rows, keys, mask_rows, of_rows, options, CAUSAL, HIDES)
    if HIDES and mask_rows is not None:
        seen = tl.maximum(seen, tl.max(visible.to(tl.int32), 1))
    m_new = tl.maximum(m_i, tl.max(s, 1))
    m_safe = tl.where(m_new == float("-inf"), 0.0, m_new)  # nothing seen yet: exp2(-inf - 0) is 0, not NaN
    p = tl.exp2(s - m_safe[:, None])
    alpha = tl.exp2(m_i - m_safe)
    l_i = l_i * alpha + tl.sum(p, 1)
    acc = tl.dot(p.to(v.dtype), v, acc * alpha[:, None], input_precision="ieee")
    return m_new, l_i, acc, seen


@triton.jit
def _key_by_key(
    q_at, k_tile, v_tile, k_s, v_s, begin, end, row, row_mask, of_row, options, m, inside_d,
    BLOCK_D: tl.constexpr, CAUSAL: tl.constexpr,
):  # fmt: skip
    """The sum of p v over the keys that one row sees, its maximum m known: [1, BLOCK_D]."""
    q = tl.load(q_at, mask=inside_d, other=0.0).to(tl.float32)
    acc = tl.zeros((1, BLOCK_D), dtype=tl.float32)
    for first in range(begin, end, 64):
        keys = first + tl.arange(0, 64)
        there = inside_d & (keys < options[1])[:, None]
        k = tl.load(k_tile + keys[:, None].to(tl.int64) * k_s, mask=there, other=0.0).to(tl.float32)
        v = tl.load(v_tile + keys[:, None].to(tl.int64) * v_s, mask=there, other=0.0).to(tl.float32)
        s, visible = _scores(tl.sum(q * k, 1)[None, :], row, keys, row_mask, of_row, options, CAUSAL, HIDES=True)
        p = tl.exp2(s - m)
        acc += tl.sum(tl.where(tl.trans(visible), tl.trans(p) * v, 0.0), 0)[None, :]
    return acc


@triton.jit
def _attention_kernel(
    q, k, v, out, sinks, mask, segments, lse,
    q_b, q_h, q_s, q_d, k_b, k_h, k_s, k_d, v_b, v_h, v_s, v_d, out_b, out_h, out_s, out_d,
    sinks_h, mask_b, mask_h, mask_q, mask_k, segments_b, segments_s, lse_b, lse_h, lse_s,
    H, GROUP, Sq, Sk, window, softcap, scale,
    D: tl.constexpr, CAUSAL: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    tile = tl.num_programs(1) - 1 - tl.program_id(1)
    b = (tl.program_id(0) // H).to(tl.int64)
    h = (tl.program_id(0) % H).to(tl.int64)
    h_kv = h // GROUP
    rows = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    d = tl.arange(0, BLOCK_D)
    inside_d = (d < D)[None, :]
    inside = inside_d & (rows < Sq)[:, None]
    row_at = rows.to(tl.int64)

    q_rows = q + b * q_b + h * q_h + d[None, :] * q_d
    q_tile = tl.load(q_rows + row_at[:, None] * q_s, mask=inside, other=0.0)
    k_tile = k + b * k_b + h_kv * k_h + d[None, :] * k_d
    v_tile = v + b * v_b + h_kv * v_h + d[None, :] * v_d
    mask_rows = None
    if mask is not None:
        mask += b * mask_b + h * mask_h
        mask_rows = mask + row_at[:, None] * mask_q

    # Some row of the tile sees keys in [begin, end); every row sees all in [all_from, all_to).
    offset = Sk - Sq
    begin = 0
    end = Sk
    all_from = 0
    all_to = Sk
    if CAUSAL:
        end = tl.maximum(tl.minimum(Sk, (tile + 1) * BLOCK_M + offset), 0)
        all_to = tl.maximum(tl.minimum(Sk, tile * BLOCK_M + offset + 1), 0)
    if window is not None:
        begin = tl.maximum(tile * BLOCK_M + offset - window + 1, 0)
        all_from = tl.maximum((tile + 1) * BLOCK_M + offset - window, 0)
    of_rows = None
    if segments is not None:
        segments += b * segments_b
        of_rows = tl.load(segments + tl.minimum(rows, Sq - 1).to(tl.int64) * segments_s)
        least = tl.min(of_rows, 0)
        greatest = tl.max(of_rows, 0)
        nearest = end
        farthest = begin
        count = 0
        for first in range(begin, end, SCAN):
            keys = first + tl.arange(0, SCAN)
            of_keys = tl.load(segments + keys.to(tl.int64) * segments_s, mask=keys < end, other=0)
            among = (of_keys >= least) & (of_keys <= greatest) & (keys < end)
            nearest = tl.minimum(nearest, tl.min(tl.where(among, keys, end), 0))
            farthest = tl.maximum(farthest, tl.max(tl.where(among, keys + 1, begin), 0))
            count += tl.sum(among.to(tl.int32), 0)
        begin = nearest
        end = farthest
        if (least != greatest) | (count != end - begin):
            all_to = begin
        all_from = tl.maximum(all_from, begin)
        all_to = tl.minimum(all_to, end)

    # In tiles that begin at `begin`: [whole_from, whole_to) of them hide nothing. With a mask each may.
    tiles = tl.maximum(tl.cdiv(end - begin, BLOCK_N), 0)
    whole_from = tl.cdiv(tl.maximum(all_from - begin, 0), BLOCK_N)
    whole_to = tl.maximum(tl.maximum(all_to - begin, 0) // BLOCK_N, whole_from)
    if mask is not None:
        whole_from = tiles
        whole_to = tiles

    options = (Sq, Sk, scale, window, softcap, mask_k, segments, segments_s)
    m_i = tl.full((BLOCK_M,), float("-inf"), dtype=tl.float32)
    l_i = tl.zeros((BLOCK_M,), dtype=tl.float32)
    if sinks is not None:
        m_i = tl.zeros((BLOCK_M,), dtype=tl.float32) + tl.load(sinks + h * sinks_h).to(tl.float32) * LOG2_E
        l_i += 1
    acc = tl.zeros((BLOCK_M, BLOCK_D), dtype=tl.float32)
    seen = tl.where(rows + offset >= 0, 1, 0) if CAUSAL else tl.full((BLOCK_M,), 1, dtype=tl.int32)
    if mask is not None:
        seen = tl.zeros((BLOCK_M,), dtype=tl.int32)
    for first in range(begin + whole_from * BLOCK_N, begin + whole_to * BLOCK_N, BLOCK_N):
        m_i, l_i, acc, seen = _fold(
            q_tile, k_tile, v_tile, k_s, v_s, first, rows, mask_rows, of_rows, options, m_i, l_i, acc, seen, inside_d,
            BLOCK_N, CAUSAL, HIDES=False,
        )  # fmt: skip
    for i in range(0, tiles - (whole_to - whole_from)):
        first = begin + tl.where(i < whole_from, i, i + whole_to - whole_from) * BLOCK_N
        m_i, l_i, acc, seen = _fold(
            q_tile, k_tile, v_tile, k_s, v_s, first, rows, mask_rows, of_rows, options, m_i, l_i, acc, seen, inside_d,
            BLOCK_N, CAUSAL, HIDES=True,
        )  # fmt: skip

    # Not finite though l is: v has such values, and those of hidden keys were multiplied by 0.
    is_strange = tl.zeros((BLOCK_M,), dtype=tl.int32)
    if CAUSAL or mask is not None or segments is not None:
        is_strange = tl.max(tl.where((tl.abs(acc) < float("inf")) | (l_i != l_i)[:, None], 0, 1), 1)
        is_strange = tl.where(seen > 0, is_strange, 0)  # a row that sees no key is 0, whatever v holds
    acc = tl.where((seen > 0)[:, None], acc / l_i[:, None], 0.0)
    out_tile = out + b * out_b + h * out_h + d[None, :] * out_d
    plain = inside & (is_strange == 0)[:, None]
    tl.store(out_tile + row_at[:, None] * out_s, acc.to(out.dtype.element_ty), mask=plain)
    if CAUSAL or mask is not None or segments is not None:
        strange = tl.sum(is_strange, 0)
        if strange > 0:
            for i in range(BLOCK_M):
                is_row = tl.arange(0, BLOCK_M) == i
                row = tile * BLOCK_M + i + tl.arange(0, 1)
                at = row.to(tl.int64)
                if tl.sum(tl.where(is_row & (rows < Sq), is_strange, 0), 0) > 0:
                    row_mask = None if mask is None else mask + at[:, None] * mask_q
                    of_row = None if segments is None else tl.load(segments + at * segments_s)
                    acc_row = _key_by_key(
                        q_rows + at[:, None] * q_s, k_tile, v_tile, k_s, v_s, begin, end, row, row_mask, of_row,
                        options, tl.sum(tl.where(is_row, m_i, 0.0), 0), inside_d, BLOCK_D, CAUSAL,
                    )  # fmt: skip
                    acc_row = acc_row / tl.sum(tl.where(is_row, l_i, 0.0), 0)
                    tl.store(out_tile + at[:, None] * out_s, acc_row.to(out.dtype.element_ty), mask=inside_d)
    if lse is not None:
        log_sum = tl.where(m_i == float("-inf"), float("nan"), (m_i + tl.log2(l_i)) / LOG2_E)
        if sinks is None:
            log_sum = tl.where(seen > 0, log_sum, float("-inf"))
        tl.store(lse + b * lse_b + h * lse_h + row_at * lse_s, log_sum.to(lse.dtype.element_ty), mask=rows < Sq)


def _rows(target):
    """Those of CONFIGURATIONS for a GPU."""
    if target.backend != "cuda":
        return CONFIGURATIONS["gfx942"]
    return CONFIGURATIONS["sm_90" if 90 <= target.arch < 100 else "sm_100" if 100 <= target.arch < 120 else "sm_80"]


def config(row, Sq, Sk, D, element_size, hides, backend, shared_bytes):
    """Tile sizes, warps and pipeline stages, such that `acc`, the scores and p fit the registers without spills.

    row: for heads of up to 128 numbers of two bytes. hides: some keys are hidden from some rows, and the masks need
    room. float32 has no tensor cores: its operands take registers too, on Hopper and later so many that half of the
    rows have to do. A head of more than 128 numbers has half as many rows where the registers hold all of `acc`, which
    they do not on NVIDIA from Hopper on; AMD's have room for it in programs of four wavefronts, 512 registers a lane.
    """
    block_d = max(16, triton.next_power_of_2(D))
    warps, stages, small = 8, row["STAGES"], backend != "cuda" or shared_bytes < 200 * 1024
    if element_size == 4:
        block_m, block_n = 64 if small else 32, 16
    elif block_d > 128:
        block_m, block_n, warps = 64 if small else 128, 64, 8 if backend == "cuda" else 4
    else:
        block_m, block_n, warps = row["BLOCK_M"], row["BLOCK_N" if hides else "BLOCK_N_OF_ALL"], row["WARPS"]
    block_m = min(block_m, max(16, triton.next_power_of_2(Sq)))
    block_n = min(block_n, max(16, triton.next_power_of_2(Sk)))
    stage_bytes = 2 * block_n * block_d * element_size
    fit = (shared_bytes - block_m * block_d * element_size) // stage_bytes
    return {
        "BLOCK_M": block_m,
        "BLOCK_N": block_n,
        "BLOCK_D": block_d,
        "num_warps": warps if block_m >= (32 if element_size == 4 else 64) else 4,
        "num_stages": max(1, min(stages, fit)),
        "enable_fp_fusion": True,  # a * b + c rounds once; said aloud because Triton 3.10 changes the default
    }


def attention(
    q, k, v, out, causal=False, window=None, softcap=None, sinks=None, mask=None, segments=None, lse=None,
    with_lse=False,
):  # fmt: skip
    """out = softmax(q k^T / sqrt(D)) v for each head; with_lse: and lse, the logarithm of each row's sum of weights."""
    B, H, Hkv, Sq, Sk, D = _check(q, k, v, out, causal, window, sinks, mask, segments, lse, with_lse)
    driver = triton.runtime.driver.active
    device = driver.utils.get_device_properties(driver.get_current_device())
    hides = causal or mask is not None or segments is not None
    target = driver.get_current_target()
    row, shared_bytes = _rows(target)[0], device["max_shared_mem"]
    tiles = config(row, Sq, Sk, D, q.element_size(), hides, target.backend, shared_bytes)
    scale, cap = math.log2(math.e) / math.sqrt(D), None
    if softcap is not None:
        scale, cap = 1 / (math.sqrt(D) * softcap), softcap * math.log2(math.e)
    strides = [x.stride(i) for x in (q, k, v, out) for i in range(4)]
    strides += _strides(sinks, 1) + _strides(mask, 4) + _strides(segments, 2) + _strides(lse, 3)
    grid = (B * H, triton.cdiv(Sq, tiles["BLOCK_M"]))
    _attention_kernel[grid](
        q, k, v, out, sinks, mask, segments, lse, *strides, H, H // Hkv, Sq, Sk, window, cap, scale, D=D,
        CAUSAL=bool(causal), **tiles,
    )  # fmt: skip


def _strides(x, axes):
    """Those of an optional input; 0 along an axis of size 1, which stands for all sizes."""
    return [0 if x is None or x.shape[i] == 1 else x.stride(i) for i in range(axes)]


def _check(q, k, v, out, causal, window, sinks, mask, segments, lse, with_lse):
    """(B, H, Hkv, Sq, Sk, D), or a ValueError that says what does not go together."""
    shapes = f"q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}, out {tuple(out.shape)}"
    if any(len(x.shape) != 4 for x in (q, k, v, out)):
        raise ValueError(f"attention takes q[B, H, Sq, D], k and v[B, Hkv, Sk, D]: {shapes}")
    B, H, Sq, D = q.shape
    Hkv, Sk = k.shape[1], k.shape[2]
    if tuple(k.shape) != (B, Hkv, Sk, D) or tuple(v.shape) != tuple(k.shape) or tuple(out.shape) != tuple(q.shape):
        raise ValueError(f"attention's sizes disagree: {shapes}")
    if H % Hkv or D > 256:
        raise ValueError(f"attention takes H a multiple of Hkv, and D up to 256: {shapes}")
    if window is not None and not (causal and window > 0):
        raise ValueError(f"a window of one or more keys goes with causal, got {window}")
    if with_lse and lse is None:
        raise ValueError("with_lse needs memory for it: lse[B, H, Sq]")
    wanted = {"sinks[H]": (sinks, [(H,)]), "lse[B, H, Sq]": (lse, [(B, H, Sq)])}
    wanted["mask[B or 1, H or 1, Sq, Sk]"] = mask, [(b, h, Sq, Sk) for b in (B, 1) for h in (H, 1)]
    wanted["segments[B, S], for as many queries as keys,"] = segments, [(B, Sk)] if Sq == Sk else []
    for name, (x, fitting) in wanted.items():
        if x is not None and tuple(x.shape) not in fitting:
            raise ValueError(f"attention takes {name} beside {shapes}, got {tuple(x.shape)}")
    return B, H, Hkv, Sq, Sk, D
