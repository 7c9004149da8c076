"""Runs that begin warm: forked off a process that has imported what they need, and nothing of what a user edits.

A child loads the user's files anew each time, so that no run is fooled by what the last one imported. What is ours was
imported once: if a file of it is saved meanwhile, runs begin cold from then on.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from triptych.harness.commands import cli
from triptych.harness.emulators import conformance
from triptych.harness.running.workers import forked

OURS = str(Path(cli.__file__).resolve().parents[2])
NEEDED = ("triptych.simulator", "triptych.harness.running.worker", "triptych.harness.commands.runs.carry_out")
HEAVY = ("triton", "torch", "jax")  # imported here as soon as a run has needed them
OF_HEAVY = {"triton": "triptych.harness.emulators.running"}


class Warm:
    """A process to fork runs off."""

    def __init__(self) -> None:
        self.files: dict[str, int] = {}  # of ours that are imported, and when they had been saved

    def is_possible(self) -> bool:
        """Whether a child would be right: forking is safe, and what is imported is what the files say."""
        if not forked.is_safe():
            return False
        for name in NEEDED:
            importlib.import_module(name)
        self._look()
        return all(saved(file) == time for file, time in self.files.items()) and forked.is_safe()

    def _look(self) -> None:
        for module in list(sys.modules.values()):
            file = str(getattr(module, "__file__", None) or "")
            if file and file not in self.files and os.path.realpath(file).startswith(f"{OURS}{os.sep}"):
                self.files[file] = saved(file)

    def ask(self, function: Callable[[], Any]) -> Any:
        """What a function returns in a child of this process; None if the child did not come to that."""
        sys.stdout.flush()
        sys.stderr.flush()
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            _answer(function, writing)
        os.close(writing)
        try:
            with os.fdopen(reading, "rb") as stream:
                said = stream.read()
            os.waitpid(child, 0)
        except KeyboardInterrupt:  # which the child has got too, and ends with what it has
            try:
                os.waitpid(child, 0)
            except KeyboardInterrupt:
                os.kill(child, signal.SIGKILL)
            raise
        if not said:
            return None
        value, used, tested = pickle.loads(said)
        conformance.known.update(tested)
        for name in used:
            with contextlib.suppress(Exception):
                importlib.import_module(name)
                importlib.import_module(OF_HEAVY.get(name, name))
        return value

    def run(self, words: Sequence[str]) -> int | None:
        """The exit code of a command, which prints where this process does; None if its process died."""
        code: int | None = self.ask(lambda: int(cli.main(words)))
        return code


def _answer(function: Callable[[], Any], writing: int) -> None:
    """In the child: say what a function returns, which heavy modules it needed and how emulators were tested; end."""
    try:
        value = function()
        answer = pickle.dumps((value, [name for name in HEAVY if name in sys.modules], conformance.known))
        sys.stdout.flush()
        with os.fdopen(writing, "wb") as stream:
            stream.write(answer)
    except BaseException:
        traceback.print_exc()
    finally:
        forked.leave(0)


def saved(file: str) -> int:
    """When a file was saved; 0 for one that is gone."""
    try:
        return os.stat(file).st_mtime_ns
    except OSError:
        return 0
