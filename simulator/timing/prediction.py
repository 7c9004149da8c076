"""What a timeline says about a kernel: its time, how well it uses the chip, and what it waits for."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from functools import cached_property

from triptych.simulator.analysis.capacity import memory_use
from triptych.simulator.chip.record import Chip, Fact
from triptych.simulator.errors import KernelError
from triptych.simulator.timing.queues import most_issued
from triptych.simulator.timing.reading.advice import advice
from triptych.simulator.timing.reading.critical_path import Stall, Step, critical_path, stalls, steps
from triptych.simulator.timing.reading.flops import flops_of, speed_of
from triptych.simulator.timing.reading.picture import svg, table
from triptych.simulator.timing.scheduler import schedule
from triptych.simulator.timing.timeline import Span, Timeline
from triptych.simulator.trace import Trace


class Prediction:
    """A predicted run. Times are microseconds; shares are of the total, launch and teardown included."""

    def __init__(self, timeline: Timeline, target: str) -> None:
        self.timeline = timeline
        self.target = target
        self.chip: Chip = timeline.trace.chip
        self.events = timeline.trace.events
        self.cores = timeline.cores

    def __repr__(self) -> str:
        left_out = self.timeline.left_out
        return f"Prediction(on {self.target}, {self.total_us:.1f} us{'' if left_out is None else f', {left_out}'})"

    def _repr_html_(self) -> str:
        """What a notebook shows: the timeline, the figures and the critical path."""
        facts = [
            (
                "predicted, not measured",
                f"{self.total_us:,.1f} µs, {self.total_us / self.roofline_us:.2f} x the roofline",
            ),
            ("bound", f"{self.bound}; MFU {self.mfu:.1%}, HBM {self.bandwidth_use:.1%}"),
            *(
                (f"{step.share:.1%} of the path", f"{step.track} {step.op}, line {step.line[1]}")
                for step in self.critical[:5]
            ),
        ]
        return self.svg() + table(facts)

    def svg(self) -> str:
        """The timeline as a picture."""
        return svg(self.timeline, f"{self.target} ({self.chip.name}): {self.total_us:,.1f} µs, predicted")

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

    @property
    def busy(self) -> dict[str, float]:
        """Share of the total in which each track is occupied, on the core that occupies it most.

        Each ring of the DMA track is a part of it.
        """
        return self.timeline.busy

    @cached_property
    def regime(self) -> str:
        """What decides most of the time.

        "issue" where to issue one trigger's DMA takes half of it, and twice as long as any track is busy; else "short"
        where launch and teardown are a fifth, or "dma", "tensor", "engines": the busiest track, of which Vector, Scalar
        and GpSimd are the engines.
        """
        issue, _ = most_issued(self.timeline.trace)
        if issue >= max([0.5, *(2 * share for share in self.busy.values())]) * self.timeline.total_ns:
            return "issue"
        fixed = self.chip.launch_ns.value + self.chip.teardown_ns.value
        if fixed >= 0.2 * self.timeline.total_ns:
            return "short"
        track = next(iter(self.busy))
        return track if track in ("dma", "tensor") else "engines"

    @cached_property
    def chain(self) -> list[Span]:
        """The critical path: the last event to end, what decided its start, and so on, back to the launch."""
        return critical_path(self.timeline)

    @cached_property
    def critical(self) -> list[Step]:
        """The critical path, summed by source line, the longest first."""
        return steps(self.timeline, self.chain)

    @cached_property
    def stalls(self) -> list[Stall]:
        """Idle time on the busiest track, by what stood still and what it waited for, the longest first."""
        return stalls(self.timeline)

    @cached_property
    def peaks(self) -> dict[str, tuple[int, int]]:
        """Bytes of a partition at the peak, and capacity, of "sbuf" and "psum", in program order."""
        uses = memory_use(self.timeline.trace)
        return {one.buffer: max((u.peak, u.capacity) for u in uses if u.buffer == one.buffer) for one in uses}

    @cached_property
    def advice(self) -> list[str]:
        """What the numbers show could be better; nothing where they show nothing. Before it, what was not scheduled."""
        left_out = self.timeline.left_out
        return [*([] if left_out is None else [str(left_out)]), *advice(self.timeline, self.chain)]


def with_settings(chip: Chip, settings: Mapping[str, float]) -> Chip:
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
    """The prediction for a run that has been traced.

    order: "overlapped" or "program", as of the scheduler
    settings: fields of the chip record to replace

    Raises KernelError for an order or a field that does not exist.
    """
    if settings:
        trace = dataclasses.replace(trace, chip=with_settings(trace.chip, settings))
    return Prediction(schedule(trace, order), trace.target)
