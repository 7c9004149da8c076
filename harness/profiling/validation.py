"""Predictions against measurements: what the timing model says of each measured point, and how far it is off."""

from __future__ import annotations

import contextlib
import io
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np

from triptych import simulator
from triptych.harness.dtypes import dtype_of
from triptych.harness.measured.records import Call, Point, Tensor, resolve
from triptych.harness.measured.sources import NotHere, Public
from triptych.harness.profiling.stacked import stacked
from triptych.harness.results.timing_accuracy import REGIMES
from triptych.simulator import Options, Prediction, ShapeDtype
from triptych.simulator.errors import NeedsData
from triptych.simulator.timing import predict_trace

# Times are asked for, not whether a kernel obeys rules that are newer than it, or checks of data that is not there.
OPTIONS = Options(check_uninitialized=False, check_races=False, check_capacity=False, lint=False, api="0.3")


@dataclass(frozen=True)
class Outcome:
    """A point with its prediction, or with why there is none."""

    point: Point
    predicted_us: float | None
    reason: str = ""
    mfu: float | None = None  # of the whole call, as are the next two
    hbm_bytes: int | None = None
    busy: Mapping[str, float] = field(default_factory=dict)
    regime: str = ""
    naive_us: float | None = None  # of a total: launch, teardown and the roofline of matmuls and HBM traffic

    @property
    def error(self) -> float:
        """Relative, of a point that has a prediction."""
        assert self.predicted_us is not None
        return self.predicted_us / self.point.measured_us - 1


def predicted(points: Iterable[Point], public: Public) -> Iterator[Outcome]:
    """Each point's outcome; those of one call, which stand together, share its prediction."""
    for some in by_call(points):
        for point, found in zip(some, predicted_together(some, public), strict=True):
            yield Outcome(point, **found)


def by_call(points: Iterable[Point]) -> list[list[Point]]:
    """The points of each call."""
    return [list(group) for _, group in groupby(points, key=lambda point: point.call)]


def predicted_together(points: Sequence[Point], public: Public) -> list[dict[str, Any]]:
    """What the outcomes of the points of one call hold beside the points."""
    outcome = prediction_of(points[0].call, public)
    if not isinstance(outcome, Prediction):
        return [{"predicted_us": None, "reason": outcome} for _ in points]
    beside = {id(p.beside): prediction_of(p.beside, public) for p in points if p.beside is not None}
    return [_found(point, outcome, beside.get(id(point.beside))) for point in points]


def _found(point: Point, outcome: Prediction, beside: Prediction | str | None) -> dict[str, Any]:
    if isinstance(beside, str):
        return {"predicted_us": None, "reason": beside}
    us, naive = point.predicted_us(outcome) - point.less_us, naive_us(outcome) - point.less_us
    if beside is not None:
        us, naive = us + beside.total_us - point.less_us, naive + naive_us(beside) - point.less_us
    return {
        "predicted_us": us,
        "mfu": outcome.mfu,
        "hbm_bytes": outcome.hbm_bytes,
        "busy": dict(outcome.busy),
        "regime": outcome.regime,
        "naive_us": naive if point.what.startswith("total") else None,
    }


def prediction_of(call: Call, public: Public) -> Prediction | str:
    """The prediction, or why there is none."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # libraries of kernels report on what they allocate
            kernel = call.kernel.load(public)
            if call.cores > 1:
                kernel = kernel[call.cores]
            arguments = [stand_in(value, public) for value in call.arguments]
            keywords = {name: stand_in(value, public) for name, value in call.keywords.items()}
            try:
                found = simulator.predict(kernel, *arguments, target=call.target, options=OPTIONS, **keywords)
            except NeedsData:  # as the control flow of zeros has it
                arguments, keywords = [zeros(x) for x in arguments], {n: zeros(x) for n, x in keywords.items()}
                found = simulator.predict(kernel, *arguments, target=call.target, options=OPTIONS, **keywords)
            return predict_trace(stacked(found.timeline.trace)) if call.stacked else found
    except NotHere as error:
        return str(error)
    except Exception as error:  # whatever a public kernel does is a row of the report
        return f"{type(error).__name__}: {' '.join(str(error).split())}"


def zeros(argument: Any) -> Any:
    """An array in the place of a shape."""
    return np.zeros(argument.shape, dtype_of(argument.dtype)) if isinstance(argument, ShapeDtype) else argument


def naive_us(prediction: Prediction) -> float:
    """What anybody could say without a model: the roofline, and what every launch costs."""
    fixed = prediction.chip.launch_ns.value + prediction.chip.teardown_ns.value
    return prediction.roofline_us + fixed / 1e3


def stand_in(value: Any, public: Public) -> Any:
    """An argument as the kernel gets it."""
    if isinstance(value, Tensor):
        return ShapeDtype(value.shape, value.dtype)
    return resolve(value, public)


@dataclass(frozen=True)
class Summary:
    """How far some predictions are from the measurements."""

    count: int
    median: float  # of the absolute relative errors
    percentile_90: float  # of them: the smallest that nine tenths do not exceed
    bias: float  # median of the relative errors with their sign
    worst: float
    worst_point: Point
    rank_correlation: float  # Spearman's; nan for fewer than two
    ordered: tuple[float, int] | None  # pairs of one kernel in the right order: their share, and how many
    naive_median: float | None  # of the absolute relative errors of the naive times; None where there are none


def summary(outcomes: Sequence[Outcome]) -> Summary | None:
    """Of the outcomes with a prediction; None if there is none."""
    ran = [outcome for outcome in outcomes if outcome.predicted_us is not None]
    if not ran:
        return None
    naive = [abs(o.naive_us / o.point.measured_us - 1) for o in ran if o.naive_us is not None]
    worst = max(ran, key=lambda outcome: abs(outcome.error))
    return Summary(
        len(ran),
        statistics.median(abs(outcome.error) for outcome in ran),
        sorted(abs(outcome.error) for outcome in ran)[math.ceil(0.9 * len(ran)) - 1],
        statistics.median(outcome.error for outcome in ran),
        abs(worst.error),
        worst.point,
        spearman([o.point.measured_us for o in ran], [o.predicted_us or 0.0 for o in ran]),
        rank_within(ran),
        statistics.median(naive) if naive else None,
    )


@dataclass(frozen=True)
class Families:
    """What no big family decides: medians over families, each of which counts once."""

    count: int
    median: float  # of their median errors
    percentile_90: float  # of their 90th percentiles
    bias: float  # of their biases


def by_family(families: Iterable[Sequence[Outcome]]) -> Families | None:
    """Of those that have a prediction; None if none has."""
    found = [one for outcomes in families if (one := summary(outcomes)) is not None]
    if not found:
        return None
    return Families(
        len(found),
        statistics.median(one.median for one in found),
        statistics.median(one.percentile_90 for one in found),
        statistics.median(one.bias for one in found),
    )


FEWEST = 5  # points of a regime, below which its interval holds that of all too


def intervals(outcomes: Sequence[Outcome]) -> dict[str, tuple[float, float]]:
    """For each regime, between what measured over predicted lies for four of five totals, of new ones too.

    Its ends are the k-th smallest and the k-th largest of n points with k = (n + 1) / 10, at least the first: so one
    more point of the same kind lies outside with a probability of a fifth at most (conformal prediction), but for
    fewer than nine points, where the ends are all that there is.
    """
    ran = _totals(outcomes)
    found = {}
    for regime in REGIMES:
        own = [o for o in ran if o.regime == regime]
        ends = [_ends(some) for some in ([own] if len(own) >= FEWEST else [own, ran]) if some]
        if ends:
            found[regime] = min(low for low, _ in ends), max(high for _, high in ends)
    return found


def _ends(outcomes: Sequence[Outcome]) -> tuple[float, float]:
    ratios = sorted(1 / (1 + o.error) for o in outcomes)
    out = max((len(ratios) + 1) // 10 - 1, 0)
    return ratios[out], ratios[-1 - out]


def coverage(outcomes: Sequence[Outcome], family: Callable[[Outcome], Any] = id) -> dict[str, list[bool]]:
    """For each regime, of each of its totals whether it lies in the interval that those of other families give."""
    ran = _totals(outcomes)
    inside: dict[str, list[bool]] = {}
    for one in ran:
        others = intervals([o for o in ran if family(o) != family(one)])
        low, high = others.get(one.regime, (math.nan, math.nan))
        inside.setdefault(one.regime, []).append(low <= 1 / (1 + one.error) <= high)
    return inside


def _totals(outcomes: Sequence[Outcome]) -> list[Outcome]:
    return [o for o in outcomes if o.predicted_us is not None and o.point.what == "total"]


def rank_within(outcomes: Sequence[Outcome]) -> tuple[float, int] | None:
    """The share of pairs of one kernel, measured more than a tenth apart, that are predicted in that order; how many.

    None where there is no such pair.
    """
    kernels: dict[tuple[Any, ...], list[Outcome]] = {}
    for o in outcomes:
        if o.predicted_us is not None:
            kernels.setdefault((o.point.call.kernel, o.point.call.target, o.point.what), []).append(o)
    right = [
        (a.predicted_us or 0.0) < (b.predicted_us or 0.0)
        for group in kernels.values()
        for a in group
        for b in group
        if 1.1 * a.point.measured_us < b.point.measured_us
    ]
    return (statistics.mean(right), len(right)) if right else None


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Pearson's correlation of the ranks, where equals share their mean rank; nan where one side is all alike."""
    if len(set(a)) < 2 or len(set(b)) < 2:
        return float("nan")
    return statistics.correlation(ranks(a), ranks(b))


def ranks(values: Sequence[float]) -> list[float]:
    ordered = sorted(values)
    return [ordered.index(value) + (ordered.count(value) - 1) / 2 for value in values]
