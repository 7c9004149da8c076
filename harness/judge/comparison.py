"""An output beside the reference, element by element, and the numbers that sum it up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from triptych.harness.arrays import Array
from triptych.harness.bits import both_finite, nonfinite_apart
from triptych.harness.dtypes import finfo, is_float
from triptych.harness.judge.tolerance import Expected
from triptych.harness.judge.yardstick.bias import systematic
from triptych.harness.precision import overflow, ulp, ulps_apart
from triptych.harness.results.measures import Kinds, Metrics, Nonfinite

SHOWN = 8  # positions of misplaced NaNs and infinities that are listed


@dataclass(frozen=True)
class Comparison:
    """`error` is |out - reference| where both are finite, else 0; `share` is error / allowed, infinite if strange."""

    out: Array
    expected: Expected
    error: Array
    magnitude: Array  # |reference| where both are finite, else 0
    both: Array  # both finite
    strange: Array  # NaN or infinite unlike the reference
    share: Array

    @property
    def beyond(self) -> Array:
        """Which elements the tolerance does not allow."""
        out: Array = self.share > 1
        return out


def compare(out: Array, expected: Expected, where: Any = ...) -> Comparison:
    """A well-formed output, or the part of one that belongs at the index `where`, against what is expected there."""
    reference, rounded = expected.reference[where], expected.rounded[where].astype(np.float64)
    got = out.astype(np.float64)
    both, strange = both_finite(got, rounded), nonfinite_apart(got, rounded)
    if expected.may_be_nan is not None:
        strange &= ~(expected.may_be_nan[where] & np.isnan(got))
    error = np.zeros(got.shape)
    np.subtract(got, reference, out=error, where=both)
    np.abs(error, out=error)
    if not is_float(out.dtype):  # large integers that float64 does not tell apart
        error = np.maximum(error, out != expected.rounded[where])
    allowed = expected.allowed(where)
    if strange.any():
        strange &= ~at_the_edge(got, reference, np.isfinite(rounded), out.dtype, allowed)
    share = np.where(error > 0, np.inf, 0.0)
    np.divide(error, allowed, out=share, where=allowed > 0)
    share[strange] = np.inf
    return Comparison(out, expected, error, np.where(both, np.abs(reference), 0.0), both, strange, share)


def at_the_edge(got: Array, reference: Array, finite: Array, dtype: np.dtype[Any], allowed: Array) -> Array:
    """Where an error that is allowed decides whether the number still rounds to the largest of its dtype.

    Half a unit in the last place is the rounding's own and counts on neither side: a kernel that returns an infinity,
    or a NaN in a dtype without infinities, for a number that the dtype holds exactly is wrong.
    """
    largest = float(finfo(dtype).max)
    edge = overflow(dtype)
    half = edge - largest
    slack = np.maximum(allowed - half, half / 2)
    infinities = bool(np.isinf(np.array(np.inf, dtype)))
    over = np.isinf(got) & (np.sign(got) == np.sign(reference)) if infinities else np.isnan(got)
    became = finite & over & (edge - np.abs(reference) < slack)
    apart = np.abs(np.where(np.isfinite(got), got, np.inf) - np.where(np.isfinite(reference), reference, 0.0))
    stayed = ~finite & np.isfinite(reference) & (apart < half + slack)
    out: Array = became | stayed
    return out


def metrics(c: Comparison) -> Metrics:
    """The numbers of a comparison; what is said of elements counts those that are finite on both sides."""
    out, expected = c.out, c.expected
    relative = np.divide(c.error, c.magnitude, out=np.zeros(c.error.shape), where=c.magnitude > 0)
    got, reference = (np.where(c.both, x, 0).astype(np.float64) for x in (out, expected.reference))
    norm, l2, own = (float(np.linalg.norm(x)) for x in (reference, c.error, got))
    place = worst_place(c)
    common = systematic(out, expected.reference, expected.rounded)
    return Metrics(
        max_abs=float(c.error.max()),
        max_rel=float(relative.max()),
        rel_l2=l2 / norm if norm else (0.0 if l2 == 0 else float("inf")),
        cosine=float(np.vdot(got, reference)) / (norm * own) if norm and own else float(norm == own),
        max_abs_ulp=float(c.error.max()) / ulp(out.dtype, float(c.magnitude.max())),
        max_ulp=int(ulps_apart(out[c.both], expected.rounded[c.both]).max(initial=0)),
        max_local=None if expected.unit is None else float((c.error / expected.unit).max()),
        bias=None if common is None else max(0.0, common.bias - common.chance),
        not_nearest=None if common is None else max(0.0, common.share - common.share_chance),
        worst_index=list(place),
        expected=expected.rounded[place].item(),
        got=out[place].item(),
        mismatches=int(c.beyond.sum()),
        nonfinite=nonfinite(c),
    )


def worst_place(c: Comparison) -> tuple[int, ...]:
    """The element that is furthest beyond what is allowed; of several that are NaN unlike the reference, the first."""
    share = c.share if c.strange.any() or not np.isinf(c.share).any() else np.where(np.isinf(c.share), c.error, -1.0)
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(share)), share.shape))


def nonfinite(c: Comparison) -> Nonfinite:
    """How many NaNs and infinities there are and should be, and where one is amiss."""
    amiss = np.argwhere(c.strange)
    return Nonfinite(
        expected=_kinds(c.expected.rounded), got=_kinds(c.out), misplaced=len(amiss), at=amiss[:SHOWN].tolist()
    )


def _kinds(x: Array) -> Kinds:
    wide = x.astype(np.float64)
    nan, inf, minus_inf = (int(np.count_nonzero(f(wide))) for f in (np.isnan, np.isposinf, np.isneginf))
    return Kinds(nan=nan, inf=inf, minus_inf=minus_inf)
