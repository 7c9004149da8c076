"""Stand-ins for kernels, written for these tests alone: honest ones, and ones with a planted bug."""

from __future__ import annotations

import numpy as np


def matmul_tiled_by(step, *, backwards=False, accumulate=np.float32):
    """A matmul that contracts `step` at a time, in either direction, and keeps its sum in `accumulate`."""

    def kernel(lhsT, rhs):
        total = np.zeros((lhsT.shape[1], rhs.shape[1]), accumulate)
        starts = range(0, lhsT.shape[0], step)
        for k in reversed(starts) if backwards else starts:
            part = lhsT[k : k + step].astype(np.float32).T @ rhs[k : k + step].astype(np.float32)
            total = (total.astype(np.float32) + part).astype(accumulate)
        return total.astype(lhsT.dtype)

    return kernel


def matmul_in_four(lhsT, rhs):
    """Four interleaved partial sums, added at the end, as a split-K kernel does."""
    parts = [lhsT[i::4].astype(np.float32).T @ rhs[i::4].astype(np.float32) for i in range(4)]
    return ((parts[0] + parts[1]) + (parts[2] + parts[3])).astype(lhsT.dtype)


def matmul_without_last_tile(lhsT, rhs):
    """The bug: the ragged last tile of K is forgotten."""
    k = max(1, (lhsT.shape[0] - 1) // 64 * 64) if lhsT.shape[0] > 1 else 0
    return matmul_tiled_by(64)(lhsT[:k], rhs[:k])


def attention_by(
    block, *, base2=False, round_weights=True, prescale=False, shift=0, scaled=True, accumulate=np.float32
):
    """Flash attention with blocks of `block` keys; `shift`, `scaled` and `accumulate` plant bugs."""

    def kernel(q, k, v, causal=False):
        dtype, group = q.dtype, q.shape[1] // k.shape[1]
        rows, columns = q.shape[2], k.shape[2]
        scale = np.float32(1 / np.sqrt(q.shape[3]) if scaled else 1)
        exp = np.exp2 if base2 else np.exp
        factor = np.float32(np.log2(np.e)) if base2 else np.float32(1)
        q, k, v = (x.astype(np.float32) for x in (q, k, v))
        q = q * (scale * factor) if prescale else q
        k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
        top = np.full((*q.shape[:3], 1), -np.inf, np.float32)
        total, out = np.zeros_like(top), np.zeros(q.shape, accumulate)
        for start in range(0, columns, block):
            keys, values = k[:, :, start : start + block], v[:, :, start : start + block]
            s = q @ keys.swapaxes(-1, -2)
            s = s if prescale else s * scale * factor
            if causal:
                seen = np.arange(start, start + s.shape[-1])[None] <= np.arange(rows)[:, None] + columns - rows + shift
                s = np.where(seen, s, -np.inf)
            new = np.maximum(top, s.max(axis=-1, keepdims=True))
            base = np.where(np.isneginf(new), 0, new)
            p, fade = exp(s - base), exp(top - base)
            total = total * fade + p.sum(axis=-1, keepdims=True)
            p = p.astype(dtype).astype(np.float32) if round_weights else p
            out = (out.astype(np.float32) * fade + p @ values).astype(accumulate)
            top = new
        return np.divide(out, total, out=np.zeros(out.shape, np.float32), where=total != 0).astype(dtype)

    return kernel


HONEST = {
    "matmul": {
        "steps of 32": matmul_tiled_by(32),
        "steps of 100, backwards": matmul_tiled_by(100, backwards=True),
        "steps of 512": matmul_tiled_by(512),
        "one k at a time": matmul_tiled_by(1),
        "split in four": matmul_in_four,
    },
    "attention": {
        "blocks of 16": attention_by(16),
        "blocks of 128, base 2": attention_by(128, base2=True),
        "blocks of 512, weights not rounded": attention_by(512, round_weights=False),
        "queries scaled first": attention_by(32, base2=True, prescale=True),
    },
}
