"""`triptych report`: all that this machine can run as a page, or saved results as one."""

from __future__ import annotations

import sys
from argparse import Namespace

from triptych.harness.commands.arguments.outputs import Outputs
from triptych.harness.commands.runs.carry_out import carry_out, exit_code, publish
from triptych.harness.commands.runs.predicting import full_sizes
from triptych.harness.errors import UsageError
from triptych.harness.profiling.subjects import Subject
from triptych.harness.reports.terminal import Ticker
from triptych.harness.results.document import Document, read
from triptych.harness.running.session import Run
from triptych.harness.running.workers.each import Each

STAND_INS = ("model",)  # of few rows; what models serve is predicted beside them


def run(arguments: Namespace) -> int:
    if arguments.saved:
        return from_saved(arguments)
    if arguments.sets or arguments.names or arguments.specs or arguments.axes or arguments.no_check:
        return carry_out(arguments, table=False)
    arguments.stand_ins = STAND_INS
    return carry_out(arguments, table=False, add=add_full_sizes)


def add_full_sizes(run: Run, document: Document, every: Each) -> None:
    """The predicted times of NKI kernels at the sizes that models serve."""
    if not any(backend.name == "nki-sim" for backend in run.plan.backends):
        return
    line = Ticker(sys.stderr)

    def show(done: int, of: int, subject: Subject) -> None:
        line.say(f"[{done}/{of}] predicted {subject.op} {subject.case}")

    targets = list(run.plan.targets) or ["trn2"]
    try:
        for profile in full_sizes(
            list(run.plan.ops.values()), run.plan.sources, targets, run.plan.selection.seed, show, every
        ):
            document.results.append(profile)
    except KeyboardInterrupt:
        document.complete = False
    finally:
        line.clear()
    document.planned = len(document.results) if document.complete else None


def from_saved(arguments: Namespace) -> int:
    """`--from a.json b.json`: one report; each file is a run with its own environment."""
    outputs = Outputs.from_arguments(arguments)
    outputs.check()
    if outputs.json:
        raise UsageError("--json keeps one run, and --from reads such files: it does not write them again.")
    if outputs.resume:
        raise UsageError("--from runs nothing, so there is nothing to --resume.")
    if arguments.cluster:
        raise UsageError("--from runs nothing, so there is nothing for a --cluster.")
    runs = [read(path) for path in arguments.saved]
    seeds = {run.env.get("seed") for run in runs}
    publish(runs, outputs, seeds.pop() if len(seeds) == 1 else None, table=False)
    results = [result for run in runs for result in run.results]
    return exit_code(results, (), strict=arguments.strict, reference_counts=True)
