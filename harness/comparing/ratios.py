"""The ratio of two times: exact for predictions, with an interval from a bootstrap of the medians for samples.

The bootstrap draws both sides anew, each from its own samples, and takes the ratio of the medians; the interval holds
the middle 95 % of the ratios (the percentile method: B. Efron, R. Tibshirani, An Introduction to the Bootstrap, 1993,
chapter 13). It knows the spread within the samples that there are, not that between two days or two machines.
"""

from __future__ import annotations

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


def of_samples(base_us: Sequence[float], new_us: Sequence[float], seed: int = 0) -> Ratio:
    """Of the medians of samples, with the 95 % interval; from 0 to infinity where a side has fewer than five."""
    base, new = (np.asarray(samples, np.float64) for samples in (base_us, new_us))
    value = float(np.median(new) / np.median(base))
    if min(len(base), len(new)) < FEWEST:
        return Ratio(value, 0.0, float("inf"))
    rng = np.random.default_rng(seed)
    ratios = drawn_medians(new, rng) / drawn_medians(base, rng)
    low, high = np.quantile(ratios, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Ratio(value, float(low), float(high))


def drawn_medians(samples: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """The medians of `DRAWS` samples of the same size, drawn with replacement."""
    medians: NDArray[np.float64] = np.median(rng.choice(samples, (DRAWS, len(samples))), axis=1)
    return medians
