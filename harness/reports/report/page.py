"""The report: one HTML file for someone who never saw the project. No script, no request to anywhere.

A triptych is its plan: the centre panel says whether the kernels agree with the reference, the wings say it for NKI and
for Triton, and the predella below names the machine. Then, in the order a sceptic asks: what disagreed, what did not
run, every verdict, how close to the bound, how fast within each kind of evidence, how to repeat it, how to read it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from triptych.harness.results.result import Result
from triptych.harness.results.status import BAD, RAN, Evidence, Status

FAMILIES = {
    "nki-sim": "nki",
    "nki": "nki",
    "triton-cpu": "triton",
    "triton": "triton",
    "torch": "torch",
    "numpy": "numpy",
}


@dataclass(frozen=True)
class Entry:
    """A result and the run it came from: speeds of two machines must not be ranked together."""

    result: Result
    run: int
    runs: int

    @property
    def place(self) -> str:
        return self.result.backend_label + (f" · run {self.run + 1}" if self.runs > 1 else "")

    @property
    def judged(self) -> bool:
        """Whether it was compared with the reference: neither the reference itself is, nor a profile."""
        return self.result.evidence not in (Evidence.REFERENCE, Evidence.PREDICTED)

    @property
    def family(self) -> str:
        return FAMILIES.get(self.result.backend, "other")


@dataclass(frozen=True)
class Book:
    """Everything a report shows: the entries and, per run, the environment they came from."""

    entries: tuple[Entry, ...]
    environments: tuple[Mapping[str, Any], ...]

    def compared(self, family: str | None = None) -> list[Entry]:
        """What ran and was judged."""
        return [
            entry
            for entry in self.entries
            if entry.judged and entry.result.status in RAN and family in (None, entry.family)
        ]

    def bad(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.result.status in BAD]

    def ops(self) -> list[str]:
        return list(dict.fromkeys(entry.result.op for entry in self.entries))

    def of(self, op: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.result.op == op]


def page(runs: Sequence[tuple[Mapping[str, Any], Sequence[Result]]]) -> str:
    """The HTML of one or more runs."""
    from triptych.harness.reports.report import verdicts as sections
    from triptych.harness.reports.report.disagreements import absent, disagreements
    from triptych.harness.reports.report.parity import invariance, parity
    from triptych.harness.reports.report.speed import speed
    from triptych.harness.reports.report.style import STYLE

    entries = [Entry(result, i, len(runs)) for i, (_, results) in enumerate(runs) for result in results]
    book = Book(tuple(entries), tuple(env for env, _ in runs))
    parts = [
        ("disagreements", "What did not agree", disagreements(book)),
        ("absent", "What did not run", absent(book)),
        ("verdicts", "Every verdict", sections.verdicts(book)),
        ("agreement", "How close to the bound", sections.agreement(book)),
        ("parity", "Backend against backend", parity(book)),
        ("invariance", "The same bits again", invariance(book)),
        ("speed", "How fast", speed(book)),
        ("repeat", "How to repeat this", sections.repeat(book)),
        ("legend", "How to read this", sections.legend(book)),
        ("machine", "Machine and versions", sections.machine(book)),
    ]
    present = [(anchor, title, body) for anchor, title, body in parts if body]
    contents = "".join(f'<li><a href="#{anchor}">{escape(title)}</a></li>' for anchor, title, _ in present)
    chapters = "".join(
        f'<section id="{anchor}" aria-labelledby="{anchor}-title">'
        f'<h2 id="{anchor}-title">{escape(title)}</h2>{body}</section>'
        for anchor, title, body in present
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(sections.headline(book))} · Triptych</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        '<a class="skip" href="#content">Skip to the results</a>\n'
        f"{sections.masthead(book)}\n{sections.altarpiece(book)}\n"
        f'<nav aria-label="Contents"><ol>{contents}</ol></nav>\n'
        f'<main id="content">{chapters}</main>\n'
        "<footer><p>Written by Triptych: one kernel, three panels.</p></footer>\n</body>\n</html>\n"
    )


def word(status: Status) -> str:
    """A status as a word in a shape and a colour; the word alone would do."""
    return f'<span class="status {status}">{status}</span>'


def plural(count: int, one: str, many: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def breakable(case: str) -> str:
    """A case name that may wrap after each slash."""
    return escape(case).replace("/", "/<wbr>")
