"""The clocks of backends: how long a call takes, on this host or between two events of a GPU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from triptych.harness.results.status import Evidence
from triptych.harness.results.timing import Measured

FLUSH_BYTES = 256 * 2**20  # more than the last-level cache of any GPU of 2026


def _pass_over(value: Any) -> None:
    """Nobody wants to see it."""


@dataclass(frozen=True)
class TimingBudget:
    """When to stop sampling: after `seconds`, but between `fewest` and `most` samples; `patience` ends all waiting."""

    warmup_seconds: float = 0.1
    seconds: float = 0.5
    fewest: int = 3
    most: int = 1000
    patience: float = 2.0  # seconds after which the samples that there are, one at least, have to do
    look: Callable[[Any], None] = _pass_over  # takes what the first, the last and some calls between returned

    def looking_at(self, outputs: Callable[[Any], Any]) -> TimingBudget:
        """The same budget for calls that return what `outputs` makes a backend's output of."""
        if self.look is _pass_over:
            return self
        return replace(self, look=lambda returned: self.look(outputs(returned)))


class Calls:
    """The calls of one timing: each may be looked at when it is over, outside of its time."""

    def __init__(self, look: Callable[[Any], None]) -> None:
        self.look, self.count, self.last = look, 0, None

    def returned(self, value: Any) -> None:
        """After the first, second, fourth, eighth call and so on, `value` is looked at."""
        self.count += 1
        self.last = value
        if self.count & (self.count - 1) == 0:
            self.look(value)

    def end(self) -> None:
        self.look(self.last)


def nothing() -> None:
    """What there is to restore before a call that changes nothing."""


def time_host(
    call: Callable[[], Any], budget: TimingBudget, evidence: Evidence, restore: Callable[[], None] = nothing
) -> Measured:
    """Wall time on this host, caches warm: one call at a time between two reads of a monotonic clock.

    restore: what makes the arguments again what they were; it runs before each call and is not timed.
    """
    warmups = 0
    calls = Calls(budget.look)
    start = time.perf_counter_ns()
    while time.perf_counter_ns() - start < budget.warmup_seconds * 1e9:
        restore()
        call()
        warmups += 1
    samples: list[float] = []
    start = time.perf_counter_ns()
    while _wants_more(len(samples), time.perf_counter_ns() - start, budget):
        restore()
        before = time.perf_counter_ns()
        value = call()
        samples.append((time.perf_counter_ns() - before) / 1e3)
        calls.returned(value)
    calls.end()
    return summary(samples, warmups, evidence, timer="host clock", cache="warm")


def event_timer() -> Callable[[Callable[[], Any]], float]:
    """A function that times one call on a CUDA or ROCm device, in microseconds between two events.

    The L2 cache is overwritten before the call.
    """
    import torch

    flush = torch.empty(FLUSH_BYTES // 4, dtype=torch.int32, device="cuda")

    def sample(call: Callable[[], Any]) -> float:
        before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        flush.zero_()
        before.record()
        call()
        after.record()
        after.synchronize()
        return float(before.elapsed_time(after)) * 1e3

    return sample


def time_cuda(call: Callable[[], Any], budget: TimingBudget, restore: Callable[[], None] = nothing) -> Measured:
    """Time on a CUDA or ROCm device, sample by sample with `event_timer`, each after a `restore`."""
    sample = event_timer()
    warmups = 0
    start = time.perf_counter_ns()
    while warmups == 0 or time.perf_counter_ns() - start < budget.warmup_seconds * 1e9:
        restore()
        sample(call)
        warmups += 1
    samples: list[float] = []
    calls = Calls(budget.look)
    values: list[Any] = []
    start = time.perf_counter_ns()
    while _wants_more(len(samples), time.perf_counter_ns() - start, budget):
        restore()
        samples.append(sample(lambda: values.append(call())))
        calls.returned(values.pop())
    calls.end()
    return summary(samples, warmups, Evidence.DEVICE, timer="device events", cache="L2 flushed")


def _wants_more(samples: int, elapsed_ns: int, budget: TimingBudget) -> bool:
    elapsed = elapsed_ns / 1e9
    if samples < budget.fewest:
        return samples == 0 or elapsed < budget.patience
    return samples < budget.most and elapsed < budget.seconds


def summary(samples_us: Sequence[float], warmups: int, evidence: Evidence, *, timer: str, cache: str) -> Measured:
    """The timing of raw samples in microseconds."""
    deciles = statistics.quantiles(samples_us, n=10, method="inclusive") if len(samples_us) > 1 else [samples_us[0]] * 9
    return Measured(
        timer=timer,
        cache=cache,
        evidence=evidence,
        median_us=statistics.median(samples_us),
        p10_us=deciles[0],
        p90_us=deciles[-1],
        min_us=min(samples_us),
        max_us=max(samples_us),
        warmups=warmups,
        samples_us=list(samples_us),
    )
