"""`--watch`: run again whenever a source is saved, what failed first, and say what changed since the last run.

Each run is a command of its own: a process that loads every file anew cannot be fooled by what the last one imported.
Where it can be, that process is forked off this one, which has imported all that is ours and none of the user's.
Results are kept between runs as `--resume` keeps them, so that what a saved file does not concern is not run again.
"""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

from triptych.harness.backends.base import file_of
from triptych.harness.collection import load_ops
from triptych.harness.commands.arguments.outputs import WATCHED, Outputs
from triptych.harness.commands.runs.warm import Warm
from triptych.harness.comparing.causes import causes_of_timings
from triptych.harness.comparing.changes import compared, timing_of
from triptych.harness.errors import UsageError
from triptych.harness.exit_codes import ExitCode
from triptych.harness.ops.loading import split_function
from triptych.harness.reports.comparison.cells import name, signed
from triptych.harness.reports.comparison.text import cause_lines
from triptych.harness.reports.formats import printable
from triptych.harness.results.document import Document, read
from triptych.harness.results.status import BAD
from triptych.harness.results.timing import Predicted

POLL_S = 0.25
PROJECT = Path(__file__).resolve().parents[3]
OWN = ("kernels", "reference", "harness/collection")  # what of this project a user would edit
State = dict[Path, "tuple[int, int]"]  # of each file its time and size


def watch(arguments: Namespace) -> int:
    """Run and wait, until the user interrupts; the exit code is that of the last run."""
    if Outputs.from_arguments(arguments).stdout_taken:
        raise UsageError("--watch prints one run after the other, so that no output can be `-`.")
    words = [word for word in arguments.argv if word != "--watch"]
    code, last = int(ExitCode.OK), None
    with tempfile.TemporaryDirectory(prefix=WATCHED) as folder:
        kept = getattr(arguments, "resume", None) or f"{folder}/last.json"
        if arguments.command == "check" and "--resume" not in words:
            words += ["--resume", kept]
        if arguments.command == "profile":
            kept = arguments.json or kept
            words += [] if arguments.json else ["--json", kept]
        try:
            while True:
                places = folders_of(arguments.sources)
                before = state(places)
                still = first_failing(last)
                if still and run([*shlex.split(still)[1:], "-q", "--resume", kept]) == ExitCode.MISMATCH:
                    print(f"still wrong: {printable(still)}", flush=True)
                code = run(words)
                now = document(kept)
                for line in changed(last, now):
                    print(line)
                last = now or last
                where = ", ".join(map(str, places))
                print(f"watching {where}: save a file to run again, Ctrl-C ends", flush=True)
                while state(places) == before:
                    pause()
        except KeyboardInterrupt:
            return code


def pause() -> None:
    time.sleep(POLL_S)


def run(words: Sequence[str]) -> int:
    """A command of its own, which prints where this one does."""
    if warm().is_possible():
        code = warm().run(words)
        return int(ExitCode.MISMATCH) if code is None else code
    return subprocess.run([sys.executable, "-m", "triptych", *words]).returncode


@cache
def warm() -> Warm:
    """What runs are forked off."""
    return Warm()


def folders_of(sources: Sequence[str]) -> list[Path]:
    """`folders`, found by a child where that can be, so that this process loads none of the files."""
    found: list[Path] | None = warm().ask(lambda: folders(sources)) if warm().is_possible() else None
    return folders(sources) if found is None else found


def document(path: str) -> Document | None:
    """What the last run kept; None where it was stopped before there was anything."""
    try:
        return read(path)
    except UsageError:
        return None


def first_failing(last: Document | None) -> str:
    """The command that repeats the first case that failed; empty if none did, or if nothing was judged."""
    bad = [result.repro for result in last.results if result.status in BAD] if last else []
    return next((repro for repro in bad if repro.startswith("triptych check ")), "")


def changed(last: Document | None, now: Document | None) -> Iterator[str]:
    """What the last run and this one say differently: verdicts, and predicted times with the lines that they are of."""
    if last is None or now is None:
        return
    found = False
    for change in compared(last, now, ("last", "now")).changes:
        before, after = change.base, change.new
        if before and after and before.status is not after.status:
            found = True
            yield f"changed: {name(change)}: {before.status} → {after.status}"
        a, b = timing_of(before), timing_of(after)
        if change.ratio and change.ratio.value != 1 and isinstance(a, Predicted) and isinstance(b, Predicted):
            found = True
            yield f"changed: {name(change)}: {a.us:,.1f} → {b.us:,.1f} µs, {signed(change.ratio.value)}"
            yield from cause_lines(change, causes_of_timings(a, b))
    if not found:
        yield "nothing changed since the last run"


def folders(sources: Sequence[str]) -> list[Path]:
    """Where the sources of a run lie: the folders of the user's files and of their kernels; our own without any."""
    if not sources:
        return [PROJECT / name for name in OWN if (PROJECT / name).is_dir()]
    paths = [Path(split_function(source)[0]).resolve() for source in sources]
    found = dict.fromkeys(path.parent for path in paths)
    with contextlib.suppress(Exception):  # a file that does not load is what its user is about to mend
        for op in load_ops([str(path) for path in paths]).values():
            for kernel in (op.nki, op.triton):
                if kernel is not None:
                    found[file_of(kernel).resolve().parent] = None
    return list(found)


def state(places: Iterable[Path]) -> State:
    """What tells that a Python file in some folders was saved."""
    found: State = {}
    for place in places:
        for file in place.rglob("*.py") if PROJECT in place.parents else place.glob("*.py"):
            with contextlib.suppress(OSError):
                about = file.stat()
                found[file] = about.st_mtime_ns, about.st_size
    return found
