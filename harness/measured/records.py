"""What a public measurement is: a kernel, what it is called with, which time of it was measured, and who says so.

Grades
    A    source public and runnable, chip and method stated by the source of the number
    B    one of these is inferred (the note says which), or the number is read off a picture
    C    the kernel is our own rendering of the one that was measured

Points are split by their source, before anything is fitted: all of a page of documentation, or of a repository, are for
calibration if a constant of a chip record was ever taken from one of them; all others are for validation.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from triptych import simulator
from triptych.harness.measured.sources import Public
from triptych.simulator.timing import Prediction, Span

Grade = Literal["A", "B", "C"]
LATENCY_LESS_US = 6.7
"""How much shorter a core's latency is on Trn2, which the runtime reports, than the total that a profile shows and the
model predicts: the median of the eight kernels of fusion.py, whose repository has both (4.3 to 9.9,
profiling/reports/latency_throughput_20260307T073830Z.csv, p50). A kernel repeated up to 32 times in one program took
10.6 us and a multiple by the same clock (yahavb/trainium-agent-labs@04855da6, projects/03-chipboost/STATUS.md), where
the model has 16.4 us for launch and teardown.
"""
Use = Literal["calibration", "validation"]


@dataclass(frozen=True)
class Tensor:
    """An argument of which only dtype and shape are known."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Named:
    """A member of a module of nki-library, as an enumeration's; called with `keywords` where there are some."""

    module: str
    member: str
    keywords: tuple[tuple[str, Any], ...] | None = None

    def resolve(self, public: Public) -> Any:
        found: Any = public.library(self.module)
        for part in self.member.split("."):
            found = getattr(found, part)
        if self.keywords is None:
            return found
        return found(**{name: resolve(value, public) for name, value in self.keywords})


def resolve(value: Any, public: Public) -> Any:
    return value.resolve(public) if isinstance(value, Named) else value


@dataclass(frozen=True)
class Ours:
    """A kernel of the folder `kernels`."""

    function: str
    file: str = "single.py"

    def load(self, public: Public) -> Any:
        return getattr(simulator.load(Path(__file__).parent / "kernels" / self.file), self.function)


@dataclass(frozen=True)
class InFile:
    """A kernel of a public file, as it was at a commit if one is given."""

    repository: str
    file: str
    function: str
    commit: str | None = None

    def load(self, public: Public) -> Any:
        return getattr(public.module(self.repository, self.file, self.commit), self.function)


@dataclass(frozen=True)
class OnPage:
    """The kernel `number`, from 0, that a page of documentation prints."""

    repository: str
    page: str
    number: int
    function: str

    def load(self, public: Public) -> Any:
        return getattr(public.excerpt(self.repository, self.page, self.number), self.function)


@dataclass(frozen=True)
class InLibrary:
    """A kernel of nki-library."""

    module: str
    function: str

    def load(self, public: Public) -> Any:
        return getattr(public.library(self.module), self.function)


@dataclass(frozen=True)
class Call:
    """A kernel on a chip with its arguments. Points of one call share its prediction."""

    kernel: Ours | InFile | OnPage | InLibrary
    target: str
    arguments: tuple[Any, ...] = ()
    keywords: Mapping[str, Any] = field(default_factory=dict)
    cores: int = 1
    stacked: bool = False  # compiled with the stack allocator, by the kernel's page

    @cached_property
    def name(self) -> str:
        if isinstance(self.kernel, OnPage):
            return f"{Path(self.kernel.page).stem} #{self.kernel.number + 1}"
        if isinstance(self.kernel, InFile) and self.kernel.commit:
            return Path(self.kernel.file).stem
        return self.kernel.function


Quantity = Callable[[Prediction], float]


@dataclass(frozen=True)
class Point:
    """One number that somebody measured. Times are microseconds."""

    call: Call
    case: str  # shapes and dtypes in words
    measured_us: float
    printed: str  # the number as its source has it, with its statistic if it says one
    source: str
    grade: Grade
    use: Use
    what: str = "total"  # which time of the call
    predicted_us: Quantity = lambda prediction: prediction.total_us
    note: str = ""
    beside: Call | None = None  # its total is in the number too
    latency: bool = False  # the core's on Trn2, not a profile's total

    @property
    def less_us(self) -> float:
        """What a prediction has of each call that is not in the number."""
        return LATENCY_LESS_US if self.latency else 0.0


def active(track: str) -> Quantity:
    """How long a track is occupied; of DMA, the mean of its rings."""
    return lambda prediction: prediction.busy.get(track, 0.0) * prediction.total_us


def spans_of(prediction: Prediction, op: str) -> list[Span]:
    events = prediction.timeline.trace.events
    return [span for span in prediction.timeline.spans if events[span.index].op == op]


def duration(op: str) -> Quantity:
    """From the start of the first instruction of that name until its result is there; of a DMA, until its last byte."""

    def us(prediction: Prediction) -> float:
        first = spans_of(prediction, op)[0]
        return (first.busy_ns if first.track == "dma" else first.end_ns - first.start_ns) / 1e3

    return us


def pitch(op: str) -> Quantity:
    """From the start of one instruction of that name to that of the next, the median: the first may be throttled."""

    def us(prediction: Prediction) -> float:
        starts = [span.start_ns for span in spans_of(prediction, op)]
        return statistics.median(b - a for a, b in itertools.pairwise(starts)) / 1e3

    return us


def until(op: str) -> Quantity:
    """From the trigger of the first DMA, by GpSimd, to the start of the first instruction of that name."""
    return lambda prediction: (spans_of(prediction, op)[0].start_ns - _triggered_ns(prediction)) / 1e3


def until_last_byte(prediction: Prediction) -> float:
    """From the trigger of the first DMA, by GpSimd, to the end of the last."""
    ends = [span.start_ns + span.busy_ns for span in prediction.timeline.spans if span.track == "dma"]
    return (max(ends) - _triggered_ns(prediction)) / 1e3


def _triggered_ns(prediction: Prediction) -> float:
    return prediction.chip.launch_ns.value + prediction.chip.gpsimd_launch_ns.value


def utilised_us(percent: float, flops: float, peak_tflops: float) -> float:
    """The time in which `flops` are that share of a peak."""
    return flops / (percent / 100 * peak_tflops * 1e6)
