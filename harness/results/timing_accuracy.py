"""How far the timing model is off: its last validation, shown wherever a predicted time is.

The numbers are those of the page with the validation; a test compares the two.
"""

from __future__ import annotations

from triptych.harness.results.record import Record


class TimingAccuracy(Record, frozen=True, kw_only=True):
    """The errors of predictions, as shares of the times that were measured."""

    median: float
    worst: float
    rank_correlation: float
    points: int
    date: str

    def sentence(self) -> str:
        """The same in words, without a full stop."""
        return (
            f"predicted times were off by {self.median:.0%} in the median and by {self.worst:.0%} at worst of "
            f"{self.points} public measurements ({self.date}, docs/timing.md)"
        )


LAST_VALIDATION = TimingAccuracy(median=0.0489, worst=2.370, rank_correlation=0.969, points=348, date="2026-12-02")
# Measured over predicted time of four of five kernels, by what decides most of it.
INTERVALS = {
    "issue": (0.43, 3.15),
    "short": (0.91, 1.54),
    "dma": (0.92, 1.12),
    "tensor": (0.96, 1.23),
    "engines": (0.70, 1.10),
}
REGIMES = {
    "issue": "kernels with a trigger of DMA busiest",
    "short": "short kernels",
    "dma": "kernels with DMA busiest",
    "tensor": "kernels with the Tensor Engine busiest",
    "engines": "kernels with another engine busiest",
}


def interval(us: float, regime: str) -> tuple[float, float]:
    """Between which times four of five such kernels were measured for which `us` was predicted."""
    low, high = INTERVALS[regime]
    return low * us, high * us
