"""A profile as text, to be read from the top down: how long, how well the chip is used, and what to look at next.

One prediction is shown whole; several of one case stand side by side, each with what decides its time; several cases
have a row each.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from triptych.harness.measured.timing_accuracy import in_words
from triptych.harness.reports.tables import short
from triptych.harness.reports.text_table import text_table

if TYPE_CHECKING:
    from triptych.harness.commands.profile import Profile
    from triptych.harness.results.result import Result
    from triptych.harness.results.timing import MemoryUse, Profiled, Rest, Stall, Step

WIDTH = 100
BAR = 40
WAITS = {
    "start": "the launch",
    "engine": "its turn after {}",
    "data": "the result of {}",
    "overwrite": "{} to be done with what it overwrites",
    "order": "{}, which writes there before it",
    "rings": "DMA rings, which {} occupies",
    "port": "the port that it shares with {}",
    "room": "room on chip, which {} gives back",
    "meeting": "the other core, which does {}",
}


def text(found: Sequence[Sequence[Profile]]) -> str:
    """The predictions of each subject that was predicted."""
    if not found:
        return ""
    if len(found) > 1:
        return overview(found)
    profiles = found[0]
    if len(profiles) == 1:
        return whole(profiles[0])
    return side_by_side(profiles)


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def change(profile: Profile, profiles: Sequence[Profile]) -> str:
    """How much longer or shorter it takes than what it is compared with."""
    before = next((p for p in profiles if p.label == profile.against), None)
    if before is None:
        return ""
    return f"{100 * (profile.timing.predicted_us / before.timing.predicted_us - 1):+.1f} %"


def scaled(value: float, unit: str) -> str:
    """`1.72e10` FLOP as "17.2 GFLOP"."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{short(value / factor)} {prefix}{unit}"
    return f"{short(value)} {unit}"


def kib(count: float) -> str:
    return f"{short(count / 1024)} KiB"


def headline(result: Result) -> str:
    """Op, case and dtype; arguments in words say their own dtype."""
    return " ".join(filter(None, (result.op, result.case, "" if ":" in result.case else result.dtype)))


def us(value: float) -> str:
    return f"{value:,.1f}"


def whole(profile: Profile) -> str:
    """One prediction with everything that it says."""
    t = profile.timing
    order = " in program order" if t.order == "program" else ""
    cores = f", {t.cores} cores" if t.cores > 1 else ""
    title = f"{headline(profile.result)} on {profile.result.target} ({t.chip}{cores}){order}: predicted, not measured"
    lines = [*textwrap.wrap(title, WIDTH), ""]
    lines += [f"{name:<11}{value:>10}   {remark}" for name, value, remark in facts(t)]
    lines += ["", *textwrap.wrap(in_words(), WIDTH)]
    lines += ["", f"busy share of the {us(t.predicted_us)} us"]
    lines += [f"  {track:<9}{percent(share):>10}   {'█' * round(BAR * share)}" for track, share in t.busy_share.items()]
    lines += ["", *critical(t, len(t.critical))]
    if t.stalls:
        lines += ["", f"longest stalls of {t.stalls[0].engine}, the busiest", *stalls(t, len(t.stalls))]
    if t.advice:
        lines += ["", "advice"]
    for sentence in t.advice:
        lines += textwrap.wrap(f"{sentence}.", WIDTH - 4, initial_indent="  - ", subsequent_indent="    ")
    return "\n".join(lines) + "\n"


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
    if t.matmul_flops:
        intensity = short(t.intensity_flop_per_byte)
        found.append(("intensity", intensity, f"FLOP a byte of HBM; the roofline bends at {short(ridge)}"))
    for name, use in used(t).items():
        found.append(
            (
                name.upper(),
                percent(use.peak_bytes / use.capacity_bytes),
                f"{kib(use.peak_bytes)} of {kib(use.capacity_bytes)} a partition at the peak; "
                f"{kib(use.needed_bytes)} suffice in program order",
            )
        )
    return found


def used(t: Profiled) -> dict[str, MemoryUse]:
    """The memories that a kernel uses."""
    return {name: use for name, use in t.memory.items() if use.peak_bytes}


def critical(t: Profiled, count: int) -> list[str]:
    """The source lines that the critical path runs through, the rest of them, and what no kernel can change."""
    shown = t.critical[:count]
    lines = [f"{'critical path':<13}{'us':>9}{'times':>8}  engine  instruction and line"]
    width = max((len(step.op) for step in shown), default=0)
    for step in shown:
        lines.append(f"{figures(step.share, step.us, step.count)}  {step.engine:<7} {step.op:<{width}}  {step.line}")
    left = t.critical[count:]
    others = len(left) + t.critical_others.lines
    if others:
        rest: list[Step | Rest] = [*left, t.critical_others]
        spent = figures(sum(step.share for step in rest), sum(step.us for step in rest))
        lines.append(f"{spent}  {others} other line{'s' * (others > 1)}")
    return [*lines, f"{figures(t.launch_us / t.predicted_us, t.launch_us)}  launch and teardown"]


def stalls(t: Profiled, count: int) -> list[str]:
    """What stood still, and what it waited for."""
    lines = []
    for stall in t.stalls[:count]:
        lines.append(f"{figures(stall.share, stall.us, stall.count)}  {stall.op}  {stall.line}")
        lines.append(" " * 32 + f"waits for {stall_waits_for(stall)}")
    return lines


def figures(share: float, spent_us: float, count: int | str = "") -> str:
    """Share, microseconds and count."""
    return f"{percent(share):>10}{us(spent_us):>12}{count:>8}"


def waits_for(why: str, other: str) -> str:
    """What a start waited for, in words; `other` is the event that decided it."""
    return WAITS[why].format(other)


def stall_waits_for(stall: Stall) -> str:
    other = " ".join(filter(None, (stall.waits_for, stall.waits_for_line)))
    return waits_for(stall.why, other)


def what_if(profiles: Sequence[Profile]) -> list[str]:
    """What --set changed."""
    changed: Mapping[str, float] = next((p.timing.settings for p in profiles if p.timing.settings), {})
    words = ", ".join(f"{name} = {value:g}" for name, value in changed.items())
    return [f"what-if: {words}"] if changed else []


def side_by_side(profiles: Sequence[Profile]) -> str:
    """A column for each prediction of one case, then what decides each time."""
    title = f"{headline(profiles[0].result)}: predicted, not measured"
    lines = [*textwrap.wrap(title, WIDTH), *what_if(profiles), ""]
    for some in chunks(profiles):
        lines += [*text_table(table(some, profiles), right=range(1, len(some) + 1)), ""]
    for profile in profiles:
        t = profile.timing
        lines += [f"── {profile.label}", *critical(t, 3)]
        if t.stalls:
            lines += [f"longest stall of {t.stalls[0].engine}, the busiest", *stalls(t, 1)]
        lines.append("")
    return "\n".join(lines[:-1]) + "\n"


def chunks(profiles: Sequence[Profile]) -> list[Sequence[Profile]]:
    """As many columns as fit beside each other."""
    column = max(10, *(len(profile.label) for profile in profiles)) + 2
    fit = max((WIDTH - 20) // column, 1)
    return [profiles[i : i + fit] for i in range(0, len(profiles), fit)]


def table(some: Sequence[Profile], profiles: Sequence[Profile]) -> list[list[str]]:
    """Figures of predictions, a row each; a row that would be empty is left out."""
    first = profiles[0].label
    rows: list[tuple[str, Any]] = [
        ("time, us", lambda p, t: us(t.predicted_us)),
        (f"against {first}", lambda p, t: change(p, profiles) if p.against == first and not t.settings else ""),
        ("by the what-if", lambda p, t: change(p, profiles) if t.settings else ""),
        ("roofline, us", lambda p, t: us(t.roofline_us)),
        ("bound", lambda p, t: t.bound),
        ("MFU", lambda p, t: percent(t.mfu)),
        ("HBM", lambda p, t: percent(t.hbm_share)),
        ("FLOP a byte", lambda p, t: short(t.intensity_flop_per_byte) if t.matmul_flops else ""),
    ]
    for track in dict.fromkeys(track for p in profiles for track in p.timing.busy_share):
        rows.append((f"{track} busy", lambda p, t, track=track: percent(t.busy_share.get(track, 0.0))))
    for memory in used(profiles[0].timing):
        rows.append((f"{memory.upper()} peak", lambda p, t, memory=memory: kib(t.memory[memory].peak_bytes)))
    cells = [[name, *(value(p, p.timing) for p in some)] for name, value in rows]
    return [["", *(p.label for p in some)], *(row for row in cells if any(row[1:]))]


def overview(found: Sequence[Sequence[Profile]]) -> str:
    """A row for each prediction of several cases; what all have in common stands above them."""
    head = ["op", "case", "dtype", "target", "us", "change", "MFU", "HBM", "roofline", "bound", "busiest"]
    rows = []
    for profiles in found:
        for p in profiles:
            t = p.timing
            track, share = next(iter(t.busy_share.items()), ("", 0.0))
            rows.append(
                [
                    *(p.result.op, p.result.case, p.result.dtype, p.label),
                    *(us(t.predicted_us), change(p, profiles), percent(t.mfu), percent(t.hbm_share)),
                    *(us(t.roofline_us), t.bound, f"{track} {100 * share:.0f} %" if track else ""),
                ]
            )
    common = [i for i in (0, 2, 3) if len({row[i] for row in rows}) == 1]
    kept = [i for i in range(len(head)) if i not in common and (i != 5 or any(row[5] for row in rows))]
    words = 4 - len(common)
    lines = text_table([[row[i] for i in kept] for row in (head, *rows)], right=range(words, len(kept)))
    lines[1:1] = ["─" * max(map(len, lines))]
    title = ": ".join(filter(None, [" ".join(rows[0][i] for i in common), "predicted, not measured"]))
    last = "Choose one case, with -k, for its critical path and its stalls."
    return "\n".join([title, *what_if([p for profiles in found for p in profiles]), "", *lines, "", last]) + "\n"
