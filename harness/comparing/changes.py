"""Two documents side by side: which rows are of one case, and how their times and verdicts differ."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from triptych.harness.comparing.ratios import Ratio, of_samples, of_times
from triptych.harness.results.document import Document
from triptych.harness.results.profile import Outcome, Profile
from triptych.harness.results.status import BAD, Status
from triptych.harness.results.timing import Measured, Predicted, Timing

Metric = Literal["predicted", "median"]
Key = tuple["str | None", ...]


@dataclass(frozen=True)
class Change:
    """One case on one backend, before and after; None on the side that does not have it."""

    base: Outcome | None
    new: Outcome | None
    ratio: Ratio | None = None
    why_not: str = ""  # why there is no ratio, or why it is not to be trusted
    trusted: bool = True  # whether both times are of one machine and one clock

    @property
    def any(self) -> Outcome:
        side = self.new or self.base
        assert side is not None
        return side

    @property
    def metric(self) -> Metric | None:
        """What the ratio is of."""
        timing = timing_of(self.base) or timing_of(self.new)
        return None if timing is None else "predicted" if isinstance(timing, Predicted) else "median"

    @property
    def broken(self) -> bool:
        """Whether it is wrong now and was not wrong before."""
        return self.new is not None and self.new.status in BAD and (self.base is None or self.base.status not in BAD)

    @property
    def vanished(self) -> bool:
        """Whether it had a time before and has none now that may be held against it."""
        return timing_of(self.base) is not None and (self.ratio is None or not self.trusted)

    @property
    def verdict(self) -> str:
        """In a word or two."""
        if self.broken:
            return f"now {self.new.status}" if self.new else ""
        if self.ratio is None:
            return "no longer there" if self.new is None else "new" if self.base is None else ""
        if not self.ratio.known:
            return "too few samples"
        if self.ratio.exact and self.ratio.value == 1:
            return "same"
        if not self.ratio.significant:
            return "not significant"
        return "slower" if self.ratio.value > 1 else "faster"


@dataclass(frozen=True)
class Comparison:
    """All changes from one side to the other, by the names that the user gave them."""

    base_name: str
    new_name: str
    changes: Sequence[Change]
    notes: Sequence[str] = field(default_factory=tuple)  # what a reader must know of both sides

    def of(self, metric: Metric) -> list[Change]:
        """Those with a ratio of this metric that can be trusted."""
        return [c for c in self.changes if c.ratio is not None and c.trusted and c.metric == metric]


def timing_of(outcome: Outcome | None) -> Timing | None:
    return outcome.timing if outcome is not None else None


def compared(base: Document, new: Document, names: tuple[str, str], *, across_backends: bool = False) -> Comparison:
    """Base against new.

    across_backends: a case on one backend is held against the same case on the other's backend.
    """
    one_op = len(ops(base)) == len(ops(new)) == 1
    before = rows(base.results, one_op, across_backends)
    after = rows(new.results, one_op, across_backends)
    elsewhere = ""
    if base.origin.machine != new.origin.machine or base.origin.label != new.origin.label:
        elsewhere = f"measured on {machine(base)} and on {machine(new)}"
    keys = [*before, *(key for key in after if key not in before)]
    changes = [change(before.get(key), after.get(key), elsewhere) for key in keys]
    told = [c for c in changes if not skipped(c)]
    return Comparison(*names, told, tuple(notes(base, new, names, told, elsewhere)))


def ops(document: Document) -> set[str]:
    return {result.op for result in document.results}


def machine(document: Document) -> str:
    return document.origin.label or document.origin.machine


def rows(outcomes: Iterable[Outcome], one_op: bool, across_backends: bool) -> Mapping[Key, Outcome]:
    """By what two rows of one case have in common; of several of one case the last that has a time."""
    found: dict[Key, Outcome] = {}
    for outcome in outcomes:
        where: Key = () if across_backends else (outcome.backend, outcome.target)
        kind = outcome.label if isinstance(outcome, Profile) else None
        key = ("" if one_op else outcome.op, outcome.case, outcome.dtype, kind, *where)
        if key not in found or outcome.timing is not None or found[key].timing is None:
            found[key] = outcome
    return found


def skipped(change: Change) -> bool:
    """Whether neither side ran it."""
    return all(
        side is None or side.status in (Status.SKIPPED, Status.UNSUPPORTED) for side in (change.base, change.new)
    )


def change(base: Outcome | None, new: Outcome | None, elsewhere: str) -> Change:
    """The ratio of two rows of one case, or why there is none."""
    a, b = timing_of(base), timing_of(new)
    if a is None or b is None:
        return Change(base, new)
    if type(a).us is not type(b).us or a.evidence is not b.evidence:
        return Change(base, new, why_not=f"{a.evidence} and {b.evidence}: never across kinds")
    if not (a.us > 0 and b.us > 0 and math.isfinite(a.us) and math.isfinite(b.us)):
        return Change(base, new, why_not="a time of nothing")
    if not (isinstance(a, Measured) and isinstance(b, Measured)):
        return Change(base, new, of_times(a.us, b.us))
    ratio = of_samples(rounds(a), rounds(b)) if a.samples_us and b.samples_us else Ratio(b.us / a.us, 0, math.inf)
    clocks = [f"{t.timer}, {t.cache} cache" for t in (a, b)]
    why = elsewhere or (f"{clocks[0]} and {clocks[1]}" if clocks[0] != clocks[1] else "")
    return Change(base, new, ratio, why, trusted=not why)


def rounds(timing: Measured) -> list[list[float]]:
    """The samples of each round; all in one where the timing does not say, or says something else than it holds."""
    if sum(timing.rounds) != len(timing.samples_us):
        return [timing.samples_us]
    ends = list(itertools.accumulate(timing.rounds))
    return [timing.samples_us[end - n : end] for n, end in zip(timing.rounds, ends, strict=True)]


def one_round(change: Change) -> bool:
    return any(isinstance(t, Measured) and len(t.rounds) < 2 for t in map(timing_of, (change.base, change.new)))


def notes(
    base: Document, new: Document, names: tuple[str, str], changes: Sequence[Change], elsewhere: str
) -> Iterator[str]:
    """What of the two documents makes a reader doubt."""
    for name, side in zip(names, (base, new), strict=True):
        if side.cut_short:
            yield f"{name}: {side.cut_short}"
    if elsewhere and any(c.ratio and c.metric == "median" for c in changes):
        yield f"{elsewhere}: these ratios are of the machines as well as of the kernels, and gate nothing"
    if any(c.ratio and c.metric == "median" and one_round(c) for c in changes):
        yield "a side was measured in one run: what differs from run to run is not in these intervals"
    made = [side.origin.git.sha[:10] if side.origin.git else side.origin.triptych for side in (base, new)]
    if made[0] != made[1] and any(c.metric == "predicted" for c in changes):
        yield f"predicted by triptych {made[0]} and {made[1]}, whose timing models may differ"
