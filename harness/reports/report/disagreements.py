"""The report's chapters on what disagreed and on what did not run."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from html import escape

from triptych.harness.judge import mismatch_map
from triptych.harness.reports import failures, tables
from triptych.harness.reports.report.page import Book, Entry, plural, word
from triptych.harness.results.findings import Failure
from triptych.harness.results.status import Status


def disagreements(book: Book) -> str:
    """One card a reason: the same reason on many cases is one problem, shown with its first case's command."""
    groups: dict[tuple[str, Status, str], list[Entry]] = defaultdict(list)
    for entry in book.bad():
        groups[entry.result.op, entry.result.status, tables.note(entry.result) or "no reason given"].append(entry)
    return "".join(card(op, status, reason, entries) for (op, status, reason), entries in groups.items())


def card(op: str, status: Status, reason: str, entries: Sequence[Entry]) -> str:
    names = [f"{e.result.case} · {e.result.dtype} · {e.place}" for e in entries]
    others = "".join(f"<li>{escape(name)}</li>" for name in names[1:])
    more = (
        f"<details><summary>and {plural(len(names) - 1, 'more case')}</summary><ul>{others}</ul></details>"
        if others
        else ""
    )
    first = entries[0].result
    repro, cause = first.repro, tables.blame(first)
    return (
        f'<article class="card"><h3>{word(status)} {escape(op)} <span>{escape(names[0])}</span></h3>'
        f"<p>{escape(reason)}</p>{shape(first.failure)}"
        + (f'<p class="why">{escape(cause)}</p>' if cause else "")
        + more
        + (f"<pre><code>{escape(repro)}</code></pre>" if repro else "")
        + "</article>"
    )


def shape(failure: Failure | None) -> str:
    """Where and by how much it fails: the diagnosis, a histogram and a map."""
    if failure is None:
        return ""
    found = failures.bins(failure.histogram)
    most = max(count for _, count in found)
    bars = "".join(
        f'<tr><th scope=row>{escape(label)}</th><td class=num>{count:,}</td><td class="bar"><i style="width:'
        f'{max(1.0, 100 * count / most):.1f}%"></i></td></tr>'
        for label, count in found
    )
    drawing = failure.map
    picture = escape("\n".join([*drawing.lines, "", mismatch_map.LEGEND]))
    return (
        f"<p><strong>{escape(failure.diagnosis)}</strong></p><details open><summary>where and by how much</summary>"
        f'<table class="histogram"><caption>Elements by their error, in units of what is allowed</caption>'
        f"<tbody>{bars}</tbody></table>"
        f"<figure><figcaption>{escape(failures.caption(drawing))}</figcaption><pre>{picture}</pre></figure></details>"
    )


def absent(book: Book) -> str:
    """Skipped backends and unsupported cases, one line a reason."""
    groups: dict[tuple[str, Status, str], int] = Counter()
    for entry in book.entries:
        if entry.result.status in (Status.SKIPPED, Status.UNSUPPORTED):
            groups[entry.place, entry.result.status, tables.note(entry.result) or "no reason given"] += 1
    if not groups:
        return ""
    rows = "".join(
        f"<tr><th scope=row>{escape(place)}</th><td>{word(status)}</td><td class=num>{count:,}</td>"
        f"<td>{escape(reason)}</td></tr>"
        for (place, status, reason), count in groups.items()
    )
    return (
        "<p>Nothing is known about these: they count neither as agreement nor as failure.</p>"
        '<div class="scroll"><table class="absent"><thead><tr><th scope=col>backend</th><th scope=col>status</th>'
        f"<th scope=col class=num>cases</th><th scope=col>why</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )
