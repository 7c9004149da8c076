"""Right kernels that differ: other orders of summation, other tiles, exp or exp2, rounded earlier or later.

None of them may be rejected, or the judge would forbid what a kernel is free to choose. The options `shift`, `scaled`
and `accumulate` of the builders plant mistakes, for tests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from triptych.harness.arrays import Array

Kernel = Callable[..., Array]


def matmul_by(step: int, *, backwards: bool = False, accumulate: Any = np.float32) -> Kernel:
    """A matmul that contracts `step` at a time, in either direction, and keeps its sum in `accumulate`."""

    def kernel(lhsT: Array, rhs: Array) -> Array:
        total = np.zeros((lhsT.shape[1], rhs.shape[1]), accumulate)
        starts = range(0, lhsT.shape[0], step)
        for k in reversed(starts) if backwards else starts:
            part = lhsT[k : k + step].astype(np.float32).T @ rhs[k : k + step].astype(np.float32)
            total = (total.astype(np.float32) + part).astype(accumulate)
        return total.astype(lhsT.dtype)

    return kernel


def matmul_split(parts: int) -> Kernel:
    """Interleaved partial sums, added in pairs at the end, as a split-K kernel does."""

    def kernel(lhsT: Array, rhs: Array) -> Array:
        sums = [lhsT[i::parts].astype(np.float32).T @ rhs[i::parts].astype(np.float32) for i in range(parts)]
        while len(sums) > 1:
            sums = [sum(sums[i : i + 2][1:], sums[i]) for i in range(0, len(sums), 2)]
        return sums[0].astype(lhsT.dtype)

    return kernel


def matmul_shuffled(lhsT: Array, rhs: Array) -> Array:
    """The products of an element added in an order that has nothing to do with memory."""
    order = np.random.default_rng(0).permutation(lhsT.shape[0])
    return matmul_by(64)(lhsT[order], rhs[order])


def matmul_compensated(lhsT: Array, rhs: Array) -> Array:
    """Tiles of 32 added with Kahan's compensation: more exact than most."""
    total = np.zeros((lhsT.shape[1], rhs.shape[1]), np.float32)
    lost = np.zeros_like(total)
    for k in range(0, lhsT.shape[0], 32):
        part = lhsT[k : k + 32].astype(np.float32).T @ rhs[k : k + 32].astype(np.float32) - lost
        new = total + part
        lost = np.where(np.isfinite(new), (new - total) - part, np.float32(0))
        total = new
    return total.astype(lhsT.dtype)


def attention_by(
    block: int,
    *,
    base2: bool = False,
    round_weights: bool = True,
    prescale: bool = False,
    backwards: bool = False,
    divide: bool = True,
    shift: int = 0,
    scaled: bool = True,
    accumulate: Any = np.float32,
) -> Kernel:
    """Flash attention with blocks of `block` keys; `divide` by the sum of weights, or multiply by its reciprocal."""

    def kernel(q: Array, k: Array, v: Array, causal: bool = False) -> Array:
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
        starts = range(0, columns, block)
        for start in reversed(starts) if backwards else starts:
            keys, values = k[:, :, start : start + block], v[:, :, start : start + block]
            s = q @ keys.swapaxes(-1, -2)
            s = s if prescale else s * scale * factor
            if causal:
                seen = np.arange(start, start + s.shape[-1])[None] <= np.arange(rows)[:, None] + columns - rows + shift
                s = np.where(seen, s, -np.inf)
            new = np.maximum(top, s.max(axis=-1, keepdims=True))
            base = np.where(np.isneginf(new), np.float32(0), new)
            p, fade = exp(s - base), exp(top - base)
            total = total * fade + p.sum(axis=-1, keepdims=True)
            p = p.astype(dtype).astype(np.float32) if round_weights else p
            out = (out.astype(np.float32) * fade + p @ values).astype(accumulate)
            top = new
        wide = out.astype(np.float32)
        if divide:
            result = np.divide(wide, total, out=np.zeros(out.shape, np.float32), where=total != 0)
        else:
            result = wide * np.divide(np.float32(1), total, out=np.zeros_like(total), where=total != 0)
        return np.asarray(result.astype(dtype))

    return kernel


HONEST: dict[str, dict[str, Kernel]] = {
    "matmul": {
        "steps of 32": matmul_by(32),
        "steps of 100, backwards": matmul_by(100, backwards=True),
        "steps of 512": matmul_by(512),
        "one k at a time": matmul_by(1),
        "one k at a time, backwards": matmul_by(1, backwards=True),
        "split in four": matmul_split(4),
        "split in 16": matmul_split(16),
        "in a shuffled order": matmul_shuffled,
        "compensated sums": matmul_compensated,
        "sums in float64": matmul_by(64, accumulate=np.float64),
    },
    "attention": {
        "blocks of 16": attention_by(16),
        "blocks of 16, backwards": attention_by(16, backwards=True),
        "blocks of 64, base 2": attention_by(64, base2=True),
        "blocks of 128, base 2": attention_by(128, base2=True),
        "blocks of 512, weights not rounded": attention_by(512, round_weights=False),
        "blocks of 1024": attention_by(1024),
        "queries scaled first": attention_by(32, base2=True, prescale=True),
        "queries scaled first, base e": attention_by(128, prescale=True),
        "times the reciprocal of the sum": attention_by(64, divide=False),
        "one key at a time": attention_by(1),
    },
}
HONEST["matmul_tiled"] = HONEST["matmul"]
