"""`list`, `check`, `bench`, `run` and `report`: select, run, write, print, and say it in an exit code."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, Any

from triptych.harness import files
from triptych.harness.backends import BACKENDS, Backend
from triptych.harness.collection import builtin
from triptych.harness.commands import cli
from triptych.harness.emulators.conformance import warning
from triptych.harness.judge import parity
from triptych.harness.judge.tolerance import KEYS, Bounds, asked
from triptych.harness.measured.timing_accuracy import in_words
from triptych.harness.ops.loading import OpFileError, from_file
from triptych.harness.ops.op import Op
from triptych.harness.ops.selection import (
    Selection,
    UsageError,
    axis_values,
    check_axes,
    check_targets,
    pick,
    pick_ops,
    words,
)
from triptych.harness.reports import tables
from triptych.harness.reports.coverage import untried_of
from triptych.harness.results.document import SCHEMA_VERSION, DocumentError, dumps, read
from triptych.harness.results.result import Result
from triptych.harness.results.status import BAD, RAN, Status
from triptych.harness.results.timing import Predicted
from triptych.harness.running.runner import Settings, Task, run

Run = tuple[dict[str, Any], list[Result]]  # an environment and what came of a run in it


class Stopped(Exception):
    """-x met a case that did not pass."""


def some(option: Sequence[str] | None) -> list[str]:
    """The comma lists of a repeated option, joined."""
    return [word for text in option or () for word in words(text)]


def load(kernel: str | None) -> dict[str, Op]:
    """The ops of a user's file, or ours."""
    if kernel is None:
        return builtin()
    try:
        return from_file(kernel)
    except OpFileError as error:
        raise UsageError(f"{error}.") from error


def listing(arguments: Namespace) -> int:
    """The ops in a table; with OP, its equation and every case."""
    ops = pick_ops(arguments.ops, load(arguments.kernel))
    if arguments.json:
        save(
            arguments.json,
            json.dumps({"schema_version": SCHEMA_VERSION, "ops": described(ops)}, indent=1) + "\n",
        )
        if arguments.json == "-":
            return cli.OK
    if arguments.ops:
        for op in ops.values():
            print(f"{op.name}: {op.summary}")
            print(f"  axes {', '.join(op.axes)} · {', '.join(op.dtypes)} · {', '.join(panels(op))}")
            for name, cases in op.case_sets.items():
                print(f"  {name} ({len(cases)})")
                print("\n".join(f"    {case.name}" for case in cases))
        return cli.OK
    rows = [
        [
            op.name,
            " ".join(op.axes),
            " ".join(f"{name} {len(cases)}" for name, cases in op.case_sets.items()),
            op.summary,
        ]
        for op in ops.values()
    ]
    head = ["op", "axes", "cases", "meaning"]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(3)]
    for row in [head, *rows]:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]))
    print(f"\nbackends: {', '.join(BACKENDS)} (`triptych doctor` says which are here)")
    return cli.OK


def panels(op: Op) -> list[str]:
    """The panels this op has beside its reference."""
    return ["reference", *(name for name in ("nki", "triton", "torch") if getattr(op, name) is not None)]


def described(ops: dict[str, Op]) -> list[dict[str, Any]]:
    return [
        {
            "op": op.name,
            "summary": op.summary,
            "axes": list(op.axes),
            "dtypes": list(op.dtypes),
            "panels": panels(op),
            "cases": {name: [case.name for case in cases] for name, cases in op.case_sets.items()},
        }
        for op in ops.values()
    ]


def execute(arguments: Namespace, argv: Sequence[str]) -> int:
    """check, bench, run and report."""
    backends, required = pick_backends(arguments)
    ops, selection = selected(arguments, backends)
    everything = work = selection.tasks(ops, backends)
    if not work:
        print("triptych: the chosen ops have no such cases; `triptych list OP` shows theirs", file=sys.stderr)
    destinations(arguments)
    if missing(required):
        return cli.REQUIRED_MISSING
    no_check = arguments.command != "check" and arguments.no_check
    env: dict[str, Any] = {}
    if arguments.json or arguments.html or arguments.resume:
        env = environment(arguments, argv, dict.fromkeys(task.backend for task in work))
    kept = None
    if arguments.resume:
        from triptych.harness.running.resume import Kept

        kept = Kept(arguments.resume, work, ops, Settings(no_check, arguments.wanted))
        if Path(arguments.resume).exists():
            kept.take(saved(arguments.resume)[1])
            print(kept.said(), file=sys.stderr)
        work = kept.left(work)
    results: list[Result] = []
    progress = Progress(sys.stderr, work, quiet=arguments.quiet)
    refused: list[UsageError] = []  # by the system, to write what the run has so far, which is no reason to stop it

    def keep(some: list[Result]) -> None:
        try:
            save(arguments.resume, dumps(env, some))
        except UsageError as error:
            if not refused:
                print(f"triptych: {error} The run goes on and tries the file again later.", file=sys.stderr)
            refused.append(error)

    def finished(result: Result) -> None:
        results.append(result)
        if kept is not None:
            kept.add(result, keep)
        progress.step(len(results), result)
        if arguments.stop and result.status in BAD:
            raise Stopped

    interrupted = False
    progress.step(0, None)
    try:
        run(
            work,
            timeout_s=arguments.timeout,
            no_check=no_check,
            wanted=arguments.wanted,
            memory=arguments.memory,
            on_result=finished,
        )
    except Stopped:
        pass
    except KeyboardInterrupt:
        interrupted = True
    finally:
        progress.clear()
    if kept is not None:
        results = kept.ordered()
    if not any(result.status in BAD for result in results):
        env["not_tried"] = untried_of(selection, ops, everything)
    publish(arguments, [(env, results)], arguments.seed)
    remark(results)
    for line in warning(env.get("conformance", {})).splitlines():
        print(f"triptych: {line}", file=sys.stderr)
    if len(results) < len(everything):
        print(f"triptych: stopped after {len(results)} of {len(everything)} cases", file=sys.stderr)
    if interrupted:
        return cli.INTERRUPTED
    return exit_code(results, required, strict=arguments.strict, reference_counts=some(arguments.backend) == ["numpy"])


def remark(results: Sequence[Result]) -> None:
    """The first note on each line of the kernels."""
    told: dict[str, str] = {}
    for note in (note for result in results for note in result.notes):
        told.setdefault(note.partition(": ")[0], note)
    for note in told.values():
        print(f"triptych: note: {note}", file=sys.stderr)


def pick_backends(arguments: Namespace) -> tuple[list[Backend], list[str]]:
    """The selected backends, and the names of those that must run."""
    required = pick("backend", some(arguments.require), list(BACKENDS))
    wanted = some(arguments.backend)
    chosen = pick("backend", [*wanted, *required], list(BACKENDS)) if wanted else list(BACKENDS)
    return [BACKENDS[name] for name in chosen], required


def fuzz(arguments: Namespace, argv: Sequence[str]) -> int:
    """check --fuzz: a search instead of case sets."""
    from triptych.harness.running import fuzz

    for option, given in (
        ("--cases", arguments.cases),
        ("--case", arguments.written),
        ("--resume", arguments.resume),
        ("-k", arguments.names),
        ("--csv", arguments.csv),
        ("--md", arguments.md),
        ("--html", arguments.html),
    ):
        if given:
            raise UsageError(f"--fuzz draws its own cases and prints one failure; it does not go with {option}.")
    backends, required = pick_backends(arguments)
    ops, selection = selected(arguments, backends)
    destinations(arguments)
    if missing(required):
        return cli.REQUIRED_MISSING
    found = fuzz.search(
        selection,
        ops,
        backends,
        seconds=arguments.fuzz,
        timeout_s=arguments.timeout,
        settings=Settings(wanted=arguments.wanted, memory=arguments.memory, repeat=False),
        on_case=fuzz.progress(arguments.fuzz, arguments.quiet),
    )
    results = [found.failure] if found.failure else []
    if arguments.json:
        env = environment(arguments, argv, [b.name for b in backends if b.name not in found.away])
        save(arguments.json, dumps({**env, "fuzz": {"cases": found.cases}}, results))
    stream = sys.stderr if arguments.json == "-" else sys.stdout
    print(tables.problems(results, colour=tables.wants_colour(stream)), end="", file=stream)
    for backend, why in found.away.items():
        print(f"skipped: {backend}: {why}", file=stream)
    print(fuzz.told(found, ops, arguments.fuzz, arguments.seed), file=stream)
    if not found.compared:
        return cli.NOTHING_RAN
    return cli.MISMATCH if results else cli.OK


def missing(required: Sequence[str]) -> bool:
    """Whether a required backend is not here; says which and why."""
    for name in required:
        reason = BACKENDS[name].missing()
        if reason:
            print(f"triptych: the required backend {name} is missing: {reason}", file=sys.stderr)
            return True
    return False


def environment(arguments: Namespace, argv: Sequence[str], backends: Iterable[str]) -> dict[str, Any]:
    """The `env` of a document, with the command that makes it and the self-tests of the emulators among `backends`."""
    from triptych.harness.emulators import conformance
    from triptych.harness.results.environment import record

    env = {**record(), "seed": arguments.seed, "command": shlex.join(["triptych", *argv])}
    return {**env, "conformance": conformance.record(backends)}


def selected(arguments: Namespace, backends: Sequence[Backend]) -> tuple[dict[str, Op], Selection]:
    """The ops and what to run of them, every word checked."""
    wanted = arguments.wanted = wanted_tolerance(arguments)  # before a file is loaded, which may change the environment
    ops = pick_ops(arguments.ops, load(arguments.kernel))
    known_dtypes = list(dict.fromkeys(dtype for op in ops.values() for dtype in op.dtypes))
    known_sets = list(dict.fromkeys(name for op in ops.values() for name in op.case_sets))
    default_sets = [name for name in words(arguments.default_cases) if name in known_sets] or known_sets
    axes = axis_values(arguments.axes or ())
    check_axes(axes, ops)
    written = arguments.written or []
    if written and axes and not arguments.cases:
        raise UsageError("--case gives every axis itself; -a is for the cases of a set.")
    targets = some(arguments.target)
    check_targets(targets, backends)
    judgement = [f"--{name}={value:g}" for name in KEYS if (value := getattr(wanted, name, None)) is not None]
    selection = Selection(
        command="check" if arguments.command == "check" else "bench",
        source=arguments.kernel,
        sets=pick("case set", some(arguments.cases), known_sets) or (default_sets if not written else ()),
        names=arguments.names,
        dtypes=pick("dtype", some(arguments.dtype), known_dtypes),
        axes=axes,
        targets=targets,
        seed=arguments.seed,
        named=some(arguments.backend),
        judgement=judgement,
        written=written,
    )
    return ops, selection


def wanted_tolerance(arguments: Namespace) -> Bounds | None:
    """What the command line says of the tolerance, else what the environment says."""
    try:
        return asked(arguments.rtol, arguments.atol, arguments.budget)
    except ValueError as error:
        raise UsageError(f"{error}.") from error


def destinations(arguments: Namespace) -> None:
    """Every file must be writable before anything runs, and stdout takes one document."""
    resume = getattr(arguments, "resume", None)
    if resume == "-":
        raise UsageError("--resume takes a file: what was printed cannot be continued.")
    named = {name: getattr(arguments, name, None) for name in ("json", "csv", "md", "html", "trace")}
    stdout = [f"--{name}" for name, path in named.items() if path == "-"]
    if len(stdout) > 1:
        raise UsageError(f"stdout takes one document: only one of {' and '.join(stdout)} can be `-`.")
    for path in filter(None, [resume, *named.values()]):
        try:
            files.check_writable(path)
        except files.OutputError as error:
            raise UsageError(str(error)) from error


def save(path: str, text: str | bytes) -> None:
    try:
        if isinstance(text, bytes):
            files.write_bytes(path, text)
        else:
            files.write(path, text)
    except files.OutputError as error:
        raise UsageError(str(error)) from error


def publish(arguments: Namespace, runs: Sequence[Run], seed: int | None) -> None:
    """The files first, so that a broken pipe costs none of them; then the table, the problems and the last line.

    A file that cannot be written, as on a full disk, costs neither the others nor the table; it is the error then.
    """
    results = [result for _, some in runs for result in some]
    failed: list[UsageError] = []

    def write(path: str | None, text: Callable[[], str]) -> None:
        if path:
            try:
                save(path, text())
            except UsageError as error:
                failed.append(error)

    def html() -> str:
        from triptych.harness.reports.page import page

        return page(runs)

    write(arguments.resume, lambda: dumps(runs[0][0], results))
    write(arguments.json, lambda: dumps(runs[0][0], results))
    write(arguments.csv, lambda: tables.comma_separated(results))
    write(arguments.md, lambda: tables.markdown(results, seed))
    write(arguments.html, html)
    taken = "-" in (arguments.json, arguments.csv, arguments.md, arguments.html)
    stream = sys.stderr if taken else sys.stdout
    colour = tables.wants_colour(stream)
    if not taken and not arguments.quiet and arguments.command != "report":
        width = shutil.get_terminal_size().columns if stream.isatty() else None
        table = tables.text(results, width=width, colour=colour)
        print(table, end="\n" if table else "")
        print(tables.unsupported(results), end="")
        print(parity.text(results), end="")
    if not arguments.quiet:
        print("".join(f"{line}\n" for env, _ in runs for line in env.get("not_tried", [])), end="", file=stream)
    print(tables.problems(results, colour=colour), end="", file=stream)
    if arguments.html and arguments.html != "-":
        print(f"report: {arguments.html}", file=stream)
    if any(isinstance(result.timing, Predicted) for result in results) and arguments.command != "profile":
        print(in_words(), file=stream)
    print(tables.summary(results, seed), file=stream)
    if failed:
        raise UsageError(" ".join(map(str, failed)))


def rerender(arguments: Namespace) -> int:
    """`report --from a.json b.json`: saved results as one report; each file is a run with its own environment."""
    destinations(arguments)
    if arguments.json:
        raise UsageError("--json keeps one run, and --from reads such files: it does not write them again.")
    if arguments.resume:
        raise UsageError("--from runs nothing, so there is nothing to --resume.")
    runs = [saved(path) for path in arguments.saved]
    seeds = {env.get("seed") for env, _ in runs}
    publish(arguments, runs, seeds.pop() if len(seeds) == 1 else None)
    results = [result for _, results in runs for result in results]
    return exit_code(results, (), strict=arguments.strict, reference_counts=True)


def saved(path: str) -> Run:
    """A document that --json wrote."""
    try:
        document = read(path)
    except DocumentError as error:
        raise UsageError(str(error)) from error
    return document.env, document.results


def exit_code(results: Sequence[Result], required: Sequence[str], *, strict: bool, reference_counts: bool) -> int:
    """What the results mean to a shell; the reference by itself counts where it is all that was asked for."""
    ran = {result.backend for result in results if result.status in RAN}
    if any(result.status in BAD for result in results):
        return cli.MISMATCH
    for name in required:
        if name not in ran:
            print(f"triptych: the required backend {name} ran no case", file=sys.stderr)
            return cli.REQUIRED_MISSING
    if not ran:
        return cli.NOTHING_RAN
    if strict and any(result.status is Status.SKIPPED for result in results):
        return cli.REQUIRED_MISSING
    if strict and any(result.status is Status.UNSUPPORTED for result in results):
        return cli.MISMATCH
    if not reference_counts and ran <= {"numpy"}:
        print("triptych: no kernel ran: what passed is the reference, compared with itself", file=sys.stderr)
        return cli.NOTHING_RAN
    return cli.OK


class Progress:
    """One line on a terminal that says what runs now; nothing anywhere else."""

    def __init__(self, stream: IO[str], work: Sequence[Task], *, quiet: bool) -> None:
        self.stream, self.work = stream, work
        self.on = stream.isatty() and not quiet
        self.bad = 0

    def step(self, done: int, last: Result | None) -> None:
        self.bad += last is not None and last.status in BAD
        if not self.on or done >= len(self.work):
            return
        task = self.work[done]
        where = f"{task.backend}[{task.target}]" if task.target else task.backend
        bad = f", {self.bad} not passed" if self.bad else ""
        line = f"[{done}/{len(self.work)}{bad}] {task.op} {task.case.name} {task.case.dtype} {where}"
        width = shutil.get_terminal_size().columns - 1
        self.stream.write("\r\x1b[K" + (line if len(line) <= width else line[: width - 1] + "…"))
        self.stream.flush()

    def clear(self) -> None:
        if self.on:
            self.stream.write("\r\x1b[K")
            self.stream.flush()
