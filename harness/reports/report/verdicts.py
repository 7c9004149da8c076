"""The chapters of the report, but for speed."""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from html import escape
from typing import Any

from triptych.harness.measured.timing_accuracy import in_words
from triptych.harness.reports import tables
from triptych.harness.reports.report.page import Book, Entry, breakable, plural, word
from triptych.harness.reports.report.style import MARK
from triptych.harness.results.measures import Fixed
from triptych.harness.results.status import BAD, RAN, Evidence, Status

EVIDENCE = {
    Evidence.REFERENCE: "The NumPy definition of the op, float64 inside. It is what the others are compared with.",
    Evidence.SIMULATED: "Numbers computed by Triptych's simulator of a NeuronCore. Says that the kernel is right; says "
    "nothing about time.",
    Evidence.PREDICTED: "A time computed from a simulated run, by a model of the chip; "
    f"{in_words()}. Never measured, and never ranked with anything that was.",
    Evidence.INTERPRETED: "Triton's interpreter on a CPU, with its bfloat16 arithmetic corrected. The numbers stand "
    "for the kernel; the time stands for the interpreter alone.",
    Evidence.DEVICE: "Measured on an accelerator.",
    Evidence.HOST: "Measured on this machine's CPU.",
}

STATUSES = {
    Status.PASSED: "ran, and is within the bound",
    Status.FAILED: "ran, and disagrees with the reference",
    Status.ERROR: "raised, crashed, wrote out of bounds, left output unwritten or returned a wrong shape",
    Status.TIMEOUT: "did not end in time and was stopped",
    Status.UNSUPPORTED: "documented not to be done by the kernel or the hardware, or inputs that can judge no kernel",
    Status.SKIPPED: "the backend is not on this machine; nothing is known",
}

WINGS = {"nki": ("NKI", "Trainium and Inferentia"), "triton": ("Triton", "GPUs")}
SHAPES = {"float32": "circle", "bfloat16": "square", "float16": "diamond"}


def headline(book: Book) -> str:
    """The whole report in one sentence."""
    compared, bad = len(book.compared()), len([entry for entry in book.compared() if entry.result.status in BAD])
    if not compared:
        return "Nothing was compared"
    if bad:
        return f"{bad:,} of {plural(compared, 'comparison')} did not agree"
    return "The one comparison agrees" if compared == 1 else f"All {compared:,} comparisons agree"


def masthead(book: Book) -> str:
    """The name, and what was compared."""
    ops = ", ".join(f"<b>{escape(op)}</b>" for op in book.ops()) or "nothing"
    dates = sorted({str(env["utc"])[:10] for env in book.environments if env.get("utc")})
    when = f"<span>{escape(' to '.join(dates))}</span>" if dates else ""
    return (
        f'<header class="mast"><p class="name">{MARK}Triptych</p>'
        f"<p>One operation, written three times and compared: {ops}</p>{when}</header>"
    )


def altarpiece(book: Book) -> str:
    """Three panels: the verdict in the middle, one wing a language; the machine below."""
    bad = bool(book.bad())
    counts = Counter(entry.result.status for entry in book.entries if entry.judged)
    tally = "".join(
        f'<li class="{status}{"" if counts[status] else " none"}"><b>{counts[status]:,}</b> {status}</li>'
        for status in Status
    )
    mood = "bad" if bad else ("good" if book.compared() else "empty")
    explain = (
        "with a float64 NumPy reference, within twice the error that an honest kernel of the same dtype makes."
        if not bad
        else 'with a float64 NumPy reference. <a href="#disagreements">See why.</a>'
    )
    centre = (
        f'<div class="panel centre {mood}"><p class="eyebrow">NumPy reference</p><h1>{escape(headline(book))}</h1>'
        f'<p>{explain}</p><ul class="tally">{tally}</ul></div>'
    )
    return (
        f'<section class="altar" aria-label="The verdict">{wing(book, "nki")}{centre}{wing(book, "triton")}'
        f'<div class="predella">{predella(book)}</div></section>'
    )


def wing(book: Book, family: str) -> str:
    """One language: how many of its comparisons agree on each backend, and the closest call."""
    title, machines = WINGS[family]
    places: dict[str, list[Entry]] = defaultdict(list)
    for entry in book.entries:
        if entry.family == family and entry.result.evidence is not Evidence.PREDICTED:
            places[entry.place].append(entry)
    items = []
    for name, entries in places.items():
        ran = [entry for entry in entries if entry.result.status in RAN]
        if not ran:
            reason = next((tables.note(e.result) for e in entries if tables.note(e.result)), "no case for it")
            state = entries[0].result.status
            items.append(f'<li><b>{escape(name)}</b> {word(state)}<span class="why">{escape(reason)}</span></li>')
            continue
        passed = sum(entry.result.status is Status.PASSED for entry in ran)
        mood = "passed" if passed == len(ran) else "failed"
        items.append(
            f'<li><b>{escape(name)}</b> <span class="kind">{ran[0].result.evidence}</span>'
            f'<span class="ratio {mood}">{passed:,} of {len(ran):,} agree</span>{closest(ran)}</li>'
        )
    inside = "".join(items) or "<li>not selected</li>"
    return f'<div class="panel wing {family}"><h2>{title}</h2><p>{machines}</p><ul>{inside}</ul></div>'


def closest(entries: Sequence[Entry]) -> str:
    """The largest share of its bound that any of these used."""
    shares = finite(entries)
    if not shares:
        return ""
    return f'<span class="why">largest error: {tables.short(max(shares), 2)} of its bound</span>'


def finite(entries: Sequence[Entry]) -> list[float]:
    shares = [tables.share_of_bound(entry.result) for entry in entries]
    return [share for share in shares if share is not None and math.isfinite(share)]


def predella(book: Book) -> str:
    """The machine in one line a run."""
    lines = []
    for i, env in enumerate(book.environments):
        packages = env.get("packages") or {}
        named = [f"{name} {packages[name]}" for name in ("numpy", "triton", "torch", "nki") if packages.get(name)]
        gpus = [gpu.get("name", "") for gpu in env.get("gpus") or []]
        facts = [
            f"run {i + 1}" if len(book.environments) > 1 else "",
            str(env.get("cpu") or ""),
            plural(int(env["cores"]), "core") if env.get("cores") else "",
            *(gpus or ["no GPU"]),
            f"Python {env['python']}" if env.get("python") else "",
            *named,
            commit(env),
        ]
        lines.append("<p>" + "".join(f"<span>{escape(fact)}</span>" for fact in facts if fact) + "</p>")
    return "".join(lines)


def commit(env: Any) -> str:
    git = env.get("git")
    if not git:
        return f"triptych {env['triptych']}" if env.get("triptych") else ""
    return f"commit {git['sha'][:10]}{' with local changes' if git.get('dirty') else ''}"


def verdicts(book: Book) -> str:
    """One table an op: a row for each case and dtype, a column for each backend that is here."""
    run = [
        entry for entry in book.entries if entry.result.evidence is not Evidence.PREDICTED
    ]  # a profile judges nothing
    here = {entry.place for entry in run if entry.result.status is not Status.SKIPPED}
    return "".join(
        matrix(op, [entry for entry in run if entry.result.op == op and entry.place in here]) for op in book.ops()
    )


def matrix(op: str, entries: Sequence[Entry]) -> str:
    places = list(dict.fromkeys(entry.place for entry in entries))
    cases: dict[str, dict[str, dict[str, Entry]]] = defaultdict(lambda: defaultdict(dict))
    for entry in entries:
        cases[entry.result.case][entry.result.dtype][entry.place] = entry
    if not places:
        return ""
    kinds = {entry.place: entry.result.evidence for entry in entries}
    families = {entry.place: entry.family for entry in entries}
    heads = "".join(
        f'<th scope=col class="{families[place]}"><b>{escape(place)}</b><span>{kinds[place]}</span></th>'
        for place in places
    )
    body = []
    for case, dtypes in cases.items():
        rows = []
        for i, (dtype, found) in enumerate(dtypes.items()):
            first = f'<th scope=rowgroup rowspan="{len(dtypes)}">{breakable(case)}</th>' if i == 0 else ""
            cells = "".join(verdict(found.get(place)) for place in places)
            rows.append(f"<tr>{first}<th scope=row>{escape(dtype)}</th>{cells}</tr>")
        body.append(f"<tbody>{''.join(rows)}</tbody>")
    return (
        f'<h3>{escape(op)}</h3><div class="scroll" tabindex="0" role="region" aria-label="Verdicts of {escape(op)}">'
        f'<table class="matrix"><caption>Status of every case of {escape(op)}; the number is its error as a share of '
        f"its bound.</caption><thead><tr><th scope=col>case</th><th scope=col>dtype</th>{heads}</tr></thead>"
        f"{''.join(body)}</table></div>"
    )


def verdict(entry: Entry | None) -> str:
    """One cell: the status, the share of the bound as a number and as the length of a rule."""
    if entry is None:
        return '<td class="void"><span aria-label="not run">–</span></td>'
    result = entry.result
    share = tables.share_of_bound(result)
    if share is None or result.evidence is Evidence.REFERENCE:
        return f'<td class="{result.status}" title="{escape(tables.note(result))}">{word(result.status)}</td>'
    filled = min(share, 1.0) * 100 if math.isfinite(share) else 100
    return (
        f'<td class="{result.status}" title="{escape(tables.note(result))}">{word(result.status)}'
        f'<span class="share">{share:.2f}</span><i style="width:{filled:.0f}%"></i></td>'
    )


def agreement(book: Book) -> str:
    """A lane for each op and backend; a mark for each case, placed by its error as a share of its bound."""
    lanes = []
    judged = [entry for entry in book.compared() if tables.share_of_bound(entry.result) is not None]
    for op in book.ops():
        inside = []
        entries = [entry for entry in judged if entry.result.op == op]
        for place in dict.fromkeys(entry.place for entry in entries):
            inside.append(lane(place, [entry for entry in entries if entry.place == place]))
        if inside:
            lanes.append(
                f'<div class="lanes"><h3>{escape(op)}</h3>{"".join(inside)}'
                f'<div class="axis" aria-hidden="true">{AXIS}</div></div>'
            )
    if not lanes:
        return ""
    key = "".join(f'<li><span class="dot {shape}"></span>{dtype}</li>' for dtype, shape in SHAPES.items())
    return (
        "<p>Each mark is one case. Its place is its error divided by what the tolerance allows: at 0 there is none, at "
        "0.5 it is as large as an honest kernel's of the same dtype, beyond 1 the case fails.</p>"
        f'<ul class="key">{key}</ul>{"".join(lanes)}'
    )


AXIS = "".join(
    f'<span style="left:{tick / 1.1:.2f}%">{label}</span>'
    for tick, label in ((0, "0"), (50, "0.5"), (100, "1, the bound"))
)


def lane(place: str, entries: Sequence[Entry]) -> str:
    marks = []
    for entry in entries:
        share = tables.share_of_bound(entry.result)
        beyond = share is None or not share <= 1.1
        left = 100.0 if beyond or share is None else share / 1.1 * 100
        shape = SHAPES.get(entry.result.dtype, "circle")
        what = f"{entry.result.case} {entry.result.dtype}: {tables.short(share, 2)}"
        marks.append(
            f'<span class="dot {shape} {entry.result.status}" style="left:{left:.2f}%" title="{escape(what)}"></span>'
        )
    shares = finite(entries)
    words = (
        f"median {tables.short(statistics.median(shares), 2)}, largest {tables.short(max(shares), 2)}"
        if shares
        else "none finite"
    )
    return (
        f'<div class="lane {entries[0].family}"><p><b>{escape(place)}</b> '
        f"<span>{plural(len(entries), 'case')}, {words}</span></p>"
        f'<div class="track" role="img" aria-label="{escape(place)}: {words} of the bound">{"".join(marks)}</div></div>'
    )


def repeat(book: Book) -> str:
    """The commands that made this, and where the same bytes come from."""
    commands = "\n".join(str(env["command"]) for env in book.environments if env.get("command"))
    shas = {env["git"]["sha"] for env in book.environments if env.get("git")}
    tree = f"git checkout {shas.pop()}\n" if len(shas) == 1 else ""
    seeds = ", ".join(dict.fromkeys(str(env.get("seed", 0)) for env in book.environments))
    return (
        f"<p>Inputs are drawn from seed {escape(seeds)}: the same seed gives every backend, on every machine, the same "
        "bytes.</p>"
        f"<pre><code>{escape(tree)}python -m pip install -e .\n{escape(commands)}</code></pre>"
        "<p><code>triptych doctor</code> says which backends a machine has; <code>--json results.json</code> keeps "
        "every number of this page, and <code>triptych report --from results.json</code> draws it again.</p>"
    )


def rule(book: Book) -> str:
    """What the tolerance of these results was."""
    fixed = {
        f"{tolerance.source}: atol {tolerance.atol}, rtol {tolerance.rtol}"
        for tolerance in (entry.result.tolerance for entry in book.entries)
        if isinstance(tolerance, Fixed)
    }
    if fixed:
        return (
            f"<strong>Some cases had a fixed tolerance, given by the {escape('; '.join(sorted(fixed)))}</strong>: "
            "|out - reference| at most atol + rtol |reference|. The default, twice an honest kernel's error, was not "
            "used for them."
        )
    return (
        "An honest kernel of the same dtype rounds too. So the harness computes the op in that dtype the plain way, "
        "measures the error of <em>that</em> against the float64 reference, and allows a kernel at most twice as much, "
        "and never less than one unit in the last place of the largest element. Each element is held to its own size "
        "too: to four times the honest kernel's error in units of what one rounding of the inputs does to that "
        "element. NaN and infinities must be where the reference has them."
    )


def legend(book: Book) -> str:
    """What the words and columns mean."""
    kinds = "".join(f"<dt>{kind}</dt><dd>{text}</dd>" for kind, text in EVIDENCE.items())
    states = "".join(f"<dt>{word(status)}</dt><dd>{text}</dd>" for status, text in STATUSES.items())
    columns = (
        ("backend[target]", "how a kernel ran, and for which chip"),
        (
            "bound",
            "what the tolerance allows, in largest absolute error, in relative L2 and in each element's own unit; the "
            "worst of them counts",
        ),
        ("error ULP", "largest absolute error, in units in the last place of the output's largest value"),
        ("rel L2", "length of the error vector divided by that of the reference"),
        ("median", "middle one of the samples; the range under it holds the middle half of them, n is how many"),
        ("TFLOP/s, GB/s", "arithmetic and unavoidable memory traffic of the op, divided by that time"),
    )
    terms = "".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in columns)
    return (
        f'<div class="legend"><div><h3>The tolerance</h3><p>{rule(book)}</p>'
        f'<h3>Status</h3><dl class="states">{states}</dl></div>'
        "<div><h3>Evidence</h3><p>Where a number comes from. Speeds are ranked only within one kind.</p>"
        f"<dl>{kinds}</dl></div>"
        f"<div><h3>Columns</h3><dl>{terms}</dl></div></div>"
    )


def machine(book: Book) -> str:
    """Everything in the environment record."""
    out = []
    for i, env in enumerate(book.environments):
        rows = "".join(
            f"<tr><th scope=row>{escape(key)}</th><td>{escape(flat(value))}</td></tr>"
            for key, value in env.items()
            if key != "command"
        )
        title = f"<h3>Run {i + 1}</h3>" if len(book.environments) > 1 else ""
        out.append(f'{title}<div class="scroll"><table class="facts"><tbody>{rows}</tbody></table></div>')
    return "".join(out)


def flat(value: Any) -> str:
    """A value of the environment record as words."""
    if value is None or value == {} or value == []:
        return "none"
    if isinstance(value, dict):
        between = "; " if any(isinstance(item, dict) for item in value.values()) else ", "
        return between.join(f"{key} {'not installed' if item is None else flat(item)}" for key, item in value.items())
    if isinstance(value, list):
        return "; ".join(flat(item) for item in value)
    return str(value)
