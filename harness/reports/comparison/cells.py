"""The words of a comparison that text, Markdown and page share: the rows of its table, its sentences, its causes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from triptych.harness.comparing.causes import Causes, LineChange
from triptych.harness.comparing.changes import Change, Comparison, timing_of
from triptych.harness.comparing.gate import Gate
from triptych.harness.reports.figures import host_us
from triptych.harness.reports.formats import one_line, plural, short, us
from triptych.harness.results.status import Evidence

WHICH = ("op", "case", "dtype", "backend", "evidence")
COLUMNS = (*WHICH, "base µs", "new µs", "new/base", "95 % interval", "base host µs", "new host µs", "verdict")
NUMBERS = range(COLUMNS.index("base µs"), COLUMNS.index("verdict"))
LINES = 10  # of a kernel that are told


class Table(NamedTuple):
    """The columns of some changes that say something: their titles, which are of numbers, and a row for each change."""

    head: Sequence[str]
    numbers: Sequence[int]
    rows: Sequence[Sequence[str]]


def table(changes: Sequence[Change]) -> Table:
    rows = [row(change) for change in changes]
    kept = [i for i in range(len(COLUMNS)) if any(cells[i] for cells in rows)]
    numbers = [at for at, i in enumerate(kept) if i in NUMBERS]
    return Table([COLUMNS[i] for i in kept], numbers, [[cells[i] for i in kept] for cells in rows])


def row(change: Change) -> list[str]:
    """A change as the cells of `COLUMNS`."""
    outcome = change.any
    ratio = change.ratio
    exact = ratio is not None and ratio.exact
    interval = "" if ratio is None or not ratio.known else "exact" if exact else f"{ratio.low:.3f} to {ratio.high:.3f}"
    return [
        one_line(outcome.op),
        one_line(outcome.case),
        one_line(outcome.dtype),
        one_line(backend(change)),
        evidence(change),
        *(
            "" if side is None or side.timing is None else short(side.timing.us, 4)
            for side in (change.base, change.new)
        ),
        f"{ratio.value:.3f}" if ratio else "",
        interval,
        *("" if side is None else short(host_us(side), 4) for side in (change.base, change.new)),
        "; ".join(filter(None, (change.verdict, change.why_not))),
    ]


def backend(change: Change) -> str:
    labels = [side.backend_label for side in (change.base, change.new) if side is not None]
    return " → ".join(dict.fromkeys(labels))


def evidence(change: Change) -> str:
    kinds = [str(t.evidence) for t in (timing_of(change.base), timing_of(change.new)) if t is not None]
    return " → ".join(dict.fromkeys(kinds))


def name(change: Change) -> str:
    return " ".join(row(change)[:4])


def by_size(changes: Iterable[Change]) -> list[Change]:
    """What is wrong now first, then the largest change of a time."""

    def size(change: Change) -> tuple[bool, bool, float]:
        ratio = change.ratio
        return not change.broken, not change.vanished, -abs(math.log(ratio.value)) if ratio else 0.0

    return sorted(changes, key=size)


def totals(comparison: Comparison) -> Iterator[str]:
    """A sentence for each kind of evidence: how many became faster and slower, and the geometric mean of the ratios."""
    for kind in Evidence:
        some = [c for c in comparison.changes if c.ratio and evidence(c) == str(kind)]
        if not some:
            continue
        verdicts = [c.verdict for c in some]
        counts = [f"{verdicts.count(word)} {word}" for word in dict.fromkeys(("faster", "slower", "same", *verdicts))]
        mean = math.exp(sum(math.log(c.ratio.value) for c in some if c.ratio) / len(some))
        yield f"{kind}: {plural(len(some), 'case')}, {', '.join(counts)}; geometric mean of new/base {mean:.3f}"


def sentences(gate: Gate) -> Iterator[str]:
    """What the gate says, the worst first."""
    for change in gate.broken:
        assert change.new is not None
        yield f"wrong now: {name(change)}: {change.new.status}: {one_line(change.new.reason or '')}"
    for change in gate.regressed:
        yield f"slower: {name(change)}: {beyond(change, gate)}"
    for change in gate.vanished:
        new = change.new
        why = "it is no longer there" if new is None else change.why_not or new.reason or f"{new.status}, and not timed"
        yield f"no time to compare: {name(change)}: {one_line(why)}"
    for change in gate.undecided:
        yield f"not decided: {name(change)}: {beyond(change, gate)}"
    for metric in gate.idle:
        yield f"the limit {metric}:{100 * gate.limits[metric]:g}% met no case"


def beyond(change: Change, gate: Gate) -> str:
    """By how much a change exceeds its limit."""
    assert change.ratio is not None and change.metric is not None
    ratio = change.ratio
    interval = "" if ratio.exact else f", interval {signed(ratio.low)} to {signed(ratio.high)}"
    cells = row(change)
    return (
        f"{cells[5]} → {cells[6]} µs, {signed(ratio.value)}{interval}, where {change.metric}:"
        f"{100 * gate.limits[change.metric]:g}% is allowed"
    )


def signed(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.2f} %" if math.isfinite(ratio) else "unknown"


def headline(comparison: Comparison, gate: Gate) -> str:
    """The answer in a sentence."""
    if gate.broken:
        return f"{plural(len(gate.broken), 'case')} of {one_line(comparison.new_name)} wrong now"
    if gate.regressed:
        return f"{plural(len(gate.regressed), 'case')} slower than allowed"
    timed = [c for c in comparison.changes if c.ratio]
    if not timed:
        return "Nothing could be compared"
    if gate.vanished:
        return f"{plural(len(gate.vanished), 'case')} without a time to compare"
    if gate.limits:
        undecided = f", {len(gate.undecided)} of them not decided" if gate.undecided else ""
        return f"No regression in {plural(sum(len(comparison.of(m)) for m in gate.limits), 'case')}{undecided}"
    slower, faster = (sum(c.verdict == word for c in timed) for word in ("slower", "faster"))
    return f"{plural(len(timed), 'case')} compared: {faster} faster, {slower} slower"


def engine_rows(causes: Causes) -> list[list[str]]:
    return [
        [engine.engine, us(engine.base_us), us(engine.new_us), f"{engine.new_us - engine.base_us:+,.1f}"]
        for engine in causes.engines
    ]


ENGINE_HEAD = ("busy, µs", "base", "new", "change")
LINE_HEAD = ("critical path, µs", "instructions", "bytes by DMA", "line")


def line_row(line: LineChange) -> list[str]:
    instructions, moved = line.new.instructions - line.base.instructions, line.new.bytes - line.base.bytes
    return [
        f"{line.critical_us:+,.1f}",
        f"{instructions:+,}" if instructions else "",
        f"{moved:+,}" if moved else "",
        one_line(f"{line.place}  {line.text}")[:100],
    ]


def line_rows(causes: Causes, most: int = LINES) -> tuple[Sequence[list[str]], int]:
    """The rows of the largest changes, and how many more there are."""
    return [line_row(line) for line in causes.lines[:most]], max(0, len(causes.lines) - most)
