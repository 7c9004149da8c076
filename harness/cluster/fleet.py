"""The workers of a cluster, in the place of those of this machine."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, TypeVar

from msgspec import structs

from triptych.harness.backends import BACKENDS
from triptych.harness.cluster.connection import Cluster, RaySeat
from triptych.harness.cluster.hands import NOBODY_LEFT, CallHand, Load, Placing, Remote, RemoteHand
from triptych.harness.cluster.placing import placed
from triptych.harness.cluster.seat import About
from triptych.harness.cluster.travel import Luggage, files_of, packed
from triptych.harness.results.origin import Node
from triptych.harness.results.record import to_plain
from triptych.harness.results.result import Result
from triptych.harness.results.status import Cause, Evidence, Status
from triptych.harness.running.runner import TaskRun, check_backends
from triptych.harness.running.session import Observer, Run
from triptych.harness.running.tasks import Settings, Task, result_without_run
from triptych.harness.running.workers.each import Maker
from triptych.harness.running.workers.handing_out import hand_out

T = TypeVar("T")


class NodeRun(TaskRun):
    """What the seats of one node share. Each has its own device, so that only who is timed wants the node alone."""

    def wants_machine(self, task: Task) -> bool:
        return task.bench and BACKENDS[task.backend].evidence is not Evidence.SIMULATED


def perform(
    seats: Sequence[Remote],
    tasks: Sequence[Task],
    settings: Settings,
    timeout_s: float,
    on_result: Callable[[Result], None],
) -> None:
    """A result for every task, as it comes: from a seat that has its backend, or with why there is none."""
    check_backends(tasks)
    found = placed(tasks, [seat.about for seat in seats])
    for i, why in found.missing.items():
        on_result(result_without_run(tasks[i], Status.SKIPPED, why, Cause.BACKEND_MISSING))
    runs: dict[str, NodeRun] = {}
    for seat in seats:
        name, here = seat.about.node.node, dict.fromkeys(BACKENDS)
        if name not in runs:
            among = sum(other.about.node.node == name for other in seats)
            runs[name] = NodeRun(tasks, settings, timeout_s, here, seat.about.memory, among)
    placing = Placing(found.wanted, seats)
    hands = [RemoteHand(seat, runs[seat.about.node.node], placing) for seat in seats]
    left = set(found.wanted)
    with closing(hand_out(found.chains, hands)) as coming:
        for i, result in coming:
            left.remove(i)
            on_result(result)
    for i in sorted(left):
        on_result(result_without_run(tasks[i], Status.ERROR, NOBODY_LEFT, Cause.WORKER_DIED))


def evaluate(
    seats: Sequence[Remote], load: Load, count: int, died: Callable[[int, str], Any]
) -> Generator[tuple[int, Any, About | None], None, None]:
    """(i, function(i), where) for each i below `count`, as they come; nowhere, if no seat is left."""
    placing = Placing(dict.fromkeys(range(count), {}), seats)
    left = set(range(count))
    hands = [CallHand(seat, load, placing, died) for seat in seats]
    with closing(hand_out([[i] for i in range(count)], hands)) as coming:
        for i, (result, about) in coming:
            left.remove(i)
            yield i, result, about
    for i in sorted(left):
        yield i, died(i, NOBODY_LEFT), None


class Fleet(Observer):
    """Runs tasks on a cluster: what a `Session` takes as its runner, and an observer of the run.

    As an observer it connects when a run starts, before any other does anything, and says in the run's `env` which
    nodes there were. It stays connected until it is closed.

    address: of the cluster, as `Cluster` has it
    jobs: how many workers at most; None: as many as the cluster has cores
    say: takes a sentence for the user
    """

    def __init__(self, address: str, jobs: int | None, say: Callable[[str], None]) -> None:
        self.address, self.jobs, self.say = address, jobs, say
        self.cluster: Cluster | None = None
        self._seats: list[RaySeat] = []
        self.luggage: Luggage | None = None  # of the run
        self.told: set[str] = set()  # nodes that the user knows to be lost

    @property
    def seats(self) -> list[RaySeat]:
        """The workers; UsageError if there is no such cluster, or none that could be used."""
        with without_words_of_ray():
            if self.cluster is None:
                self.cluster = Cluster(self.address, self.jobs)
            if not self._seats:
                self._seats = self.cluster.seats()
        return self._seats

    def close(self) -> None:
        if self.cluster is not None:
            with without_words_of_ray():
                self.cluster.close()

    def missing(self, backend: str) -> str | None:
        """None if a worker has this backend, else why one has not."""
        every = [seat.about.missing[backend] for seat in self.seats]
        return None if None in every else every[0]

    def nodes(self) -> list[Node]:
        """Those that have workers, and which of them were lost."""
        found: dict[str, list[RaySeat]] = {}
        for seat in self.seats:
            found.setdefault(seat.node, []).append(seat)
        return [
            structs.replace(some[0].about.node, workers=len(some), lost=all(seat.was_lost for seat in some))
            for some in found.values()
        ]

    def started(self, run: Run) -> None:
        run.jobs = len(self.seats)
        files = files_of(dict.fromkeys(run.plan.sources.values()), run.plan.ops.values())
        self.luggage = packed(files) if files else None

    def ready(self, run: Run) -> None:
        self._record(run)

    def ended(self, run: Run) -> None:
        self._record(run)
        for node in self.nodes() if self._seats else ():
            if node.lost and node.node not in self.told:
                self.told.add(node.node)
                self.say(f"triptych: node {node.node} was lost; what it had to do was done elsewhere, or says so.")

    def _record(self, run: Run) -> None:
        if run.env and self._seats:
            run.env["nodes"] = to_plain(self.nodes())

    def __call__(
        self, tasks: Sequence[Task], settings: Settings, *, timeout_s: float, on_result: Callable[[Result], None]
    ) -> None:
        """A result for every task, as they come."""
        for seat in self.seats:
            seat.luggage = self.luggage
        place = self.luggage.place if self.luggage is not None else str
        sent = [replace(task, source=place(task.source)) if task.source else task for task in tasks]
        with without_words_of_ray():
            perform(self.seats, sent, settings, timeout_s, on_result)

    def each(
        self, function: Callable[[int], T], count: int, died: Callable[[int, str], T], maker: Maker[T]
    ) -> Generator[tuple[int, T], None, None]:
        """(i, function(i)) as the workers make it with `maker`; an `Each`."""
        files = files_of(maker.sources, maker.ops)
        luggage = packed(files) if files else None
        places = [luggage.place(source) for source in maker.sources] if luggage is not None else []
        load = Load(maker.make, places, maker.arguments, luggage)
        with closing(evaluate(self.seats, load, count, died)) as coming:
            while True:
                with without_words_of_ray():
                    found = next(coming, None)
                if found is None:
                    return
                i, result, about = found
                yield i, result if about is None else maker.placed(result, about.node.node, about.node.cpu or "")


def without_words_of_ray() -> contextlib.AbstractContextManager[object]:
    """Ray prints errors of its nodes where a table or a document of ours goes; nothing of ours is printed meanwhile."""
    return contextlib.redirect_stdout(io.StringIO())
