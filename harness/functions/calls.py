"""What ran: each call of an operator as a record, for whoever listens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from triptych.harness.functions.places import Place


@dataclass(frozen=True)
class Call:
    """One call of an operator.

    operator: its name, without the namespace: "attention_lse"; row: the op of the collection whose kernel ran.
    arrays: shape and dtype of each tensor that it was given; params: what else, but for defaults.
    """

    operator: str
    row: str
    place: Place
    arrays: Mapping[str, tuple[tuple[int, ...], str]]
    params: Mapping[str, Any]


@dataclass
class Calls:
    """The calls made while somebody listened, and what a model was left to PyTorch, with the reason for each."""

    made: list[Call] = field(default_factory=list)
    left: Counter[tuple[str, str]] = field(default_factory=Counter)  # (function of PyTorch, why)

    def count(self, operator: str | None = None, backend: str | None = None) -> int:
        """How many calls there were, of one operator or on one backend."""
        return sum(operator in (None, call.operator) and backend in (None, call.place.backend) for call in self.made)

    def by_operator(self) -> Counter[tuple[str, str]]:
        """How many calls of each (operator, backend)."""
        return Counter((call.operator, call.place.backend) for call in self.made)


_listening: list[Calls] = []  # of the process: a backward pass may run in another thread


@contextmanager
def calls() -> Iterator[Calls]:
    """The calls of operators within, forward and backward, as they are made."""
    found = Calls()
    _listening.append(found)
    try:
        yield found
    finally:
        _listening[:] = [other for other in _listening if other is not found]


def made(call: Call) -> None:
    """Tell whoever listens of a call."""
    for listener in _listening:
        listener.made.append(call)


def left(function: str, why: str) -> None:
    """Tell whoever listens that PyTorch computes something itself that a kernel was meant for."""
    for listener in _listening:
        listener.left[function, why] += 1
