"""Who may be at work at the same time: any number of tasks, or one alone, as whoever reads a clock must be."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Machine:
    """A lock that many may share or one may have; who wants it alone comes before those who would share it.

    So tasks that are timed come one after the other as soon as every worker has reached one, and not each between two
    waits for all the others.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._sharing = self._waiting = 0
        self._taken = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._taken and not self._waiting)
            self._sharing += 1
        try:
            yield
        finally:
            with self._changed:
                self._sharing -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._changed:
            self._waiting += 1
            self._changed.wait_for(lambda: not self._taken and not self._sharing)
            self._waiting -= 1
            self._taken = True
        try:
            yield
        finally:
            with self._changed:
                self._taken = False
                self._changed.notify_all()
