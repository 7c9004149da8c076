"""A session of `make bench-gpu` without a GPU: tensors on the CPU, PyTorch in the place of Triton, a made-up clock.

Run as a script it dies in the middle, as a session does whose machine is taken away.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import replace
from typing import Any

from triptych.harness.collection import builtin
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Op
from triptych.harness.upkeep.figures.bench_gpu import points
from triptych.harness.upkeep.figures.bench_gpu.clocks import nvml
from triptych.harness.upkeep.figures.bench_gpu.clocks.device import Sampler
from triptych.harness.upkeep.figures.bench_gpu.record import Record
from triptych.harness.upkeep.figures.bench_gpu.rivals import RIVALS
from triptych.harness.upkeep.figures.bench_gpu.session import Session


class Inline(Executor):
    """A pool that does it at once."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(function(*args, **named))
        except Exception as error:
            done.set_exception(error)
        return done


class StandIn:
    """A device whose calls take as long as a test says, 100 seconds each unless it does."""

    kind = "cpu"

    def __init__(self, us: float = 1e8, gpus: Sequence[dict[str, str]] = ()) -> None:
        self.us, self.gpus = us, list(gpus) or [{"name": "NVIDIA H200", "driver": "0"}]
        self.lost = False
        self.reasons: tuple[str, ...] = ()

    def synchronize(self) -> None:
        if self.lost:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    def clock(self) -> nvml.Clock:
        return nvml.Clock(1980, self.reasons)

    def release(self) -> None:
        pass

    def sampler(self, prepare: Any, tensors: dict[str, Any], changed: Sequence[str]) -> Sampler:
        call = prepare(tensors)
        outputs: list[Any] = []

        def sample() -> float:
            outputs[:] = [call()]
            return self.us

        return Sampler(sample, lambda: outputs[0], "made up", "none", True)


def written(op: str, change: Callable[[Any], None] = lambda out: None) -> Callable[..., None]:
    """A launcher of an op with one output, which PyTorch computes; `change` makes it wrong."""

    def launcher(*, out: Any, **given: Any) -> None:
        prepared = RIVALS.get(op, {}).values()
        function = builtin()[op].torch
        value = function(**given) if function is not None else next(iter(prepared))(**given)()
        out.copy_(value)
        change(out)

    return launcher


def quantize(x: Any, q: Any, scale: Any) -> None:
    for memory, value in zip((q, scale), RIVALS["quantize_fp8"]["eager"](x=x)(), strict=True):
        memory.copy_(value)


def raises(logits: Any, labels: Any, loss: Any, lse: Any) -> None:
    raise RuntimeError("out of resource: shared memory\nmore")


def wrong_where_small(x: Any, cos: Any, sin: Any, out: Any, interleaved: bool = False) -> None:
    out.copy_(RIVALS["rope"]["eager"](x, cos, sin, interleaved)())
    if len(x) < 64:
        out.zero_()


def writes_to_its_input(x: Any, gain: Any, out: Any, eps: float = 1e-5) -> None:
    out.copy_(RIVALS["rmsnorm"]["rms_norm"](x, gain, eps)())
    x[0, 0] += 1


# Right, wrong in its last row, wrong at a small size, one that raises, and one that spoils its input.
LAUNCHERS: dict[str, Callable[..., None]] = {
    "matmul": written("matmul"),
    "matmul_mk": written("matmul_mk", lambda out: out[-1].zero_()),
    "attention_decode": written("attention_decode"),
    "rmsnorm": writes_to_its_input,
    "rope": wrong_where_small,
    "cross_entropy": raises,
    "quantize_fp8": quantize,
}
CASES = [
    Case("matmul", "m", {"M": 300, "K": 96, "N": 65}, "bfloat16"),
    Case("matmul", "m", {"M": 3, "K": 700, "N": 5}, "float32"),
    Case("quantize_fp8", "q", {"M": 70, "N": 96}, "bfloat16"),
    Case("matmul_mk", "m", {"M": 131, "K": 96, "N": 65}, "bfloat16"),
    Case("rope", "r", {"S": 70, "H": 3, "D": 32}, "bfloat16"),
    Case("cross_entropy", "c", {"M": 7, "V": 30}, "bfloat16"),
    Case("rmsnorm", "n", {"M": 7, "N": 64}, "bfloat16"),
    Case("attention_decode", "d", {"B": 1, "H": 2, "Hkv": 1, "T": 1, "S": 20, "D": 16}, "bfloat16"),
]


def table() -> dict[str, Op]:
    """The ops with launchers that need no GPU."""
    return {name: replace(builtin()[name], triton=launcher) for name, launcher in LAUNCHERS.items()}


def first(cases: Sequence[Case]) -> list[Case]:
    """A small case of those ops of which something is to be learned from it."""
    named = {case.op for case in cases} & {"matmul", "rope"}
    found = points.checks({name: builtin()[name] for name in sorted(named)})
    return list({case.op: case for case in reversed(found) if case.dtype == "bfloat16"}.values())


def session(
    path: str, seconds: float = 1e9, device: Any = None, cases: Sequence[Case] = CASES, **named: Any
) -> Session:
    device = device or StandIn()
    ops = table()
    record = Record(path, ops, first(cases), cases, device.gpus, "a rehearsal")
    return Session(record, first(cases), cases, seconds, device, Inline(), **named)


def die_at(word: str) -> Callable[[str], None]:
    """Takes lines, and kills this process at the one that begins with a word."""

    def say(line: str) -> None:
        if line.startswith(word):
            os.kill(os.getpid(), signal.SIGKILL)

    return say


if __name__ == "__main__":
    session(sys.argv[1], say=die_at(sys.argv[2])).run()
