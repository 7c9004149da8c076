"""How inputs are drawn: the regimes.

Standard normal numbers alone do not reach every bug. Each regime is for one kind:

    normal          the ordinary case
    tiny            x 1e-3: an epsilon that swallows the values
    large           x 30: an exponential without its max overflows
    offset          + 100: digits lost where a large common part cancels
    negative        x 300 - 20000: a running maximum that starts at 0 or at -10,000 in the place of minus infinity
    heavy-tailed    Tukey's h-distribution, h = 1/2: few huge values decide, and what is clipped or rounded early shows
    one-hot         a 1 in each row: a result that copies single elements, so that one wrong index is a wrong number
    constant-rows   one value per row: ties, and a swap of axes
    sorted          ascending in each row: a running maximum that moves at every step, sums that cancel at their end
    subnormal       around the dtype's smallest normal number: what flushes to zero
    strided         normal numbers in transposed, sliced or padded memory (`layouts`): strides taken for granted
    nonfinite       a NaN, an infinity of each sign: where they go, and where they must not

An op may give a regime the meaning that its bugs need: `opdefs` says which operand is drawn how.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from triptych.harness.arrays import Array, Arrays
from triptych.harness.dtypes import dtype_of, finfo, is_float

REGIMES = (
    "normal",
    "tiny",
    "large",
    "offset",
    "negative",
    "heavy-tailed",
    "one-hot",
    "constant-rows",
    "sorted",
    "subnormal",
    "strided",
    "nonfinite",
)
HARD = REGIMES[1:]  # what the case set "adversarial" runs
SHORT = ("large", "offset", "negative")  # what `check` runs unless told: what most often is wrong


def around(tiles: Sequence[int]) -> list[int]:
    """One below, at and one above every tile, ascending."""
    return sorted({size for tile in tiles for size in (tile - 1, tile, tile + 1) if size > 0})


def normal(rng: np.random.Generator, *shape: int) -> Array:
    """Standard normal numbers in float32: as fine as any dtype judged here, and half the memory of float64."""
    return rng.standard_normal(shape, dtype=np.float32)


def in_regime(x: Array, regime: str, dtype: str = "float32") -> Array:
    """Standard normal `x` moved into `regime`; rows are those of the last axis, and `dtype` says what is subnormal."""
    if regime in ("normal", "strided"):
        return x
    if regime == "tiny":
        return x * np.float32(1e-3)
    if regime == "large":
        return x * np.float32(30)
    if regime == "offset":
        return x + np.float32(100)
    if regime == "negative":
        return x * np.float32(300) - np.float32(20000)
    if regime == "heavy-tailed":
        return x * np.exp(x * x / 4)
    if regime == "one-hot":
        return one_hot(x, axis=-1)
    if regime == "constant-rows":
        return constant(x, axis=-1)
    if regime == "sorted":
        return np.sort(x, axis=-1)
    if regime == "subnormal":
        return x * np.float32(finfo(dtype_of(dtype)).smallest_normal)
    if regime == "nonfinite":
        return plant(x)
    raise ValueError(f"unknown regime {regime!r}; there is: {', '.join(REGIMES)}")


def plant(x: Array) -> Array:
    """`x` with an infinity of each sign and a NaN in the places of its largest, smallest and middle number.

    Those are other places in each input, so that what is planted meets ordinary numbers.
    """
    planted = x.copy()
    if x.size:
        order = np.argsort(x, axis=None)
        planted.reshape(-1)[order[[-1, 0, order.size // 2]]] = np.inf, -np.inf, np.nan
    return planted


def one_hot(x: Array, axis: int) -> Array:
    """1 at the largest element along `axis`, 0 elsewhere."""
    largest = np.expand_dims(x.argmax(axis=axis), axis)
    hot: Array = np.arange(x.shape[axis]).reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)]) == largest
    return hot.astype(x.dtype)


def constant(x: Array, axis: int) -> Array:
    """The first element along `axis`, repeated."""
    return np.broadcast_to(np.take(x, [0], axis=axis), x.shape).copy()


def round_inputs(arrays: Arrays, dtype: str) -> Arrays:
    """`arrays` as contiguous arrays of the case's dtype; what is not float32 or float64 (indices, masks) stays."""
    wanted = dtype_of(dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        return {
            name: np.ascontiguousarray(
                clip_to_dtype(x, wanted).astype(wanted) if x.dtype in (np.float32, np.float64) else x
            )
            for name, x in arrays.items()
        }


def clip_to_dtype(x: Array, dtype: np.dtype[Any]) -> Array:
    """`x` with finite numbers that `dtype` cannot hold brought down to its largest: only planted infinities are."""
    if dtype.itemsize >= 4 or not is_float(dtype):
        return x
    largest = float(finfo(dtype).max)
    if not x.size or (-largest <= x.min() and x.max() <= largest):  # neither of a NaN
        return x
    held: Array = np.where(np.isfinite(x), np.clip(x, -largest, largest), x)
    return held
