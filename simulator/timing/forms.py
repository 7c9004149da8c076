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
    attributes = _Attributes()
    asked = attributes.of
    known: dict[Hashable, int] = {}
    for event in trace.events:
        at = id(event.attributes)
        said = asked[at] if at in asked else attributes.number(event)
        part = _with_start if event.engine == "dma" else _shared
        reads, writes = map(part, event.reads), map(part, event.writes)
        yield known.setdefault((event.op, event.engine, event.core, said, *reads, None, *writes), len(known))


def _shared(region: Region) -> Hashable:
    """What regions have in common that are alike."""
    allocation, _, shape, strides, dtype = region
    few = region.free_size if type(region) is IndirectRegion else None
    return allocation[2], shape, strides, dtype, few


def _with_start(region: Region) -> Hashable:
    """The same, and where in the partitions a region on chip begins."""
    allocation = region.allocation
    if allocation.buffer != "sbuf":
        return _shared(region)
    row = math.prod(allocation.shape[1:]) * allocation.dtype.itemsize
    first = region.offset * region.dtype.itemsize // row
    return _shared(region), first + (allocation.address[0] if allocation.address else 0)


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
