"""Decode attention: T new tokens of each sequence over its cache and each other, appended to the cache in place.

    q, out[B, H, T, D]    k_new, v_new[B, Hkv, T, D]    lengths[B], int32    D <= 256
    k_cache, v_cache[B, Hkv, S, D], or pages [pages, Hkv, P, D] with page_table[B, S / P]

    out[b, h, t] = softmax over the lengths[b] tokens of the cache and the new ones 0 .. t, as in attention.py

One token has one query, so that what counts is to read the cache once, with the whole chip (flash-decoding, Dao et al.
2023):

* the heads of a group share their keys: GROUP * T rows of q, 16 at least, are one operand of `tl.dot`;
* a cache is split among programs, whose partial sums (m, l, acc in float32) a second launch merges. There are as many
  splits as give each processor two programs, but none has fewer than KEYS places of the cache, or more than MOST_KEYS.
  Lengths are known to the GPU alone: each split takes its part of the tokens that there are, so that a short sequence
  is split as finely as a long one, and nothing waits for the host;
* the last split adds the new tokens, key by key, and writes them behind the others. No program reads from the cache
  what another writes to it, and what lies behind a sequence's tokens is not read.

With k_scale and v_scale[Hkv], float32, the caches hold bytes of float8_e4m3 (4 exponent bits with a bias of 7, 240 the
largest number, infinities), which stand for themselves times their head's scale, at half the bytes. What a cache holds
is exact in bfloat16 and float16, so that the products are those of a cache in q's dtype: k's scale joins 1 / sqrt(D),
v's the output. NVIDIA from sm_89 on converts OCP's e4m3fn, the same numbers up to 240; elsewhere the bits become a
float16's. Bytes above 240 become the infinities and NaN that they are here. A new token is divided by the scale,
clipped to 240, rounded to the nearest, ties to even, and counts as what is written.

A sequence of more tokens than its cache has places is the caller's error, which only the GPU could see: what does not
fit is not written. exp(x) is exp2(x log2 e), p is rounded to the cache's dtype for the product with its values.
"""

import math

import triton
import triton.language as tl

KEYS, MOST_KEYS = 128, 4096


@triton.jit
def _place(position, b, page_table, table_p, there, PAGE: tl.constexpr):
    """Where positions of a sequence lie in a cache: (index of dimension 0, index of dimension 2)."""
    if page_table is None:
        outer = b
        inner = position.to(tl.int64)
    else:
        outer = tl.load(page_table + (position // PAGE).to(tl.int64) * table_p, mask=there, other=0).to(tl.int64)
        inner = (position % PAGE).to(tl.int64)
    return outer, inner


@triton.jit
def _numbers(held, E4NV: tl.constexpr):
    """What bytes of float8_e4m3 stand for, in float32. E4NV: the GPU converts e4m3fn."""
    if E4NV:
        wide = held.to(tl.float8e4nv, bitcast=True).to(tl.float32)
    else:
        bits = held.to(tl.uint16)  # moved to the top of a float16, whose exponent has one bit more, they are 1 / 256
        wide = ((bits & 0x80) << 8 | (bits & 0x7F) << 7).to(tl.float16, bitcast=True).to(tl.float32) * 256.0
    special = (wide.to(tl.int32, bitcast=True) | 0x7F800000).to(tl.float32, bitcast=True)  # 256 is an infinity's byte
    return tl.where(tl.abs(wide) > 240.0, special, wide)


@triton.jit
def _bytes(x):
    """The bytes of float8_e4m3 of float32 numbers, clipped to 240 and rounded to nearest even."""
    size = tl.where(tl.abs(x) > 240.0, 240.0, tl.abs(x))
    wide = size.to(tl.int32, bitcast=True)
    normal = ((wide + 0x7FFFF + (wide >> 20 & 1)) >> 20) - (120 << 3)  # 20 bits of mantissa and 120 of bias less
    subnormal = (size + 16384.0).to(tl.int32, bitcast=True) & 0xF  # in float32, 2^-9 is the unit beside 2^14
    code = tl.where(size < 0.015625, subnormal, normal) | (x.to(tl.int32, bitcast=True) >> 24 & 0x80)
    return tl.where(x != x, 0x7F, code).to(tl.uint8)


@triton.jit
def _split_kernel(
    q, k_new, v_new, k_cache, v_cache, lengths, page_table, k_scale, v_scale, out, partial, maxima, sums,
    q_b, q_h, q_t, q_d, kn_b, kn_h, kn_t, kn_d, vn_b, vn_h, vn_t, vn_d, kc_b, kc_h, kc_s, kc_d, vc_b, vc_h, vc_s, vc_d,
    out_b, out_h, out_t, out_d, lengths_b, table_b, table_p, k_scale_h, v_scale_h, Hkv, S, scale,
    T: tl.constexpr, GROUP: tl.constexpr, PAGE: tl.constexpr, D: tl.constexpr, BLOCK_R: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, E4NV: tl.constexpr,
):  # fmt: skip
    b = (tl.program_id(0) // Hkv).to(tl.int64)
    h_kv = (tl.program_id(0) % Hkv).to(tl.int64)
    split = tl.program_id(1)
    splits = tl.num_programs(1)
    row = tl.program_id(2) * BLOCK_R + tl.arange(0, BLOCK_R)  # head by head of the group, and token by token
    of_row = row % T
    h = h_kv * GROUP + row // T
    d = tl.arange(0, BLOCK_D)
    inside_d = (d < D)[None, :]
    inside = inside_d & (row < GROUP * T)[:, None]
    q_tile = tl.load(q + b * q_b + h[:, None] * q_h + of_row[:, None] * q_t + d[None, :] * q_d, mask=inside, other=0.0)
    k_cache += h_kv * kc_h + d[None, :] * kc_d
    v_cache += h_kv * vc_h + d[None, :] * vc_d
    if page_table is not None:
        page_table += b * table_b
    if k_scale is not None:
        k_unit = tl.load(k_scale + h_kv * k_scale_h)
        v_unit = tl.load(v_scale + h_kv * v_scale_h)
        scale *= k_unit

    length = tl.load(lengths + b * lengths_b)
    held = tl.minimum(length, S)
    part = tl.cdiv(tl.cdiv(held, splits), BLOCK_N) * BLOCK_N
    end = tl.minimum((split + 1) * part, held)
    m_i = tl.full((BLOCK_R,), float("-inf"), dtype=tl.float32)
    l_i = tl.zeros((BLOCK_R,), dtype=tl.float32)
    acc = tl.zeros((BLOCK_R, BLOCK_D), dtype=tl.float32)
    for first in range(split * part, end, BLOCK_N):
        keys = first + tl.arange(0, BLOCK_N)
        outer, inner = _place(keys, b, page_table, table_p, keys < end, PAGE)
        there = inside_d & (keys < end)[:, None]
        k = tl.load(k_cache + (outer * kc_b + inner * kc_s)[:, None], mask=there, other=0)
        v = tl.load(v_cache + (outer * vc_b + inner * vc_s)[:, None], mask=there, other=0)
        if k_scale is not None:
            k = _numbers(k, E4NV).to(q_tile.dtype)
            v = _numbers(v, E4NV).to(q_tile.dtype)
        s = tl.dot(q_tile, tl.trans(k), input_precision="ieee") * scale
        s = tl.where((keys < end)[None, :], s, float("-inf"))
        m_new = tl.maximum(m_i, tl.max(s, 1))
        m_safe = tl.where(m_new == float("-inf"), 0.0, m_new)  # exp2(-inf - 0) is 0, not NaN
        p = tl.exp2(s - m_safe[:, None])
        alpha = tl.exp2(m_i - m_safe)
        l_i = l_i * alpha + tl.sum(p, 1)
        acc = tl.dot(p.to(v.dtype), v, acc * alpha[:, None], input_precision="ieee")
        m_i = m_new

    if split == splits - 1:
        k_tokens = k_new + b * kn_b + h_kv * kn_h + d[None, :] * kn_d
        v_tokens = v_new + b * vn_b + h_kv * vn_h + d[None, :] * vn_d
        for t in range(0, T):
            k_stored = tl.load(k_tokens + tl.cast(t, tl.int64) * kn_t, mask=inside_d, other=0.0)
            v_stored = tl.load(v_tokens + tl.cast(t, tl.int64) * vn_t, mask=inside_d, other=0.0)
            k_token = k_stored.to(tl.float32)
            v_token = v_stored.to(tl.float32)
            if k_scale is not None:
                k_stored = _bytes(tl.div_rn(k_token, k_unit))
                v_stored = _bytes(tl.div_rn(v_token, v_unit))
                k_token = _numbers(k_stored, E4NV)
                v_token = _numbers(v_stored, E4NV)
            fits = (length + t < S) & (tl.program_id(2) == 0)
            outer, inner = _place(length + t, b, page_table, table_p, fits, PAGE)
            tl.store(k_cache + outer * kc_b + inner * kc_s, k_stored, mask=inside_d & fits)
            tl.store(v_cache + outer * vc_b + inner * vc_s, v_stored, mask=inside_d & fits)
            exponent = tl.sum(q_tile.to(tl.float32) * k_token, 1) * scale
            exponent = tl.where(t <= of_row, exponent, float("-inf"))
            m_new = tl.maximum(m_i, exponent)
            m_safe = tl.where(m_new == float("-inf"), 0.0, m_new)
            weight = tl.exp2(exponent - m_safe)
            alpha = tl.exp2(m_i - m_safe)
            l_i = l_i * alpha + weight
            # Not of a hidden token, whose weight is 0 and whose value may be infinite.
            added = tl.where((t <= of_row)[:, None], weight[:, None] * v_token, 0.0)
            acc = acc * alpha[:, None] + added
            m_i = m_new

    if v_scale is not None:
        acc *= v_unit
    if partial is None:
        out_at = out + b * out_b + h[:, None] * out_h + of_row[:, None] * out_t + d[None, :] * out_d
        tl.store(out_at, (acc / l_i[:, None]).to(out.dtype.element_ty), mask=inside)
    else:
        at = (tl.program_id(0).to(tl.int64) * (GROUP * T) + row) * splits + split
        partial_at = partial.to(tl.pointer_type(tl.float32), bitcast=True) + at[:, None] * D + d[None, :]
        tl.store(partial_at, acc, mask=inside)
        tl.store(maxima.to(tl.pointer_type(tl.float32), bitcast=True) + at, m_i, mask=row < GROUP * T)
        tl.store(sums.to(tl.pointer_type(tl.float32), bitcast=True) + at, l_i, mask=row < GROUP * T)


@triton.jit
def _merge_kernel(
    partial, maxima, sums, out, out_b, out_h, out_t, out_d, H, splits,
    T: tl.constexpr, D: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    d = tl.arange(0, BLOCK_D)
    partial_at = partial.to(tl.pointer_type(tl.float32), bitcast=True) + row * splits * D + d[None, :]
    maxima_at = maxima.to(tl.pointer_type(tl.float32), bitcast=True) + row * splits
    sums_at = sums.to(tl.pointer_type(tl.float32), bitcast=True) + row * splits
    top = float("-inf")
    for first in range(0, splits, BLOCK_S):
        split = first + tl.arange(0, BLOCK_S)
        top = tl.maximum(top, tl.max(tl.load(maxima_at + split, mask=split < splits, other=float("-inf")), 0))
    top = tl.where(top == float("-inf"), 0.0, top)
    total = 0.0
    acc = tl.zeros((BLOCK_D,), dtype=tl.float32)
    for first in range(0, splits, BLOCK_S):
        split = first + tl.arange(0, BLOCK_S)
        there = split < splits
        weights = tl.exp2(tl.load(maxima_at + split, mask=there, other=float("-inf")) - top)
        total += tl.sum(weights * tl.load(sums_at + split, mask=there, other=0.0), 0)
        inside = there[:, None] & (d < D)[None, :]
        acc += tl.sum(weights[:, None] * tl.load(partial_at + split[:, None] * D, mask=inside, other=0.0), 0)
    b, h, t = row // (H * T), row // T % H, row % T
    out_at = out + b * out_b + h * out_h + t * out_t + d * out_d
    tl.store(out_at, (acc / total).to(out.dtype.element_ty), mask=d < D)


def splits_of(programs, places, processors):
    """Among how many programs a cache of `places` is split, where there are `programs` without."""
    return max(triton.cdiv(places, MOST_KEYS), min(triton.cdiv(2 * processors, programs), triton.cdiv(places, KEYS)))


def config(rows, D, element_size, cached_size, backend, shared_bytes):
    """Tile sizes, warps and stages: two programs fit on a processor, each with as many loads in flight as it can.

    element_size, cached_size: bytes of a number of q and of a cache.
    """
    block_d = max(16, triton.next_power_of_2(D))
    block_n = 16 if element_size == 4 else 64 if block_d <= 128 else 32
    stages = shared_bytes // 2 // (2 * block_n * block_d * cached_size)
    return {
        "BLOCK_R": min(64, max(16, triton.next_power_of_2(rows))),
        "BLOCK_N": block_n,
        "BLOCK_D": block_d,
        "num_warps": 4,
        "num_stages": max(2, min(4, stages)) if backend == "cuda" else 2,
        "enable_fp_fusion": True,  # as attention.py says
    }


def attention_decode(
    q, k_new, v_new, k_cache, v_cache, lengths, page_table=None, k_scale=None, v_scale=None, out=None
):  # fmt: skip
    """out = attention of q over each sequence's cache and new tokens, which the cache then holds too."""
    B, H, Hkv, T, D, S = _check(q, k_new, v_new, k_cache, v_cache, lengths, page_table, k_scale, v_scale, out)
    group = H // Hkv
    driver = triton.runtime.driver.active
    device = driver.utils.get_device_properties(driver.get_current_device())
    target = driver.get_current_target()
    sizes = q.element_size(), k_cache.element_size()
    tiles = config(group * T, D, *sizes, target.backend, device["max_shared_mem"])
    row_tiles = triton.cdiv(group * T, tiles["BLOCK_R"])
    splits = splits_of(B * Hkv * row_tiles, S, device["multiprocessor_count"])
    partial = maxima = sums = None
    if splits > 1:  # float32, in memory of lengths' dtype, because a tensor of any library can make that
        partial = lengths.new_empty((B * H * T, splits, D))
        maxima, sums = lengths.new_empty((B * H * T, splits)), lengths.new_empty((B * H * T, splits))
    strides = [x.stride(i) for x in (q, k_new, v_new, k_cache, v_cache, out) for i in range(4)]
    table = (0, 0) if page_table is None else (page_table.stride(0), page_table.stride(1))
    units = (0, 0) if k_scale is None else (k_scale.stride(0), v_scale.stride(0))
    _split_kernel[(B * Hkv, splits, row_tiles)](
        q, k_new, v_new, k_cache, v_cache, lengths, page_table, k_scale, v_scale, out, partial, maxima, sums, *strides,
        lengths.stride(0), *table, *units, Hkv, S, math.log2(math.e) / math.sqrt(D), T=T, GROUP=group,
        PAGE=k_cache.shape[2], D=D, E4NV=target.backend == "cuda" and target.arch >= 89, **tiles,
    )  # fmt: skip
    if splits > 1:
        _merge_kernel[(B * H * T,)](
            partial, maxima, sums, out, *[out.stride(i) for i in range(4)], H, splits, T=T, D=D,
            BLOCK_S=min(16, triton.next_power_of_2(splits)), BLOCK_D=tiles["BLOCK_D"],
        )  # fmt: skip


def _check(q, k_new, v_new, k_cache, v_cache, lengths, page_table, k_scale, v_scale, out):
    """(B, H, Hkv, T, D, places of a sequence's cache), or a ValueError that says what does not go together."""
    names = {"q": q, "k_new": k_new, "v_new": v_new, "k_cache": k_cache, "v_cache": v_cache, "out": out}
    if out is None or any(len(x.shape) != 4 for x in names.values()):
        found = {name: None if x is None else tuple(x.shape) for name, x in names.items()}
        raise ValueError(f"attention_decode takes q and out[B, H, T, D], tokens and caches of four axes, got {found}")
    (B, H, T, D), Hkv = q.shape, k_new.shape[1]
    shapes = ", ".join(f"{name} {tuple(x.shape)}" for name, x in names.items())
    if H % Hkv or D > 256:
        raise ValueError(f"attention_decode takes H a multiple of Hkv, and D up to 256: {shapes}")
    fit = tuple(k_new.shape) == (B, Hkv, T, D) and tuple(k_cache.shape) == (k_cache.shape[0], Hkv, k_cache.shape[2], D)
    pairs = ((out, q), (v_new, k_new), (v_cache, k_cache))
    if not fit or any(tuple(x.shape) != tuple(like.shape) for x, like in pairs):
        raise ValueError(f"attention_decode's sizes disagree: {shapes}")
    dtypes = f"{q.dtype} queries, {k_cache.dtype} and {v_cache.dtype} caches"
    if tuple(lengths.shape) != (B,) or lengths.element_size() != 4:
        raise ValueError(f"lengths must be int32 [B] = {(B,)}, got {tuple(lengths.shape)} of {lengths.dtype}")
    if page_table is None and k_cache.shape[0] != B:
        raise ValueError(f"a cache without a page table has one part for each of {B} sequences: {shapes}")
    if page_table is not None and (len(page_table.shape) != 2 or page_table.shape[0] != B):
        raise ValueError(f"page_table must be [B, pages of a sequence] with B = {B}, got {tuple(page_table.shape)}")
    if k_scale is None and v_scale is None:
        if any(x.element_size() != q.element_size() for x in (k_cache, v_cache)):
            raise ValueError(f"caches have q's dtype, or are bytes of float8 with k_scale and v_scale, got {dtypes}")
    elif any(x is None or tuple(x.shape) != (Hkv,) or x.element_size() != 4 for x in (k_scale, v_scale)):
        found = [None if x is None else (tuple(x.shape), x.dtype) for x in (k_scale, v_scale)]
        raise ValueError(f"k_scale and v_scale must both be float32 [Hkv] = {(Hkv,)}, got {found[0]} and {found[1]}")
    elif any(x.element_size() != 1 for x in (k_cache, v_cache)):
        raise ValueError(f"caches with scales are bytes of float8_e4m3, got {dtypes}")
    return B, H, Hkv, T, D, k_cache.shape[2] * (1 if page_table is None else page_table.shape[1])
