"""What a tuning says: the best settings in a table, why others were refused, and the choice in a sentence."""

from __future__ import annotations

import textwrap
from typing import Any

from triptych.harness.profiling.ranking import facts
from triptych.harness.reports.formats import one_line, plural, short, us
from triptych.harness.reports.markdown import escape, markdown_table
from triptych.harness.reports.text_table import text_table
from triptych.harness.results.timing_accuracy import LAST_VALIDATION
from triptych.harness.tuning.search import WORTH, Trial, Tuning

SHOWN = 12  # settings
REASONS = 5
WIDTH = 140


def table(tuning: Tuning) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the best settings, the file's own among them."""
    ranked = tuning.ranked
    shown = ranked[:SHOWN]
    shown += [trial for trial in ranked[SHOWN:] if trial is tuning.own]
    first = next((trial for trial in shown), None)
    cases = [reading.case for reading in first.readings] if first else []
    head = ["", *tuning.knobs.values]
    if tuning.evidence is None:
        head += list(facts(()))
    else:
        head += [*([f"{cases[0]}, us"] if len(cases) == 1 else []), "time over the file's"]
    rows = []
    for trial in shown:
        mark = "the file's" if trial is tuning.own else str(ranked.index(trial) + 1)
        rows.append([mark, *map(str, trial.setting.values()), *figures(tuning, trial)])
    return head, rows


def figures(tuning: Tuning, trial: Trial) -> list[str]:
    """The cells of a setting: facts of its kernels, the worst over the cases, or its times."""
    if tuning.evidence is None:
        found = [facts(reading.compiled) for reading in trial.readings]
        pick = {"resident warps": min}
        return [f"{pick.get(name, max)(f[name] for f in found):,}" for name in facts(())]
    times = [reading.timing.us for reading in trial.readings if reading.timing]
    own = tuning.own
    over = f"{tuning.score(trial):.4f}" if own is not None and not own.refused else ""
    return [*([us(times[0])] if len(times) == 1 else []), over]


def text(tuning: Tuning) -> str:
    """The table, and what was refused."""
    head, rows = table(tuning)
    lines = [title(tuning), ""]
    if rows:
        lines += text_table([head, *rows], right=range(1, len(head)), rule=True)
    more = len(tuning.ranked) - len(rows)
    lines += [f"and {plural(more, 'more setting')}"] if more > 0 else []
    return "\n".join([*lines, *refused(tuning)]) + "\n"


def title(tuning: Tuning) -> str:
    """What was tried, and what the figures are."""
    tried, all_of_them = len(tuning.trials), tuning.knobs.count
    kind = "compiled, not timed" if tuning.evidence is None else str(tuning.evidence)
    cut = "" if tuning.complete else ", cut short"
    return f"{tuning.knobs.path.name}: {tried} of {plural(all_of_them, 'setting')} tried{cut}: {kind}"


def refused(tuning: Tuning) -> list[str]:
    """How many settings were refused, and why."""
    found = tuning.refusals
    lines = [f"refused: {count}: {brief(why)}" for why, count in list(found.items())[:REASONS]]
    rest = sum(list(found.values())[REASONS:])
    return [*lines, f"refused: {rest} more for other reasons"] if rest else lines


def brief(why: str) -> str:
    """The reason up to its first semicolon, on one line of the screen."""
    return textwrap.shorten(one_line(why).partition("; ")[0], WIDTH, placeholder=" ...")


def choice(tuning: Tuning, chosen: Trial | None, judged: int) -> str:
    """The sentence at the end: what to set, by how much it is faster, and how far it was judged."""
    own = tuning.own
    if not tuning.complete:
        best = next(iter(tuning.ranked), None)
        so_far = ", ".join(f"{name} = {value!r}" for name, value in best.setting.items()) if best else "nothing"
        return f"choice: none, because it was cut short; the best so far, not judged: {so_far}"
    if chosen is None:
        return "choice: none, because every setting was refused"
    if own is chosen:
        return f"choice: as the file has it: {nothing_better(tuning)}"
    words = ", ".join(f"{name} = {value!r}{was(tuning, name, value)}" for name, value in chosen.setting.items())
    right = f"agrees with the reference in all {plural(judged, 'case')} that ran"
    return f"choice: {words}: {by_how_much(tuning, chosen)}; {right}"


def was(tuning: Tuning, name: str, value: object) -> str:
    before = tuning.knobs.own[name]
    return "" if value == before else f" (was {before!r})"


def nothing_better(tuning: Tuning) -> str:
    """Why the file's own setting stays."""
    of = f"of {plural(len(tuning.trials), 'setting')} tried"
    if tuning.evidence is None:
        return f"none {of} spills less or keeps more warps resident"
    others = [trial for trial in tuning.ranked if trial is not tuning.own]
    best = f"; the best other takes {tuning.score(others[0]):.4f} of its time" if others else ""
    least = f" by {100 * WORTH:g} % or more" if tuning.evidence == "predicted" else ""
    return f"none {of} is faster{least}{best}"


def by_how_much(tuning: Tuning, chosen: Trial) -> str:
    """The gain over the file's own setting, with its evidence."""
    own = tuning.own
    if own is None or own.refused:
        return "the file's own setting was refused"
    if tuning.evidence is None:
        return "by what the compiler says, which is no time: measure it on a device"
    found = tuning.ratios(chosen)
    shorter = f"{100 * (1 - tuning.score(chosen)):.1f} % shorter than the file's"
    intervals = [f"{short(r.low, 4)} to {short(r.high, 4)}" for r in found if not r.exact]
    return f"{shorter}, {tuning.evidence}" + (f" (95 % of the ratio: {', '.join(intervals)})" if intervals else "")


def markdown(tuning: Tuning, sentence: str) -> str:
    """The table for a pull request."""
    head, rows = table(tuning)
    lines = "".join(f"- {escape(line)}\n" for line in refused(tuning))
    return (
        f"**{escape(title(tuning))}**\n\n{markdown_table(head, rows, right=range(1, len(head)))}\n{lines}\n"
        f"{escape(sentence)}\n"
    )


def accuracy(tuning: Tuning) -> str:
    """How far predictions are off, where there are any."""
    return LAST_VALIDATION.sentence() if tuning.evidence == "predicted" else ""


def record(tuning: Tuning, chosen: Trial | None) -> dict[str, Any]:
    """All of it for a document."""
    return {
        "file": tuning.knobs.path.name,
        "knobs": {name: list(some) for name, some in tuning.knobs.values.items()},
        "own": dict(tuning.knobs.own),
        "evidence": tuning.evidence and str(tuning.evidence),
        "complete": tuning.complete,
        "trials": [trial_record(tuning, trial) for trial in tuning.trials],
        "choice": chosen and dict(chosen.setting),
        "gains": bool(chosen and tuning.own is not chosen),
    }


def trial_record(tuning: Tuning, trial: Trial) -> dict[str, Any]:
    found: dict[str, Any] = {"setting": dict(trial.setting)}
    if trial.refused:
        return {**found, "refused": trial.refused}
    if tuning.evidence is None:
        return {**found, "cases": {r.case: dict(facts(r.compiled)) for r in trial.readings}}
    times = {reading.case: reading.timing.us for reading in trial.readings if reading.timing}
    ratios = [ratio.value for ratio in tuning.ratios(trial)]
    return {**found, "us": times, "over_own": ratios}
