"""Two cores that run one kernel and share HBM.

Each core runs in a thread of its own, one at a time: a core runs until it waits for the other or ends, then the next
one runs. So a run is reproducible, and cores that wait for each other for ever are seen at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from triptych.simulator.errors import KernelError, kernel_line, show_line


class _Stopped(BaseException):
    """Ends a core whose partner failed; never leaves this module."""


class Core:
    """One core's thread, and what it waits for."""

    def __init__(self, number: int, work: Callable[[Core], Any]) -> None:
        self.number = number
        self.result: Any = None
        self.error: BaseException | None = None
        self.done = False
        self.waiting: tuple[Any, Any, tuple[str, int]] | None = None  # what for, what it offers, and its line
        self.received: tuple[Any, ...] = ()
        self._stop = False
        self._go, self._paused = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[Core], Any]) -> None:
        self._go.wait()
        self._go.clear()
        try:
            self.result = work(self)
        except BaseException as error:
            self.error = error
        self.done = True
        self._paused.set()

    def meet(self, what: Any, offer: Any) -> tuple[Any, ...]:
        """Wait until every core meets at `what`; returns what each of them offered, by core number."""
        self.waiting = (what, offer, kernel_line())
        self._paused.set()
        self._go.wait()
        self._go.clear()
        if self._stop:
            raise _Stopped
        return self.received

    def resume(self) -> None:
        """Let the core run until it waits or ends."""
        self._paused.clear()
        self._go.set()
        self._paused.wait()

    def end(self) -> None:
        """End a core that waits."""
        if not self.done:
            self._stop = True
            self.resume()
        self._thread.join()


def run_cores(works: Sequence[Callable[[Core], Any]]) -> list[Any]:
    """The result of each core's work. An error of a core, or cores that never meet, end all of them."""
    cores = [Core(number, work) for number, work in enumerate(works)]
    try:
        while not all(core.done for core in cores):
            for core in cores:
                if not core.done and core.waiting is None:
                    core.resume()
                if isinstance(core.error, BaseException):
                    raise core.error
            met = [core.waiting for core in cores]
            if all(core.done for core in cores):
                break
            if any(m is None for m in met) or len({m[0] for m in met if m is not None}) > 1:
                raise _never_meet(cores)
            offers = tuple(m[1] for m in met if m is not None)
            for core in cores:
                core.received, core.waiting = offers, None
    finally:
        for core in cores:
            core.end()
    return [core.result for core in cores]


def _never_meet(cores: Sequence[Core]) -> KernelError:
    states, line = [], None
    for core in cores:
        if core.waiting is None:
            states.append(f"core {core.number} has ended")
        else:
            what, _, line = core.waiting
            states.append(f"core {core.number} waits for {what[0]} {what[1]} at {show_line(line)}")
    return KernelError(
        f"the cores wait for each other for ever: {', and '.join(states)}; both must synchronise in the same order",
        source="nki/get-started/about/lnc.rst",
        line=line,
    )
