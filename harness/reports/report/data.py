"""Everything that a report shows: the verdicts, the profiles, and the environments they came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from triptych.harness.backends import BACKENDS
from triptych.harness.results.measures import Fixed
from triptych.harness.results.profile import Outcome, Profile
from triptych.harness.results.result import Result
from triptych.harness.results.status import BAD, RAN, Evidence

Environment = Mapping[str, Any]
Run = tuple[Environment, Sequence[Outcome]]
R = TypeVar("R", bound=Outcome, covariant=True)


@dataclass(frozen=True)
class Entry(Generic[R]):
    """A result or a profile, and the run it came from: speeds of two machines must not be ranked together."""

    result: R
    run: int
    name: str = ""  # of its run, where there are several: the label of its machine, or its number

    @property
    def label(self) -> str:
        """The backend, with its run where there are several."""
        return self.result.backend_label + (f" · {self.name}" if self.name else "")

    @property
    def family(self) -> str:
        """The language of the kernel, which has a colour of its own."""
        known = BACKENDS.get(self.result.backend)  # a document may be of another version
        return known.family if known else "other"


@dataclass(frozen=True)
class ReportData:
    """The entries, and the environment of each run."""

    verdicts: tuple[Entry[Result], ...]  # what was compared with the reference, or should have been
    profiles: tuple[Entry[Profile], ...]  # times, which judge nothing
    environments: tuple[Environment, ...]
    warnings: tuple[str, ...] = ()  # of runs that were cut short

    @classmethod
    def of(cls, runs: Sequence[Run], warnings: Sequence[str] = ()) -> ReportData:
        """What to show of one or more runs."""
        names = run_names([env for env, _ in runs])
        each = [(outcome, i, names[i]) for i, (_, outcomes) in enumerate(runs) for outcome in outcomes]
        return cls(
            tuple(Entry(outcome, run, name) for outcome, run, name in each if isinstance(outcome, Result)),
            tuple(Entry(outcome, run, name) for outcome, run, name in each if isinstance(outcome, Profile)),
            tuple(env for env, _ in runs),
            tuple(warnings),
        )

    @property
    def run_names(self) -> list[str]:
        """What the runs are called; nothing for one that is alone."""
        return run_names(self.environments)

    @property
    def entries(self) -> tuple[Entry[Outcome], ...]:
        return (*self.verdicts, *self.profiles)

    def compared(self) -> list[Entry[Result]]:
        """What ran and was judged; the reference judges nothing."""
        return [e for e in self.verdicts if e.result.evidence is not Evidence.REFERENCE and e.result.status in RAN]

    def bad(self) -> list[Entry[Outcome]]:
        """What failed, a profile's kernel too."""
        return [entry for entry in self.entries if entry.result.status in BAD]

    def ops(self) -> list[str]:
        return list(dict.fromkeys(entry.result.op for entry in self.entries))

    def dates(self) -> list[str]:
        """The days on which it was made."""
        return sorted({str(env["utc"])[:10] for env in self.environments if env.get("utc")})

    def commands(self) -> list[str]:
        """The command lines that made it."""
        return [str(env["command"]) for env in self.environments if env.get("command")]

    def commits(self) -> list[str]:
        """The commits that it was made from."""
        return sorted({env["git"]["sha"] for env in self.environments if env.get("git")})

    def seeds(self) -> list[str]:
        return list(dict.fromkeys(str(env.get("seed", 0)) for env in self.environments))

    def fixed_tolerances(self) -> list[str]:
        """Each tolerance that was given in place of the derived one, and by whom."""
        tolerances = [entry.result.tolerance for entry in self.verdicts]
        return sorted({f"{t.source}: atol {t.atol}, rtol {t.rtol}" for t in tolerances if isinstance(t, Fixed)})


def run_names(environments: Sequence[Environment]) -> list[str]:
    """The label of each run's machine, or its number where it has none or shares it; one run needs no name."""
    labels = [str(env.get("label") or "") for env in environments]
    if len(labels) < 2:
        return [""] * len(labels)
    return [label if label and labels.count(label) == 1 else f"run {number}" for number, label in enumerate(labels, 1)]
