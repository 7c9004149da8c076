"""What check, bench, run and report share: to carry a request out, publish what came, and say it in an exit code."""

from __future__ import annotations

import shlex
import shutil
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence

from triptych.harness import files
from triptych.harness.backends import REFERENCES
from triptych.harness.commands.arguments.outputs import Outputs
from triptych.harness.commands.runs.places import place
from triptych.harness.emulators.conformance import warning
from triptych.harness.errors import UsageError
from triptych.harness.exit_codes import ExitCode
from triptych.harness.reports import overview, tables
from triptych.harness.reports.progress import Progress
from triptych.harness.reports.terminal import wants_colour
from triptych.harness.results.document import Document
from triptych.harness.results.profile import Outcome
from triptych.harness.results.result import Result
from triptych.harness.results.status import BAD, RAN, Status
from triptych.harness.running.provenance import Recorder
from triptych.harness.running.request import Request
from triptych.harness.running.resume import Resume
from triptych.harness.running.session import Observer, Run, StopAtFirst
from triptych.harness.running.workers.each import Each


def carry_out(
    arguments: Namespace,
    table: bool = True,
    add: Callable[[Run, Document, Each], None] = lambda run, document, every: None,
) -> int:
    """Run what the arguments ask for, and publish it.

    table: whether stdout gets one
    add: puts what is no verdict into the document of a run that came to its end
    """
    request, outputs = Request.from_arguments(arguments), Outputs.from_arguments(arguments)
    outputs.check()
    with place(arguments) as found:
        observers = observers_of(arguments, outputs, found.watching)
        run = found.session.run(request, observers)
        document = overview.document(run)
        if document.complete:
            add(run, document, found.each)
    results, tasks = run.results, run.plan.tasks
    if not tasks:
        say("triptych: the chosen ops have no such cases; `triptych list OP` shows theirs")
    refused = [observer.refused for observer in observers if isinstance(observer, Resume) and observer.refused]
    publish([document], outputs, request.seed, table, refused)
    for note in first_notes(results):
        say(f"triptych: note: {note}")
    for line in warning(run.env.get("conformance", {})).splitlines():
        say(f"triptych: {line}")
    if len(results) < len(tasks):
        say(f"triptych: stopped after {len(results)} of {len(tasks)} cases")
    if run.interrupted or (len(results) == len(tasks) and not document.complete):
        return ExitCode.INTERRUPTED
    reference_counts = bool(request.backends) and set(request.backends) <= REFERENCES
    return exit_code(document.results, request.required, strict=arguments.strict, reference_counts=reference_counts)


def say(line: str) -> None:
    print(line, file=sys.stderr)


def observers_of(arguments: Namespace, outputs: Outputs, watching: Sequence[Observer]) -> list[Observer]:
    """Who looks on while a command line's request is run; of the rest those that are `watching` come first."""
    observers: list[Observer] = [Progress(quiet=outputs.quiet, lines=True), *watching]
    if outputs.json or outputs.html or outputs.resume:
        observers.append(Recorder(shlex.join(["triptych", *arguments.argv]), outputs.label))
    if outputs.resume:
        tell = (lambda line: None) if outputs.watched else say
        observers.append(Resume(outputs.resume, tell, overview.document))
    if arguments.stop:
        observers.append(StopAtFirst())
    return observers


def publish(
    runs: Sequence[Document], outputs: Outputs, seed: int | None, table: bool = True, refused: Sequence[str] = ()
) -> None:
    """The files first, so that a broken pipe costs none of them; then the table, the problems and the last line.

    A file that cannot be written, as on a full disk, costs neither the others nor the table; it is the error then, as
    is what was `refused` before. That a run was cut short is said before anything else.
    """
    results = [result for run in runs for result in run.results]
    failed = [*refused, *write_files(runs, results, outputs, seed)]
    stream = outputs.stream
    colour = wants_colour(stream)
    print(overview.warnings(runs), end="", file=stream)
    if table and not outputs.stdout_taken and not outputs.quiet:
        width = shutil.get_terminal_size().columns if stream.isatty() else None
        print(overview.table(results, width=width, colour=colour), end="")
    report = outputs.html if outputs.html != "-" else None
    print(overview.ending(runs, seed=seed, quiet=outputs.quiet, report=report, colour=colour), end="", file=stream)
    if failed:
        raise UsageError(" ".join(failed))


def write_files(runs: Sequence[Document], results: Sequence[Outcome], outputs: Outputs, seed: int | None) -> list[str]:
    """Write what is asked for; why some of it could not be written."""
    failed: list[str] = []

    def write(path: str | None, text: Callable[[], str]) -> None:
        if path:
            try:
                files.write(path, text())
            except UsageError as error:
                failed.append(str(error))

    def html() -> str:
        from triptych.harness.reports.report.page import page

        return page([(run.env, run.results) for run in runs], overview.warnings(runs).splitlines())

    def markdown() -> str:
        from triptych.harness.reports.report.data import ReportData
        from triptych.harness.reports.report.pictures import diagrams

        drawn = diagrams(ReportData.of([(run.env, run.results) for run in runs]))
        return tables.markdown(results, seed, overview.warnings(runs).splitlines(), drawn)

    write(outputs.json, lambda: runs[0].to_json())
    write(outputs.csv, lambda: tables.comma_separated(results))
    write(outputs.md, markdown)
    write(outputs.html, html)
    return failed


def first_notes(results: Sequence[Result]) -> list[str]:
    """The first note on each line of the kernels."""
    by_line: dict[str, str] = {}
    for note in (note for result in results for note in result.notes):
        by_line.setdefault(note.partition(": ")[0], note)
    return list(by_line.values())


def exit_code(results: Sequence[Outcome], required: Sequence[str], *, strict: bool, reference_counts: bool) -> ExitCode:
    """What the results mean to a shell.

    required: backends that must have run a case
    strict: what was skipped or is unsupported counts as bad
    reference_counts: the reference by itself is something that ran
    """
    ran = {result.backend for result in results if result.status in RAN}
    if any(result.status in BAD for result in results):
        return ExitCode.MISMATCH
    for name in required:
        if name not in ran:
            say(f"triptych: the required backend {name} ran no case")
            return ExitCode.REQUIRED_MISSING
    if not ran:
        return ExitCode.NOTHING_RAN
    if strict and any(result.status is Status.SKIPPED for result in results):
        return ExitCode.REQUIRED_MISSING
    if strict and any(result.status is Status.UNSUPPORTED for result in results):
        return ExitCode.MISMATCH
    if not reference_counts and ran <= REFERENCES:
        say("triptych: no kernel ran: what passed is the reference, compared with itself")
        return ExitCode.NOTHING_RAN
    return ExitCode.OK
