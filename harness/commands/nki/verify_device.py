"""`triptych verify-device`: the collection and the probes on this machine's Neuron device and on the simulator.

One file holds all of it, as it comes: a run that was cut short goes on where it stopped when it is started again.
"""

from __future__ import annotations

import shlex
import sys
from argparse import Namespace

from triptych.harness import files
from triptych.harness.backends.neuron import parts
from triptych.harness.calibration import probes
from triptych.harness.commands.runs.carry_out import exit_code
from triptych.harness.errors import RequiredMissing
from triptych.harness.exit_codes import ExitCode
from triptych.harness.reports import overview
from triptych.harness.reports.device import text
from triptych.harness.reports.problems import problems
from triptych.harness.reports.progress import Progress
from triptych.harness.reports.terminal import wants_colour
from triptych.harness.results.document import read
from triptych.harness.results.result import Result
from triptych.harness.running.provenance import Recorder
from triptych.harness.running.request import Request
from triptych.harness.running.resume import Resume
from triptych.harness.running.session import Observer, Run, Session, check_required

BACKENDS = ("nki-sim", "nki")


class Instance(Observer):
    """Notes in a run's `env` which chip it is on, and the versions of what runs there."""

    def __init__(self, chip: str) -> None:
        self.chip = chip

    def started(self, run: Run) -> None:
        run.env["neuron"] = {"chip": self.chip, "parts": {part.name: part.found for part in parts.parts()}}


def run(arguments: Namespace) -> int:
    """Run both, the probes first, and say how right the simulator is."""
    check_required(["nki"])
    chip = parts.target()
    if chip is None:
        raise RequiredMissing(parts.chip().sentence)
    files.check_writable(arguments.file)
    session: Session = arguments.session or Session()
    common = {"backends": BACKENDS, "targets": (chip,), "timed": True, "timeout_s": arguments.timeout_s}
    requests = [Request(ops=arguments.probes, sources=(probes.__file__,), **common)]
    if not arguments.probes_only:
        requests.append(Request(ops=arguments.ops, sets=arguments.sets, dtypes=arguments.dtypes, **common))
    runs = []
    for request in requests:
        observers = [
            Progress(lines=True),
            Recorder(shlex.join(["triptych", *arguments.argv])),
            Instance(chip),
            Resume(arguments.file, lambda line: print(line, file=sys.stderr), overview.document),
        ]
        runs.append(session.run(request, observers))
        if runs[-1].interrupted:
            print(f"triptych: interrupted; the same command goes on, with what {arguments.file} holds", file=sys.stderr)
            return ExitCode.INTERRUPTED
    results: list[Result] = [result for one in runs for result in one.results]
    print(text.comparison(read(arguments.file).results), end="")
    print(problems(results, colour=wants_colour(sys.stdout)), end="")
    print(f"\nwritten: {arguments.file}; next: triptych calibrate {arguments.file} --write FILE")
    return exit_code(results, ["nki"], strict=False, reference_counts=False)
