"""The one place where work is handed out: chains of tasks, each to whichever hand is free next.

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


class Hand(Protocol[Of]):
    """What does one task at a time, in a process of its own."""

    @property
    def is_fit(self) -> bool:
        """Whether it can do another chain."""

    def do(self, number: int, chain: Sequence[int]) -> Of:
        """The result of a task, by its number, whatever it does to the process."""

    def kill(self) -> None:
        """End the process, for another thread: `do` then comes back at once."""

    def stop(self) -> None:
        """End the process and give back what it holds."""


def hand_out(chains: Sequence[Sequence[int]], hands: Sequence[Hand[T]]) -> Generator[tuple[int, T], None, None]:
    """(number, result) of every task as it comes, but for what is left when no hand is fit any more.

    Whoever stops asking, as at an interrupt, ends all that runs.
    """
    if len(hands) == 1:
        with ExitStack() as stack:
            stack.callback(hands[0].stop)
            for chain in chains:
                for number in chain:
                    yield number, hands[0].do(number, chain)
        return
    left = iter(chains)
    taking = threading.Lock()
    stopping = threading.Event()
    results: queue.SimpleQueue[tuple[int, Any] | BaseException | None] = queue.SimpleQueue()

    def work(hand: Hand[T]) -> None:
        try:
            while hand.is_fit:
                with taking:
                    chain = next(left, None)
                if chain is None:
                    return
                for number in chain:
                    if stopping.is_set():
                        return
                    results.put((number, hand.do(number, chain)))
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
        stopping.set()
        while any(thread.is_alive() for thread in threads):
            for thread, hand in zip(threads, hands, strict=True):
                if thread.is_alive():
                    hand.kill()
                    thread.join(0.02)
