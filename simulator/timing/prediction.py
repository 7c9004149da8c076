"""What a timeline says about a kernel: its time, how well it uses the chip, and what it waits for."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from triptych.simulator.analysis.capacity import memory_use
from triptych.simulator.chips import Chip, Fact
from triptych.simulator.errors import KernelError
from triptych.simulator.launch.kernel import run
from triptych.simulator.options import Options
from triptych.simulator.timing.advice import advice
from triptych.simulator.timing.flops import flops_of, speed_of
from triptych.simulator.timing.schedule import schedule
from triptych.simulator.timing.timeline import Span, Timeline
from triptych.simulator.trace import Trace


@dataclass(frozen=True)
class Step:
    """Events of one source line on the critical path."""

    op: str
    line: tuple[str, int]
    track: str
    count: int
    us: float
    share: float  # of the total


@dataclass(frozen=True)
class Stall:
    """Time that a track stands idle for one reason."""

    track: str
    op: str  # what stands still
    line: tuple[str, int]
    waits_for: str
    waits_line: tuple[str, int] | None
    why: str
    count: int
    us: float
    share: float  # of the total


class Prediction:
    """A predicted run. Times are microseconds; shares are of the total, launch and teardown included."""

    def __init__(self, timeline: Timeline, target: str) -> None:
        self.timeline = timeline
        self.target = target
        self.chip: Chip = timeline.trace.chip
        self.events = timeline.trace.events
        self.cores = len({event.core for event in self.events}) or 1

    @property
    def total_us(self) -> float:
        """From launch to teardown."""
        return self.timeline.total_ns / 1e3

    @cached_property
    def flops(self) -> int:
        """Operations of all matmuls, 2 K M N each; transposes are none."""
        return sum(flops_of(event) for event in self.events)

    @cached_property
    def hbm_bytes(self) -> int:
        """Bytes that DMA reads from HBM and writes to it."""
        return sum(
            region.nbytes
            for event in self.events
            if event.engine == "dma"
            for region in (*event.reads, *event.writes)
            if region.allocation.buffer.endswith("hbm")
        )

    @property
    def mfu(self) -> float:
        """Operations a second over the peak in bfloat16 of the cores in use, whatever the dtype, as AWS's profiler."""
        return self.flops / (self.timeline.total_ns * 1e3 * self.chip.peak_bf16_tflops.value * self.cores)

    @property
    def hbm_gb_per_s(self) -> float:
        """Bytes a nanosecond of the HBM that the cores in use share."""
        return self.chip.hbm_gb_per_s.value * math.ceil(self.cores / self.chip.hbm_cores.value)

    @property
    def bandwidth_use(self) -> float:
        """Bytes a second over the bandwidth of the HBM."""
        return self.hbm_bytes / (self.timeline.total_ns * self.hbm_gb_per_s)

    @property
    def intensity(self) -> float:
        """Operations a byte of HBM traffic."""
        return self.flops / self.hbm_bytes if self.hbm_bytes else math.inf

    @cached_property
    def compute_us(self) -> float:
        """The matmuls' time at the peak of their dtypes."""
        peak = self.chip.peak_bf16_tflops.value * self.cores * 1e6
        return sum(flops_of(event) / speed_of(event, self.chip) for event in self.events) / peak

    @property
    def memory_us(self) -> float:
        """The HBM traffic's time at the peak bandwidth."""
        return self.hbm_bytes / self.hbm_gb_per_s / 1e3

    @property
    def roofline_us(self) -> float:
        """The least time that operations and traffic allow."""
        return max(self.compute_us, self.memory_us)

    @property
    def bound(self) -> str:
        """Which of the two it is: "compute" or "memory"."""
        return "compute" if self.compute_us >= self.memory_us else "memory"

    @cached_property
    def busy(self) -> dict[str, float]:
        """Share of the total in which each track is occupied, on the core where it is most; each DMA ring is a part."""
        per_core: dict[tuple[str, int], float] = {}
        rings = self.chip.dma_rings.value
        for span in self.timeline.spans:
            part = span.rings / rings if span.track == "dma" else 1.0
            key = (span.track, span.core)
            per_core[key] = per_core.get(key, 0.0) + span.busy_ns * part
        busy: dict[str, float] = {}
        for (track, _), ns in per_core.items():
            busy[track] = max(busy.get(track, 0.0), ns / self.timeline.total_ns)
        return dict(sorted(busy.items(), key=lambda item: -item[1]))

    @cached_property
    def chain(self) -> list[Span]:
        """The critical path: the last event to end, what decided its start, and so on, back to the launch."""
        spans = self.timeline.spans
        span: Span | None = max(spans, key=lambda s: s.end_ns) if spans else None
        found = []
        while span is not None:
            found.append(span)
            span = spans[span.after] if span.after is not None else None
        return found

    @cached_property
    def critical(self) -> list[Step]:
        """The critical path, summed by source line, the longest first."""
        sums: dict[tuple[str, tuple[str, int], str], tuple[int, float]] = {}
        until = self.chain[0].end_ns if self.chain else 0.0
        for span, before in zip(self.chain, [*self.chain[1:], None], strict=False):
            event = self.events[span.index]
            key = (event.op, event.line, span.track)
            count, ns = sums.get(key, (0, 0.0))
            begin = self._begin(span, before)
            sums[key] = (count + 1, ns + until - begin)
            until = begin
        total = self.timeline.total_ns
        steps = [Step(op, line, track, n, ns / 1e3, ns / total) for (op, line, track), (n, ns) in sums.items()]
        return sorted(steps, key=lambda step: -step.us)

    def _begin(self, span: Span, before: Span | None) -> float:
        """The moment at which the event before it let a span on the critical path go on."""
        if before is None:
            return self.chip.launch_ns.value
        issued_before = span.track == "dma" and span.why != "rings"
        return span.start_ns - (self.chip.dma_start_ns.value if issued_before else 0.0)

    @cached_property
    def stalls(self) -> list[Stall]:
        """Idle time on the busiest track of a core, by what stood still and what it waited for, the longest first."""
        if not self.busy:
            return []
        track = next(iter(self.busy))
        sums: dict[tuple[Any, ...], tuple[int, float]] = {}
        free: dict[int, float] = {}
        for span in sorted((s for s in self.timeline.spans if s.track == track), key=lambda s: s.start_ns):
            idle = span.start_ns - free.get(span.core, self.chip.launch_ns.value)
            free[span.core] = max(free.get(span.core, 0.0), span.free_ns)
            if idle <= 0:
                continue
            event = self.events[span.index]
            other = self.events[span.after] if span.after is not None else None
            key = (event.op, event.line, other.op if other else "the launch", other.line if other else None, span.why)
            count, ns = sums.get(key, (0, 0.0))
            sums[key] = (count + 1, ns + idle / self.cores)
        total = self.timeline.total_ns
        found = [
            Stall(track, op, line, waits, waits_line, why, n, ns / 1e3, ns / total)
            for (op, line, waits, waits_line, why), (n, ns) in sums.items()
        ]
        return sorted(found, key=lambda stall: -stall.us)

    @cached_property
    def peaks(self) -> dict[str, tuple[int, int]]:
        """Bytes of a partition at the peak, and capacity, of "sbuf" and "psum", in program order."""
        peaks: dict[str, tuple[int, int]] = {}
        for use in memory_use(self.timeline.trace):
            peaks[use.buffer] = max(peaks.get(use.buffer, (0, 0)), (use.peak, use.capacity))
        return peaks

    @cached_property
    def advice(self) -> list[str]:
        """What the numbers show could be better; nothing where they show nothing."""
        return advice(self)


def changed(chip: Chip, settings: Mapping[str, float]) -> Chip:
    """The chip with fields of its record replaced. Raises KernelError for a field that it does not have."""
    fields = [f.name for f in dataclasses.fields(chip) if isinstance(getattr(chip, f.name), Fact)]
    for name in settings:
        if name not in fields:
            raise KernelError(f"{name!r} is no field of a chip record; expected one of {', '.join(fields)}")
    facts = {
        name: dataclasses.replace(getattr(chip, name), value=float(value), source="set by the user", known="assumed")
        for name, value in settings.items()
    }
    return dataclasses.replace(chip, **facts)


def predict_trace(trace: Trace, order: str = "overlapped", settings: Mapping[str, float] | None = None) -> Prediction:
    """The prediction for a run that has been traced."""
    if settings:
        trace = dataclasses.replace(trace, chip=changed(trace.chip, settings))
    return Prediction(schedule(trace, order), trace.target)


def predict(
    kernel: Any,
    *args: Any,
    target: str = "trn2",
    order: str = "overlapped",
    settings: Mapping[str, float] | None = None,
    options: Options | None = None,
    **kwargs: Any,
) -> Prediction:
    """How long `kernel` takes on `target`: run it on the simulator, then schedule its trace.

    `order` "overlapped" is what a compiler's scheduler reaches, "program" leaves every queue as written. `settings`
    replaces fields of the chip record, for what-if questions. Raises NkiError as `run` does, KernelError for an order
    or field that does not exist.
    """
    return predict_trace(run(kernel, *args, target=target, options=options, **kwargs).trace, order, settings)
