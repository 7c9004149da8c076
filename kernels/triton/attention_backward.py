"""Flash attention, backward: dq, dk and dv from what the forward pass saves, without the Sq x Sk matrix.

    q, out, dout, dq[B, H, Sq, D]    k, v, dk, dv[B, Hkv, Sk, D]    lse[B, H, Sq]    D <= 256

    p = exp(q k^T / sqrt(D) - lse)        delta[i] = sum_d dout[i, d] out[i, d]
    dv = p^T dout        ds = p * (dout v^T - delta)        dk = ds^T q / sqrt(D)        dq = ds k / sqrt(D)

The structure is FlashAttention-2's (Dao 2023): scores are computed again, tile by tile, and lse makes each weight final
at once, so that nothing is repaired. Three launches:

* delta, one number a row, where reading out and dout is all there is to do;
* dk and dv: a program keeps BLOCK_N keys and their values and walks over the queries that see them, of one head of the
  group after the other, so that the group's sum stays in its registers. Scores are transposed, p^T and ds^T are then
  the operands that the products want;
* dq: a program keeps BLOCK_M queries and walks over the keys that they see, as the forward pass does.

The second and third make s and dp both, seven products where five would do. What that buys is that each output is
written once, by one program: no atomic additions, and the same bits in every run. Tiles that hide everything are not
visited, and only tiles that hide a part are masked.

p and ds are rounded to the inputs' dtype for their products, all else is float32. exp(x) is exp2(x log2 e), the factor
folded into the scale of the scores. With `causal` row i sees the keys j <= i + Sk - Sq, and with `window` the last of
them; a row that sees none has dq = 0.
"""

import math

import triton
import triton.language as tl

LOG2_E = tl.constexpr(math.log2(math.e))


@triton.jit
def _delta_kernel(
    out, dout, delta, out_b, out_h, out_s, out_d, do_b, do_h, do_s, do_d, H, Sq,
    D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    b = (tl.program_id(0) // H).to(tl.int64)
    h = (tl.program_id(0) % H).to(tl.int64)
    rows = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    d = tl.arange(0, BLOCK_D)
    inside = (rows < Sq)[:, None] & (d < D)[None, :]
    at = rows[:, None].to(tl.int64)
    o = tl.load(out + b * out_b + h * out_h + at * out_s + d[None, :] * out_d, mask=inside, other=0.0)
    do = tl.load(dout + b * do_b + h * do_h + at * do_s + d[None, :] * do_d, mask=inside, other=0.0)
    total = tl.sum(o.to(tl.float32) * do.to(tl.float32), 1)
    tl.store(delta + tl.program_id(0).to(tl.int64) * Sq + rows, total, mask=rows < Sq)


@triton.jit
def _tiles(begin, end, all_from, all_to, BLOCK: tl.constexpr):
    """(tiles, whole_from, whole_to) of [begin, end): the tiles [whole_from, whole_to) lie in [all_from, all_to)."""
    tiles = tl.maximum(tl.cdiv(end - begin, BLOCK), 0)
    whole_from = tl.cdiv(tl.maximum(all_from - begin, 0), BLOCK)
    whole_to = tl.maximum(tl.maximum(tl.minimum(all_to, end) - begin, 0) // BLOCK, whole_from)
    return tiles, whole_from, whole_to


@triton.jit
def _visible(row, key, Sq, Sk, window, CAUSAL: tl.constexpr):
    """Whether row sees key, for rows and keys that broadcast against each other."""
    visible = (row < Sq) & (key < Sk)
    if CAUSAL:
        visible = visible & (key <= row + Sk - Sq)
    if window is not None:
        visible = visible & (key > row + Sk - Sq - window)
    return visible


@triton.jit
def _to_dk_dv(
    k, v, q_tile, do_tile, q_s, do_s, lse, delta, lse_s, first, keys, Sq, Sk, window, scale, dk, dv, inside_d,
    BLOCK_M: tl.constexpr, CAUSAL: tl.constexpr, HIDES: tl.constexpr,
):  # fmt: skip
    """Add what the queries [first, first + BLOCK_M) give to dk and dv[BLOCK_N, BLOCK_D]."""
    rows = first + tl.arange(0, BLOCK_M)
    at = rows.to(tl.int64)
    there = inside_d & (rows < Sq)[:, None] if HIDES else inside_d
    q = tl.load(q_tile + at[:, None] * q_s, mask=there, other=0.0)
    do = tl.load(do_tile + at[:, None] * do_s, mask=there, other=0.0)
    if HIDES:
        log_sum = tl.load(lse + at * lse_s, mask=rows < Sq, other=0.0)
        of_rows = tl.load(delta + at, mask=rows < Sq, other=0.0)
    else:
        log_sum = tl.load(lse + at * lse_s)
        of_rows = tl.load(delta + at)
    p = tl.exp2(tl.dot(k, tl.trans(q), input_precision="ieee") * scale - (log_sum * LOG2_E)[None, :])
    if HIDES:
        visible = _visible(rows[None, :], keys[:, None], Sq, Sk, window, CAUSAL)
        p = tl.where(visible, p, 0.0)
    dv = tl.dot(p.to(do.dtype), do, dv, input_precision="ieee")
    ds = p * (tl.dot(v, tl.trans(do), input_precision="ieee") - of_rows[None, :])
    if HIDES:
        ds = tl.where(visible, ds, 0.0)
    dk = tl.dot(ds.to(q.dtype), q, dk, input_precision="ieee")
    return dk, dv


@triton.jit
def _dk_dv_kernel(
    q, k, v, dout, lse, delta, dk, dv,
    q_b, q_h, q_s, q_d, k_b, k_h, k_s, k_d, v_b, v_h, v_s, v_d, do_b, do_h, do_s, do_d, lse_b, lse_h, lse_s,
    dk_b, dk_h, dk_s, dk_d, dv_b, dv_h, dv_s, dv_d, Hkv, GROUP, Sq, Sk, window, scale, root,
    D: tl.constexpr, CAUSAL: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    tile = tl.program_id(1)
    b = (tl.program_id(0) // Hkv).to(tl.int64)
    h_kv = (tl.program_id(0) % Hkv).to(tl.int64)
    keys = tile * BLOCK_N + tl.arange(0, BLOCK_N)
    d = tl.arange(0, BLOCK_D)
    inside_d = (d < D)[None, :]
    inside = inside_d & (keys < Sk)[:, None]
    at = keys[:, None].to(tl.int64)
    k_tile = tl.load(k + b * k_b + h_kv * k_h + at * k_s + d[None, :] * k_d, mask=inside, other=0.0)
    v_tile = tl.load(v + b * v_b + h_kv * v_h + at * v_s + d[None, :] * v_d, mask=inside, other=0.0)

    # Some key of the tile is seen by rows in [begin, end); all of its keys are by all rows in [all_from, all_to). Keys
    # behind the last are as seen as it is: what they add up is not stored.
    offset = Sk - Sq
    begin = 0
    end = Sq
    all_from = 0
    all_to = Sq
    if CAUSAL:
        begin = tl.maximum(tile * BLOCK_N - offset, 0)
        all_from = tl.maximum((tile + 1) * BLOCK_N - 1 - offset, 0)
    if window is not None:
        end = tl.minimum(Sq, (tile + 1) * BLOCK_N - 1 - offset + window)
        all_to = tl.minimum(Sq, tile * BLOCK_N - offset + window)
    tiles, whole_from, whole_to = _tiles(begin, end, all_from, all_to, BLOCK_M)
    dk_tile = tl.zeros((BLOCK_N, BLOCK_D), dtype=tl.float32)
    dv_tile = tl.zeros((BLOCK_N, BLOCK_D), dtype=tl.float32)
    whole = whole_to - whole_from
    partly = tiles - whole
    q += b * q_b + h_kv * GROUP * q_h + d[None, :] * q_d
    dout += b * do_b + h_kv * GROUP * do_h + d[None, :] * do_d
    lse += b * lse_b + h_kv * GROUP * lse_h
    delta += (b * Hkv + h_kv) * GROUP * Sq
    for n in range(0, GROUP * whole):  # head by head of the group, in one loop, so that loads run ahead into the next
        g = (n // whole).to(tl.int64)
        first = begin + (whole_from + n % whole) * BLOCK_M
        dk_tile, dv_tile = _to_dk_dv(
            k_tile, v_tile, q + g * q_h, dout + g * do_h, q_s, do_s, lse + g * lse_h, delta + g * Sq, lse_s, first,
            keys, Sq, Sk, window, scale, dk_tile, dv_tile, inside_d, BLOCK_M, CAUSAL, HIDES=False,
        )  # fmt: skip
    for n in range(0, GROUP * partly):
        g = (n // partly).to(tl.int64)
        i = n % partly
        first = begin + tl.where(i < whole_from, i, i + whole) * BLOCK_M
        dk_tile, dv_tile = _to_dk_dv(
            k_tile, v_tile, q + g * q_h, dout + g * do_h, q_s, do_s, lse + g * lse_h, delta + g * Sq, lse_s, first,
            keys, Sq, Sk, window, scale, dk_tile, dv_tile, inside_d, BLOCK_M, CAUSAL, HIDES=True,
        )  # fmt: skip
    dk_at = dk + b * dk_b + h_kv * dk_h + at * dk_s + d[None, :] * dk_d
    dv_at = dv + b * dv_b + h_kv * dv_h + at * dv_s + d[None, :] * dv_d
    tl.store(dk_at, (dk_tile * root).to(dk.dtype.element_ty), mask=inside)
    tl.store(dv_at, dv_tile.to(dv.dtype.element_ty), mask=inside)


@triton.jit
def _to_dq(
    q, do, log_sum, of_rows, k_tile, v_tile, k_s, v_s, first, rows, Sq, Sk, window, scale, dq, inside_d,
    BLOCK_N: tl.constexpr, CAUSAL: tl.constexpr, HIDES: tl.constexpr,
):  # fmt: skip
    """Add what the keys [first, first + BLOCK_N) give to dq[BLOCK_M, BLOCK_D]."""
    keys = first + tl.arange(0, BLOCK_N)
    at = keys[:, None].to(tl.int64)
    there = inside_d & (keys < Sk)[:, None] if HIDES else inside_d
    k = tl.load(k_tile + at * k_s, mask=there, other=0.0)
    v = tl.load(v_tile + at * v_s, mask=there, other=0.0)
    p = tl.exp2(tl.dot(q, tl.trans(k), input_precision="ieee") * scale - log_sum[:, None])
    ds = p * (tl.dot(do, tl.trans(v), input_precision="ieee") - of_rows[:, None])
    if HIDES:
        ds = tl.where(_visible(rows[:, None], keys[None, :], Sq, Sk, window, CAUSAL), ds, 0.0)
    return tl.dot(ds.to(k.dtype), k, dq, input_precision="ieee")


@triton.jit
def _dq_kernel(
    q, k, v, dout, lse, delta, dq,
    q_b, q_h, q_s, q_d, k_b, k_h, k_s, k_d, v_b, v_h, v_s, v_d, do_b, do_h, do_s, do_d, lse_b, lse_h, lse_s,
    dq_b, dq_h, dq_s, dq_d, H, GROUP, Sq, Sk, window, scale, root,
    D: tl.constexpr, CAUSAL: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    tile = tl.num_programs(1) - 1 - tl.program_id(1)
    b = (tl.program_id(0) // H).to(tl.int64)
    h = (tl.program_id(0) % H).to(tl.int64)
    rows = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    d = tl.arange(0, BLOCK_D)
    inside_d = (d < D)[None, :]
    inside = inside_d & (rows < Sq)[:, None]
    at = rows.to(tl.int64)
    q_tile = tl.load(q + b * q_b + h * q_h + at[:, None] * q_s + d[None, :] * q_d, mask=inside, other=0.0)
    do_tile = tl.load(dout + b * do_b + h * do_h + at[:, None] * do_s + d[None, :] * do_d, mask=inside, other=0.0)
    log_sum = tl.load(lse + b * lse_b + h * lse_h + at * lse_s, mask=rows < Sq, other=0.0) * LOG2_E
    of_rows = tl.load(delta + (b * H + h) * Sq + at, mask=rows < Sq, other=0.0)
    k_tile = k + b * k_b + h // GROUP * k_h + d[None, :] * k_d
    v_tile = v + b * v_b + h // GROUP * v_h + d[None, :] * v_d

    offset = Sk - Sq
    begin = 0
    end = Sk
    all_from = 0
    all_to = Sk
    if CAUSAL:
        end = tl.minimum(Sk, (tile + 1) * BLOCK_M + offset)
        all_to = tl.minimum(Sk, tile * BLOCK_M + offset + 1)
    if window is not None:
        begin = tl.maximum(tile * BLOCK_M + offset - window + 1, 0)
        all_from = tl.maximum((tile + 1) * BLOCK_M + offset - window, 0)
    tiles, whole_from, whole_to = _tiles(begin, end, all_from, all_to, BLOCK_N)
    acc = tl.zeros((BLOCK_M, BLOCK_D), dtype=tl.float32)
    for first in range(begin + whole_from * BLOCK_N, begin + whole_to * BLOCK_N, BLOCK_N):
        acc = _to_dq(
            q_tile, do_tile, log_sum, of_rows, k_tile, v_tile, k_s, v_s, first, rows, Sq, Sk, window, scale, acc,
            inside_d, BLOCK_N, CAUSAL, HIDES=False,
        )  # fmt: skip
    for i in range(0, tiles - (whole_to - whole_from)):
        first = begin + tl.where(i < whole_from, i, i + whole_to - whole_from) * BLOCK_N
        acc = _to_dq(
            q_tile, do_tile, log_sum, of_rows, k_tile, v_tile, k_s, v_s, first, rows, Sq, Sk, window, scale, acc,
            inside_d, BLOCK_N, CAUSAL, HIDES=True,
        )  # fmt: skip
    dq_at = dq + b * dq_b + h * dq_h + at[:, None] * dq_s + d[None, :] * dq_d
    tl.store(dq_at, (acc * root).to(dq.dtype.element_ty), mask=inside)


# Tiles of heads of 65 to 128 numbers of 16 bits, by architecture: what a program keeps (keys for dk and dv, queries for
# dq) and what it walks in. The first row runs, unless `triptych bench --tune` found another to be faster there. The
# remarks are the compiler's, of causal attention with heads of 128: dk and dv, then dq. Ampere holds operands of a
# product in registers, Hopper in shared memory.
CONFIGURATIONS = {
    "sm_80": (
        # 255 registers, 8 bytes spilled, and 200; 80 KiB: the largest that spills next to nothing
        {"KEPT": 128, "WALKED": 32, "WARPS_OF_DK_DV": 8, "WARPS_OF_DQ": 8},
        # 255 registers, 80 bytes spilled, and 255; 72 KiB: two programs a processor
        {"KEPT": 64, "WALKED": 64, "WARPS_OF_DK_DV": 4, "WARPS_OF_DQ": 4},
    ),
    "sm_90": (
        # 255 registers, 56 bytes spilled, and 193; 128 KiB: the most reuse
        {"KEPT": 128, "WALKED": 64, "WARPS_OF_DK_DV": 8, "WARPS_OF_DQ": 8},
        # 255 registers, 24 bytes spilled, and 207; 97 KiB: two programs a processor
        {"KEPT": 64, "WALKED": 64, "WARPS_OF_DK_DV": 4, "WARPS_OF_DQ": 4},
    ),
    "sm_100": (
        # 191 registers, and 142; 161 KiB: the most reuse
        {"KEPT": 128, "WALKED": 64, "WARPS_OF_DK_DV": 8, "WARPS_OF_DQ": 8},
        # 202 registers, and 138; 129 KiB: twice as many programs, for a fuller last wave
        {"KEPT": 64, "WALKED": 64, "WARPS_OF_DK_DV": 4, "WARPS_OF_DQ": 4},
    ),
    "gfx942": (
        # 416 registers, and 240; 32 KiB: 512 are a lane's in programs of four wavefronts
        {"KEPT": 128, "WALKED": 32, "WARPS_OF_DK_DV": 4, "WARPS_OF_DQ": 8},
    ),
}
# (kept, walked, warps) for dk and dv, then for dq, of heads up to 64 and above 128, and of float32, which has no tensor
# cores on NVIDIA and takes registers for all. A lane of AMD's has 512 registers in programs of four wavefronts.
TILES = {
    "sm_80": {64: ((128, 64, 8), (128, 64, 8)), 256: ((64, 32, 8), (64, 32, 8))},
    "sm_90": {64: ((128, 64, 8), (128, 64, 8)), 256: ((32, 64, 8), (64, 32, 8))},
    "sm_100": {64: ((128, 64, 8), (128, 64, 8)), 256: ((32, 64, 8), (64, 32, 8))},
    "gfx942": {64: ((128, 64, 4), (128, 64, 8)), 256: ((64, 16, 4), (64, 32, 4))},
    "float32": {64: ((64, 16, 8), (64, 16, 8)), 128: ((32, 16, 8), (64, 16, 8)), 256: ((16, 16, 4), (32, 16, 4))},
}


def _architecture(target):
    """Whose rows of CONFIGURATIONS are for a GPU."""
    if target.backend != "cuda":
        return "gfx942"
    return "sm_90" if 90 <= target.arch < 100 else "sm_100" if 100 <= target.arch < 120 else "sm_80"


def config(Sq, Sk, D, element_size, target, shared_bytes):
    """(of dk and dv, of dq): tile sizes, warps and stages."""
    block_d = max(16, triton.next_power_of_2(D))
    size, architecture = max(block_d, 64), _architecture(target)
    row = CONFIGURATIONS[architecture][0]
    tile = row["KEPT"], row["WALKED"]
    of_keys, of_rows = (*tile, row["WARPS_OF_DK_DV"]), (*tile, row["WARPS_OF_DQ"])
    if element_size == 4 or size != 128:
        of_keys, of_rows = TILES["float32" if element_size == 4 else architecture][size]

    def options(kept, walked, warps, kept_of, walked_of):
        small_kept = min(kept, max(16, triton.next_power_of_2(kept_of)))
        walked = min(walked, max(16, triton.next_power_of_2(walked_of)))
        fit = (shared_bytes - 2 * small_kept * block_d * element_size) // (2 * walked * block_d * element_size)
        found = {"BLOCK_D": block_d, "num_warps": warps if small_kept == kept else 4}
        found |= {"num_stages": max(1, min(2, fit - 1)), "enable_fp_fusion": True}  # as attention.py says
        return small_kept, walked, found

    keys, rows, found = options(*of_keys, Sk, Sq)
    of_keys = {"BLOCK_M": rows, "BLOCK_N": keys, **found}
    rows, keys, found = options(*of_rows, Sq, Sk)
    return of_keys, {"BLOCK_M": rows, "BLOCK_N": keys, **found}


def attention_backward(q, k, v, out, dout, lse, dq, dk, dv, causal=False, window=None):
    """dq, dk and dv of sum(dout * attention(q, k, v)), lse[B, H, Sq] being the natural logarithm of each row's sum."""
    B, H, Hkv, Sq, Sk, D = _check(q, k, v, out, dout, lse, dq, dk, dv, causal, window)
    driver = triton.runtime.driver.active
    device = driver.utils.get_device_properties(driver.get_current_device())
    target = driver.get_current_target()
    of_keys, of_rows = config(Sq, Sk, D, q.element_size(), target, device["max_shared_mem"])
    delta = lse.new_empty((B, H, Sq))
    of_inputs = _strides(q, k, v, dout, lse)
    root, scale = 1 / math.sqrt(D), math.log2(math.e) / math.sqrt(D)
    _delta_kernel[(B * H, triton.cdiv(Sq, 128))](
        out, dout, delta, *_strides(out, dout), H, Sq, D=D, BLOCK_M=128, BLOCK_D=of_rows["BLOCK_D"]
    )
    _dk_dv_kernel[(B * Hkv, triton.cdiv(Sk, of_keys["BLOCK_N"]))](
        q, k, v, dout, lse, delta, dk, dv, *of_inputs, *_strides(dk, dv), Hkv, H // Hkv, Sq, Sk, window,
        scale, root, D=D, CAUSAL=bool(causal), **of_keys,
    )  # fmt: skip
    _dq_kernel[(B * H, triton.cdiv(Sq, of_rows["BLOCK_M"]))](
        q, k, v, dout, lse, delta, dq, *of_inputs, *_strides(dq), H, H // Hkv, Sq, Sk, window, scale, root, D=D,
        CAUSAL=bool(causal), **of_rows,
    )  # fmt: skip


def _strides(*tensors):
    return [x.stride(i) for x in tensors for i in range(len(x.shape))]


def _check(q, k, v, out, dout, lse, dq, dk, dv, causal, window):
    """(B, H, Hkv, Sq, Sk, D), or a ValueError that says what does not go together."""
    if len(q.shape) != 4 or len(k.shape) != 4:
        shapes = f"q {tuple(q.shape)}, k {tuple(k.shape)}"
        raise ValueError(f"attention_backward takes q[B, H, Sq, D], k and v[B, Hkv, Sk, D]: {shapes}")
    (B, H, Sq, D), (Hkv, Sk) = q.shape, k.shape[1:3]
    if H % Hkv or D > 256:
        raise ValueError(f"attention_backward takes H a multiple of Hkv, and D up to 256: H {H}, Hkv {Hkv}, D {D}")
    wanted = {"out": (out, q), "dout": (dout, q), "dq": (dq, q), "v": (v, k), "dk": (dk, k), "dv": (dv, k)}
    for name, (x, like) in wanted.items():
        if tuple(x.shape) != tuple(like.shape):
            other = "q" if like is q else "k"
            raise ValueError(f"{name} must have {other}'s shape {tuple(like.shape)}, got {tuple(x.shape)}")
    if tuple(k.shape) != (B, Hkv, Sk, D) or tuple(lse.shape) != (B, H, Sq):
        shapes = f"q {tuple(q.shape)}, k {tuple(k.shape)}, lse[B, H, Sq] {tuple(lse.shape)}"
        raise ValueError(f"attention_backward's sizes disagree: {shapes}")
    if window is not None and not (causal and window > 0):
        raise ValueError(f"a window of one or more keys goes with causal, got {window}")
    return B, H, Hkv, Sq, Sk, D
