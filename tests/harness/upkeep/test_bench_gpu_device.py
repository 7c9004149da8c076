"""How `make bench-gpu` times a call: by graphs on a device that is made up, whose replays run what was captured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'triptych[torch]'")

from triptych.harness.upkeep.figures.bench_gpu.clocks import device, nvml  # noqa: E402

US = 7.0  # of a launch
MIB = 2**20


class MadeUp:
    """The part of `torch.cuda` that is asked for: launches take US microseconds each, and graphs run again."""

    def __init__(self) -> None:
        self.now = 0.0
        self.capturing: list[Callable[[], Any]] | None = None
        self.refuses = ""

    def launched(self, kernel: Callable[[], Any]) -> None:
        self.now += US
        kernel()
        if self.capturing is not None:
            self.capturing.append(kernel)

    def put_in_place(self, monkeypatch: pytest.MonkeyPatch) -> None:
        outer = self

        class Event:
            def __init__(self, enable_timing: bool) -> None:
                self.at = 0.0

            def record(self) -> None:
                self.at = outer.now

            def synchronize(self) -> None:
                pass

            def elapsed_time(self, other: Any) -> float:
                return float(other.at - self.at) / 1e3

        class Graph:
            def __init__(self) -> None:
                self.kernels: list[Callable[[], Any]] = []

            def replay(self) -> None:
                for kernel in self.kernels:
                    outer.launched(kernel)

        @contextmanager
        def graph(into: Graph) -> Iterator[None]:
            if outer.refuses:
                raise RuntimeError(outer.refuses)
            outer.capturing = into.kernels
            yield
            outer.capturing = None

        def one_call(call: Callable[[], Any]) -> float:
            before = outer.now
            call()
            return outer.now - before

        properties = SimpleNamespace(L2_cache_size=4 * MIB, uuid="none")
        stream = SimpleNamespace(wait_stream=lambda other: None)
        made_up = {
            "Event": Event,
            "CUDAGraph": Graph,
            "graph": graph,
            "Stream": lambda: stream,
            "current_stream": lambda: stream,
            "stream": lambda one: nullcontext(),
            "synchronize": lambda: None,
            "mem_get_info": lambda: (2**40, 2**40),
            "current_device": lambda: 0,
            "get_device_properties": lambda index: properties,
        }
        for name, value in made_up.items():
            monkeypatch.setattr(torch.cuda, name, value)
        monkeypatch.setattr(device, "event_timer", lambda: one_call)


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> MadeUp:
    one = MadeUp()
    one.put_in_place(monkeypatch)
    return one


def doubling(cuda: MadeUp, seen: list[int]) -> Callable[[dict[str, Any]], device.Call]:
    """out = 2 x, in memory of its own, with a note of which x each launch read."""

    def prepare(tensors: dict[str, Any]) -> device.Call:
        x, out = tensors["x"], torch.zeros_like(tensors["x"])

        def kernel() -> None:
            seen.append(x.data_ptr())
            torch.add(x, x, out=out)

        def call() -> dict[str, Any]:
            cuda.launched(kernel)
            return {"": out}

        return call

    return prepare


def test_a_graph_takes_turns_on_copies_that_no_cache_holds(made_up: MadeUp) -> None:
    seen: list[int] = []
    x = torch.ones(MIB // 4)  # with the output 2 MiB: 8 copies are four times the cache
    sampler = device.Cuda().sampler(doubling(made_up, seen), {"x": x}, ())
    seen.clear()
    assert sampler.sample() == pytest.approx(US)
    assert len(set(seen)) == 8 and len(seen) == sampler.launches == 8 * int(1000 / (US * 8))
    assert sampler.cold and sampler.note == ""
    assert sampler.timer == f"CUDA graph of {sampler.launches} launches, interleaved"
    assert sampler.cache == "8 x 2 MiB in turn, 4 times the L2 cache"
    assert bool((sampler.last()[""] == 2).all())


def test_what_the_last_launch_gave_is_no_remainder_of_the_capture(made_up: MadeUp) -> None:
    sampler = device.Cuda().sampler(doubling(made_up, []), {"x": torch.ones(4)}, ())
    assert not sampler.last()[""].any()
    assert not sampler.cold  # 512 copies of 32 bytes


def test_inputs_that_a_call_changes_are_restored_before_each_sample(made_up: MadeUp) -> None:
    found: list[float] = []

    def prepare(tensors: dict[str, Any]) -> device.Call:
        cache = tensors["cache"]

        def kernel() -> None:
            found.append(float(cache[0]))
            cache.add_(1)

        def call() -> dict[str, Any]:
            made_up.launched(kernel)
            return {"cache": cache}

        return call

    sampler = device.Cuda().sampler(prepare, {"cache": torch.zeros(MIB)}, ("cache",))
    before = len(found)
    sampler.sample()
    sampler.sample()
    assert sampler.launches == 4
    assert set(found[before:]) == {0.0}


def test_where_no_graph_can_be_had_the_row_says_so(made_up: MadeUp) -> None:
    made_up.refuses = "operation not permitted when stream is capturing\nmore"
    sampler = device.Cuda().sampler(doubling(made_up, []), {"x": torch.ones(4)}, ())
    assert sampler.sample() == US and bool((sampler.last()[""] == 2).all())
    assert (sampler.timer, sampler.cache) == ("device events, interleaved", "L2 flushed")
    assert "RuntimeError: operation not permitted when stream is capturing)" in sampler.note


def test_without_the_management_library_nobody_knows_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "library", lambda: None)
    assert nvml.read("a GPU that is not here") is None


def test_reasons_that_slow_a_busy_gpu_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def clock(handle: Any, kind: int, mhz: Any) -> int:
        mhz._obj.value = 1305
        return 0

    def reasons(handle: Any, bits: Any) -> int:
        bits._obj.value = 0x1 | 0x4 | 0x40
        return 0

    library = SimpleNamespace(
        nvmlDeviceGetHandleByUUID=lambda name, into: 0,
        nvmlDeviceGetClockInfo=clock,
        nvmlDeviceGetCurrentClocksThrottleReasons=reasons,
    )
    monkeypatch.setattr(nvml, "library", lambda: library)
    found = nvml.read("another that is not here")
    assert found == nvml.Clock(1305, ("power cap", "hardware thermal slowdown"))
    assert nvml.in_words([found]).startswith("the clock was held back (power cap, hardware thermal slowdown): 1305 MHz")
