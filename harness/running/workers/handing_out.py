"""The one place where work is handed out: chains of tasks, each to whichever hand is free next and takes it.

A chain is done by one hand and in order, as the backends of one case are, which share its inputs and its reference.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Sequence
from contextlib import ExitStack
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
Of = TypeVar("Of", covariant=True)


class Lost(Exception):
    """A task has no result and may get one yet: it and what follows it in its chain go to whoever takes them next."""


class Hand(Protocol[Of]):
    """What does one task at a time, in a process of its own."""

    @property
    def is_fit(self) -> bool:
        """Whether it can do another chain."""

    def mend(self) -> bool:
        """Make one that is not fit so again, which may take a while; whether it is."""

    def takes(self, number: int) -> bool:
        """Whether it is the right one for a chain, or the rest of one, that begins with this task."""

    def do(self, number: int, chain: Sequence[int]) -> Of:
        """The result of a task, by its number, whatever it does to the process; Lost if another hand is to try it."""

    def kill(self) -> None:
        """End the process, for another thread: `do` then comes back at once."""

    def stop(self) -> None:
        """End the process and give back what it holds."""


def hand_out(chains: Sequence[Sequence[int]], hands: Sequence[Hand[T]]) -> Generator[tuple[int, T], None, None]:
    """(number, result) of every task as it comes, but for what is left when no hand takes it any more.

    Whoever stops asking, as at an interrupt, ends all that runs.
    """
    left = _Left(chains, hands)
    if len(hands) == 1:
        with ExitStack() as stack:
            stack.callback(hands[0].stop)
            yield from _work(hands[0], left)
        return
    results: queue.SimpleQueue[tuple[int, Any] | BaseException | None] = queue.SimpleQueue()

    def work(hand: Hand[T]) -> None:
        try:
            for result in _work(hand, left):
                results.put(result)
        except BaseException as error:
            results.put(error)
        finally:
            hand.stop()
            results.put(None)

    threads = [threading.Thread(target=work, args=(hand,), daemon=True) for hand in hands]
    for thread in threads:
        thread.start()
    try:
        at_work = len(hands)
        while at_work:
            result = results.get()
            if isinstance(result, BaseException):
                raise result
            if result is None:
                at_work -= 1
            else:
                yield result
    finally:
        left.stop()
        while any(thread.is_alive() for thread in threads):
            for thread, hand in zip(threads, hands, strict=True):
                if thread.is_alive():
                    hand.kill()
                    thread.join(0.02)


class _Left:
    """The chains that nobody does, each with the place in it from which on it is left."""

    def __init__(self, chains: Sequence[Sequence[int]], hands: Sequence[Hand[Any]]) -> None:
        self.chains = [(chain, 0) for chain in chains if chain]
        self.at_work = set(map(id, hands))  # hands that may give something back
        self.stopped = False
        self._changed = threading.Condition()

    def take(self, hand: Hand[Any]) -> tuple[Sequence[int], int] | None:
        """The next that this hand takes, waited for while others are at work; None if there will be none."""
        with self._changed:
            self.leave(hand)
            while not self.stopped:
                for i, (chain, at) in enumerate(self.chains):
                    if hand.takes(chain[at]):
                        self.at_work.add(id(hand))
                        return self.chains.pop(i)
                if not self.at_work:
                    break
                self._changed.wait()
            return None

    def give_back(self, chain: Sequence[int], at: int) -> None:
        with self._changed:
            self.chains.insert(0, (chain, at))
            self._changed.notify_all()

    def leave(self, hand: Hand[Any]) -> None:
        """A hand that gives nothing back any more, unless it takes something again."""
        with self._changed:
            self.at_work.discard(id(hand))
            self._changed.notify_all()

    def stop(self) -> None:
        with self._changed:
            self.stopped = True
            self._changed.notify_all()


def _work(hand: Hand[T], left: _Left) -> Generator[tuple[int, T], None, None]:
    """What one hand does, until it is unfit or there is nothing for it."""
    try:
        while not left.stopped:
            if not hand.is_fit:
                left.leave(hand)
                if not left.chains or not hand.mend():
                    return
            taken = left.take(hand)
            if taken is None:
                return
            chain, at = taken
            for number in chain[at:]:
                if left.stopped:
                    return
                try:
                    result = hand.do(number, chain)
                except Lost:
                    left.give_back(chain, at)
                    break
                at += 1
                yield number, result
    finally:
        left.leave(hand)
