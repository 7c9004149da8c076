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
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from triptych import simulator
from triptych.harness import files
from triptych.harness.accelerators.catalogue import catalogue
from triptych.harness.calibration import overlay
from triptych.harness.collection import builtin, declared
from triptych.harness.commands.arguments.outputs import Outputs
from triptych.harness.commands.runs.predicting import Plan, TimedProfile, predict, without
from triptych.harness.errors import UsageError, unknown
from triptych.harness.exit_codes import ExitCode
from triptych.harness.ops.loading import split_function
from triptych.harness.ops.selection import Selection, check_axes, dtypes_of, pick, pick_ops, sets_of
from triptych.harness.profiling import perfetto
from triptych.harness.profiling.subjects import Subject, of_function, of_ops
from triptych.harness.reports.problems import problems, unsupported
from triptych.harness.reports.profile import text
from triptych.harness.reports.profile.page import page
from triptych.harness.reports.terminal import StatusLine, wants_colour
from triptych.harness.results.document import Document
from triptych.harness.results.record import to_plain
from triptych.harness.results.status import Cause, Status
from triptych.harness.running.provenance import provenance, source
from triptych.harness.running.workers.each import each
from triptych.harness.running.workers.remaining import Remaining
from triptych.simulator.chip.record import Fact

ORDERS = {"overlapped": ("overlapped",), "program": ("program",), "both": ("overlapped", "program")}
DEFAULT_TARGET = "trn2"


def run(arguments: Namespace) -> int:
    """Predict everything that is selected, write the files, print the rest."""
    if (arguments.backend or backend_of(arguments.targets)) == "triton":
        from triptych.harness.commands.gpu import profile

        return profile.run(arguments)
    if arguments.watch:
        from triptych.harness.commands.runs.watch import watch

        return watch(arguments)
    targets = list(dict.fromkeys(arguments.targets)) or [DEFAULT_TARGET]
    for target in targets:
        if target not in simulator.TARGETS:
            raise unknown("target", target, simulator.TARGETS)
    whole = bool(arguments.trace or arguments.html)
    orders, changes = ORDERS[arguments.order], settings(written_out(arguments.settings, targets))
    plan = Plan(targets, orders, changes, arguments.seed, arguments.no_data, whole)
    chosen = subjects(arguments)
    if whole and len(chosen) > 1:
        raise UsageError(
            f"--trace and --html show one case, and {len(chosen)} are selected, as {chosen[0].op} {chosen[0].case} and "
            f"{chosen[1].op} {chosen[1].case}; choose with OP, -k, --dtype or -a."
        )
    Outputs.from_arguments(arguments).check()
    by_number: dict[int, list[TimedProfile]] = {}
    try:
        for i, profiles in predictions(chosen, plan, 1 if whole else arguments.jobs):
            by_number[i] = profiles
    except KeyboardInterrupt:
        pass
    found = [
        [one for j in range(len(targets)) for one in by_number.get(i * len(targets) + j, ())]
        for i in range(len(chosen))
    ]
    complete = len(by_number) == len(chosen) * len(targets)
    publish(arguments, found, complete)
    if not complete:
        print(f"triptych: stopped after {len(by_number)} of {len(chosen) * len(targets)} predictions", file=sys.stderr)
        return ExitCode.INTERRUPTED
    statuses = {one.profile.status for some in found for one in some}
    if Status.ERROR in statuses:
        return ExitCode.MISMATCH
    return ExitCode.OK if Status.PASSED in statuses else ExitCode.NOTHING_RAN


def backend_of(targets: Sequence[str]) -> str:
    """Whose targets these are; the simulator's if they are not all of Triton's compiler."""
    return "triton" if targets and all(catalogue().compiled_for(target) for target in targets) else "nki-sim"


def predictions(chosen: Sequence[Subject], plan: Plan, jobs: int | None) -> Iterator[tuple[int, list[TimedProfile]]]:
    """What each subject takes on each target, by the number of the pair, as it comes."""
    pairs = [(subject, target) for subject in chosen for target in plan.targets]

    def died(number: int, why: str) -> list[TimedProfile]:
        return without(*pairs[number], plan, Status.ERROR, Cause.WORKER_DIED, why)

    line, left = StatusLine(sys.stderr), Remaining(len(pairs))

    def show() -> None:
        subject, target = pairs[left.first]
        words = (left.words(), subject.op, subject.case, subject.dtype, f"nki-sim[{target}]")
        line.say(" ".join(filter(None, words)))

    try:
        show()
        with closing(each(lambda i: predict(*pairs[i], plan), len(pairs), jobs, died)) as coming:
            for number, profiles in coming:
                yield number, profiles
                left.done(number)
                if left.count:
                    show()
    finally:
        line.clear()


def subjects(arguments: Namespace) -> list[Subject]:
    """Everything that the command line selects; what a name does not mean is an error that says what exists."""
    named = [split_function(path) for path in arguments.sources]
    if arguments.args and not named:
        raise UsageError("--arg goes with --kernel PATH:FUNCTION; the inputs of an op are its own.")
    for path, function in named:
        if function is not None or arguments.args:
            if len(named) > 1:
                raise UsageError(f"one function at a time: got {', '.join(arguments.sources)}.")
            for option, value in (("OP", arguments.ops), ("-k", arguments.names), ("-a", arguments.axes)):
                if value:
                    raise UsageError(f"{option} selects a case of an op, and --kernel with --arg names a function.")
            return [of_function(arguments.sources[0], Path(path), function, arguments.args or (), arguments.seed)]
    files = declared(arguments.sources)
    sources = {name: path for path, some in files for name in some}
    ops = pick_ops(arguments.ops, {name: op for _, some in files for name, op in some.items()} if files else builtin())
    sets = sets_of(ops.values())
    check_axes(arguments.axes, ops)
    usual = "smoke" if arguments.axes else "model"  # sizes of the user's own need no sizes of a model
    selection = Selection(
        sets=pick("case set", arguments.sets, sets) or ([usual] if usual in sets else sets),
        names=arguments.names,
        dtypes=pick("dtype", arguments.dtypes, dtypes_of(ops.values())),
        axes=arguments.axes,
        seed=arguments.seed,
    )
    found = of_ops(ops.values(), selection, sources)
    if not found and selection.names is not None:
        raise unknown("case", selection.names, selection.case_names(ops.values()))
    return found


def written_out(words: Sequence[str], targets: Sequence[str]) -> list[str]:
    """The words of --set, with the lines of a file in the place of `@FILE`."""
    return [one for word in words for one in (overlay.words(word[1:], targets) if word[:1] == "@" else [word])]


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


def kernels_of(found: Sequence[Sequence[TimedProfile]]) -> list[Any]:
    """The files of the kernels that were predicted, as a document names them."""
    files = dict.fromkeys((one.profile.op, one.path) for some in found for one in some)
    made = (source(op, "nki", path) for op, path in files)
    return [to_plain(kernel) for kernel in made if kernel is not None]


def publish(arguments: Namespace, found: Sequence[Sequence[TimedProfile]], complete: bool) -> None:
    """The files first, so that a broken pipe costs none of them; then the text."""
    profiles = [one.profile for some in found for one in some]
    if arguments.json:
        env = provenance(shlex.join(["triptych", *arguments.argv]), arguments.seed, ["nki-sim"], label=arguments.label)
        env["kernels"] = kernels_of(found)
        files.write(arguments.json, Document(complete=complete, env=env, results=list(profiles)).to_json())
    whole = [(one.profile, one.prediction) for some in found for one in some if one.prediction]
    if arguments.trace and whole:
        first = profiles[0]
        about = {"op": first.op, "case": first.case, "dtype": first.dtype, "evidence": "predicted"}
        timelines = {profile.label: prediction.timeline for profile, prediction in whole}
        files.write(arguments.trace, perfetto.encode(arguments.trace, perfetto.document(timelines, about)))
    if arguments.html and whole:
        files.write(arguments.html, page([profile for profile, _ in whole], [prediction for _, prediction in whole]))
    taken = "-" in (arguments.json, arguments.trace, arguments.html)
    stream = sys.stderr if taken else sys.stdout
    if not taken:
        ran = [[one.profile for one in some if one.profile.status is Status.PASSED] for some in found]
        print(text.text([some for some in ran if some]), end="")
        print(unsupported(profiles), end="")
    print(problems(profiles, colour=wants_colour(stream)), end="", file=stream)
