"""A profile as text, to be read from the top down: how long, how well the chip is used, and what to look at next.

One prediction is shown whole; several of one case stand side by side, each with what decides its time; several cases
have a row each.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from triptych.harness.reports.formats import percent, us
from triptych.harness.reports.profile.figures import change, facts, figures_table, headline, stall_cause, what_if
from triptych.harness.reports.text_table import text_table
from triptych.harness.results.profile import Profile
from triptych.harness.results.timing import Profiled
from triptych.harness.results.timing_accuracy import LAST_VALIDATION

WIDTH = 100
BAR = 40


def text(subjects: Sequence[Sequence[Profile]]) -> str:
    """The predictions of each subject that was predicted."""
    if not subjects:
        return ""
    if len(subjects) > 1:
        return overview(subjects)
    profiles = subjects[0]
    return one_prediction(profiles[0]) if len(profiles) == 1 else side_by_side(profiles)


def one_prediction(profile: Profile) -> str:
    """One prediction with everything that it says."""
    t = profile.predicted
    order = " in program order" if t.order == "program" else ""
    cores = f", {t.cores} cores" if t.cores > 1 else ""
    title = f"{headline(profile)} on {profile.target} ({t.chip}{cores}){order}: predicted, not measured"
    lines = [*textwrap.wrap(title, WIDTH), ""]
    lines += [f"{name:<11}{value:>10}   {remark}" for name, value, remark in facts(t)]
    lines += ["", *textwrap.wrap(LAST_VALIDATION.sentence(), WIDTH)]
    lines += ["", f"busy share of the {us(t.predicted_us)} us"]
    lines += [f"  {track:<9}{percent(share):>10}   {'█' * round(BAR * share)}" for track, share in t.busy_share.items()]
    lines += ["", *critical_path(t, len(t.critical))]
    if t.stalls:
        lines += ["", f"longest stalls of {t.stalls[0].engine}, the busiest", *stalls(t, len(t.stalls))]
    if t.advice:
        lines += ["", "advice"]
    for sentence in t.advice:
        lines += textwrap.wrap(f"{sentence}.", WIDTH - 4, initial_indent="  - ", subsequent_indent="    ")
    return "\n".join(lines) + "\n"


def critical_path(t: Profiled, most: int) -> list[str]:
    """The source lines that the critical path runs through, the rest of them, and what no kernel can change."""
    shown, left = t.critical[:most], t.critical[most:]
    lines = [f"{'critical path':<13}{'us':>9}{'times':>8}  engine  instruction and line"]
    width = max((len(step.op) for step in shown), default=0)
    for step in shown:
        start = amounts(step.share, step.us, step.count)
        lines.append(f"{start}  {step.engine:<7} {step.op:<{width}}  {step.line}")
    others = t.critical_others
    count = len(left) + others.lines
    if count:
        start = amounts(sum(s.share for s in left) + others.share, sum(s.us for s in left) + others.us)
        lines.append(f"{start}  {count} other line{'s' * (count > 1)}")
    return [*lines, f"{amounts(t.launch_us / t.predicted_us, t.launch_us)}  launch and teardown"]


def stalls(t: Profiled, most: int) -> list[str]:
    """What stood still, and what it waited for."""
    lines = []
    for stall in t.stalls[:most]:
        lines.append(f"{amounts(stall.share, stall.us, stall.count)}  {stall.op}  {stall.line}")
        lines.append(" " * 32 + f"waits for {stall_cause(stall)}")
    return lines


def amounts(share: float, microseconds: float, count: int | str = "") -> str:
    """The columns of numbers before an instruction."""
    return f"{percent(share):>10}{us(microseconds):>12}{count:>8}"


def side_by_side(profiles: Sequence[Profile]) -> str:
    """A column for each prediction of one case, then what decides each time."""
    title = f"{headline(profiles[0])}: predicted, not measured"
    lines = [*textwrap.wrap(title, WIDTH), *what_if(profiles), ""]
    for some in chunks(profiles):
        lines += [*text_table(figures_table(some, profiles), right=range(1, len(some) + 1)), ""]
    for profile in profiles:
        t = profile.predicted
        lines += [f"── {profile.label}", *critical_path(t, 3)]
        if t.stalls:
            lines += [f"longest stall of {t.stalls[0].engine}, the busiest", *stalls(t, 1)]
        lines.append("")
    return "\n".join(lines[:-1]) + "\n"


def chunks(profiles: Sequence[Profile]) -> list[Sequence[Profile]]:
    """As many columns as fit beside each other."""
    column = max(10, *(len(profile.label) for profile in profiles)) + 2
    fit = max((WIDTH - 20) // column, 1)
    return [profiles[i : i + fit] for i in range(0, len(profiles), fit)]


def overview(subjects: Sequence[Sequence[Profile]]) -> str:
    """A row for each prediction of several cases; what all have in common stands above them."""
    head = ["op", "case", "dtype", "target", "us", "change", "MFU", "HBM", "roofline", "bound", "busiest"]
    rows = []
    for profiles in subjects:
        for p in profiles:
            t = p.predicted
            track, share = next(iter(t.busy_share.items()), ("", 0.0))
            rows.append(
                [
                    *(p.op, p.case, p.dtype, p.label),
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
    everything = [p for profiles in subjects for p in profiles]
    return "\n".join([title, *what_if(everything), "", *lines, "", last]) + "\n"
