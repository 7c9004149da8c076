"""Cores that take turns: one or two of each rank, any number of ranks.

Each core runs in a thread of its own, one at a time: a core runs until it waits for others or ends, then the next one
runs. So a run is reproducible, and cores that wait for each other for ever are seen as soon as nobody can go on. Cores
that meet are named by the one who waits; rendezvous of different cores are independent of each other.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from triptych.simulator.errors import KernelError, kernel_line, show_line

Who = tuple[int, int]  # (rank, core)
Work = Callable[["Core"], Any]


class MeetOthers(Protocol):
    """`Core.meet`, as a machine has it."""

    def __call__(self, what: str, offer: Any, members: Sequence[Who], name: str = "") -> Rendezvous: ...


class _Stopped(BaseException):
    """Ends a core when another failed; never leaves this module."""


class Rendezvous:
    """What those who met offered, in the order in which whoever waited names them."""

    def __init__(self, offers: tuple[Any, ...]) -> None:
        self.offers = offers
        self._done: list[Any] = []

    def once(self, action: Callable[[], Any]) -> Any:
        """The result of `action`, which the first of those who met carries out for all of them."""
        if not self._done:
            self._done.append(action())
        return self._done[0]


class _Wait(NamedTuple):
    what: str  # the same for all who meet
    members: tuple[Who, ...]
    offer: Any
    line: tuple[str, int]
    name: str  # what messages call it


class Core:
    """One core of one rank, its thread once it has one, and what it waits for."""

    def __init__(self, who: Who) -> None:
        self.who = who
        self.result: Any = None
        self.error: BaseException | None = None
        self.done = False
        self.waiting: _Wait | None = None
        self.met = Rendezvous(())
        self._stop = False
        self._go, self._paused = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, work: Work) -> None:
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def _run(self, work: Work) -> None:
        self._go.wait()
        self._go.clear()
        try:
            if not self._stop:
                self.result = work(self)
        except BaseException as error:
            self.error = error
        self.done = True
        self._paused.set()

    def meet(self, what: str, offer: Any, members: Sequence[Who], name: str = "") -> Rendezvous:
        """Wait until all of `members`, this core among them, are at `what`, each with its offer."""
        if len(members) == 1:
            return Rendezvous((offer,))
        self.waiting = _Wait(what, tuple(members), offer, kernel_line(), name or what)
        self._paused.set()
        self._go.wait()
        self._go.clear()
        if self._stop:
            raise _Stopped
        return self.met

    def resume(self) -> None:
        """Let the core run until it waits or ends."""
        self._paused.clear()
        self._go.set()
        self._paused.wait()

    def end(self) -> None:
        """End a core that waits or has not begun."""
        if self._thread is not None:
            if not self.done:
                self._stop = True
                self.resume()
            self._thread.join()


def take_turns(works: Mapping[Who, Work]) -> dict[Who, Any]:
    """The result of each core's work. An error of a core, or cores that never meet, end all of them."""
    cores = {who: Core(who) for who in works}
    if len(cores) == 1:  # nobody to wait for: no thread needed
        ((who, core),) = cores.items()
        return {who: works[who](core)}
    try:
        for who, core in cores.items():
            core.start(works[who])
        _run_to_the_end(cores)
    finally:
        for core in cores.values():
            core.end()
    return {who: core.result for who, core in cores.items()}


def _run_to_the_end(cores: Mapping[Who, Core]) -> None:
    ready = deque(cores.values())
    arrived: dict[tuple[str, tuple[Who, ...]], int] = {}
    while ready:
        core = ready.popleft()
        core.resume()
        if core.error is not None:
            raise core.error
        if core.waiting is None:
            continue
        what, members = core.waiting.what, core.waiting.members
        arrived[what, members] = arrived.get((what, members), 0) + 1
        if arrived[what, members] == len(members):
            del arrived[what, members]
            there = [cores[who] for who in members]
            rendezvous = Rendezvous(tuple([c.waiting.offer for c in there if c.waiting is not None]))
            for c in there:
                c.met, c.waiting = rendezvous, None
            ready.extend(there)
    if arrived:
        raise _never_meet(cores)


def _never_meet(cores: Mapping[Who, Core]) -> KernelError:
    """Who waits for what, and who has ended; cores in one state are named together."""
    states: dict[tuple[str, tuple[Who, ...], tuple[str, int] | None], list[Who]] = {}
    for who, core in cores.items():
        wait = core.waiting
        state = ("ended", (), None) if wait is None else (wait.name, wait.members, wait.line)
        states.setdefault(state, []).append(who)
    said = []
    for (what, members, line), here in states.items():
        many = len(here) > 1
        if line is None:
            said.append(f"{_names(here, cores)} {'have' if many else 'has'} ended")
        else:
            others = f" with {ranks_in_words([rank for rank, _ in members])}" if _several_ranks(cores) else ""
            wait_for = f"{'wait' if many else 'waits'} for {what} at {show_line(line)}{others}"
            said.append(f"{_names(here, cores)} {wait_for}")
    return KernelError(
        f"the cores wait for each other for ever: {', and '.join(said)}; all must synchronise in the same order",
        source=f"{'neuron-runtime/about/collectives' if _several_ranks(cores) else 'nki/get-started/about/lnc'}.rst",
        line=next((line for _, _, line in reversed(states) if line is not None), None),
    )


def _several_ranks(cores: Mapping[Who, Core]) -> bool:
    return len({rank for rank, _ in cores}) > 1


def _names(here: Sequence[Who], cores: Mapping[Who, Core]) -> str:
    """`here` in words: core 0; ranks 0-2, 5; ranks 0, 2 and core 1 of rank 3."""
    if not _several_ranks(cores):
        return " and ".join(f"core {core}" for _, core in here)
    all_of_one = tuple(sorted({core for _, core in cores}))
    by_rank: dict[int, tuple[int, ...]] = {}
    for rank, core in sorted(here):
        by_rank[rank] = (*by_rank.get(rank, ()), core)
    said = []
    for numbers in sorted(set(by_rank.values()), key=lambda n: -len(n)):
        ranks = ranks_in_words([rank for rank, own in by_rank.items() if own == numbers])
        said.append(ranks if numbers == all_of_one else f"core {numbers[0]} of {ranks}")
    return " and ".join(said)


def ranks_in_words(ranks: Sequence[int]) -> str:
    """rank 3; ranks 0-2, 5."""
    runs: list[list[int]] = []
    for rank in sorted(set(ranks)):
        if runs and runs[-1][-1] == rank - 1:
            runs[-1].append(rank)
        else:
            runs.append([rank])
    spans = [f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs]
    return f"rank{'s' if len(set(ranks)) > 1 else ''} {', '.join(spans)}"
