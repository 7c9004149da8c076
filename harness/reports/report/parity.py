"""The report's chapters on backends against each other, and on bits that repeat."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from html import escape

from triptych.harness.judge.parity import Matrix, matrices
from triptych.harness.reports.report.page import Book, Entry, plural
from triptych.harness.results.findings import Alone, Runs


def parity(book: Book) -> str:
    """One matrix an op and run: the largest difference of each pair of backends."""
    tables = []
    for run in range(len(book.environments)):
        results = [entry.result for entry in book.entries if entry.run == run]
        more = f" · run {run + 1}" if len(book.environments) > 1 else ""
        tables += [table(op + more, matrix) for op, matrix in matrices(results).items()]
    if not tables:
        return ""
    return (
        "<p>Two backends on the same bytes. The number is their largest difference over all cases, as a share of what "
        "the tolerances of both allow together: beyond 1, one of the two is wrong. The pointer on it shows its case; "
        f"below stands in how many cases every bit is the same.</p>{''.join(tables)}"
    )


def table(title: str, matrix: Matrix) -> str:
    heads = "".join(f"<th scope=col>{escape(place)}</th>" for place in matrix.places[:-1])
    rows = []
    for i, place in enumerate(matrix.places[1:], 1):
        cells = "".join(cell(matrix, place, other) for other in matrix.places[:i])
        rest = "<td></td>" * (len(matrix.places) - 1 - i)
        rows.append(f"<tr><th scope=row>{escape(place)}</th>{cells}{rest}</tr>")
    return (
        f'<div class="scroll"><table class="pairs"><caption><b>{escape(title)}</b></caption>'
        f"<thead><tr><th></th>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def cell(matrix: Matrix, a: str, b: str) -> str:
    pair = matrix.pair(a, b)
    if pair is None or pair.at is None:
        return '<td class="void">–</td>'
    mood = "passed" if pair.share <= 1 else "failed"
    case = f"{pair.at.case} {pair.at.dtype}"
    return (
        f'<td title="{escape(case)}"><span class="status {mood}">{pair.share:.2f}</span> '
        f'<span class="why">{pair.equal:,} of {plural(pair.cases, "case")} bit for bit</span></td>'
    )


def invariance(book: Book) -> str:
    """Which kernels repeat their bits, over runs and for a part of their batch."""
    groups: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in book.entries:
        if entry.result.invariance.runs:
            groups[entry.result.op, entry.place].append(entry)
    if not groups:
        return ""
    rows = "".join(
        f"<tr><th scope=row>{escape(op)}</th><td>{escape(place)}</td>"
        f"<td>{share([e.result.invariance.runs for e in entries if e.result.invariance.runs])}</td>"
        f"<td>{share([e.result.invariance.alone for e in entries if e.result.invariance.alone])}</td></tr>"
        for (op, place), entries in groups.items()
    )
    return (
        "<p>A kernel that passes runs again on the same inputs, with a run on other ones in between, and on a part of "
        "its batch alone. What an op promises and does not keep is a failure; the rest is told.</p>"
        '<div class="scroll"><table class="pairs"><thead><tr><th scope=col>op</th><th scope=col>backend</th>'
        "<th scope=col>same bits in two runs</th><th scope=col>a part alone as within its batch</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def share(found: Sequence[Runs | Alone]) -> str:
    """How many of these repeat their bits, and whether they must."""
    if not found:
        return '<span class="void">not tried</span>'
    same = sum(one.identical for one in found)
    axes = ", ".join(dict.fromkeys(one.axis for one in found if isinstance(one, Alone)))
    promised = any(one.promised for one in found)
    count = f"{same:,} of {plural(len(found), 'case')}"
    if any(one.promised and not one.identical for one in found):
        count = f'<span class="status failed">{count}</span>'
    return f"{count}{f' along {escape(axes)}' if axes else ''} <i>{'promised' if promised else 'not promised'}</i>"
