"""One worker on a node, in a run: whom it takes tasks from, and who tries again what was lost.

A task whose worker died or whose node was lost is tried once more, on another node if one can; what comes of that is
its result. It begins there with what comes before it in its chain, to share with those what it would have shared.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from triptych.harness.cluster.seat import About
from triptych.harness.cluster.travel import Luggage
from triptych.harness.results.result import Result
from triptych.harness.results.status import Cause, Evidence, Status
from triptych.harness.running.runner import Performer, TaskHand, TaskRun
from triptych.harness.running.tasks import result_without_run
from triptych.harness.running.workers.handing_out import Lost


class SeatLost(Exception):
    """The process of a seat, or its node, is gone; its text says how in a few words."""


@dataclass(frozen=True)
class Load:
    """A function that a seat makes for itself, and the files that it needs there."""

    make: Callable[..., Callable[[int], Any]]
    sources: Sequence[str]  # their places in the luggage
    arguments: tuple[Any, ...]
    luggage: Luggage | None


class Remote(Performer, Protocol):
    """A seat from here. `perform` and `stop` raise SeatLost."""

    about: About

    @property
    def is_there(self) -> bool:
        """Whether nothing has been lost."""

    def call(self, load: Load, number: int) -> Any:
        """What the load's function returns of a number, and raises; SeatLost."""

    def come_back(self) -> bool:
        """Whether a seat that was lost is there again, on the same node; that takes a while."""


@dataclass
class Placing:
    """Which task is for which seat, and where it was lost: what all hands of a run share.

    wanted: of each task, by its number, what its chain's backends must be there: their evidence by name
    """

    wanted: Mapping[int, Mapping[str, Evidence]]
    seats: Sequence[Remote]
    lost_on: dict[int, str] = field(default_factory=dict)  # the node, by the number of the task
    noting: threading.Lock = field(default_factory=threading.Lock)

    def suits(self, seat: Remote, number: int) -> bool:
        there = seat.about.evidence
        return all(there.get(name) is evidence for name, evidence in self.wanted[number].items())

    def takes(self, seat: Remote, number: int) -> bool:
        """Whether a task is for a seat: it suits, and was not lost on its node, unless that is the only one."""
        if not self.suits(seat, number):
            return False
        where = self.lost_on.get(number)
        return seat.about.node.node != where or not any(
            other.is_there and other.about.node.node != where and self.suits(other, number) for other in self.seats
        )

    def is_first_loss(self, number: int, node: str) -> bool:
        """Note that a task was lost on a node, unless it was before, on that one or another."""
        with self.noting:
            first = number not in self.lost_on
            self.lost_on.setdefault(number, node)
            return first


class Seated:
    """What every hand on a seat is: fit while the seat is there, and given what is placed on it."""

    seat: Remote
    placing: Placing

    @property
    def is_fit(self) -> bool:
        return self.seat.is_there

    def mend(self) -> bool:
        return self.seat.come_back()

    def takes(self, number: int) -> bool:
        return self.placing.takes(self.seat, number)


class RemoteHand(Seated, TaskHand):
    """A seat in a run; what its node's hands share is in `run`, what all share in `placing`."""

    def __init__(self, seat: Remote, run: TaskRun, placing: Placing) -> None:
        super().__init__(seat, run, another=lambda: seat)  # which has all of the memory once the others rest
        self.seat, self.placing = seat, placing

    def do(self, number: int, chain: Sequence[int]) -> Result:
        task, node = self.run.tasks[number], self.seat.about.node.node
        if not self.seat.is_there:
            raise Lost
        try:
            if chain is not self.chain and chain[0] != number:
                self._let_go()
                self.chain = chain
                with self.run.machine.shared():
                    self.repeat(chain[: chain.index(number)])
            result = super().do(number, chain)
        except SeatLost as how:
            self.chain, self.in_its_stead = (), None
            if self.placing.is_first_loss(number, node):
                raise Lost from how
            why = lost_twice(self.placing.lost_on[number], node, how)
            return self.on_node(result_without_run(task, Status.ERROR, why, Cause.WORKER_DIED))
        if result.cause is Cause.WORKER_DIED and self.placing.is_first_loss(number, node):
            self.chain = ()
            raise Lost
        return self.on_node(result)

    def on_node(self, result: Result) -> Result:
        """A result that says where it is from."""
        about = self.seat.about
        result.node = about.node.node
        result.device = about.device if result.evidence is Evidence.DEVICE else about.node.cpu or ""
        return result

    def kill(self) -> None:
        self.seat.kill()

    def stop(self) -> None:
        """Begin the next run with a share of the memory; the seat itself is the fleet's."""
        with contextlib.suppress(SeatLost):
            self._let_go()


class CallHand(Seated):
    """A seat that evaluates a function of numbers; what is lost twice is what `died` makes of the sentence on it."""

    def __init__(self, seat: Remote, load: Load, placing: Placing, died: Callable[[int, str], Any]) -> None:
        self.seat, self.load, self.placing, self.died = seat, load, placing, died

    def do(self, number: int, chain: Sequence[int]) -> tuple[Any, About]:
        about = self.seat.about
        try:
            return self.seat.call(self.load, number), about
        except SeatLost as how:
            if self.placing.is_first_loss(number, about.node.node):
                raise Lost from how
            return self.died(number, lost_twice(self.placing.lost_on[number], about.node.node, how)), about

    def kill(self) -> None:
        self.seat.kill()

    def stop(self) -> None:
        """Nothing is kept for another."""


def lost_twice(first: str, second: str, how: SeatLost) -> str:
    """The sentence on what two seats were lost with."""
    again = "again there" if first == second else f"again on node {second}"
    return f"its worker was lost on node {first} and {again}: {how}"


NOBODY_LEFT = "no worker of the cluster is left that could run it: their nodes were lost"
