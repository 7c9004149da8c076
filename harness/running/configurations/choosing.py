"""`--tune SECONDS`: which of the configurations that a launcher offers is the fastest for a case on this GPU.

What is offered is ranked by what the compiler says of it, and the best few beside the launcher's own are run: one that
is wrong is out. The rest are timed in turn, sample by sample, so that a clock that drifts meets all alike. One takes
the place of the launcher's own if the 95 % interval of the ratio of their medians lies below 1. What came of it is kept
on disk, and later runs take it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from triptych.harness.backends.configurations import offers
from triptych.harness.backends.configurations.kept import Kept
from triptych.harness.backends.configurations.offers import Setting
from triptych.harness.backends.triton_device import TritonDevice
from triptych.harness.comparing.ratios import FEWEST, Ratio, of_samples
from triptych.harness.errors import UsageError, describe
from triptych.harness.judge.prepared import PreparedCase
from triptych.harness.profiling.configurations import Ranked, ranked
from triptych.harness.results.status import Status
from triptych.harness.running.faults import GPU_FAULT

FEW = 4  # that are run, the launcher's own among them
MOST = 100  # samples of each
FOR_COMPILING = 0.5  # of the seconds, after which no further configuration is ranked

Clock = Callable[[], float]


@dataclass(frozen=True)
class Timed:
    """A configuration, its samples in microseconds, and the ratio to those of the launcher's own."""

    setting: Setting
    samples: Sequence[float]
    over_own: Ratio

    @property
    def median_us(self) -> float:
        return statistics.median(self.samples)


def choose(backend: TritonDevice, prepared: PreparedCase, seconds: float, clock: Clock = time.monotonic) -> str:
    """Find and keep the fastest configuration of a case, unless one is kept; a sentence on it, or "".

    seconds: after which nothing further is compiled or timed.
    """
    problem = prepared.problem
    if backend.kept(problem)[0] is not None:
        return ""
    end, begun = clock() + seconds, clock()
    label = f"{problem.op.name} {problem.case.name} {problem.case.dtype}"
    found: list[Ranked] = []
    try:
        for one in ranked(problem.op, problem.case, backend.architecture(), backend.is_compiled_for()):
            found.append(one)
            if clock() - begun > FOR_COMPILING * seconds:
                break
    except Exception as error:  # of a launcher that looks at its numbers, for one: here there are none
        return f"{label}: --tune does not see what the launcher offers: {describe(error)}"
    if len(found) < 2:
        return ""
    right, wrong = sound(backend, prepared, best(found))
    timed = measured(backend, prepared, right, end, clock)
    refused = "".join(f"; refused {offers.in_words(setting)}: {why}" for setting, why in wrong)
    if not timed:
        return f"{label}: --tune found no time for {len(right)} right configurations in {seconds:g} s{refused}"
    own = timed[0] if timed[0].setting == found[0].setting else None
    chosen = fastest(timed, own)
    stamp = datetime.now(timezone.utc).isoformat(timespec="seconds")
    try:
        backend.keep(problem, Kept(chosen.setting, chosen.median_us, chosen.over_own.value, stamp))
    except UsageError as error:
        return f"{label}: --tune chose {offers.in_words(chosen.setting)}, which is not kept: {error}"
    said = f"{label}: --tune of {len(timed)} configurations took {offers.in_words(chosen.setting)}"
    if chosen is own:
        return f"{said}, the launcher's own: none is surely faster{refused}"
    low, high = 1 - chosen.over_own.high, 1 - chosen.over_own.low
    return f"{said}" + (f", {low:.1%} to {high:.1%} shorter than the launcher's own{refused}" if own else refused)


def best(found: Sequence[Ranked]) -> list[Setting]:
    """The launcher's own, and the best of the others."""
    others = sorted(found[1:], key=lambda one: one.place)
    return [one.setting for one in (found[0], *others[: FEW - 1])]


def sound(
    backend: TritonDevice, prepared: PreparedCase, settings: Sequence[Setting]
) -> tuple[list[Setting], list[tuple[Setting, str]]]:
    """Those that compute the right result, and the others with the reason. What breaks the GPU's context is raised."""
    right, wrong = [], []
    for setting in settings:
        try:
            with backend.under(setting):
                verdict = prepared.judge(prepared.problem.named(backend.run(prepared.problem, None)))
        except Exception as error:
            if GPU_FAULT.search(str(error)):
                raise
            wrong.append((setting, describe(error)))
            continue
        if verdict.status is Status.PASSED:
            right.append(setting)
        else:
            wrong.append((setting, verdict.reason or str(verdict.status)))
    return right, wrong


def measured(
    backend: TritonDevice, prepared: PreparedCase, settings: Sequence[Setting], end: float, clock: Clock
) -> list[Timed]:
    """Each with its samples; ratios are to the first. None where the time was not enough for an interval."""
    samples: list[list[float]] = [[] for _ in settings]
    with backend.sampler(prepared.problem) as sample:
        for setting in settings:
            sample(setting)
        turn = list(range(len(settings)))
        for _ in range(MOST):
            if clock() >= end:
                break
            for i in turn:
                samples[i].append(sample(settings[i]))
            turn.reverse()
    if not settings or len(samples[0]) < FEWEST:
        return []
    return [
        Timed(setting, some, of_samples([samples[0]], [some])) for setting, some in zip(settings, samples, strict=True)
    ]


def fastest(timed: Sequence[Timed], own: Timed | None) -> Timed:
    """The one with the least median, of those that are surely faster than the launcher's own if that is right."""
    faster = [one for one in timed if own is None or one is own or one.over_own.high < 1]
    return min(faster, key=lambda one: one.median_us)
