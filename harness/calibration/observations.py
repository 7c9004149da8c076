"""What a device said of the probes, each beside the model's own word for the same difference of times."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from triptych import simulator
from triptych.harness.calibration.groups import Group
from triptych.harness.calibration.probes import OPS
from triptych.harness.errors import UsageError
from triptych.harness.ops.op import Op
from triptych.harness.ops.selection import Selection
from triptych.harness.profiling.subjects import Subject, of_ops
from triptych.harness.profiling.tracing import traced
from triptych.harness.results.document import Document
from triptych.harness.results.result import Result
from triptych.harness.results.status import Status
from triptych.harness.results.timing import Measured
from triptych.simulator.chip.record import Chip

DEVICE = "nki"
LEAST = 0.003  # of a time: what no number of samples makes more certain


@dataclass(frozen=True)
class Observation:
    """A time that was measured, and how the model comes to its own. Nanoseconds.

    traces: the smaller run alone, or it and the larger, whose difference is divided by `count`
    at_random: whether windows of the Tensor Engine's clock begin anywhere, and what was measured is a median of runs
    """

    label: str
    measured: float
    sigma: float
    traces: tuple[simulator.Trace, ...]
    count: int = 1
    at_random: bool = False

    def predicted(self, settings: Mapping[str, float]) -> float:
        """The same time by the model, on a chip with some fields of its record replaced."""
        if self.at_random:
            settings = {**settings, "warm_up_ns": median_window(self.traces[0].chip, settings)}
        times = [simulator.predict_trace(trace, settings=settings).total_us * 1e3 for trace in self.traces]
        return (times[1] - times[0]) / self.count if len(times) > 1 else times[0]


def median_window(chip: Chip, settings: Mapping[str, float]) -> float:
    """The window with which the model changes a busy engine's clock when half of a device's runs have changed it.

    Let a window have length 1, u be `warm_up_use`, and r what is left of one at the first use, anywhere from 0 to 1
    alike. The clock changes at r if r >= u, for the engine is in use for all of it, and else at r + 1: anywhere from u
    to u + 1 alike, which is u + 1/2 in the median. The model has r = 1/2, and so 3/2. A run takes the longer, or the
    shorter, the later its clock changes, so that the median of times is the time of that median.
    """
    window = settings.get("warm_up_ns", chip.warm_up_ns.value)
    return window * (settings.get("warm_up_use", chip.warm_up_use.value) + 0.5) / 1.5


@dataclass(frozen=True)
class Pair:
    """The two cases of a probe that ran and are right: count -> timing."""

    op: str
    name: str
    dtype: str
    timings: Mapping[int, Measured]

    @property
    def label(self) -> str:
        return f"{self.op} {self.name}"


def measured_on_device(document: Document) -> Iterator[tuple[Result, Measured]]:
    """The results that a device timed and that are right."""
    for result in document.results:
        if (
            isinstance(result, Result)
            and result.backend == DEVICE
            and result.status is Status.PASSED
            and isinstance(result.timing, Measured)
        ):
            yield result, result.timing


def target_of(document: Document) -> str:
    """The chip: what the document says of its instance, or the one that was simulated beside it."""
    said = document.env.get("neuron", {}).get("chip")
    simulated = {str(result.target) for result in document.results if result.backend == "nki-sim"}
    found = {said} if said else simulated
    if len(found) != 1 or not found <= simulator.TARGETS.keys():
        raise UsageError(
            f"the document must say of one chip that it is measured on it, and it names {', '.join(found) or 'none'}; "
            "`triptych verify-device` writes one that does."
        )
    return str(found.pop())


def pairs(document: Document) -> list[Pair]:
    """The probes of which both cases are there."""
    names = {op.name for op in OPS}
    found: dict[tuple[str, str, str], dict[int, Measured]] = {}
    for result, timing in measured_on_device(document):
        name, _, count = result.case.rpartition("/x")
        if result.op in names and count.isdecimal():
            found.setdefault((result.op, name, result.dtype), {})[int(count)] = timing
    return [Pair(*key, timings) for key, timings in found.items() if len(timings) == 2]


def observed(some: Iterable[Pair], group: Group, target: str) -> list[Observation]:
    """What a group is fitted to."""
    made = []
    for pair in some:
        if not {pair.op, pair.label} & set(group.probes):
            continue
        small, large = sorted(pair.timings)
        times = [pair.timings[count] for count in (small, large)]
        traces = tuple(trace_of(pair, count, target) for count in (small, large))
        sigmas = [uncertainty(timing) for timing in times]
        if group.whole:
            made.append(Observation(pair.label, times[0].median_us * 1e3, sigmas[0], traces[:1]))
            continue
        slope = (times[1].median_us - times[0].median_us) * 1e3 / (large - small)
        sigma = math.hypot(*sigmas) / (large - small)
        made.append(
            Observation(pair.label, slope, max(sigma, LEAST * abs(slope)), traces, large - small, group.at_random)
        )
    return made


def uncertainty(timing: Measured) -> float:
    """The standard error of a median, in nanoseconds: from the deciles, as if the samples were normal."""
    spread = (timing.p90_us - timing.p10_us) / 2.563
    return max(1.253 * spread / math.sqrt(max(len(timing.samples_us), 1)), 1e-4 * timing.median_us) * 1e3


def trace_of(pair: Pair, count: int, target: str) -> simulator.Trace:
    op = next(op for op in OPS if op.name == pair.op)
    return traced(subject_of(op, f"{pair.name}/x{count}", pair.dtype), target)


def subject_of(op: Op, case: str, dtype: str) -> Subject:
    """A case of an op by its name. UsageError if there is none: another version's, or one whose sizes another has."""
    for subject in of_ops([op], Selection(sets=list(op.case_sets), names=case, dtypes=[dtype]), {}):
        if subject.case == case and subject.dtype == dtype:
            return subject
    raise UsageError(f"{op.name} has no case {case} in {dtype}, or predicts its sizes under another name.")
