"""A comparison on a screen, for a pull request and for GitHub's annotations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from triptych.harness.comparing.causes import Causes
from triptych.harness.comparing.changes import Change, Comparison
from triptych.harness.comparing.gate import Gate
from triptych.harness.reports.comparison.cells import (
    ENGINE_HEAD,
    LINE_HEAD,
    beyond,
    by_size,
    engine_rows,
    headline,
    line_rows,
    name,
    sentences,
    table,
    totals,
)
from triptych.harness.reports.formats import one_line
from triptych.harness.reports.markdown import escape, markdown_table
from triptych.harness.reports.text_table import text_table
from triptych.harness.results.timing_accuracy import LAST_VALIDATION

Explained = Sequence[tuple[Change, Causes]]  # changes whose causes are known
COMMENT_LINES = 60  # of a comment, at most


def text(comparison: Comparison, gate: Gate, explained: Explained, *, quiet: bool = False) -> str:
    """The table, where differences come from, and the verdict last."""
    lines: list[str] = []
    if not quiet and comparison.changes:
        head, numbers, rows = table(comparison.changes)
        lines += [f"base: {one_line(comparison.base_name)}", f"new:  {one_line(comparison.new_name)}", ""]
        lines += [*text_table([head, *rows], right=numbers, rule=True), ""]
        for change, causes in explained:
            lines += [*cause_lines(change, causes), ""]
        lines += totals(comparison)
        if any(c.metric == "predicted" for c in comparison.changes):
            lines.append(LAST_VALIDATION.sentence())
    lines += [f"note: {one_line(note)}" for note in comparison.notes]
    return "\n".join([*lines, *sentences(gate), headline(comparison, gate)]) + "\n"


def cause_lines(change: Change, causes: Causes) -> Iterator[str]:
    """Where the difference of one case comes from."""
    yield f"── {name(change)}: {causes.new_us - causes.base_us:+,.1f} µs"
    yield from text_table([list(ENGINE_HEAD), *engine_rows(causes)], right=(1, 2, 3))
    rows, more = line_rows(causes)
    if rows:
        yield ""
        yield from text_table([list(LINE_HEAD), *rows], right=(0, 1, 2))
    if more:
        yield f"and {more} more lines"


def comment(comparison: Comparison, gate: Gate, explained: Explained) -> str:
    """Markdown for a pull request: the answer, what the gate says, the largest changes; 60 lines at most."""
    mark = "❌" if gate.broken or gate.regressed else "⚠️" if gate.vanished or not comparison.changes else "✅"
    head = [
        f"### {mark} {escape(headline(comparison, gate))}",
        "",
        f"`{code(comparison.new_name)}` against `{code(comparison.base_name)}`",
        "",
    ]
    head += [f"> {escape(note)}" for note in comparison.notes]
    told = [f"- {escape(sentence)}" for sentence in sentences(gate)]
    tail = ["", *(f"- {escape(sentence)}" for sentence in totals(comparison))]
    if any(c.metric == "predicted" for c in comparison.changes):
        tail += ["", escape(LAST_VALIDATION.sentence())]
    why: list[str] = []
    for change, causes in explained[:1]:
        rows, _ = line_rows(causes, 5)
        why += ["", f"Where {escape(name(change))} differs:", ""]
        why += markdown_table(LINE_HEAD, rows, right=(0, 1, 2)).splitlines() if rows else []
    told = cut(told, 15, "more")
    room = COMMENT_LINES - len(head) - len(told) - len(why) - len(tail) - 5
    changes = by_size(comparison.changes)
    shown = table(changes[: max(room, 3)])
    rows_told = markdown_table(shown.head, shown.rows, right=shown.numbers).splitlines() if changes else []
    left = len(changes) - max(room, 3)
    rest = ["", f"and {left} more cases"] if left > 0 else []
    lines = [*head, *told, "", *rows_told, *rest, *why, *tail]
    return "\n".join(lines[:COMMENT_LINES]) + "\n"


def cut(lines: list[str], most: int, what: str) -> list[str]:
    return lines if len(lines) <= most else [*lines[: most - 1], f"- and {len(lines) - most + 1} {what}"]


def code(text: str) -> str:
    return one_line(text).replace("`", "'")


def github(gate: Gate, files: Mapping[str, str]) -> Iterator[str]:
    """GitHub's workflow commands for what the gate found.

    files: the kernel's file of an op, in its repository
    (https://docs.github.com/actions/reference/workflow-commands-for-github-actions)
    """
    for level, title, changes in (
        ("error", "wrong", gate.broken),
        ("error", "slower", gate.regressed),
        ("warning", "no time to compare", gate.vanished),
        ("warning", "not decided", gate.undecided),
    ):
        for change in changes:
            why = beyond(change, gate) if change.ratio and change.metric in gate.limits else ""
            reason = why or one_line((change.new and change.new.reason) or change.verdict)
            file = files.get(change.any.op)
            about = [f"file={property_of(file)}"] if file else []
            about.append(f"title={property_of(f'{change.any.op}: {title}')}")
            yield f"::{level} {','.join(about)}::{message(f'{name(change)}: {reason}')}"


def message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def property_of(text: str) -> str:
    return message(one_line(text)).replace(":", "%3A").replace(",", "%2C")
