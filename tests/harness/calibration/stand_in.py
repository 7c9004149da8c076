"""A device whose constants are known: the simulator with others and noise, in the place of the backend `nki`.

The windows of its Tensor Engine's clock begin at random, anew in each run of a probe of that clock.

What a real device would say is not known here. That the constants of one which is like the model are found again is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from triptych import simulator
from triptych.harness.arrays import Array
from triptych.harness.backends.clocks import TimingBudget, summary
from triptych.harness.backends.nki_sim import Simulator
from triptych.harness.calibration import probes
from triptych.harness.judge.problem import Problem
from triptych.harness.ops.cases import cases_of
from triptych.harness.results.document import Document
from triptych.harness.results.result import Result
from triptych.harness.results.status import Evidence, Status
from triptych.harness.results.timing import Timing
from triptych.simulator.chip.record import Chip

TRUE = {  # of the stand-in
    "tensor_ghz": 2.1,
    "matmul_extra_cycles": 20.0,
    "fp32_matmul_passes": 3.5,
    "warm_up_slowdown": 1.8,
    "warm_up_ns": 3000.0,
    "vector_ghz": 0.9,
    "scalar_ghz": 1.3,
    "access_cycles": 70.0,
    "operand_cycles": 75.0,
    "scalar_operand_cycles": 90.0,
    "scalar_sbuf_cycles": 60.0,
    "min_cycles": 80.0,
    "vector_latency_ns": 160.0,
    "scalar_latency_ns": 200.0,
    "reciprocal_cycles": 7.0,
    "gpsimd_ghz": 1.0,
    "gpsimd_start_cycles": 200.0,
    "gpsimd_latency_ns": 400.0,
    "tensor_latency_ns": 260.0,
    "table_load_ns": 1900.0,
    "dma_static_issue_ns": 150.0,
    "dma_software_issue_ns": 700.0,
    "dma_issue_ns": 450.0,
    "dma_gb_per_s": 330.0,
    "dma_descriptor_ns": 9.0,
    "dma_start_ns": 1100.0,
    "dma_skew_ns": 300.0,
    "dma_hardware_start_ns": 1600.0,
    "hbm_gb_per_s": 560.0,
    "barrier_ns": 450.0,
    "launch_ns": 13_000.0,
    "gpsimd_launch_ns": 1000.0,
}
NOISE, SAMPLES = 0.002, 200  # of a sample


def by_the_clock(count: int, each: float, first_ends: float, chip: Chip) -> float:
    """How long an engine takes for so many matmuls in a row, `each` ns at its whole clock.

    first_ends: when the window ends in which the first begins
    """
    window = chip.warm_up_ns.value
    now, end, busy = 0.0, first_ends, False
    for _ in range(count):
        now += each * (chip.sustained_slowdown if busy else chip.warm_up_slowdown).value
        while end <= now:
            used = min(end, window) / window
            busy = used > chip.cool_down_use.value if busy else used >= chip.warm_up_use.value
            end += window
    return now


@dataclass
class StandIn(Simulator):
    """The simulator's numbers, the model's time on another chip, and noise."""

    settings: Mapping[str, float] = field(default_factory=lambda: TRUE)
    wrong: bool = False
    name = "nki"
    evidence = Evidence.DEVICE
    default_targets = ()

    @property
    def targets(self) -> tuple[str, ...]:
        return ()

    def run(self, problem: Problem, target: str | None) -> Any:
        out = super().run(problem, "trn2")
        return np.nextafter(out, np.inf, dtype=out.dtype) if self.wrong and problem.op.name == "probe_sum" else out

    def time(self, problem: Problem, target: str | None, budget: TimingBudget) -> Timing:
        run = self.simulate(problem, problem.own_inputs(), "trn2")
        us = simulator.predict_trace(run.trace, settings=self.settings).total_us
        rng = np.random.default_rng(len(run.trace.events))
        runs = self.at_random(run.trace, rng) if problem.op.name == "probe_clock" else np.full(SAMPLES, us)
        samples = runs * (1 + NOISE * rng.standard_normal(SAMPLES))
        return summary(list(map(float, samples)), 1, Evidence.DEVICE, timer="stand-in", cache="warm")

    def at_random(self, trace: simulator.Trace, rng: np.random.Generator) -> Array:
        """Microseconds of runs of matmuls in a row, each of which begins anywhere in a window."""
        steady = simulator.predict_trace(trace, settings={**self.settings, "warm_up_ns": 0})
        own = [span.busy_ns for span in steady.timeline.spans if span.track == "tensor"]
        facts = {name: replace(getattr(trace.chip, name), value=value) for name, value in self.settings.items()}
        chip = replace(trace.chip, **facts)
        begins = rng.uniform(0, chip.warm_up_ns.value, SAMPLES)
        took = np.array([by_the_clock(len(own), own[0], first_ends, chip) for first_ends in begins])
        return np.asarray(steady.total_us + (took - sum(own)) / 1e3)


def document(device: StandIn, only: str = "") -> Document:
    """What a device says of the probes: timed through the backend, without the judge, which takes long."""
    results = []
    for op in probes.OPS:
        for case in cases_of(op, ["smoke"], None, {}, 0) if re.search(only, op.name) else ():
            timing = device.time(Problem.of(op, case), None, TimingBudget())
            results.append(
                Result(
                    op=op.name,
                    case=case.name,
                    dtype=case.dtype,
                    backend="nki",
                    target=None,
                    evidence=Evidence.DEVICE,
                    status=Status.PASSED,
                    timing=timing,
                )
            )
    return Document(env={"neuron": {"chip": "trn2"}}, results=results)
