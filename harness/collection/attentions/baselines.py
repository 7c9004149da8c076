"""Honest attention: what a right kernel of the case's dtype computes, in several orders of doing so."""

from __future__ import annotations

from typing import Any

import numpy as np

from triptych.harness.arrays import Array
from triptych.reference.attention import check_segments

FLOAT32 = np.dtype(np.float32)
LOG2_E = float(np.log2(np.e))


def online(q: Array, k: Array, v: Array, causal: bool = False, with_lse: bool = False, **options: Any) -> Any:
    """Honest: blocks of 64 keys with a running max and sum, base-2 exponentials, weights rounded to the dtype.

    options: of the op, as `scored` takes them, and `sinks`
    """
    sinks = options.pop("sinks", None)
    scores, values, visible = scored(q, k, v, causal, unit=LOG2_E, **options)
    out, lse = in_blocks(scores, values, visible, 64, q.dtype, sinks=sinks)
    return (out, lse) if with_lse else out


def prescaled(q: Array, k: Array, v: Array, causal: bool = False, with_lse: bool = False, **options: Any) -> Any:
    """Honest: as `online`, but the scale goes into the queries, D is summed the other way, and blocks hold 16 keys.

    Where two keys nearly tie in a row of large scores, the last bit of a score decides. Such rows are few, so that one
    baseline alone may get them right by luck.
    """
    sinks = options.pop("sinks", None)
    scale = np.float32(LOG2_E / np.sqrt(q.shape[-1]))
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = q[..., ::-1].astype(np.float32) * scale
    scores, values, visible = scored(scaled, k[..., ::-1], v, causal, scale=1, unit=LOG2_E, **options)
    out, lse = in_blocks(scores, values, visible, 16, q.dtype, sinks=sinks)
    return (out, lse) if with_lse else out


def in_blocks(
    scores: Array,
    values: Array,
    visible: Array,
    block: int,
    dtype: np.dtype[Any],
    sums: np.dtype[Any] = FLOAT32,
    sinks: Array | None = None,
) -> tuple[Array, Array]:
    """Softmax in base 2 and the product with the values, `block` keys at a time, added up in `sums`; (out, lse)."""
    top = np.full((*scores.shape[:-1], 1), -np.inf, np.float32)
    total = np.zeros_like(top)
    if sinks is not None:
        top[...] = sinks.astype(np.float32)[:, None, None] * np.float32(LOG2_E)
        total += 1
    out = np.zeros((*scores.shape[:-1], values.shape[-1]), np.float32)
    with np.errstate(invalid="ignore", over="ignore", under="ignore", divide="ignore"):
        for j in range(0, scores.shape[-1], block):
            s = np.where(visible[..., j : j + block], scores[..., j : j + block], -np.inf)
            new_top = np.maximum(top, s.max(axis=-1, keepdims=True))
            shift = np.where(np.isneginf(new_top), np.float32(0), new_top)
            weights = np.exp2(s - shift)
            fade = np.exp2(top - shift)
            total = total * fade + weights.sum(axis=-1, keepdims=True)
            out = out * fade + weights.astype(dtype).astype(np.float32) @ values[..., j : j + block, :]
            out = out.astype(sums).astype(np.float32)
            top = new_top
        out = np.divide(out, total, out=np.zeros_like(out), where=total != 0)
        lse = (top + np.log2(total)) * np.float32(1 / LOG2_E)
    return out.astype(dtype), lse[..., 0]


def plain(q: Array, k: Array, v: Array, causal: bool = False, with_lse: bool = False, **options: Any) -> Any:
    """Honest: the whole row at once, normalised before the weights are rounded to the dtype.

    All sums, of scores, weights and values, take one term after the other, as systolic arrays and chains of fused
    multiply-adds do: where all terms have one sign, that errs several times as much as a sum in parts. In narrow dtypes
    their own rounding hides it.
    """
    sinks = options.pop("sinks", None)
    dtype = q.dtype
    one_by_one = dtype == np.float32 and q.size * k.shape[2] <= 2**28
    scores, values, visible = scored(q, k, v, causal, step=1 if one_by_one else q.shape[-1], **options)
    with np.errstate(invalid="ignore", over="ignore", under="ignore", divide="ignore"):
        scores = np.where(visible, scores, -np.inf)
        top = scores.max(axis=-1, keepdims=True)
        if sinks is not None:
            top = np.maximum(top, sinks.astype(np.float32)[:, None, None])
        weights = np.exp(scores - np.where(np.isneginf(top), np.float32(0), top))
        total = np.cumsum(weights, axis=-1)[..., -1:] if one_by_one else weights.sum(axis=-1, keepdims=True)
        if sinks is not None:
            total = total + np.exp(sinks.astype(np.float32)[:, None, None] - top)
        lse = (top + np.log(total))[..., 0]
        weights = np.divide(weights, total, out=np.zeros_like(weights), where=total != 0).astype(dtype)
        out = np.zeros((*weights.shape[:-1], values.shape[-1]), np.float32)
        step = 1 if one_by_one else weights.shape[-1]
        for j in range(0, weights.shape[-1], step):
            out += weights[..., j : j + step].astype(np.float32) @ values[..., j : j + step, :]
    return (out.astype(dtype), lse) if with_lse else out.astype(dtype)


def of_whole_shifts(q: Array, k: Array, v: Array, causal: bool = False, with_lse: bool = False, **options: Any) -> Any:
    """Honest: weights 2^(s - ceil(max s)), whose sum is seldom 1, so that lse adds a logarithm that was rounded.

    So errs any shift that is not the maximum itself: where lse is near 0, the roundoff of the sum is all that is left.
    With the maximum, a row of one key has no error at all. `out` takes the sum of the weights as they were rounded.
    """
    scores, values, visible = scored(q, k, v, causal, unit=LOG2_E, **options)
    with np.errstate(invalid="ignore", over="ignore", under="ignore", divide="ignore"):
        scores = np.where(visible, scores, -np.inf)
        top = np.ceil(scores.max(axis=-1, keepdims=True))
        weights = np.exp2(scores - np.where(np.isneginf(top), np.float32(0), top))
        lse = (top + np.log2(weights.sum(axis=-1, keepdims=True))) * np.float32(1 / LOG2_E)
        weights = weights.astype(q.dtype).astype(np.float32)
        total = weights.sum(axis=-1, keepdims=True)
        out = np.divide(weights @ values, total, out=np.zeros(q.shape, np.float32), where=total != 0).astype(q.dtype)
    return (out, lse[..., 0]) if with_lse else out


def scored(
    q: Array,
    k: Array,
    v: Array,
    causal: bool,
    scale: float | None = None,
    unit: float = 1.0,
    step: int = 128,
    window: int | None = None,
    softcap: float | None = None,
    mask: Array | None = None,
    segments: Array | None = None,
) -> tuple[Array, Array, Array]:
    """Exponents times `unit` [B, H, Sq, Sk], values repeated to [B, H, Sk, D], and who sees whom; all in float32.

    scale: of the products of q and k; by default 1 / sqrt(D), and `unit` comes on top

    ValueError: segments are not [B, S] with S = Sq = Sk
    """
    check_segments(q, k, segments)
    group = q.shape[1] // k.shape[1]
    keys, values = (np.repeat(x.astype(np.float32), group, axis=1) for x in (k, v))
    with np.errstate(invalid="ignore", over="ignore"):
        queries = q.astype(np.float32)
        scores = np.zeros((*q.shape[:-1], k.shape[2]), np.float32)
        for d in range(0, q.shape[-1], step):
            scores += queries[..., d : d + step] @ keys[..., d : d + step].swapaxes(-1, -2)
        scores *= np.float32(unit / np.sqrt(q.shape[-1]) if scale is None else scale)
        if softcap is not None:
            scores = np.float32(softcap * unit) * np.tanh(scores / np.float32(softcap * unit))
        if mask is not None:
            scores += mask.astype(np.float32) * np.float32(unit)
    rows, columns = scores.shape[-2:]
    last = np.arange(rows)[:, None] + (columns - rows if causal else columns)
    visible: Array = np.arange(columns)[None, :] <= last
    if window is not None:
        visible = visible & (np.arange(columns)[None, :] > last - window)
    if mask is not None:
        visible = visible & ~np.isneginf(mask.astype(np.float32))
    if segments is not None:
        visible = visible & (segments[:, None, :, None] == segments[:, None, None, :])
    return scores, values, visible
