"""How long a call takes: measured, with its samples, or predicted by a model of the chip, which has none.

Every timing says its timer and what kind of evidence it is. Samples are kept, because a later comparison of two runs
needs them.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from triptych.harness.results.record import Record
from triptych.harness.results.status import Evidence
from triptych.harness.results.timing_accuracy import TimingAccuracy

Microseconds = Annotated[float, msgspec.Meta(ge=0)]


class Time(Record, frozen=True, kw_only=True, tag_field="kind"):
    """What every timing holds, beside the time itself."""

    timer: str
    evidence: Evidence
    flops: int | None = None  # operations and bytes that the case needs at least
    bytes: int | None = None
    percent_of_peak: float | None = None
    peak_tflop_per_s: float | None = None
    speed_over_torch: float | None = None

    @property
    def us(self) -> float:
        """The one number that a table shows, in microseconds."""
        raise NotImplementedError


class Measured(Time, frozen=True, kw_only=True, tag="measured"):
    """Samples of a clock, and their statistics."""

    cache: str
    median_us: Microseconds
    p10_us: Microseconds
    p90_us: Microseconds
    min_us: Microseconds
    max_us: Microseconds
    warmups: int
    samples_us: list[Microseconds]
    alone: bool | None = None  # whether nothing else of the run was at work meanwhile; None: nobody knows
    host_us: Microseconds | None = None  # median of a whole call from the host, where the device's clock gave the rest
    rounds: list[int] = []  # how many of the samples each round took, in order; none: all in one

    @property
    def us(self) -> float:
        return self.median_us


class Predicted(Time, frozen=True, kw_only=True, tag="predicted"):
    """What the timing model says of one run."""

    predicted_us: Microseconds
    low_us: Microseconds | None = None  # four of five such kernels were measured between these
    high_us: Microseconds | None = None
    regime: str | None = None  # such kernels: "short", or by their busiest part "dma", "tensor" or "engines"
    accuracy: TimingAccuracy = msgspec.field(name="known_error")
    mfu: float
    busy_share: dict[str, float]  # of each engine, by its name

    @property
    def us(self) -> float:
        return self.predicted_us


class Step(Record, frozen=True, kw_only=True):
    """A source line on the critical path."""

    op: str
    line: str
    engine: str
    count: int
    us: float
    share: float


class Rest(Record, frozen=True, kw_only=True):
    """The lines of the critical path that are not told one by one."""

    lines: int
    us: float
    share: float


class Stall(Record, frozen=True, kw_only=True):
    """Where the busiest engine stood still."""

    engine: str
    op: str
    line: str
    why: str
    waits_for: str
    waits_for_line: str | None
    count: int
    us: float
    share: float


class MemoryUse(Record, frozen=True, kw_only=True):
    """Bytes of a partition on the core that uses most of it."""

    peak_bytes: int
    needed_bytes: int  # in program order
    capacity_bytes: int


class Profiled(Predicted, frozen=True, kw_only=True, tag="profiled"):
    """A prediction with its reasons, which `triptych profile` writes."""

    order: str
    settings: dict[str, float]  # what --set changed of the chip
    chip: str
    cores: int
    instructions: int
    launch_us: float
    roofline_us: float
    compute_us: float
    memory_us: float
    bound: str
    peak_tflop_per_s: float  # of the chip's matrix unit, in bfloat16
    matmul_flops: float
    hbm_share: float
    hbm_gb_per_s: float
    hbm_bytes: int
    intensity_flop_per_byte: float
    critical: list[Step]
    critical_others: Rest
    stalls: list[Stall]
    memory: dict[str, MemoryUse]
    advice: list[str]


Timing = Measured | Predicted


def kind_of(timing: dict[str, Any]) -> str:
    """The kind of a timing from a document that does not say it."""
    return "profiled" if "critical" in timing else "predicted" if "predicted_us" in timing else "measured"
