"""Errors that are small and systematic, which no bound on their size sees.

Of the N elements whose reference y the output's dtype does not hold exactly, with s the distance of its numbers at y,

    e      =  clip((out - y) / s, -1, 1)
    bias   =  max(|mean e|, |mean e sign(y)|)
    share  =  how many of them are not y rounded to nearest, over N

Rounding to nearest gives e between -1/2 and 1/2, a bias near 0 and a share of 0; truncation a bias and a share of 1/2.
Several roundings to 16 bits where one would do have no bias and a large share. Of integers every element counts, in
units of 1.

Errors that a row or a column shares, as those of its scale, tell less than so many elements: the bias counts beyond

    Z (1 + 4 / C) max over rows, columns and elements of sqrt(sum over groups of (sum of (e - mean e))^2) / N

where C is the number of groups, at least FEWEST of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from triptych.harness.arrays import Array
from triptych.harness.dtypes import is_float
from triptych.harness.precision import spacing

FEWEST_ELEMENTS = 64  # that say something of a mean
FEWEST = 4  # groups whose means say how far the mean of all is by chance
Z = 4.0  # standard deviations that chance may reach
LEAST_BIAS = 0.125  # that is nobody's fault, in units in the last place; truncation has 0.5
LEAST_SHARE = 0.1  # of elements that are not rounded to nearest: nobody's fault; truncation has 0.5


@dataclass(frozen=True)
class Systematic:
    """What the errors of an output have in common."""

    bias: float  # in units in the last place
    chance: float  # how large a bias may come of chance alone
    share: float  # of elements that are not the reference rounded to nearest
    share_chance: float


def applies(dtype: np.dtype[np.generic]) -> bool:
    """Whether rounding to `dtype` outweighs what right kernels do before it: at most 16 bits, or integers."""
    return not is_float(dtype) or dtype.itemsize <= 2


def systematic(out: Array, reference: Array, rounded: Array) -> Systematic | None:
    """What the errors of `out` have in common; None where there are too few elements, or rounding decides nothing."""
    dtype = rounded.dtype
    if not applies(dtype) or rounded.size < FEWEST_ELEMENTS:
        return None
    got, nearest = out.astype(np.float64), rounded.astype(np.float64)
    counts = np.isfinite(got) & np.isfinite(nearest)
    if is_float(dtype):
        counts &= nearest != reference
    n = int(counts.sum())
    if n < FEWEST_ELEMENTS:
        return None
    exact = np.where(counts, reference, 0.0)
    error = np.clip((np.where(counts, got, 0.0) - exact) / spacing(dtype, np.abs(exact)), -1, 1)
    found = [mean_and_chance(signed, counts, n) for signed in (error, error * np.sign(exact))]
    bias, chance = max(found, key=lambda one: one[0] - one[1])
    share = float((counts & (got != nearest)).sum()) / n
    return Systematic(bias, chance, share, Z * (LEAST_SHARE * (1 - LEAST_SHARE) / n) ** 0.5)


def mean_and_chance(error: Array, counts: Array, n: int) -> tuple[float, float]:
    """|mean| of the `n` elements that count, and how far from zero chance alone may take it."""
    mean = float(error.sum()) / n
    apart = np.where(counts, error - mean, 0.0)
    rows = apart.reshape(-1, apart.shape[-1])
    groups = (apart.ravel(), rows.sum(axis=1), rows.sum(axis=0))
    many = [(int(np.count_nonzero(sums)), float(np.linalg.norm(sums)) / n) for sums in groups]
    return abs(mean), max((Z * (1 + 4 / c) * deviation for c, deviation in many if c >= FEWEST), default=0.0)
