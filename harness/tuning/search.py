"""The search: every setting is handed out here, and what came of them is ranked.

A setting that is refused is kept with its reason. One that ends the search early, as Ctrl-C does, costs nothing that
was found before.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from triptych.harness.comparing.changes import rounds
from triptych.harness.comparing.ratios import Ratio, of_samples, of_times
from triptych.harness.profiling.ranking import order
from triptych.harness.results.status import Evidence
from triptych.harness.results.timing import Measured
from triptych.harness.running.workers.each import Each, Here, Maker
from triptych.harness.tuning.knobs import Knobs, Setting, same
from triptych.harness.tuning.rulers import Reading, Refused, Ruler
from triptych.harness.tuning.variants import beside_links

ALONE = Here(1)
SIDE_BY_SIDE = (None, Evidence.PREDICTED)  # the evidence of what no other process disturbs
WORTH = 0.01  # a predicted gain below it is none: the model is off by more than that


@dataclass(frozen=True)
class Trial:
    """One setting, and what was read of it or why it was refused."""

    setting: Setting
    readings: Sequence[Reading] = ()
    refused: str = ""


@dataclass
class Tuning:
    """All trials of one kernel so far."""

    knobs: Knobs
    evidence: Evidence | None
    trials: list[Trial] = field(default_factory=list)
    complete: bool = False

    @property
    def own(self) -> Trial | None:
        """The setting that the file has."""
        return next((trial for trial in self.trials if same(trial.setting, self.knobs.own)), None)

    @property
    def ranked(self) -> list[Trial]:
        """What was not refused, the best first; of equals the one that differs least from the file."""
        found = [trial for trial in self.trials if not trial.refused]
        return sorted(found, key=lambda trial: (self.place(trial), self.changes(trial)))

    def place(self, trial: Trial) -> tuple[float, ...]:
        return (
            order([reading.compiled for reading in trial.readings])
            if self.evidence is None
            else (round(self.score(trial), 6),)
        )

    def changes(self, trial: Trial) -> int:
        """How many knobs differ from the file."""
        return sum(not same({"": v}, {"": self.knobs.own[name]}) for name, v in trial.setting.items())

    def ratios(self, trial: Trial) -> list[Ratio]:
        """The time of each case over that of the file's own setting; none where that was refused."""
        own = self.own
        if own is None or own.refused or self.evidence is None:
            return []
        return [ratio(a, b) for a, b in zip(own.readings, trial.readings, strict=True)]

    def score(self, trial: Trial) -> float:
        """The geometric mean of those ratios; without them that of the times."""
        values = [r.value for r in self.ratios(trial)] or [r.timing.us for r in trial.readings if r.timing]
        return math.exp(sum(map(math.log, values)) / len(values)) if values else math.inf

    def gains(self, trial: Trial) -> bool:
        """Whether a setting is better than the file's own by more than its evidence is off."""
        own = self.own
        if own is None or own.refused:
            return True
        if self.evidence is None:
            return self.place(trial) < self.place(own)
        found = self.ratios(trial)
        if all(one.exact for one in found):
            return self.score(trial) < 1 - WORTH
        return self.score(trial) < 1 and any(r.high < 1 for r in found) and not any(r.low > 1 for r in found)

    @property
    def refusals(self) -> dict[str, int]:
        """Why settings were refused, and how many for each reason, the most frequent first."""
        found: dict[str, int] = {}
        for trial in self.trials:
            if trial.refused:
                found[trial.refused] = found.get(trial.refused, 0) + 1
        return dict(sorted(found.items(), key=lambda item: -item[1]))


def ratio(own: Reading, other: Reading) -> Ratio:
    a, b = own.timing, other.timing
    assert a is not None and b is not None and own.case == other.case
    if isinstance(a, Measured) and isinstance(b, Measured):
        return of_samples(rounds(a), rounds(b))
    return of_times(a.us, b.us)


def search(
    knobs: Knobs,
    ruler: Ruler,
    on_trial: Callable[[Tuning], None],
    every: Each,
    elsewhere: Callable[[Sequence[Setting]], Maker[Trial]],
) -> Tuning:
    """Try every setting, several at once where no clock is read; the trials stand in the order of the settings.

    on_trial: sees what was found so far after each
    every: who tries them
    elsewhere: how another machine tries those settings
    """
    tuning = Tuning(knobs, ruler.evidence)
    settings = list(knobs.settings())
    found: dict[int, Trial] = {}

    def died(number: int, why: str) -> Trial:
        return Trial(settings[number], refused=why)

    with tempfile.TemporaryDirectory(prefix="triptych-tune-") as folder:
        who = every if ruler.evidence in SIDE_BY_SIDE else ALONE
        trials = who(
            lambda number: tried(settings[number], knobs, ruler, Path(folder) / str(number)),
            len(settings),
            died,
            elsewhere(settings),
        )
        try:
            with closing(trials) as coming:
                for number, trial in coming:
                    found[number] = trial
                    tuning.trials = [found[number] for number in sorted(found)]
                    on_trial(tuning)
        except KeyboardInterrupt:
            return tuning
    tuning.complete = True
    return tuning


def tried(setting: Setting, knobs: Knobs, ruler: Ruler, folder: Path) -> Trial:
    """One setting, read."""
    variant = beside_links(knobs.path, knobs.written(setting), folder)
    try:
        return Trial(setting, ruler.read(variant))
    except Refused as why:
        return Trial(setting, refused=str(why))
