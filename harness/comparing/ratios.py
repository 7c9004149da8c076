"""The ratio of two times: exact for predictions, with an interval from a bootstrap of the medians for samples.

The bootstrap draws both sides anew and takes the ratio of the medians; the interval holds the middle 95 % of the ratios
(the percentile method: B. Efron, R. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13). Samples of one
clock follow each other and are no independent draws: rounds are drawn first, where a side was measured in several, and
then runs of neighbours within them (H. Kuensch, The jackknife and the bootstrap for general stationary observations,
1989). What differs between rounds is in the interval; where there is one round alone, nobody knows it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
DRAWS = 2000
FEWEST = 5  # samples a side, below which no interval is told


@dataclass(frozen=True)
class Ratio:
    """New time over base time; 1.05 is 5 % slower."""

    value: float
    low: float
    high: float

    @property
    def exact(self) -> bool:
        return self.low == self.value == self.high

    @property
    def significant(self) -> bool:
        """Whether the interval leaves no room for no change."""
        return self.low > 1 or self.high < 1

    @property
    def known(self) -> bool:
        """Whether there is an interval at all."""
        return self.high < np.inf


def of_times(base_us: float, new_us: float) -> Ratio:
    """Of two times without spread."""
    value = new_us / base_us
    return Ratio(value, value, value)


def of_samples(base_us: Sequence[Sequence[float]], new_us: Sequence[Sequence[float]], seed: int = 0) -> Ratio:
    """Of the medians of samples, given by rounds; from 0 to infinity where a side has fewer than five samples."""
    base, new = ([np.asarray(r, np.float64) for r in rounds if len(r)] for rounds in (base_us, new_us))
    value = float(np.median(np.concatenate(new)) / np.median(np.concatenate(base)))
    if min(sum(map(len, side)) for side in (base, new)) < FEWEST:
        return Ratio(value, 0.0, float("inf"))
    rng = np.random.default_rng(seed)
    ratios = drawn_medians(new, rng) / drawn_medians(base, rng)
    low, high = np.quantile(ratios, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Ratio(value, float(low), float(high))


def drawn_medians(rounds: Sequence[NDArray[np.float64]], rng: np.random.Generator) -> NDArray[np.float64]:
    """The medians of `DRAWS` draws of as many rounds, each of as many of its samples, in runs of neighbours.

    A run is as long as the root of the number of samples of its round.
    """
    sizes = np.array([len(samples) for samples in rounds])
    lengths = np.array([math.isqrt(size) for size in sizes])
    padded = np.full((len(rounds), sizes.max()), np.inf)
    for row, samples in zip(padded, rounds, strict=True):
        row[: len(samples)] = samples
    place = np.arange(sizes.max())
    chosen = rng.integers(len(rounds), size=(DRAWS, len(rounds)))
    runs = place // lengths[:, None]  # which run of its round each place is in
    starts = rng.integers((sizes - lengths + 1)[chosen][..., None], size=(*chosen.shape, runs.max() + 1))
    at = np.take_along_axis(starts, runs[chosen], axis=2) + (place % lengths[:, None])[chosen]
    drawn = np.where(place < sizes[chosen][..., None], padded[chosen[..., None], np.minimum(at, place[-1])], np.inf)
    drawn = np.sort(drawn.reshape(DRAWS, -1), axis=1)
    middle = sizes[chosen].sum(axis=1, keepdims=True)
    low, high = (np.take_along_axis(drawn, index, axis=1)[:, 0] for index in ((middle - 1) // 2, middle // 2))
    medians: NDArray[np.float64] = (low + high) / 2
    return medians
