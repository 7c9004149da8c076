"""What commands that predict share: the profiles of a subject on its chips, and those of a model's full sizes."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from msgspec import structs

from triptych import simulator
from triptych.harness.collection import load_ops
from triptych.harness.ops.op import Op
from triptych.harness.ops.selection import Selection
from triptych.harness.ops.work import work_of
from triptych.harness.profiling.numbers import numbers
from triptych.harness.profiling.subjects import Subject, of_ops
from triptych.harness.profiling.tracing import traced, why_failed
from triptych.harness.results.profile import Profile
from triptych.harness.results.status import Cause, Status
from triptych.harness.running.workers.each import Each, Here, Maker
from triptych.simulator.errors import NeedsData

HERE = Here()
FULL = "model-long"  # the case set of the sizes that models serve


class TimedProfile(NamedTuple):
    """A profile, with its kernel's file, and with its whole timeline where a file needs it."""

    profile: Profile
    prediction: simulator.Prediction | None = None
    path: Path | None = None


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to predict of every subject."""

    targets: Sequence[str]
    orders: Sequence[str]
    settings: Mapping[str, float]  # fields of the chip record to replace, for the what-if
    seed: int
    no_data: bool  # draw no inputs where shapes do not suffice
    whole: bool  # keep timelines
    without_data: Status = Status.ERROR  # what a kernel is then that needs them

    def variants(self, target: str) -> Iterator[tuple[str, str, Mapping[str, float], str | None]]:
        """(label, order, settings, label to compare with) of each prediction for a target."""
        first = self.label(self.targets[0], self.orders[0])
        for order in self.orders:
            label = self.label(target, order)
            yield label, order, {}, None if label == first else first
            if self.settings:
                yield f"{label} what-if", order, self.settings, label

    def label(self, target: str, order: str) -> str:
        return f"{target} {order}" if len(self.orders) > 1 else target


def predict(subject: Subject, target: str, plan: Plan) -> list[TimedProfile]:
    """The predictions of a subject on one target; one that failed or is not supported stands for all of them."""
    profile = unpredicted(subject, target, plan)
    reason = subject.unsupported(target)
    if reason:
        return without(subject, target, plan, Status.UNSUPPORTED, Cause.NOT_SUPPORTED, reason)
    try:
        trace = trace_of(subject, target, plan)
        found = []
        for label, order, fields, against in plan.variants(target):
            prediction = simulator.predict_trace(trace, order, fields)
            timing = structs.replace(numbers(prediction, fields), **_work(subject))
            made = structs.replace(profile, label=label, against=against, timing=timing)
            found.append(TimedProfile(made, prediction if plan.whole else None, subject.path))
        return found
    except NeedsData as needs:
        unsupported = plan.without_data is Status.UNSUPPORTED
        cause = Cause.NOT_SUPPORTED if unsupported else Cause.KERNEL_ERROR
        return without(subject, target, plan, plan.without_data, cause, str(needs))
    except (Exception, SystemExit) as error:
        return without(subject, target, plan, Status.ERROR, Cause.KERNEL_ERROR, why_failed(error, subject))


def unpredicted(subject: Subject, target: str, plan: Plan) -> Profile:
    """The profile of a subject on one target before anything is known of it."""
    return Profile(
        op=subject.op,
        case=subject.case,
        dtype=subject.dtype,
        target=target,
        status=Status.PASSED,
        label=target,
        repro=_repro(subject, target, plan),
    )


def without(subject: Subject, target: str, plan: Plan, status: Status, cause: Cause, reason: str) -> list[TimedProfile]:
    """What stands for the predictions that a subject has none of, with why."""
    profile = unpredicted(subject, target, plan)
    return [TimedProfile(structs.replace(profile, status=status, cause=cause, reason=reason))]


def trace_of(subject: Subject, target: str, plan: Plan) -> simulator.Trace:
    """What a kernel does, from the shapes of its arguments; where it depends on their values, from drawn ones."""

    def drawn_for(needs: NeedsData) -> None:
        if plan.no_data:
            raise needs
        print(f"triptych: {needs}: predicted with inputs drawn from seed {plan.seed}", file=sys.stderr)

    return traced(subject, target, drawn_for)


def _work(subject: Subject) -> dict[str, int]:
    """What the op needs at least, where it says so."""
    return work_of(*subject.declared) if subject.declared else {}


def _repro(subject: Subject, target: str, plan: Plan) -> str:
    line = ["triptych", "profile", *subject.words, "--target", target]
    line += ["--order", "both"] if len(plan.orders) > 1 else ["--order", *plan.orders] * (plan.orders[0] == "program")
    for name, value in plan.settings.items():
        line += ["--set", f"{name}={value:g}"]
    return shlex.join([*line, *["--no-data"] * plan.no_data, "--seed", str(plan.seed)])


def full_sizes(
    ops: Sequence[Op],
    sources: Mapping[str, str],
    targets: Sequence[str],
    seed: int,
    on_subject: Callable[[int, int, Subject], None],
    every: Each = HERE,
) -> Iterator[Profile]:
    """The profile of every NKI kernel at a model's full sizes: times alone, for nothing is judged there.

    A kernel whose control flow depends on its inputs is left to `triptych profile`: with them it takes minutes.

    on_subject: hears how many predictions are made, of how many, and of what the last one was
    every: who makes them
    """
    plan, pairs = pairs_of(ops, sources, targets, seed)
    found: dict[int, list[TimedProfile]] = {}
    done = 0

    def died(number: int, why: str) -> list[TimedProfile]:
        return without(*pairs[number], plan, Status.ERROR, Cause.WORKER_DIED, why)

    files = list(dict.fromkeys(sources.values()))
    maker = Maker(full_size, files, ([op.name for op in ops], targets, seed), ops, on_node)
    with closing(every(lambda number: predict(*pairs[number], plan), len(pairs), died, maker)) as coming:
        for number, profiles in coming:
            found[number] = profiles
            on_subject(len(found), len(pairs), pairs[number][0])
            while done in found:  # in the order of the pairs
                repro = unpredicted(*pairs[done], plan).repro.replace(" --no-data", "")
                for one in found[done]:
                    yield structs.replace(one.profile, repro=repro)
                done += 1


def pairs_of(
    ops: Sequence[Op], sources: Mapping[str, str], targets: Sequence[str], seed: int
) -> tuple[Plan, list[tuple[Subject, str]]]:
    """What `full_sizes` predicts of what."""
    plan = Plan(targets, ("overlapped",), {}, seed, True, whole=False, without_data=Status.UNSUPPORTED)
    subjects = of_ops([op for op in ops if op.nki is not None], Selection(sets=[FULL], seed=seed), sources)
    return plan, [(subject, target) for subject in subjects for target in targets]


def full_size(
    sources: Sequence[str], names: Sequence[str], targets: Sequence[str], seed: int
) -> Callable[[int], list[TimedProfile]]:
    """The prediction of a pair by its number, in a process that knows the names of the ops and their files."""
    ops = load_ops(sources)
    plan, pairs = pairs_of([ops[name] for name in names], {}, targets, seed)
    return lambda number: predict(*pairs[number], plan)


def on_node(profiles: list[TimedProfile], node: str, device: str) -> list[TimedProfile]:
    """Predictions that say where they were made."""
    return [one._replace(profile=structs.replace(one.profile, node=node, device=device)) for one in profiles]
