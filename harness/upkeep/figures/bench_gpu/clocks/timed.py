"""The times of a point's contenders: sample by sample in turn, and no time that cannot be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import structs

from triptych.harness.accelerators.catalogue import Chip, catalogue
from triptych.harness.backends.clocks import summary
from triptych.harness.dtypes import dtype_of
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Op
from triptych.harness.results.result import Result
from triptych.harness.results.status import Cause, Evidence
from triptych.harness.results.timing import Measured
from triptych.harness.upkeep.figures.bench_gpu.calls import Contender
from triptych.harness.upkeep.figures.bench_gpu.clocks import nvml
from triptych.harness.upkeep.figures.bench_gpu.clocks.device import Device, Sampler
from triptych.harness.upkeep.figures.bench_gpu.judged import refuse, sentence

SECONDS = 0.25  # that the samples of a contender last, their launches counted
FEWEST, MOST = 20, 100
DRIFT = 1e-2  # relative L2 between what was judged and what was timed, of the same call on the same inputs
FACTORS = {"float8": 2.0, "tf32": 0.5}  # of the bfloat16 peak, on NVIDIA's matrix units


def interleaved(samplers: Sequence[Sampler], device: Device) -> tuple[list[list[float]], list[nvml.Clock | None]]:
    """Samples in microseconds, one of each in turn, who goes first alternating; the clock before, amid and after."""
    for sampler in samplers:
        sampler.sample()
    samples: list[list[float]] = [[] for _ in samplers]
    clocks = [device.clock()]
    order = list(range(len(samplers)))
    spent, n = 0.0, 0
    while n < FEWEST or (n < MOST and spent < SECONDS * 1e6 * len(samplers)):
        for i in order:
            us = samplers[i].sample()
            samples[i].append(us)
            spent += us * samplers[i].launches
        order.reverse()
        n += 1
        if n == FEWEST // 2:
            clocks.append(device.clock())
    return samples, [*clocks, device.clock()]


def time_all(
    op: Op,
    case: Case,
    tensors: Mapping[str, Any],
    sound: Sequence[tuple[Contender, Result, Mapping[str, Any]]],
    device: Device,
) -> None:
    """Time the contenders that were judged right, and write the times into their rows.

    sound: each with its row and the outputs that were judged.
    """
    ready = []
    for contender, result, outputs in sound:
        own = {name: x.clone() if name in op.mutates else x for name, x in tensors.items()}
        try:
            ready.append((device.sampler(contender.prepare, own, op.mutates), contender, result, outputs))
        except Exception as error:
            refuse(result, f"it ran, and could not be timed: {sentence(error)}")
            device.synchronize()
    if not ready:
        return
    samples, clocks = interleaved([sampler for sampler, *_ in ready], device)
    chip, held_back = catalogue().of_gpus(device.gpus), nvml.in_words(clocks)
    for (sampler, contender, result, outputs), of_one in zip(ready, samples, strict=True):
        timing = summary(of_one, 1, Evidence.DEVICE, timer=sampler.timer, cache=sampler.cache)
        result.timing = with_work(timing, op, case)
        result.notes += [note for note in (sampler.note, held_back) if note]
        if differ(outputs, sampler.last()):
            refuse(result, "what was timed computed something else than what was judged", Cause.BROKEN_PROMISE)
        elif chip is not None:
            check_possible(result, chip, contender.arithmetic, sampler.cold, "segments" in tensors)


def with_work(timing: Measured, op: Op, case: Case) -> Measured:
    """The timing with the operations and bytes that the case needs."""
    if not (op.flops and op.bytes):
        return timing
    itemsize = dtype_of(case.dtype).itemsize
    moved = op.bytes(case.axes, case.params, itemsize)
    return structs.replace(timing, flops=op.flops(case.axes, case.params), bytes=moved)


def check_possible(result: Result, chip: Chip, arithmetic: str, cold: bool, hides: bool) -> None:
    """A time below the roofline is an error of the measurement, or of what the op counts, and no result.

    cold: whether the bytes came from memory. hides: whether inputs leave out some of the operations that are counted.
    """
    timing = result.timing
    if not isinstance(timing, Measured) or timing.flops is None or timing.bytes is None:
        return
    flops, moved = 0 if hides else timing.flops, timing.bytes if cold else 0
    peak = chip.bfloat16 * FACTORS[arithmetic] if arithmetic else chip.peak(result.dtype)
    least = max(flops / (peak * 1e6), moved / (chip.hbm_gb_per_s * 1e3))
    if timing.median_us < least:
        refuse(
            result,
            f"the median of {timing.median_us:.4g} us is below the {least:.4g} us that the {chip.title} needs at its "
            f"peaks for {flops:.4g} operations and {moved:.4g} bytes: the time or the count is wrong",
            Cause.BROKEN_PROMISE,
        )


def differ(judged: Mapping[str, Any], timed: Mapping[str, Any]) -> bool:
    """Whether a call gave other numbers when it was timed, beyond the order of its sums."""
    for name, x in judged.items():
        a, b = (tensor.float().nan_to_num() for tensor in (x, timed[name]))
        if not float((a - b).norm()) <= DRIFT * float(a.norm()):
            return True
    return False
