"""How far the timing model is off: its last validation, shown wherever a predicted time is.

The numbers are those of "all for validation" on the page about timing; a test compares the two.
"""

from __future__ import annotations

from typing import Any

DATE, POINTS, MEDIAN, WORST, RANK_CORRELATION = "2026-11-23", 59, 0.097, 0.523, 0.992


def known_error() -> dict[str, Any]:
    """The error as a part of a timing: shares of the measured time, over public measurements."""
    return {
        "median": MEDIAN,
        "worst": WORST,
        "rank_correlation": RANK_CORRELATION,
        "points": POINTS,
        "date": DATE,
    }


def in_words() -> str:
    """The error in words."""
    return (
        f"predicted times were off by {MEDIAN:.0%} in the median and by {WORST:.0%} at worst of {POINTS} public "
        f"measurements ({DATE}, docs/timing.md)"
    )
