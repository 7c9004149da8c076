"""A prediction as plain numbers: the `timing` of a result, from which text, JSON and the page are written."""

from __future__ import annotations

import os
from collections.abc import Mapping

from triptych.harness.results.status import Evidence
from triptych.harness.results.timing import MemoryUse, Profiled, Rest, Stall, Step
from triptych.harness.results.timing_accuracy import LAST_VALIDATION, interval
from triptych.simulator import Prediction
from triptych.simulator.timing.reading.occupancy import occupancy

STEPS, STALLS = 8, 3  # how many of each are kept
TINY = 1e-3  # of the time: what takes less is not told


def numbers(prediction: Prediction, settings: Mapping[str, float]) -> Profiled:
    """What a prediction says, with units in the names. Shares are of the whole time, launch and teardown included."""
    chip = prediction.chip
    shown = [step for step in prediction.critical if step.share >= TINY][:STEPS]
    others = prediction.critical[len(shown) :]
    low, high = interval(prediction.total_us, prediction.regime)
    return Profiled(
        evidence=Evidence.PREDICTED,
        timer="timing model",
        order=prediction.timeline.order,
        settings=dict(settings),
        chip=chip.name,
        cores=prediction.cores,
        instructions=len(prediction.events),
        predicted_us=prediction.total_us,
        low_us=low,
        high_us=high,
        regime=prediction.regime,
        accuracy=LAST_VALIDATION,
        launch_us=(chip.launch_ns.value + chip.teardown_ns.value) / 1e3,
        roofline_us=prediction.roofline_us,
        compute_us=prediction.compute_us,
        memory_us=prediction.memory_us,
        bound=prediction.bound,
        mfu=prediction.mfu,
        peak_tflop_per_s=chip.peak_bf16_tflops.value * prediction.cores,
        matmul_flops=prediction.flops,
        hbm_share=prediction.bandwidth_use,
        hbm_gb_per_s=prediction.hbm_gb_per_s,
        hbm_bytes=prediction.hbm_bytes,
        intensity_flop_per_byte=prediction.intensity,
        busy_share=prediction.busy,
        critical=[
            Step(
                op=step.op,
                line=location(step.line),
                engine=step.track,
                count=step.count,
                us=step.us,
                share=step.share,
            )
            for step in shown
        ],
        critical_others=Rest(
            lines=len(others), us=sum(step.us for step in others), share=sum(step.share for step in others)
        ),
        stalls=[
            Stall(
                engine=stall.track,
                op=stall.op,
                line=location(stall.line),
                why=stall.why,
                waits_for=stall.waits_for,
                waits_for_line=None if stall.waits_line is None else location(stall.waits_line),
                count=stall.count,
                us=stall.us,
                share=stall.share,
            )
            for stall in prediction.stalls[:STALLS]
            if stall.share >= TINY
        ],
        memory=memory(prediction),
        advice=prediction.advice,
    )


def memory(prediction: Prediction) -> dict[str, MemoryUse]:
    """Bytes of a partition of SBUF and PSUM on the core that uses most of it: at the timeline's peak, and at least."""
    found: dict[str, MemoryUse] = {}
    for use in occupancy(prediction.timeline):
        before = found[use.buffer].peak_bytes if use.buffer in found else 0
        found[use.buffer] = MemoryUse(
            peak_bytes=max(use.peak, before),
            needed_bytes=prediction.peaks.get(use.buffer, (0, 0))[0],
            capacity_bytes=use.capacity,
        )
    return found


def location(line: tuple[str, int]) -> str:
    """`file:line`, the file relative to the working directory if it is in it, else its name alone."""
    path, number = os.path.realpath(line[0]), line[1]
    relative = os.path.relpath(path)
    return f"{os.path.basename(path) if relative.startswith('..') else relative}:{number}"
