"""What went wrong, in text below the table: what failed and how to repeat it, what is absent, and the last line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from triptych.harness.reports import failures
from triptych.harness.reports.figures import blame, note
from triptych.harness.reports.formats import one_line, printable
from triptych.harness.reports.terminal import STYLES, paint
from triptych.harness.results.profile import Outcome, Profile
from triptych.harness.results.result import Result
from triptych.harness.results.status import BAD, Status

MAPS = 3  # of failures of one op on one backend that are drawn in text


def absent(outcomes: Sequence[Outcome]) -> dict[tuple[str, str], Outcome]:
    """(op, backend) of which no case ran, all for one reason: no such backend here, or no such panel in the op."""
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.op, outcome.backend_label), []).append(outcome)
    return {
        key: group[0]
        for key, group in groups.items()
        if group[0].status in (Status.SKIPPED, Status.UNSUPPORTED) and len({(o.status, o.reason) for o in group}) == 1
    }


def unsupported(outcomes: Sequence[Outcome]) -> str:
    """What ops have no panel for; what is skipped is in the last line."""
    return "".join(
        f"unsupported: {one_line(f'{op} on {backend}')}: {note(outcome)}\n"
        for (op, backend), outcome in absent(outcomes).items()
        if outcome.status is Status.UNSUPPORTED
    )


def problems(outcomes: Iterable[Outcome], *, colour: bool = False) -> str:
    """Everything that failed: the whole reason, where it fails, and the command that repeats it.

    The map of a failure is drawn for the first few ways in which a backend fails at an op.
    """
    lines = []
    drawn: dict[tuple[str, str], set[str]] = {}
    for outcome in outcomes:
        if outcome.status not in BAD:
            continue
        word = paint(str(outcome.status), STYLES[outcome.status], colour)
        what = " ".join(filter(None, (outcome.op, outcome.case, outcome.dtype)))
        lines.append(f"{word}: {one_line(f'{what} on {outcome.backend_label}')}: {note(outcome)}")
        if isinstance(outcome, Result):
            ways = drawn.setdefault((outcome.op, outcome.backend_label), set())
            lines += [f"    {printable(line)}" for line in _details(outcome, ways)]
        if outcome.repro:
            lines.append(f"    {printable(outcome.repro)}")
    return "\n".join(lines) + "\n" if lines else ""


def _details(result: Result, ways: set[str]) -> list[str]:
    """Where it fails and whom to blame; `ways` are those that have been drawn, and takes this one in."""
    way = result.failure.diagnosis.partition(":")[0] if result.failure else ""
    lines = failures.lines(result.failure, picture=way not in ways and len(ways) < MAPS)
    ways.add(way)
    return [*lines, blame(result)] if result.attribution else lines


def summary(outcomes: Sequence[Outcome], seed: int | None = None) -> str:
    """One line: how many ended how, and why some did not run."""
    profiles = sum(isinstance(o, Profile) and o.status is Status.PASSED for o in outcomes)
    counts = Counter(o.status for o in outcomes if isinstance(o, Result) or o.status is not Status.PASSED)
    line = ", ".join(f"{counts[status]} {status}" for status in Status)
    if profiles:
        line += f", {profiles} predicted and not compared"
    reasons = skip_reasons(outcomes)
    if reasons:
        why = "; ".join(f"{one_line(backend)}: {reason.rstrip('.')}" for backend, reason in reasons.items())
        line += f" ({why})"
    return line + (f" · seed {seed}" if seed is not None else "")


def skip_reasons(outcomes: Iterable[Outcome]) -> dict[str, str]:
    """Backend -> why it was skipped."""
    return {o.backend: note(o) or "no reason given" for o in outcomes if o.status is Status.SKIPPED}
