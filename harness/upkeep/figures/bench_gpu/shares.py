"""What is read off a session: the share of the highest rate, and Triton's speed over the fastest rival's."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from msgspec import structs

from triptych.harness.reports import figures
from triptych.harness.results.result import Result

Point = tuple[str, str, str]


def add_shares(results: Sequence[Result]) -> None:
    """Put each rate beside the largest product's of its dtype, and Triton's time beside the fastest rival's."""
    peaks: dict[str, float] = {}
    fastest: dict[Point, float] = {}
    for result in results:
        us = figures.time_us(result)
        if us is None or result.target == "tf32":
            continue
        if result.op == "matmul":
            peaks[result.dtype] = max(peaks.get(result.dtype, 0.0), figures.tflops(result) or 0.0)
        if result.backend == "torch":
            point = result.op, result.case, result.dtype
            fastest[point] = min(fastest.get(point, us), us)
    for result in results:
        rate, peak = figures.tflops(result), peaks.get(result.dtype)
        if result.timing and rate and peak:
            shares = {"percent_of_peak": 100 * rate / peak, "peak_tflop_per_s": peak}
            result.timing = structs.replace(result.timing, **shares)
        other, own = fastest.get((result.op, result.case, result.dtype)), figures.time_us(result)
        if result.timing and result.backend == "triton" and other and own:
            result.timing = structs.replace(result.timing, speed_over_torch=other / own)


def summarise(results: Sequence[Result]) -> str:
    """The geometric mean of Triton's speed over the fastest rival's, for each op."""
    lines = []
    for name in dict.fromkeys(result.op for result in results):
        timings = [result.timing for result in results if result.op == name and result.timing]
        ratios = [timing.speed_over_torch for timing in timings if timing.speed_over_torch is not None]
        if ratios:
            mean = statistics.geometric_mean(ratios)
            lines.append(f"{name}: triton runs at {mean:.2f} times torch's speed (geometric mean of {len(ratios)})")
    return "\n".join(lines)
