"""How far the timing model is off: its last validation, shown wherever a predicted time is.

The numbers are those of "all for validation" on the page about timing; a test compares the two.
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
    model: str = ""  # which model that was, where it has changed since

    def sentence(self) -> str:
        """The same in words, without a full stop."""
        return (
            f"predicted times were off by {self.median:.0%} in the median and by {self.worst:.0%} at worst of "
            f"{self.points} public measurements ({self.date}{self.model and f', {self.model}'}, docs/timing.md)"
        )


LAST_VALIDATION = TimingAccuracy(
    median=0.097,
    worst=0.523,
    rank_correlation=0.992,
    points=59,
    date="2026-11-23",
    model="before DMA queues and parallel tiles were modelled",
)
