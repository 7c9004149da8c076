"""`triptych profile`: how long kernels take on the chip, predicted, and why.

The simulator runs a kernel once for each target; the timing model schedules what it did, in each order asked for, and
once more on the changed chip if --set changes one.
"""

from __future__ import annotations

import dataclasses
import math
import shlex
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence

from msgspec import structs

from triptych import simulator
from triptych.harness import files
from triptych.harness.backends.nki_sim import blaming_the_definition
from triptych.harness.commands.arguments.outputs import Outputs
from triptych.harness.errors import UsageError, unknown
from triptych.harness.exit_codes import ExitCode
from triptych.harness.ops.work import work_of
from triptych.harness.profiling import perfetto
from triptych.harness.profiling.numbers import numbers
from triptych.harness.profiling.subjects import Arguments, Subject, subjects
from triptych.harness.reports import profile_page, profile_text, tables
from triptych.harness.results.document import dumps
from triptych.harness.results.result import Result
from triptych.harness.results.status import Cause, Evidence, Status
from triptych.harness.results.timing import Profiled
from triptych.harness.running.faults import describe
from triptych.harness.running.progress import ProgressLine
from triptych.harness.running.provenance import provenance
from triptych.simulator.chips import Fact
from triptych.simulator.errors import NeedsData

ORDERS = {"overlapped": ("overlapped",), "program": ("program",), "both": ("overlapped", "program")}
DEFAULT_TARGET = "trn2"


@dataclasses.dataclass(frozen=True)
class Profile:
    """One prediction of a subject, as a result; its whole timeline is kept only where a file needs it."""

    label: str  # what tells it from the subject's others: "trn2", "trn2 program", "trn2 what-if"
    against: str | None  # the label of the prediction that its time is compared with
    result: Result
    prediction: simulator.Prediction | None = None

    @property
    def timing(self) -> Profiled:
        """Of one that did not fail."""
        assert isinstance(self.result.timing, Profiled)
        return self.result.timing


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to predict of every subject."""

    targets: Sequence[str]
    orders: Sequence[str]
    settings: Mapping[str, float]  # fields of the chip record to replace, for the what-if
    seed: int
    no_data: bool  # fail where shapes do not suffice
    whole: bool  # keep timelines

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


def run(arguments: Namespace) -> int:
    """Predict everything that is selected, write the files, print the rest."""
    targets = list(dict.fromkeys(arguments.targets)) or [DEFAULT_TARGET]
    for target in targets:
        if target not in simulator.TARGETS:
            raise unknown("target", target, simulator.TARGETS)
    whole = bool(arguments.trace or arguments.html)
    orders, changes = ORDERS[arguments.order], settings(arguments.settings)
    plan = Plan(targets, orders, changes, arguments.seed, arguments.no_data, whole)
    chosen = subjects(arguments)
    if whole and len(chosen) > 1:
        raise UsageError(
            f"--trace and --html show one case, and {len(chosen)} are selected, as {chosen[0].op} {chosen[0].case} and "
            f"{chosen[1].op} {chosen[1].case}; choose with OP, -k, --dtype or -a."
        )
    Outputs.from_arguments(arguments).check()
    progress = ProgressLine(len(chosen) * len(targets))
    found: list[list[Profile]] = []
    try:
        for i, subject in enumerate(chosen):
            found.append([])
            for j, target in enumerate(targets):
                at_work = f"{subject.op} {subject.case} {subject.dtype} nki-sim[{target}]"
                progress.show(i * len(targets) + j, at_work)
                found[-1] += predicted(subject, target, plan)
    finally:
        progress.clear()
    publish(arguments, found)
    statuses = {profile.result.status for profiles in found for profile in profiles}
    if Status.ERROR in statuses:
        return ExitCode.MISMATCH
    return ExitCode.OK if Status.PASSED in statuses else ExitCode.NOTHING_RAN


def settings(words: Sequence[str]) -> dict[str, float]:
    """`dma_gb_per_s=500` as {"dma_gb_per_s": 500.0}, each a field of a chip record."""
    chip = simulator.CHIPS[0]
    fields = {field.name: getattr(chip, field.name) for field in dataclasses.fields(chip)}
    facts = {name: fact for name, fact in fields.items() if isinstance(fact, Fact)}
    found: dict[str, float] = {}
    for word in words:
        name, _, value = (part.strip() for part in word.partition("="))
        if name not in facts:
            raise unknown("field", name, facts)
        unit = facts[name].unit
        try:
            found[name] = float(value)
        except ValueError:
            found[name] = math.nan
        if not 0 <= found[name] < math.inf or (found[name] == 0 and unit != "ns"):  # a time may be nothing, a rate not
            least = "zero or above" if unit == "ns" else "above zero"
            raise UsageError(f"--set {name} wants a number {least}, in {unit}; got {word!r}.")
    return found


def predicted(subject: Subject, target: str, plan: Plan) -> list[Profile]:
    """The predictions of a subject on one target; one that failed or is not supported stands for all of them."""
    result = Result(
        op=subject.op,
        case=subject.case,
        dtype=subject.dtype,
        backend="nki-sim",
        target=target,
        evidence=Evidence.PREDICTED,
        status=Status.PASSED,
        repro=_repro(subject, target, plan),
    )
    reason = subject.unsupported(target)
    if reason:
        result.status, result.reason, result.cause = Status.UNSUPPORTED, reason, Cause.NOT_SUPPORTED
        return [Profile(target, None, result)]
    try:
        trace = traced(subject, target, plan)
        found = []
        for label, order, fields, against in plan.variants(target):
            prediction = simulator.predict_trace(trace, order, fields)
            timing = structs.replace(numbers(prediction, fields), **_work(subject))
            kept = prediction if plan.whole else None
            found.append(Profile(label, against, structs.replace(result, timing=timing), kept))
        return found
    except (Exception, SystemExit) as error:
        result.status, result.cause = Status.ERROR, Cause.KERNEL_ERROR
        spoken = isinstance(error, (simulator.NkiError, InputsFailed))
        result.reason = str(error) if spoken else f"the kernel raised {describe(error)}{subject.at(error)}"
        return [Profile(target, None, result)]


class InputsFailed(Exception):
    """A subject's arguments could not be made; one sentence."""


def traced(subject: Subject, target: str, plan: Plan) -> simulator.Trace:
    """What a kernel does, from the shapes of its arguments; where it depends on their values, from drawn ones."""
    try:
        return _run(subject, target, subject.shaped)
    except NeedsData as needs:
        if plan.no_data:
            raise
        print(f"triptych: {needs}: predicted with inputs drawn from seed {plan.seed}", file=sys.stderr)
        return _run(subject, target, subject.drawn)


def _run(subject: Subject, target: str, arguments: Callable[[], Arguments]) -> simulator.Trace:
    kernel = subject.load()
    try:
        positional, named = arguments()
    except Exception as error:
        raise InputsFailed(f"the inputs could not be made: {describe(error)}") from error
    with blaming_the_definition(kernel):
        return simulator.run(kernel, *positional, target=target, **named).trace


def _work(subject: Subject) -> dict[str, int]:
    """What the op needs at least, where it says so."""
    return work_of(*subject.declared) if subject.declared else {}


def _repro(subject: Subject, target: str, plan: Plan) -> str:
    line = ["triptych", "profile", *subject.words, "--target", target]
    line += ["--order", "both"] if len(plan.orders) > 1 else ["--order", *plan.orders] * (plan.orders[0] == "program")
    for name, value in plan.settings.items():
        line += ["--set", f"{name}={value:g}"]
    return shlex.join([*line, *["--no-data"] * plan.no_data, "--seed", str(plan.seed)])


def publish(arguments: Namespace, found: Sequence[Sequence[Profile]]) -> None:
    """The files first, so that a broken pipe costs none of them; then the text."""
    results = [profile.result for profiles in found for profile in profiles]
    if arguments.json:
        env = provenance(shlex.join(["triptych", *arguments.argv]), arguments.seed, ["nki-sim"])
        files.write(arguments.json, dumps(env, results))
    whole = {p.label: p.prediction.timeline for profiles in found for p in profiles if p.prediction}
    if arguments.trace and whole:
        about = {"op": results[0].op, "case": results[0].case, "dtype": results[0].dtype, "evidence": "predicted"}
        files.write(arguments.trace, perfetto.packed(arguments.trace, perfetto.document(whole, about)))
    if arguments.html and whole:
        files.write(arguments.html, profile_page.page([p for p in found[0] if p.prediction]))
    taken = "-" in (arguments.json, arguments.trace, arguments.html)
    stream = sys.stderr if taken else sys.stdout
    if not taken:
        ran = [[p for p in profiles if p.result.status is Status.PASSED] for profiles in found]
        print(profile_text.text([profiles for profiles in ran if profiles]), end="")
        print(tables.unsupported(results), end="")
    print(tables.problems(results, colour=tables.wants_colour(stream)), end="", file=stream)
