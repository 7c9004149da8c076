"""`triptych check`: compare every kernel with the reference, over case sets or, with `--fuzz`, over drawn cases."""

from __future__ import annotations

import shlex
import sys
import time
from argparse import Namespace

from triptych.harness import files
from triptych.harness.commands.arguments.outputs import Outputs
from triptych.harness.commands.runs.carry_out import carry_out
from triptych.harness.errors import UsageError
from triptych.harness.exit_codes import ExitCode
from triptych.harness.reports.problems import problems
from triptych.harness.reports.terminal import StatusLine, wants_colour
from triptych.harness.results.document import dumps


def run(arguments: Namespace) -> int:
    if arguments.watch:
        if arguments.fuzz:
            raise UsageError("--fuzz searches for as long as it is told; it does not go with --watch.")
        if arguments.cluster:
            raise UsageError(
                "--watch runs on this machine, a second after a file is saved; it does not go with --cluster."
            )
        from triptych.harness.commands.runs.watch import watch

        return watch(arguments)
    return fuzz(arguments) if arguments.fuzz else carry_out(arguments)


def fuzz(arguments: Namespace) -> int:
    """Search for a failing case, and print the smallest."""
    from triptych.harness.running.fuzz import Search, search, summary
    from triptych.harness.running.plan import plan
    from triptych.harness.running.provenance import provenance
    from triptych.harness.running.request import Request
    from triptych.harness.running.session import check_required
    from triptych.harness.running.tasks import Settings

    request, outputs = Request.from_arguments(arguments), Outputs.from_arguments(arguments)
    for option, given in (
        ("--cases", request.sets),
        ("--case", request.specs),
        ("--resume", outputs.resume),
        ("--cluster", request.cluster),
        ("-k", request.names),
        ("--csv", outputs.csv),
        ("--md", outputs.md),
        ("--html", outputs.html),
    ):
        if given:
            raise UsageError(f"--fuzz draws its own cases and prints one failure; it does not go with {option}.")
    outputs.check()
    chosen = plan(request)
    check_required(request.required)
    settings = Settings(wanted=chosen.tolerance, memory=request.memory, repeat=False, paranoid=request.paranoid)
    start, line = time.monotonic(), StatusLine(sys.stderr, quiet=outputs.quiet)

    def show(found: Search) -> None:
        doing = "shrinking" if found.failure else f"{found.cases} cases"
        line.say(f"[{time.monotonic() - start:.0f}/{arguments.fuzz:.0f} s] {doing}")

    try:
        found = search(chosen, settings, seconds=arguments.fuzz, timeout_s=request.timeout_s, on_case=show)
    finally:
        line.clear()
    results = [found.failure] if found.failure else []
    if outputs.json:
        here = [backend.name for backend in chosen.backends if backend.name not in found.missing]
        env = provenance(
            shlex.join(["triptych", *arguments.argv]), request.seed, here, chosen.ops.values(), outputs.label
        )
        files.write(outputs.json, dumps({**env, "fuzz": {"cases": found.cases}}, results))
    stream = outputs.stream
    print(problems(results, colour=wants_colour(stream)), end="", file=stream)
    for backend, why in found.missing.items():
        print(f"skipped: {backend}: {why}", file=stream)
    print(summary(found, chosen, arguments.fuzz), file=stream)
    if not found.compared:
        return ExitCode.NOTHING_RAN
    return ExitCode.MISMATCH if results else ExitCode.OK
