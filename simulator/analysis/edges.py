"""`Kernel.with_schedule`: edges between instructions that have names (nki/guides/how-to-scheduling-apis.rst).

An edge (consumer, producer) has the consumer run after the producer, like `consumer.depends_on(producer)`. Programs run
in order here, so an edge changes no result: it goes into the trace. Of one forwards in time, which a compiler keeps by
turning the two round, it is checked that nothing else forbids it, and the trace turns them round too: there an edge
always points back.

Since NKI 0.7 an edge has a kind (nki.isa.dependency.html of SDK 2.33); how it is written was not shown. It is taken as
a third entry of an edge, and as `kind=` for all that have none.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from contextlib import suppress
from graphlib import CycleError, TopologicalSorter
from typing import Any

from triptych.simulator.analysis.hazards import hazards
from triptych.simulator.enums import dependency
from triptych.simulator.errors import KernelError, show_line
from triptych.simulator.trace import Event, Trace

Kind = dependency | None  # None does as NKI 0.6 did
Edges = tuple[tuple[str, str, Kind], ...]  # (consumer, producer, kind)
_GUIDE = "nki/guides/how-to-scheduling-apis.rst"


def edges_of(pairs: Iterable[Sequence[Any]], kind: Kind = None) -> Edges:
    """[(consumer, producer or list of producers), ..] as single edges, checked to be names and to have no cycle."""
    edges: list[tuple[str, str, Kind]] = []
    for pair in pairs:
        given = tuple(pair) if isinstance(pair, (tuple, list)) else ()
        consumer, producers, own = (*given, kind) if len(given) == 2 else given if len(given) == 3 else (None,) * 3
        many: Any = [producers] if isinstance(producers, str) else producers
        named = isinstance(many, (list, tuple)) and all(isinstance(name, str) for name in many)
        if not isinstance(consumer, str) or not named:
            raise _refused(f"an edge is (consumer, producer) or (consumer, [producers]), by their names; got {pair!r}")
        if own is not None and not isinstance(own, dependency):
            raise _refused(f"kind must be nisa.dependency.runtime or .schedule, got {own!r}")
        edges += [(consumer, producer, own) for producer in many]
    after: dict[str, set[str]] = {}
    for consumer, producer, _ in edges:
        after.setdefault(consumer, set()).add(producer)
    try:
        TopologicalSorter(after).prepare()
    except CycleError as error:
        first = next(name for name in after if name in error.args[1])
        raise _refused(f"{first!r} would have to run after itself") from None
    return tuple(edges)


def keep(edges: Edges, trace: Trace) -> None:
    """Put edges on the events that they name, on each core, and events into an order that edges allow."""
    for core in {e.core for e in trace.events} if edges else ():
        named: dict[str, list[Event]] = {}
        for event in trace.events:
            if event.core == core and event.name is not None:
                named.setdefault(event.name, []).append(event)
        for consumer, producer, kind in edges:
            later, earlier = _named(consumer, named), _named(producer, named)
            rounds = {event.attributes.get("loop"): event for event in earlier}
            for event in later:  # a producer in another round than its own, or in none, is refused by depends_on
                event.depends_on(rounds.get(event.attributes.get("loop"), earlier[0]), kind=kind)
    asks = [i for i, e in enumerate(trace.events) if "after" in e.attributes or "issued_after" in e.attributes]
    after = [(index, producer) for index in asks for producer in _asked(trace.events[index])]
    position = {id(event): index for index, event in enumerate(trace.events)} if after else {}
    if any(position[id(producer)] > index for index, producer in after):
        trace.events[:] = _in_order(trace)


def _asked(event: Event) -> list[Event]:
    """The events that this one runs after, or is issued after."""
    return [*event.attributes.get("after", ()), *event.attributes.get("issued_after", ())]


def _named(name: str, named: dict[str, list[Event]]) -> list[Event]:
    """The event of a name, or the events that it is in the rounds of dynamic loops."""
    found = named.get(name, [])
    if not found:
        have = ", ".join(sorted(named)) or "none"
        raise _refused(f"no instruction is called {name!r}; names of this kernel: {have}")
    if len({event.attributes.get("loop") for event in found}) < len(found):
        lines = ", ".join(show_line(event.line) for event in found)
        raise _refused(
            f"{len(found)} instructions are called {name!r}, at {lines}; an edge needs one: give each its own name, as "
            f"f'{name}{{i}}'"
        )
    return found


def _in_order(trace: Trace) -> list[Event]:
    """The events, each after what it waits for, otherwise as the program has them."""
    events = trace.events
    position = {id(event): index for index, event in enumerate(events)}
    waits = [list(found) for found in hazards(trace)]
    for index, event in enumerate(events):
        waits[index] += [position[id(producer)] for producer in event.attributes.get("issued_after", ())]
    fence: dict[int, int] = {}
    since: dict[int, list[int]] = {}
    for index, event in enumerate(events):
        if event.op == "core_barrier" or "pipe" in event.attributes or "joint" in event.attributes:  # a meeting
            waits[index] += since.pop(event.core, [])
            fence[event.core] = index
        elif event.core in fence:
            waits[index].append(fence[event.core])
        since.setdefault(event.core, []).append(index)
    sorter = TopologicalSorter(dict(enumerate(waits)))
    with suppress(CycleError):  # of which all comes that is outside of cycles
        sorter.prepare()
    ready = sorted(sorter.get_ready())
    order: list[int] = []
    while ready:
        order.append(heapq.heappop(ready))
        sorter.done(order[-1])
        for follower in sorter.get_ready():
            heapq.heappush(ready, follower)
    if len(order) < len(events):
        stuck = events[min(set(position.values()).difference(order))]  # the first was asked to wait
        after = " and ".join(p.label for p in _asked(stuck))
        raise _refused(
            f"{stuck.label} cannot run after {after}, which needs it first: by its data, a no_reorder "
            "block, another edge or a meeting of cores"
        )
    return [events[index] for index in order]


def _refused(message: str) -> KernelError:
    return KernelError(f"with_schedule: {message}", source=_GUIDE)
