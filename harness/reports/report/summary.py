"""The head of the report: one sentence, what each language's backends say, and the environment in a line a run."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from triptych.harness.reports.figures import largest_share, note
from triptych.harness.reports.formats import plural, thousands
from triptych.harness.reports.report.data import Entry, Environment, ReportData
from triptych.harness.results.origin import machines, packages_of
from triptych.harness.results.result import Result
from triptych.harness.results.status import BAD, RAN, Evidence, Status

LANGUAGES = {"nki": ("NKI", "Trainium and Inferentia"), "triton": ("Triton", "GPUs")}
PACKAGES = ("numpy", "triton", "torch", "nki")


@dataclass(frozen=True)
class BackendLine:
    """How many comparisons agree on one backend; if none ran, why."""

    label: str
    evidence: Evidence
    passed: int
    ran: int
    largest: float | None  # error as a share of its bound
    status: Status
    reason: str


@dataclass(frozen=True)
class BackendColumn:
    """The backends of one language."""

    family: str
    title: str
    machines: str
    lines: Sequence[BackendLine]


@dataclass(frozen=True)
class Summary:
    """What the three panels show, and the facts of each run's environment."""

    mood: str  # good, bad, or empty where nothing was compared
    tally: Mapping[Status, int]
    columns: Sequence[BackendColumn]
    environments: Sequence[Sequence[str]]


def headline(report: ReportData) -> str:
    """The whole report in one sentence."""
    compared = report.compared()
    bad = sum(entry.result.status in BAD for entry in compared)
    if report.warnings:
        return f"Incomplete: {thousands(bad)} of the {plural(len(compared), 'comparison')} so far did not agree"
    if not compared:
        return "Nothing was compared"
    if bad:
        return f"{thousands(bad)} of {plural(len(compared), 'comparison')} did not agree"
    return "The one comparison agrees" if len(compared) == 1 else f"All {thousands(len(compared))} comparisons agree"


def summary(report: ReportData) -> Summary:
    """What stands below the headline."""
    counts = Counter(e.result.status for e in report.verdicts if e.result.evidence is not Evidence.REFERENCE)
    return Summary(
        "bad" if report.bad() or report.warnings else "good" if report.compared() else "empty",
        {status: counts[status] for status in Status},
        [_column(report, family) for family in LANGUAGES],
        [_facts(env, name) for env, name in zip(report.environments, report.run_names, strict=True)],
    )


def _column(report: ReportData, family: str) -> BackendColumn:
    by_label: dict[str, list[Entry[Result]]] = defaultdict(list)
    for entry in report.verdicts:
        if entry.family == family:
            by_label[entry.label].append(entry)
    return BackendColumn(family, *LANGUAGES[family], [_line(label, entries) for label, entries in by_label.items()])


def _line(label: str, entries: Sequence[Entry[Result]]) -> BackendLine:
    ran = [entry for entry in entries if entry.result.status in RAN]
    return BackendLine(
        label,
        (ran or entries)[0].result.evidence,
        sum(entry.result.status is Status.PASSED for entry in ran),
        len(ran),
        largest_share(entry.result for entry in ran),
        entries[0].result.status,
        next((note(entry.result) for entry in entries if note(entry.result)), "no case for it"),
    )


def hardware(machine: Mapping[str, Any]) -> tuple[str, ...]:
    """A processor with its cores, and the GPUs beside it."""
    cores = plural(int(machine["cores"]), "core") if machine.get("cores") else ""
    gpus = [gpu.get("name", "") for gpu in machine.get("gpus") or []] or ["no GPU"]
    return tuple(filter(None, (str(machine.get("cpu") or ""), cores, *gpus)))


def _facts(env: Environment, name: str) -> list[str]:
    """The environment of a run, with its name if there are several."""
    packages, kinds = packages_of(env), list(dict.fromkeys(hardware(one) for one in machines(env)))
    git = env.get("git")
    commit = f"commit {git['sha'][:10]}{' with local changes' if git.get('dirty') else ''}" if git else ""
    facts = [
        name or str(env.get("label") or ""),
        *(kinds[0] if len(kinds) == 1 else map(", ".join, kinds)),
        f"Python {env['python']}" if env.get("python") else "",
        *(f"{name} {packages[name]}" for name in PACKAGES if packages.get(name)),
        commit or (f"triptych {env['triptych']}" if env.get("triptych") else ""),
    ]
    return [fact for fact in facts if fact]
