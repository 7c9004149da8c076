"""The GPU: what it is, and how a call is timed on it.

Where a call can be captured, a CUDA graph of many launches is replayed between two events, so that the host's time to
launch is not in it. Its launches take turns on copies of the inputs that are larger than the L2 cache together. Where
it cannot, each launch stands between two events, the L2 cache overwritten before, and the row says why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from triptych.harness.backends.clocks import event_timer
from triptych.harness.results import environment
from triptych.harness.upkeep.figures.bench_gpu.calls import Call, Outputs
from triptych.harness.upkeep.figures.bench_gpu.clocks import nvml
from triptych.harness.upkeep.figures.bench_gpu.judged import sentence

GRAPH_US = 1000.0  # that a graph runs at least, beside which its own launch is nothing
MOST_LAUNCHES = 512  # of a graph
TIMES_CACHE, COLD = 4.0, 2.0  # how many times the L2 cache the copies are to be, and are at least to be called cold
MOST_OF_MEMORY = 0.25  # of what is free, that copies may take
Tensors = dict[str, Any]
Prepare = Callable[[Tensors], Call]


@dataclass
class Sampler:
    """How one contender is timed.

    sample: the time of a launch in microseconds, the mean of a graph's.
    last: what the last launch computed.
    cold: whether its inputs came from memory, not from a cache.
    """

    sample: Callable[[], float]
    last: Callable[[], Outputs]
    timer: str
    cache: str
    cold: bool
    launches: int = 1  # of a sample
    note: str = ""


class Device(Protocol):
    """What a session asks of a device."""

    kind: str  # where PyTorch puts its tensors
    gpus: list[dict[str, str]]  # as `environment.gpus` gives them

    def synchronize(self) -> None:
        """Wait for all work; raises what it died of."""

    def sampler(self, prepare: Prepare, tensors: Tensors, changed: Sequence[str]) -> Sampler:
        """A way to time a call; `changed` are the tensors that it changes."""

    def clock(self) -> nvml.Clock | None:
        """The clock now."""

    def release(self) -> None:
        """Give cached memory back."""


class Cuda:
    """The current CUDA or ROCm device."""

    kind = "cuda"

    def __init__(self) -> None:
        import torch

        self.torch = torch
        self.gpus = environment.gpus()
        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        self.cache_bytes = int(getattr(properties, "L2_cache_size", 64 * 2**20))
        self.uuid = str(getattr(properties, "uuid", ""))
        self.one_call = event_timer()
        torch.backends.cuda.matmul.allow_tf32 = False  # float32 means float32, on both sides

    def synchronize(self) -> None:
        self.torch.cuda.synchronize()

    def clock(self) -> nvml.Clock | None:
        return nvml.read(self.uuid)

    def release(self) -> None:
        self.torch.cuda.empty_cache()

    def sampler(self, prepare: Prepare, tensors: Tensors, changed: Sequence[str]) -> Sampler:
        try:
            return self.by_graph(prepare, tensors, changed)
        except Exception as error:
            self.synchronize()  # which raises where the device is lost
            return self.by_events(prepare, tensors, changed, sentence(error))

    def by_graph(self, prepare: Prepare, tensors: Tensors, changed: Sequence[str]) -> Sampler:
        """Replays of one graph. Of a call that changes its inputs each copy is launched once, and then restored."""
        torch = self.torch
        before = {name: tensors[name].clone() for name in changed}
        first = prepare(tensors)
        outputs = first()
        each_us = min(self.one_call(first) for _ in range(3))
        size = bytes_of(tensors) + bytes_of({n: x for n, x in outputs.items() if n not in tensors})
        fit = int(MOST_OF_MEMORY * torch.cuda.mem_get_info()[0] / size)
        count = max(1, min(-int(-TIMES_CACHE * self.cache_bytes // size), MOST_LAUNCHES, fit))
        copies = [tensors, *({name: x.clone() for name, x in tensors.items()} for _ in range(count - 1))]
        calls = [first, *(prepare(copy) for copy in copies[1:])]
        rounds = 1 if changed else max(1, min(int(GRAPH_US / (each_us * count)), MOST_LAUNCHES // count))

        def restore() -> None:
            for copy in copies:
                for name, x in before.items():
                    copy[name].copy_(x)

        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for call in calls:
                call()
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        graph, last = torch.cuda.CUDAGraph(), outputs
        with torch.cuda.graph(graph):
            for _ in range(rounds):
                for call in calls:
                    last = call()
        launches = rounds * count

        def sample() -> float:
            restore()
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            graph.replay()
            end.record()
            end.synchronize()
            return float(start.elapsed_time(end)) * 1e3 / launches

        for x in last.values():  # what is read of them afterwards the replays wrote
            if not any(x is y for copy in copies for y in copy.values()):
                x.zero_()
        times = size * count / self.cache_bytes
        said = f"{count} x {size / 2**20:.3g} MiB in turn, {times:.2g} times the L2 cache"
        return Sampler(
            sample, lambda: last, f"CUDA graph of {launches} launches, interleaved", said, times >= COLD, launches
        )

    def by_events(self, prepare: Prepare, tensors: Tensors, changed: Sequence[str], why: str) -> Sampler:
        """Launch by launch, with what the host takes for one where that is longer than the kernel."""
        call = prepare(tensors)
        before = {name: tensors[name].clone() for name in changed}
        found: list[Outputs] = []

        def sample() -> float:
            for name, x in before.items():
                tensors[name].copy_(x)
            found.clear()
            return self.one_call(lambda: found.append(call()))

        note = f"timed launch by launch, the host's time in it where that is longer: no CUDA graph took it ({why})"
        return Sampler(sample, lambda: found[0], "device events, interleaved", "L2 flushed", True, 1, note)


def bytes_of(tensors: Tensors) -> int:
    return sum(x.numel() * x.element_size() for x in tensors.values())
