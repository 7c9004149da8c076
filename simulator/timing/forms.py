"""Which events of a trace are alike: they ask the chip for the same, wherever their operands lie.

A kernel of a million instructions has a few dozen forms. What an instruction costs follows from its form: its name,
engine and core, its attributes but for those of order, and of each operand the memory, shape, strides and dtype; of a
transfer, also the partition in which an operand on chip begins, because that says which rings move it.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any, NamedTuple

from triptych.simulator.trace import Event, IndirectRegion, Region, Trace

# Attributes that say where in the program an event stands, not what it does. That cores meet ("pipe") is part of what
# it does; the number of their meeting is not.
_ORDER = frozenset(("after", "issued_after", "no_reorder", "registers", "loop", "epoch", "written"))


class Forms(NamedTuple):
    """The forms of a trace, counted in the order in which they first occur."""

    of_event: list[int]  # the number of each event's
    first: list[Event]  # of each form


def forms(trace: Trace, compiled: Any = None) -> Forms:
    """The forms of the events of a trace.

    compiled: simulator/compiled/walks.c, or None where it is not built
    """
    seen = _Forms()
    each = list(map(seen.number, trace.events)) if compiled is None else compiled.forms(trace.events, seen.number)
    return Forms(each, seen.first)


class _Forms:
    """The forms that have been seen."""

    def __init__(self) -> None:
        self.attributes = _Attributes()
        self.known: dict[Hashable, int] = {}
        self.first: list[Event] = []

    def number(self, event: Event) -> int:
        """The number of an event's form."""
        asked, at = self.attributes.of, id(event.attributes)
        said = asked[at] if at in asked else self.attributes.number(event)
        regions = event.reads + event.writes
        form: list[Hashable] = [event.op, event.engine, event.core, said, len(event.reads)]
        for region in regions:
            form += region[0][2], region[2], region[3], region[4]
            if type(region) is IndirectRegion:
                form.append(region.free_size)
        if event.engine == "dma":
            form += [_first_partition(region) for region in regions if region[0][2] == "sbuf"]
        number = self.known.setdefault(tuple(form), len(self.known))
        if number == len(self.first):
            self.first.append(event)
        return number


def _first_partition(region: Region) -> int:
    """Where in the partitions a region on chip begins."""
    allocation, offset = region[0], region[1]
    first = allocation.address[0] if allocation.address else 0
    if offset:
        first += offset * region.dtype.itemsize // (math.prod(allocation.shape[1:]) * allocation.dtype.itemsize)
    return first


class _Attributes:
    """The numbers of attributes that are alike; those of one instruction may be one dict."""

    def __init__(self) -> None:
        self.of: dict[int, int] = {}  # by the dict's identity
        self.known: dict[Hashable, int] = {}

    def number(self, event: Event) -> int:
        """Those of an event whose attributes have not been seen before. What has no hash is like nothing else."""
        attributes = event.attributes
        said = [(name, name == "pipe" or value) for name, value in attributes.items() if name not in _ORDER]
        try:
            number = self.known.setdefault(frozenset(said), len(self.known))
        except TypeError:
            number = self.known[id(attributes)] = len(self.known)
        self.of[id(attributes)] = number
        return number
