"""`Kernel.with_schedule`: edges between instructions that have names (nki/guides/how-to-scheduling-apis.rst).

An edge (consumer, producer) has the consumer run after the producer, like `consumer.depends_on(producer)`. Programs run
in order here, so an edge backwards in time is kept as it is. Of one forwards in time, which a compiler would keep by
turning the two round, only that nothing else forbids it is checked; a note says that the trace keeps program order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from triptych.simulator.errors import KernelError, show_line
from triptych.simulator.trace import Event, Trace

Edges = tuple[tuple[str, str], ...]  # (consumer, producer)
_GUIDE = "nki/guides/how-to-scheduling-apis.rst"


def edges_of(pairs: Iterable[tuple[str, str | Sequence[str]]]) -> Edges:
    """[(consumer, producer or list of producers), ..] as single edges, checked to be names and to have no cycle."""
    edges: list[tuple[str, str]] = []
    for pair in pairs:
        consumer, producers = pair if isinstance(pair, (tuple, list)) and len(pair) == 2 else (None, None)
        many = [producers] if isinstance(producers, str) else producers
        if not isinstance(consumer, str) or not isinstance(many, (list, tuple)) or not _are_names(many):
            raise _refused(f"an edge is (consumer, producer) or (consumer, [producers]), by their names; got {pair!r}")
        edges += [(consumer, producer) for producer in many]
    after: dict[str, set[str]] = {}
    for consumer, producer in edges:
        after.setdefault(consumer, set()).add(producer)
    for name in after:
        if name in _reached(name, after):
            raise _refused(f"{name!r} would have to run after itself")
    return tuple(edges)


def _are_names(values: Iterable[Any]) -> bool:
    return all(isinstance(v, str) for v in values)


def _reached(start: Any, after: Any) -> set[Any]:
    """All that `start` runs after, directly or not."""
    seen: set[Any] = set()
    waiting = [start]
    while waiting:
        for other in after.get(waiting.pop(), ()):
            if other not in seen:
                seen.add(other)
                waiting.append(other)
    return seen


def keep(edges: Edges, trace: Trace) -> None:
    """Note the edges on the events that they are about, on each core."""
    for core in {e.core for e in trace.events} if edges else ():
        named: dict[str, list[int]] = {}
        for index, event in enumerate(trace.events):
            if event.core == core and event.name is not None:
                named.setdefault(event.name, []).append(index)
        for consumer, producer in edges:
            later, earlier = (_only(name, named, trace.events) for name in (consumer, producer))
            if earlier < later:
                trace.events[later].depends_on(trace.events[earlier])
            else:
                _check_free(trace, consumer, producer, later, earlier)


def _only(name: str, named: dict[str, list[int]], events: list[Event]) -> int:
    """The one event of a name."""
    found = named.get(name, [])
    if len(found) != 1:
        have = ", ".join(sorted(named)) or "none"
        lines = ", ".join(show_line(events[i].line) for i in found)
        raise _refused(
            f"{len(found)} instructions are called {name!r}, at {lines}; an edge needs one"
            if found
            else f"no instruction is called {name!r}; names of this kernel: {have}"
        )
    return found[0]


def _check_free(trace: Trace, consumer: str, producer: str, first: int, second: int) -> None:
    """The consumer, issued first, may run after the producer, issued second: no data goes from the one to the other."""
    from triptych.simulator.timing.hazards import hazards  # a package that runs kernels

    after = dict(enumerate([[other for other, _ in edges] for edges in hazards(trace)]))
    if first in _reached(second, after):
        raise _refused(f"{consumer!r} cannot run after {producer!r}, which needs what {consumer!r} does")
    trace.notes.append(
        f"{show_line(trace.events[first].line)}: with_schedule has {consumer!r} run after {producer!r}, issued later; "
        "results are the same, and the trace keeps program order"
    )


def _refused(message: str) -> KernelError:
    return KernelError(f"with_schedule: {message}", source=_GUIDE)
