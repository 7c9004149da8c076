"""Prefix prefill: T new tokens of each sequence over its cache and each other, appended to the cache in place.

    q, out[B, H, T, D]    k_new, v_new[B, Hkv, T, D]    k_cache, v_cache[B, Hkv, S, D]    lengths[B], int32    D <= 256

    out[b, h, t] = softmax over the lengths[b] tokens of the cache and the new ones 0 .. t, as in attention.py

What attention_decode.py does for few tokens, which it adds one by one, this does for a chunk of a prompt:

* the heads of a group share their keys: a program's rows are heads of a group by consecutive tokens, so that a tile of
  keys is read once for all of the group, and a short chunk still fills a tile of rows;
* there is one loop over tiles that hide nothing, first of the cache and then of the new tokens, and one over the tiles
  that do: the cache's last, if it is part of one, and the diagonal. Which of the two a tile comes from is a choice
  between two pointers. Lengths are known to the GPU alone, and nothing waits for the host;
* each program also writes a share of the new tokens to their places in the cache, which no program reads.

What lies behind a sequence's tokens is not read. A sequence of more tokens than its cache has places is the caller's
error, which only the GPU could see: what does not fit is not written. exp(x) is exp2(x log2 e), p is rounded to the
inputs' dtype. A weight of 0 times an infinity is NaN: a program looks at the values of its diagonal first, and takes
them one by one where some are not finite.
"""

import math

import triton
import triton.language as tl


@triton.jit
def _fold(
    q, k_tile, v_tile, k_s, v_s, first, count, last, inside_d, scale, m_i, l_i, acc,
    BLOCK_N: tl.constexpr, HIDES: tl.constexpr,
):  # fmt: skip
    """Fold the keys [first, first + BLOCK_N), of `count`, into (m_i, l_i, acc); HIDES: rows see those up to `last`."""
    keys = first + tl.arange(0, BLOCK_N)
    there = inside_d & (keys < count)[:, None] if HIDES else inside_d
    k = tl.load(k_tile + keys[:, None].to(tl.int64) * k_s, mask=there, other=0.0)
    v = tl.load(v_tile + keys[:, None].to(tl.int64) * v_s, mask=there, other=0.0)
    s = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
    if HIDES:
        s = tl.where(keys[None, :] <= last[:, None], s, float("-inf"))
    m_new = tl.maximum(m_i, tl.max(s, 1))
    m_safe = tl.where(m_new == float("-inf"), 0.0, m_new)  # nothing seen yet: exp2(-inf - 0) is 0, not NaN
    p = tl.exp2(s - m_safe[:, None])
    alpha = tl.exp2(m_i - m_safe)
    l_i = l_i * alpha + tl.sum(p, 1)
    acc = tl.dot(p.to(v.dtype), v, acc * alpha[:, None], input_precision="ieee")
    return m_new, l_i, acc


@triton.jit
def _append(new, cache, new_t, cache_s, begin, end, length, S, inside_d, BLOCK_N: tl.constexpr):
    """The new tokens [begin, end), written behind the `length` tokens of a cache of S places."""
    for first in range(begin, end, BLOCK_N):
        t = first + tl.arange(0, BLOCK_N)
        fits = inside_d & ((t < end) & (length + t < S))[:, None]
        tokens = tl.load(new + t[:, None].to(tl.int64) * new_t, mask=fits)
        tl.store(cache + (length + t)[:, None].to(tl.int64) * cache_s, tokens, mask=fits)


@triton.jit
def _prefill_kernel(
    q, k_new, v_new, k_cache, v_cache, lengths, out,
    q_b, q_h, q_t, q_d, kn_b, kn_h, kn_t, kn_d, vn_b, vn_h, vn_t, vn_d, kc_b, kc_h, kc_s, kc_d, vc_b, vc_h, vc_s, vc_d,
    out_b, out_h, out_t, out_d, lengths_b, Hkv, T, S, scale,
    GROUP: tl.constexpr, D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    b = (tl.program_id(0) // Hkv).to(tl.int64)
    h_kv = (tl.program_id(0) % Hkv).to(tl.int64)
    tiles = tl.num_programs(1)
    tile = tiles - 1 - tl.program_id(1)  # the longest first
    row = tile * BLOCK_M + tl.arange(0, BLOCK_M)  # token by token, and head by head of the group
    of_row = row // GROUP
    h = h_kv * GROUP + row % GROUP
    d = tl.arange(0, BLOCK_D)
    inside_d = (d < D)[None, :]
    inside = inside_d & (of_row < T)[:, None]
    q_rows = q + b * q_b + h[:, None] * q_h + of_row[:, None].to(tl.int64) * q_t
    q_tile = tl.load(q_rows + d[None, :] * q_d, mask=inside, other=0.0)
    k_tokens = k_new + b * kn_b + h_kv * kn_h
    k_new = k_tokens + d[None, :] * kn_d
    v_new += b * vn_b + h_kv * vn_h + d[None, :] * vn_d
    k_cache += b * kc_b + h_kv * kc_h + d[None, :] * kc_d
    v_cache += b * vc_b + h_kv * vc_h + d[None, :] * vc_d

    length = tl.load(lengths + b * lengths_b)
    share = tl.cdiv(T, tiles)
    to = tl.minimum((tile + 1) * share, T)
    _append(k_new, k_cache, kn_t, kc_s, tile * share, to, length, S, inside_d, BLOCK_N)
    _append(v_new, v_cache, vn_t, vc_s, tile * share, to, length, S, inside_d, BLOCK_N)

    # In tiles of keys: of the cache [0, cached) hide nothing, and of the new tokens [0, shown), which all rows see.
    held = tl.minimum(length, S)
    end = tl.minimum((tile * BLOCK_M + BLOCK_M - 1) // GROUP + 1, T)  # of the new tokens that some row sees
    cached = held // BLOCK_N
    shown = tl.minimum(tile * BLOCK_M // GROUP + 1, T) // BLOCK_N
    by_key = 0
    for first in range(shown * BLOCK_N, end, BLOCK_N):
        keys = first + tl.arange(0, BLOCK_N)
        v = tl.load(v_new + keys[:, None].to(tl.int64) * vn_t, mask=inside_d & (keys < end)[:, None], other=0.0)
        by_key = tl.maximum(by_key, tl.max(tl.max(tl.where(tl.abs(v) < float("inf"), 0, 1), 1), 0))
    m_i = tl.full((BLOCK_M,), float("-inf"), dtype=tl.float32)
    l_i = tl.zeros((BLOCK_M,), dtype=tl.float32)
    acc = tl.zeros((BLOCK_M, BLOCK_D), dtype=tl.float32)
    for i in range(0, cached + shown):
        is_old = i < cached
        m_i, l_i, acc = _fold(
            q_tile, tl.where(is_old, k_cache, k_new), tl.where(is_old, v_cache, v_new), tl.where(is_old, kc_s, kn_t),
            tl.where(is_old, vc_s, vn_t), tl.where(is_old, i, i - cached) * BLOCK_N, 0, of_row, inside_d, scale, m_i,
            l_i, acc, BLOCK_N, HIDES=False,
        )  # fmt: skip
    rest = tl.where(cached * BLOCK_N < held, 1, 0)
    diagonal = tl.cdiv(end, BLOCK_N) - shown
    for i in range(0, rest + tl.where(by_key > 0, 0, diagonal)):
        is_old = i < rest
        m_i, l_i, acc = _fold(
            q_tile, tl.where(is_old, k_cache, k_new), tl.where(is_old, v_cache, v_new), tl.where(is_old, kc_s, kn_t),
            tl.where(is_old, vc_s, vn_t), tl.where(is_old, cached, shown + i - rest) * BLOCK_N,
            tl.where(is_old, held, end), tl.where(is_old, held - 1, of_row), inside_d, scale, m_i, l_i, acc, BLOCK_N,
            HIDES=True,
        )  # fmt: skip
    for t in range(tl.where(by_key > 0, shown * BLOCK_N, end), end):
        s = tl.zeros((BLOCK_M,), dtype=tl.float32)
        for d_first in range(0, D, 16):  # a part of q at a time: the registers are for acc
            part = d_first + tl.arange(0, 16)[None, :]
            wide = tl.load(q_rows + part * q_d, mask=(of_row < T)[:, None] & (part < D), other=0.0).to(tl.float32)
            k = tl.load(k_tokens + tl.cast(t, tl.int64) * kn_t + part * kn_d, mask=part < D, other=0.0).to(tl.float32)
            s += tl.sum(wide * k, 1)
        s = tl.where(t <= of_row, s * scale, float("-inf"))
        v = tl.load(v_new + tl.cast(t, tl.int64) * vn_t, mask=inside_d, other=0.0).to(tl.float32)
        m_new = tl.maximum(m_i, s)
        m_safe = tl.where(m_new == float("-inf"), 0.0, m_new)
        p = tl.exp2(s - m_safe)
        alpha = tl.exp2(m_i - m_safe)
        l_i = l_i * alpha + p
        acc = acc * alpha[:, None] + tl.where((t <= of_row)[:, None], p[:, None] * v, 0.0)
        m_i = m_new

    out_at = h[:, None] * out_h + of_row[:, None].to(tl.int64) * out_t + d[None, :] * out_d
    tl.store(out + b * out_b + out_at, (acc / l_i[:, None]).to(out.dtype.element_ty), mask=inside)


def config(rows, programs, D, element_size, backend, device):
    """Tile sizes, warps and stages for so many rows of a sequence's group, of `programs` groups, as attention.py's.

    Where tiles of 128 rows leave half of the processors idle they have 64. float32 has no matrix unit, and its
    operands take registers, so that fewer rows and keys have to do.
    """
    block_d = max(16, triton.next_power_of_2(D))
    small = backend != "cuda" or device["max_shared_mem"] < 200 * 1024
    block_m, block_n, warps = (128, 64, 8) if block_d <= 128 else (64, 64, 8 if backend == "cuda" else 4)
    if element_size == 4:
        block_m, block_n = 64 if small else 32, 16
    elif 2 * programs * triton.cdiv(rows, block_m) <= device["multiprocessor_count"]:
        block_m, warps = 64, 4 if block_d <= 128 else warps
    block_m = min(block_m, max(16, triton.next_power_of_2(rows)))
    stage_bytes = 2 * block_n * block_d * element_size
    fit = (device["max_shared_mem"] - block_m * block_d * element_size) // stage_bytes
    return {
        "BLOCK_M": block_m,
        "BLOCK_N": block_n,
        "BLOCK_D": block_d,
        "num_warps": warps if block_m >= (32 if element_size == 4 else 64) else 4,
        "num_stages": max(1, min(3 if backend == "cuda" else 2, fit)),
        "enable_fp_fusion": True,  # as attention.py says
    }


def attention_prefill(q, k_new, v_new, k_cache, v_cache, lengths, out):
    """out = attention of q over each sequence's cache and new tokens, which the cache then holds too."""
    B, H, Hkv, T, S, D = _check(q, k_new, v_new, k_cache, v_cache, lengths, out)
    group = H // Hkv
    driver = triton.runtime.driver.active
    device = driver.utils.get_device_properties(driver.get_current_device())
    backend = driver.get_current_target().backend
    tiles = config(group * T, B * Hkv, D, q.element_size(), backend, device)
    strides = [x.stride(i) for x in (q, k_new, v_new, k_cache, v_cache, out) for i in range(4)]
    _prefill_kernel[(B * Hkv, triton.cdiv(group * T, tiles["BLOCK_M"]))](
        q, k_new, v_new, k_cache, v_cache, lengths, out, *strides, lengths.stride(0), Hkv, T, S,
        math.log2(math.e) / math.sqrt(D), GROUP=group, D=D, **tiles,
    )  # fmt: skip


def _check(q, k_new, v_new, k_cache, v_cache, lengths, out):
    """(B, H, Hkv, T, S, D), or a ValueError that says what does not go together."""
    names = {"q": q, "k_new": k_new, "v_new": v_new, "k_cache": k_cache, "v_cache": v_cache, "out": out}
    shapes = ", ".join(f"{name} {tuple(x.shape)}" for name, x in names.items())
    if any(len(x.shape) != 4 for x in names.values()):
        raise ValueError(f"attention_prefill takes q and out[B, H, T, D], tokens and caches of four axes, got {shapes}")
    (B, H, T, D), Hkv, S = q.shape, k_new.shape[1], k_cache.shape[2]
    if H % Hkv or D > 256:
        raise ValueError(f"attention_prefill takes H a multiple of Hkv, and D up to 256: {shapes}")
    wanted = {"k_new": (B, Hkv, T, D), "v_new": (B, Hkv, T, D), "k_cache": (B, Hkv, S, D), "v_cache": (B, Hkv, S, D)}
    if tuple(out.shape) != tuple(q.shape) or any(tuple(names[name].shape) != shape for name, shape in wanted.items()):
        raise ValueError(f"attention_prefill's sizes disagree: {shapes}")
    if T > S:
        raise ValueError(f"the caches have {S} places and must have room for {T} new tokens: {shapes}")
    if any(x.dtype != q.dtype for x in names.values()):
        found = ", ".join(f"{name} {x.dtype}" for name, x in names.items())
        raise ValueError(f"attention_prefill takes tokens, caches and out of one dtype, got {found}")
    if tuple(lengths.shape) != (B,) or lengths.element_size() != 4:
        raise ValueError(f"lengths must be int32 [B] = {(B,)}, got {tuple(lengths.shape)} of {lengths.dtype}")
    return B, H, Hkv, T, S, D
