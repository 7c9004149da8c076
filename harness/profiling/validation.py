"""Predictions against measurements: what the timing model says of each measured point, and how far it is off."""

from __future__ import annotations

import contextlib
import io
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from triptych import simulator
from triptych.harness.measured.records import Call, Point, Tensor, resolve
from triptych.harness.measured.sources import NotHere, Public
from triptych.simulator import Options, Prediction, ShapeDtype

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
    naive_us: float | None = None  # of a total: launch, teardown and the roofline of matmuls and HBM traffic

    @property
    def error(self) -> float:
        """Relative, of a point that has a prediction."""
        assert self.predicted_us is not None
        return self.predicted_us / self.point.measured_us - 1


def predicted(points: Iterable[Point], public: Public) -> Iterator[Outcome]:
    """Each point's outcome; those of one call, which stand together, share its prediction."""
    for call, group in groupby(points, key=lambda point: point.call):
        outcome = prediction_of(call, public)
        for point in group:
            if isinstance(outcome, Prediction):
                naive = naive_us(outcome) if point.what.startswith("total") else None
                us = point.predicted_us(outcome)
                yield Outcome(point, us, "", outcome.mfu, outcome.hbm_bytes, outcome.busy, naive)
            else:
                yield Outcome(point, None, outcome)


def prediction_of(call: Call, public: Public) -> Prediction | str:
    """The prediction, or why there is none."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # libraries of kernels report on what they allocate
            kernel = call.kernel.load(public)
            if call.cores > 1:
                kernel = kernel[call.cores]
            arguments = [stand_in(value, public) for value in call.arguments]
            keywords = {name: stand_in(value, public) for name, value in call.keywords.items()}
            return simulator.predict(kernel, *arguments, target=call.target, options=OPTIONS, **keywords)
    except NotHere as error:
        return str(error)
    except Exception as error:  # whatever a public kernel does is a row of the report
        return f"{type(error).__name__}: {' '.join(str(error).split())}"


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
        statistics.median(naive) if naive else None,
    )


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Pearson's correlation of the ranks, where equals share their mean rank; nan where one side is all alike."""
    if len(set(a)) < 2 or len(set(b)) < 2:
        return float("nan")
    return statistics.correlation(ranks(a), ranks(b))


def ranks(values: Sequence[float]) -> list[float]:
    ordered = sorted(values)
    return [ordered.index(value) + (ordered.count(value) - 1) / 2 for value in values]
