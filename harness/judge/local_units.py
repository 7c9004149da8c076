"""The unit of each element: by how much one rounding of every input moves it, which is its condition in numbers.

With the roundoff u of the dtype, and s random with mean 0 and variance 1 for each number of each input x,

    moved      = reference(x (1 + s u))
    variance   = mean over draws of (moved - reference)^2
    unit       = max(sqrt(variance), sqrt(smooth(variance)), ulp(reference) / 2, u^2 max |reference|)

all in the shape of the output. `smooth` replaces each matrix of the last two axes by row mean times column mean over
mean, so that chance leaves no element with a unit near zero. The last term stands for partial sums that may have
underflowed in a right kernel.
"""

from __future__ import annotations

import numpy as np

from triptych.harness.arrays import Array
from triptych.harness.judge.problem import Problem, widen
from triptych.harness.judge.truth import check_precision, check_repeats
from triptych.harness.precision import roundoff, spacing

LOCAL_LIMIT = 2**22  # input elements up to which local units are worth their four evaluations of the reference


def local_unit(problem: Problem) -> Array | None:
    """The unit of each element of the output, in the output's shape; None for large cases and exact dtypes."""
    dtype, reference, finite = problem.dtype, problem.reference, problem.finite
    u = roundoff(dtype)
    if dtype == np.float64 or u == 0 or sum(x.size for x in problem.inputs.values()) > LOCAL_LIMIT:
        return None
    squares = np.zeros(reference.shape)
    draws = 4 if reference.size >= 256 else 16
    wide = widen(problem.inputs)
    check_repeats(problem, problem.evaluate(wide))
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        moved = {
            name: x * (1 + u * rng.uniform(-(3**0.5), 3**0.5, x.shape)) if x.dtype == np.float64 else x
            for name, x in wide.items()
        }
        other = problem.evaluate(moved)
        if seed == 0:
            check_precision(problem, other)
        both = finite & np.isfinite(other)
        squares[both] += (other[both] - reference[both]) ** 2
    magnitude = np.abs(np.where(finite, reference, 0.0))
    lowest = np.maximum(spacing(dtype, magnitude) / 2, u * u * float(magnitude.max(initial=0.0)))
    variance = squares / draws
    unit: Array = np.maximum(np.sqrt(np.maximum(variance, smooth(variance))), lowest)
    return unit


def smooth(variance: Array) -> Array:
    """Row mean times column mean over mean, of each matrix of the last two axes."""
    if variance.ndim < 2:
        return np.broadcast_to(variance.mean(), variance.shape)
    row, column = variance.mean(axis=-1, keepdims=True), variance.mean(axis=-2, keepdims=True)
    mean = variance.mean(axis=(-1, -2), keepdims=True)
    part = np.divide(column, mean, out=np.zeros(column.shape), where=mean > 0)  # first: a product may overflow
    out: Array = row * part
    return out
