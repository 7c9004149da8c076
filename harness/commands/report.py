"""`triptych report`: all that this machine can run as a page, or saved results as one."""

from __future__ import annotations

from argparse import Namespace

from triptych.harness.commands.arguments.outputs import Outputs
from triptych.harness.commands.runs.carry_out import carry_out, exit_code, publish
from triptych.harness.errors import UsageError
from triptych.harness.results.document import read


def run(arguments: Namespace) -> int:
    return from_saved(arguments) if arguments.saved else carry_out(arguments, table=False)


def from_saved(arguments: Namespace) -> int:
    """`--from a.json b.json`: one report; each file is a run with its own environment."""
    outputs = Outputs.from_arguments(arguments)
    outputs.check()
    if outputs.json:
        raise UsageError("--json keeps one run, and --from reads such files: it does not write them again.")
    if outputs.resume:
        raise UsageError("--from runs nothing, so there is nothing to --resume.")
    runs = [read(path) for path in arguments.saved]
    seeds = {run.env.get("seed") for run in runs}
    publish(runs, outputs, seeds.pop() if len(seeds) == 1 else None, table=False)
    results = [result for run in runs for result in run.results]
    return exit_code(results, (), strict=arguments.strict, reference_counts=True)
