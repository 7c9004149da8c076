"""The figures of a prediction with their remarks, for the text and for the page alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from triptych.harness.profiling.waits import wait_in_words
from triptych.harness.reports.formats import kib, percent, scaled, short, us
from triptych.harness.results.profile import Profile
from triptych.harness.results.timing import MemoryUse, Profiled, Stall
from triptych.harness.results.timing_accuracy import REGIMES


def headline(profile: Profile) -> str:
    """Op, case and dtype; arguments in words say their own dtype."""
    return " ".join(filter(None, (profile.op, profile.case, "" if ":" in profile.case else profile.dtype)))


def facts(t: Profiled) -> list[tuple[str, str, str]]:
    """(name, value, remark) of the figures of one prediction."""
    seconds = t.predicted_us / 1e6
    times = t.predicted_us / t.roofline_us if t.roofline_us else math.inf
    roofline = f"{times:.2f} x the roofline of {us(t.roofline_us)} us, which is {t.bound}-bound"
    ridge = t.peak_tflop_per_s * 1e3 / t.hbm_gb_per_s
    found = [
        ("time", f"{us(t.predicted_us)} us", roofline),
        (
            "MFU",
            percent(t.mfu),
            f"{scaled(t.matmul_flops, 'FLOP')} in matmuls: {scaled(t.matmul_flops / seconds, 'FLOP/s')} of the "
            f"{short(t.peak_tflop_per_s)} TFLOP/s in bfloat16"
            if t.matmul_flops
            else "no matmuls",
        ),
        (
            "HBM",
            percent(t.hbm_share),
            f"{scaled(t.hbm_bytes, 'B')} moved: {scaled(t.hbm_bytes / seconds, 'B/s')} of the "
            f"{short(t.hbm_gb_per_s, 4)} GB/s",
        ),
    ]
    if t.regime is not None and t.low_us is not None and t.high_us is not None:
        between = f"{us(t.low_us)} to {us(t.high_us)} us"
        found.insert(1, ("range", "", f"{between} holds for 4 of 5 {REGIMES[t.regime]}"))
    if t.matmul_flops:
        intensity = short(t.intensity_flop_per_byte)
        found.append(("intensity", intensity, f"FLOP a byte of HBM; the roofline bends at {short(ridge)}"))
    for name, use in memories_in_use(t).items():
        found.append(
            (
                name.upper(),
                percent(use.peak_bytes / use.capacity_bytes),
                f"{kib(use.peak_bytes)} of {kib(use.capacity_bytes)} a partition at the peak; "
                f"{kib(use.needed_bytes)} suffice in program order",
            )
        )
    return found


def memories_in_use(t: Profiled) -> dict[str, MemoryUse]:
    """The memories that a kernel uses."""
    return {name: use for name, use in t.memory.items() if use.peak_bytes}


def stall_cause(stall: Stall) -> str:
    """What an instruction that stood still waited for, with the line of what it waited for."""
    other = " ".join(filter(None, (stall.waits_for, stall.waits_for_line)))
    return wait_in_words(stall.why, other)


def change(profile: Profile, profiles: Sequence[Profile]) -> str:
    """How much longer or shorter it takes than what it is compared with."""
    before = next((p for p in profiles if p.label == profile.against), None)
    if before is None:
        return ""
    return f"{100 * (profile.predicted.predicted_us / before.predicted.predicted_us - 1):+.1f} %"


def what_if(profiles: Sequence[Profile]) -> list[str]:
    """What --set changed."""
    changed: Mapping[str, float] = next((p.predicted.settings for p in profiles if p.predicted.settings), {})
    words = ", ".join(f"{name} = {value:g}" for name, value in changed.items())
    return [f"what-if: {words}"] if changed else []


def figures_table(some: Sequence[Profile], profiles: Sequence[Profile]) -> list[list[str]]:
    """Figures of `some` of the predictions of a case, a row each; a row that would be empty is left out."""
    first = profiles[0].label
    tracks = dict.fromkeys(track for p in profiles for track in p.predicted.busy_share)
    rows: dict[str, Callable[[Profile, Profiled], str]] = {
        "time, us": lambda p, t: us(t.predicted_us),
        f"against {first}": lambda p, t: change(p, profiles) if p.against == first and not t.settings else "",
        "by the what-if": lambda p, t: change(p, profiles) if t.settings else "",
        "roofline, us": lambda p, t: us(t.roofline_us),
        "bound": lambda p, t: t.bound,
        "MFU": lambda p, t: percent(t.mfu),
        "HBM": lambda p, t: percent(t.hbm_share),
        "FLOP a byte": lambda p, t: short(t.intensity_flop_per_byte) if t.matmul_flops else "",
        **{f"{track} busy": _busy(track) for track in tracks},
        **{f"{memory.upper()} peak": _peak(memory) for memory in memories_in_use(profiles[0].predicted)},
    }
    cells = [[name, *(value(p, p.predicted) for p in some)] for name, value in rows.items()]
    return [["", *(p.label for p in some)], *(row for row in cells if any(row[1:]))]


def _busy(track: str) -> Callable[[Profile, Profiled], str]:
    return lambda p, t: percent(t.busy_share.get(track, 0.0))


def _peak(memory: str) -> Callable[[Profile, Profiled], str]:
    return lambda p, t: kib(t.memory[memory].peak_bytes)
