"""Where results are from: the `env` of a document, before anything runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from triptych.harness.backends import BACKENDS
from triptych.harness.emulators import conformance
from triptych.harness.results import environment
from triptych.harness.running.session import Observer, Run


def provenance(command: str, seed: int, backends: Iterable[str]) -> dict[str, Any]:
    """This machine, the command that makes the results, and the self-tests of the emulators among `backends`."""
    record = {**environment.record(), "seed": seed, "command": command}
    here = (BACKENDS[name] for name in backends if not BACKENDS[name].missing())
    tested = {backend.name: found for backend in here if (found := backend.selftest()) is not None}
    return {**record, "conformance": conformance.record(tested)}


class Recorder(Observer):
    """Gives a run its `env` when it starts: the commit and the versions that are about to run.

    command: what to type to repeat the run
    """

    def __init__(self, command: str) -> None:
        self.command = command

    def started(self, run: Run) -> None:
        backends = dict.fromkeys(task.backend for task in run.plan.tasks)
        run.env = provenance(self.command, run.plan.selection.seed, backends)
