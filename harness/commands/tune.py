"""`triptych tune`: try every setting of a kernel's knobs, and find the one that is fastest and right."""

from __future__ import annotations

import json
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from triptych import simulator
from triptych.harness import files
from triptych.harness.backends import BACKENDS
from triptych.harness.backends.base import split_kernel
from triptych.harness.collection import load_ops
from triptych.harness.commands.arguments.outputs import Outputs
from triptych.harness.commands.runs.places import Place, place
from triptych.harness.errors import RequiredMissing, UsageError, unknown
from triptych.harness.exit_codes import ExitCode
from triptych.harness.ops.op import Op
from triptych.harness.ops.selection import pick_ops, sets_of
from triptych.harness.profiling.subjects import DTYPE
from triptych.harness.reports.progress import Progress
from triptych.harness.reports.terminal import Ticker
from triptych.harness.reports.tuning import text as report
from triptych.harness.results.document import SCHEMA_VERSION
from triptych.harness.results.record import name_nonfinite
from triptych.harness.results.result import Result
from triptych.harness.results.status import BAD, RAN
from triptych.harness.running.plan import plan
from triptych.harness.running.request import Request
from triptych.harness.running.workers.each import Maker
from triptych.harness.tuning.compiled import Compiling
from triptych.harness.tuning.knobs import NAME, Knobs, Setting, knob, knobs_of
from triptych.harness.tuning.rulers import Measuring, Predicting, Ruler
from triptych.harness.tuning.search import Trial, Tuning, search, tried
from triptych.harness.tuning.variants import beside_links, ops_file

JUDGED = ("smoke", "edge", "adversarial")  # case sets that a choice must pass, beside the cases it was tuned on
PREDICTED, COMPILED = "nki-sim", "triton-cpu"
DEFAULT_GPU = "sm_90"


@dataclass(frozen=True)
class Job:
    """One kernel to tune: a panel of an op, and the backend that times and judges it."""

    op: Op
    source: str | None  # the user's file that declares the op
    backend: str
    function: str
    knobs: Knobs

    @property
    def panel(self) -> str:
        return BACKENDS[self.backend].panel

    def request(self, request: Request) -> Request:
        """What of a request is of this job: one op, and one dtype unless others are asked for."""
        dtypes = request.dtypes or [DTYPE if DTYPE in self.op.dtypes else self.op.dtypes[0]]
        return replace(request, ops=[self.op.name], sources=[self.source] if self.source else [], dtypes=dtypes)


def run(arguments: Namespace) -> int:
    """Tune each kernel that is selected, publish, and put the choice into its file where that is asked for."""
    outputs = Outputs.from_arguments(arguments)
    outputs.check()
    request = request_of(arguments)
    chosen: list[tuple[Job, Tuning, Trial | None, str]] = []
    found = jobs(arguments)
    with place(arguments) as where:
        run_cases = Cases(arguments.targets, outputs.quiet, where)
        for job in found:
            line = Ticker(sys.stderr, quiet=outputs.quiet)
            made_by = ruler(job, request, run_cases)
            elsewhere = partial(maker, job, request, arguments.targets)
            try:
                made = search(job.knobs, made_by, partial(tick, line, job), where.each, elsewhere)
            finally:
                line.clear()
            trial, judged = judged_winner(made, job, request, run_cases)
            sentence = report.choice(made, trial, judged)
            chosen.append((job, made, trial, sentence))
            if arguments.write and trial is not None and trial is not made.own:
                files.write(str(job.knobs.path), job.knobs.written(trial.setting).decode())
            say(job, made, sentence, outputs)
            if not made.complete:
                break
    publish(outputs, chosen)
    if not all(made.complete for _, made, _, _ in chosen):
        return ExitCode.INTERRUPTED
    return ExitCode.OK if all(trial for _, _, trial, _ in chosen) else ExitCode.MISMATCH


def request_of(arguments: Namespace) -> Request:
    """The cases to tune on: those of a model, or the smallest where sizes are given."""
    named = load_ops(arguments.sources)
    known = sets_of(pick_ops(arguments.ops, named).values())
    usual = "smoke" if arguments.axes else "model"
    return Request(
        ops=arguments.ops,
        sources=arguments.sources,
        dtypes=arguments.dtypes,
        sets=arguments.sets,
        default_sets=[usual] if usual in known else known[:1],
        names=arguments.names,
        specs=arguments.specs,
        axes=arguments.axes,
        seed=arguments.seed,
        timeout_s=arguments.timeout_s,
        jobs=arguments.jobs,
    )


def jobs(arguments: Namespace) -> list[Job]:
    """Every selected kernel whose file declares knobs; UsageError if there is none."""
    values = dict(knob(text) for text in arguments.knobs)
    found, without = [], []
    for source in arguments.sources or [None]:
        for op in pick_ops(arguments.ops, load_ops([source] if source else [])).values():
            for backend in backends_of(op, arguments.backends):
                kernel = getattr(op, BACKENDS[backend].panel)
                path, function = split_kernel(kernel)
                knobs = knobs_of(path)
                if knobs is None:
                    without.append(path.name)
                else:
                    found.append(Job(op, source, backend, function, knobs.only(values) if values else knobs))
    if not found:
        names = ", ".join(dict.fromkeys(without)) or "no kernel is selected, and"
        raise UsageError(
            f"nothing to tune: {names} has no {NAME}. Write {NAME} = {{'BLOCK_M': (64, 128)}} beside a constant "
            "BLOCK_M = 128 of the kernel's file; docs/tune.md says how. What a Triton launcher offers is "
            "tried by `triptych bench --tune SECONDS`."
        )
    return found


def backends_of(op: Op, wanted: Sequence[str]) -> Iterator[str]:
    """Who times each panel: the device where it is, else the timing model or Triton's compiler."""
    for name in wanted:
        if name not in BACKENDS:
            raise unknown("backend", name, BACKENDS)
        if BACKENDS[name].panel not in ("nki", "triton"):
            raise UsageError(f"{name} runs no kernel of a file, so that it has no knobs; name nki-sim, nki or triton.")
        if reason := BACKENDS[name].missing():
            raise RequiredMissing(f"the backend {name} is missing: {reason}")
    if op.nki is not None:
        yield from [n for n in wanted if BACKENDS[n].panel == "nki"] if wanted else [PREDICTED]
    if op.triton is not None:
        here = COMPILED if BACKENDS["triton"].missing() else "triton"
        yield from [n for n in wanted if BACKENDS[n].panel == "triton"] if wanted else [here]


@dataclass(frozen=True)
class Cases:
    """What runs the cases of a variant: the targets that the user names, whether to show progress, and where."""

    targets: Sequence[str]
    quiet: bool
    where: Place

    def bench(self, job: Job, variant: Path, request: Request, *, timed: bool, quiet: bool = True) -> Sequence[Result]:
        """The results of a variant's cases; none of those of other backends."""
        with tempfile.TemporaryDirectory(prefix="triptych-tune-") as folder:
            source = ops_file(Path(folder), [(job.op, {job.panel: f"{variant}:{job.function}"})], job.source)
            targets = [target for target in self.targets if target in BACKENDS[job.backend].targets]
            asked = replace(request, ops=[job.op.name], sources=[str(source)], backends=[job.backend], targets=targets)
            watching = [Progress(quiet=quiet, lines=True), *self.where.watching]
            made = self.where.session.run(replace(asked, timed=timed), watching)
            if made.interrupted:
                raise KeyboardInterrupt
            return made.results


def ruler(job: Job, request: Request, cases: Cases) -> Ruler:
    """What the settings of a job are read with."""
    if job.backend in (PREDICTED, COMPILED):
        return unmeasured(job, request, cases.targets)
    return Measuring(lambda variant: cases.bench(job, variant, job.request(request), timed=True))


def unmeasured(job: Job, request: Request, targets: Sequence[str]) -> Ruler:
    """A ruler that needs no device and no clock."""
    made = plan(replace(job.request(request), backends=[job.backend]))
    op = made.ops[job.op.name]
    if job.backend == PREDICTED:
        return Predicting(op, job.function, made.selection, targets_of(targets, simulator.TARGETS, "trn2"))
    from triptych.harness.emulators.devices import DEVICES

    cases = [case for _, case in made.selection.cases(op)]
    return Compiling(op, job.function, cases, targets_of(targets, DEVICES, DEFAULT_GPU))


def maker(job: Job, request: Request, targets: Sequence[str], settings: Sequence[Setting]) -> Maker[Trial]:
    """How another machine tries the settings of a job."""
    sources = [job.source] if job.source else []
    arguments = (job.op.name, job.backend, replace(request, sources=[]), targets, settings)
    return Maker(trying, sources, arguments, [job.op])


def trying(
    sources: Sequence[str],
    name: str,
    backend: str,
    request: Request,
    targets: Sequence[str],
    settings: Sequence[Setting],
) -> Callable[[int], Trial]:
    """The trial of a setting by its number, in a process that knows an op's name and its file."""
    op = load_ops(sources)[name]
    path, function = split_kernel(getattr(op, BACKENDS[backend].panel))
    knobs = knobs_of(path)
    assert knobs is not None  # the file's, as it was when it was sent
    job = Job(op, next(iter(sources), None), backend, function, knobs)
    made = unmeasured(job, request, targets)

    def trial(number: int) -> Trial:
        with tempfile.TemporaryDirectory(prefix="triptych-tune-") as folder:
            return tried(settings[number], knobs, made, Path(folder) / str(number))

    return trial


def targets_of(wanted: Sequence[str], known: object, usual: str) -> list[str]:
    """The targets that a ruler knows; the usual one where none is named."""
    from triptych.harness.emulators.devices import DEVICES

    for target in wanted:
        if target not in simulator.TARGETS and target not in DEVICES:
            raise unknown("target", target, [*simulator.TARGETS, *DEVICES])
    return [target for target in wanted if target in known] or [usual]  # type: ignore[operator]  # a table by name


def judged_winner(tuning: Tuning, job: Job, request: Request, cases: Cases) -> tuple[Trial | None, int]:
    """The choice and how many cases said that it is right; none where the user has ended the search or the judging."""
    if not tuning.complete:
        return None, 0
    try:
        return winner(tuning, job, request, cases)
    except KeyboardInterrupt:
        tuning.complete = False
        return None, 0


def winner(tuning: Tuning, job: Job, request: Request, cases: Cases) -> tuple[Trial | None, int]:
    """The best setting that is right on every case, and how many cases said so; the file's own needs no proof."""
    for trial in tuning.ranked:
        if trial is tuning.own or not tuning.gains(trial):
            break
        results = judged(trial.setting, job, request, cases)
        ran = [result for result in results if result.status in RAN]
        bad = next((result for result in ran if result.status in BAD), None)
        if bad is None and ran:
            return trial, len(ran)
        why = f"{bad.case} {bad.dtype}: {bad.status}: {bad.reason}" if bad else "no case of it could be judged"
        tuning.trials[tuning.trials.index(trial)] = replace(trial, readings=(), refused=why)
    own = tuning.own
    return (own, 0) if own is not None and not own.refused else (None, 0)


def judged(setting: Setting, job: Job, request: Request, cases: Cases) -> list[Result]:
    """The verdicts of a setting on the cases that it was tuned on, and on all small and hard ones."""
    small = [name for name in JUDGED if name in job.op.case_sets]
    every = Request(sets=small, seed=request.seed, timeout_s=request.timeout_s, jobs=request.jobs)
    with tempfile.TemporaryDirectory(prefix="triptych-tune-") as folder:
        variant = beside_links(job.knobs.path, job.knobs.written(setting), Path(folder) / "chosen")
        asked = [job.request(request), *([every] if small else [])]
        return [result for one in asked for result in cases.bench(job, variant, one, timed=False, quiet=cases.quiet)]


def tick(line: Ticker, job: Job, tuning: Tuning) -> None:
    line.say(f"[{len(tuning.trials)}/{tuning.knobs.count}] {job.op.name} {job.backend}")


def say(job: Job, tuning: Tuning, sentence: str, outputs: Outputs) -> None:
    """The table and the choice, where no document has standard output."""
    stream = outputs.stream
    if not outputs.quiet and not outputs.stdout_taken:
        print(f"{job.op.name}: {job.backend}: {report.text(tuning)}", file=stream)
        if report.accuracy(tuning):
            print(report.accuracy(tuning), file=stream)
    print(sentence, file=stream, flush=True)


def publish(outputs: Outputs, chosen: Sequence[tuple[Job, Tuning, Trial | None, str]]) -> None:
    """The documents that are asked for."""
    if outputs.json:
        rows = [
            {"op": job.op.name, "backend": job.backend, "panel": job.panel, **report.record(made, trial)}
            for job, made, trial, _ in chosen
        ]
        body = {"schema_version": SCHEMA_VERSION, "tunings": rows}
        files.write(outputs.json, json.dumps(name_nonfinite(body), indent=1, ensure_ascii=False) + "\n")
    if outputs.md:
        files.write(outputs.md, "\n".join(report.markdown(made, sentence) for _, made, _, sentence in chosen))
