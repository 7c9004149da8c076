"""What a time is held against: the peak and the memory of the chip that it is of, and how it was taken in words."""

from __future__ import annotations

from dataclasses import dataclass

from triptych.harness.accelerators.catalogue import catalogue
from triptych.harness.reports.report.data import Entry, Environment
from triptych.harness.results.origin import machine_of, machines, packages_of
from triptych.harness.results.profile import Outcome
from triptych.harness.results.status import Evidence
from triptych.harness.results.timing import Measured, Predicted
from triptych.harness.results.timing_accuracy import LAST_VALIDATION
from triptych.simulator.chips import TARGETS

SPEEDS = (Evidence.DEVICE, Evidence.PREDICTED, Evidence.HOST)  # the times that are of a kernel, the surest first
KINDS = {Evidence.DEVICE: "measured", Evidence.PREDICTED: "predicted", Evidence.HOST: "measured on this CPU"}


@dataclass(frozen=True)
class Limits:
    """What one time may reach at most."""

    name: str
    tflop_per_s: float  # in the dtype of the case
    gb_per_s: float

    def bound_us(self, flops: float, moved: float) -> float:
        """The roofline: the least time of so many operations and bytes."""
        return max(flops / (self.tflop_per_s * 1e6), moved / (self.gb_per_s * 1e3))


def limits_of(entry: Entry[Outcome], env: Environment) -> Limits | None:
    """Those of the core that was predicted or of the GPU that was measured; None where they are not known."""
    result, timing = entry.result, entry.result.timing
    if isinstance(timing, Predicted):
        core = TARGETS.get(result.target or "")
        if core is None:
            return None
        passes = core.fp32_matmul_passes.value if result.dtype == "float32" else 1
        return Limits(f"{result.target}, one core", core.peak_bf16_tflops.value / passes, core.hbm_gb_per_s.value)
    if timing is None or timing.evidence is not Evidence.DEVICE:
        return None
    known = catalogue()
    chip = (
        known.of_target(result.target)
        if result.target
        else known.of_gpus(machine_of(env, result.node).get("gpus") or [])
    )
    return Limits(chip.title, chip.peak(result.dtype), chip.hbm_gb_per_s) if chip else None


def machine(kind: Evidence, env: Environment) -> str:
    """What times of a kind were taken on, by the label that its user gave it and by its name."""
    label = [str(env["label"])] if env.get("label") else []
    if kind is Evidence.PREDICTED:
        return "model of the chip"
    if kind is Evidence.DEVICE:
        every = [gpu for one in machines(env) for gpu in one.get("gpus") or []]
        gpus = [f"{gpu.get('name')} (driver {gpu.get('driver')})" for gpu in every]
        return ": ".join([*label, ", ".join(dict.fromkeys(gpus)) or "accelerator"])
    hosts = [f"{one.get('cpu') or 'CPU'}, {one.get('cores')} cores" for one in machines(env)]
    return ": ".join([*label, " and ".join(dict.fromkeys(hosts))])


def caption(kind: Evidence, env: Environment, entries: list[Entry[Outcome]]) -> str:
    """Device, versions, statistic, spread and date of what a picture shows."""
    packages = packages_of(env)
    used = ("nki", "neuronx-cc", "triton", "torch") if kind is Evidence.DEVICE else ("numpy", "torch")
    versions = [f"{name} {packages[name]}" for name in used if packages.get(name)]
    if kind is Evidence.PREDICTED:
        versions = [f"triptych {env.get('triptych') or ''}".strip()]
        statistic = f"one value each, without spread; off by {100 * LAST_VALIDATION.median:.0f} % in the median"
    else:
        timings = [e.result.timing for e in entries if isinstance(e.result.timing, Measured)]
        caches = dict.fromkeys(timing.cache for timing in timings)
        alone = ", nothing else of the run at work" if timings and all(timing.alone for timing in timings) else ""
        statistic = f"median of samples, {' or '.join(caches)} cache{alone}; spread as in the table"
    day = str(env["utc"])[:10] if env.get("utc") else ""
    return " · ".join(filter(None, [machine(kind, env), ", ".join(versions), statistic, day]))
