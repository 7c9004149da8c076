"""Which events of a trace are alike: they ask the chip for the same, wherever their operands lie.

A kernel of a million instructions has a few dozen forms. What an instruction costs follows from its form: its name,
engine and core, its attributes but for those of order, and of each operand the memory, shape, strides and dtype; of a
transfer, also the partition in which an operand on chip begins, because that says which rings move it.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator

from triptych.simulator.trace import Event, IndirectRegion, Region, Trace

# Attributes that say where in the program an event stands, not what it does. That cores meet ("pipe") is part of what
# it does; the number of their meeting is not.
_ORDER = frozenset(("after", "issued_after", "no_reorder", "registers", "loop", "epoch", "written"))


def forms(trace: Trace) -> Iterator[int]:
    """The number of each event's form, counted in the order in which they first occur."""
    regions, attributes = _Regions(), _Attributes()
    asked = attributes.of
    known: dict[Hashable, int] = {}
    for event in trace.events:
        key: list[Hashable] = [event.op, event.engine, event.core]
        at = id(event.attributes)
        key.append(asked[at] if at in asked else attributes.number(event))
        operand = regions.start if event.engine == "dma" else regions.number
        for region in event.reads:
            key.append(operand(region))
        key.append(None)
        for region in event.writes:
            key.append(operand(region))
        yield known.setdefault(tuple(key), len(known))


class _Regions:
    """The numbers of regions that are alike."""

    def __init__(self) -> None:
        self.known: dict[Hashable, int] = {}

    def number(self, region: Region) -> int:
        """That of a region."""
        allocation, _, shape, strides, dtype = region
        key: Hashable = (allocation[2], shape, strides, dtype)
        if type(region) is IndirectRegion:
            key = key, region.free_size
        return self.known.setdefault(key, len(self.known))

    def start(self, region: Region) -> Hashable:
        """The number, and where in the partitions a region on chip begins."""
        number = self.number(region)
        allocation = region.allocation
        if allocation.buffer != "sbuf":
            return number
        row = math.prod(allocation.shape[1:]) * allocation.dtype.itemsize
        first = region.offset * region.dtype.itemsize // row
        return number, first + (allocation.address[0] if allocation.address else 0)


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
