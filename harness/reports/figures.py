"""The figures of a result that its reports show: the share of its bound, its time and rates, why it failed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from triptych.harness.reports.formats import one_line, short
from triptych.harness.results.measures import Derived
from triptych.harness.results.profile import Outcome
from triptych.harness.results.result import Result
from triptych.harness.results.status import Evidence
from triptych.harness.results.timing import Measured, Predicted

if TYPE_CHECKING:
    from triptych.harness.judge.verdict import Verdict


def share_of_bound(judged: Result | Verdict) -> float | None:
    """The error as a share of what the tolerance allows: 1 is the limit. The largest of the measures counts."""
    metrics, tolerance = judged.metrics, judged.tolerance
    if metrics is None or not isinstance(tolerance, Derived):
        return None
    shares = []
    for error, bound in (
        (metrics.max_abs, tolerance.max_abs),
        (metrics.rel_l2, tolerance.rel_l2),
        (metrics.max_local, tolerance.max_local),
    ):
        if error is None or bound is None:
            continue
        shares.append(error / bound if bound else (0.0 if error == 0 else math.inf))
    if any(math.isnan(share) for share in shares):
        return math.nan
    return max(shares)


def largest_share(results: Iterable[Result]) -> float | None:
    """The largest finite share of its bound that any of these has."""
    shares = [share for result in results if (share := share_of_bound(result)) is not None and math.isfinite(share)]
    return max(shares, default=None)


def time_us(outcome: Outcome) -> float | None:
    """The measured median, else the predicted time."""
    return outcome.timing.us if outcome.timing else None


def time_evidence(outcome: Outcome) -> Evidence | None:
    """What kind of machine the time comes from; None if nothing was timed."""
    return outcome.timing.evidence if outcome.timing else None


def measured_us(outcome: Outcome) -> float | None:
    return outcome.timing.us if isinstance(outcome.timing, Measured) else None


def host_us(outcome: Outcome) -> float | None:
    """A whole call from the host, where the device's clock gave the time of the kernel."""
    return outcome.timing.host_us if isinstance(outcome.timing, Measured) else None


def predicted_us(outcome: Outcome) -> float | None:
    return outcome.timing.us if isinstance(outcome.timing, Predicted) else None


def tflops(outcome: Outcome) -> float | None:
    """Operations that the case needs, in 1e12 a second."""
    return rate(outcome.timing.flops, outcome.timing.us, 1e12) if outcome.timing else None


def gbytes(outcome: Outcome) -> float | None:
    """Bytes that the case must move, in 1e9 a second."""
    return rate(outcome.timing.bytes, outcome.timing.us, 1e9) if outcome.timing else None


def rate(amount: int | None, time_us: float, unit: float) -> float | None:
    """`amount` (operations or bytes) per second, in `unit`s."""
    return None if amount is None or not time_us else amount / (time_us * 1e-6) / unit


def time_text(outcome: Outcome) -> str:
    """The median; a time of another kind than the verdict, as a prediction, carries its kind in the cell."""
    text = short(time_us(outcome))
    kind = time_evidence(outcome)
    return text if kind in (None, outcome.evidence) else f"{text} {kind}"


def note(outcome: Outcome) -> str:
    """The reason on one line."""
    return one_line(outcome.reason or "")


def blame(result: Result) -> str:
    """The cause of a disagreement and why it is held to be that, on one line; empty if none was sought."""
    about = result.attribution
    return one_line(f"cause: {about.cause}: {about.text}") if about else ""


def same_bits(result: Result) -> str:
    """Where the kernel repeated its bits: over runs, and for a part of its batch alone; DIFFER where it must not."""
    runs, alone = result.invariance.runs, result.invariance.alone
    words = []
    for name, found in (("runs", runs), (alone.axis if alone else "", alone)):
        if found and found.identical:
            words.append(name)
        elif found and found.promised:
            words.append(f"{name} DIFFER")
    return ", ".join(words)
