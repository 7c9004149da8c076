"""How much SBUF and PSUM a kernel needs: a pure function of its trace.

A tensor is alive from the first instruction that touches it to the last. What is alive at one instruction has to be on
the chip at once, whatever the compiler does with addresses; so the largest sum, in bytes of one partition, is what the
kernel needs at least when its instructions run in program order. Each core has its own memories.

Tensors of few partitions can lie beside each other: one of up to 32 partitions takes a quarter of them, one of up to 64
a half, because it starts at partition 0, 32, 64 or 96 (0 or 64), and a taller one takes all
(nki/guides/architecture/trainium_inferentia2_arch.rst). Tensors with an address of their own do not count: they may
share bytes, and where each lies was checked when it was made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from triptych.simulator.chips import Chip
from triptych.simulator.errors import NkiValidationError, show_line
from triptych.simulator.trace import Allocation, Trace

_FACTS = {"sbuf": "sbuf_partition_bytes", "psum": "psum_partition_bytes"}  # of a chip: the bytes of one partition
_Lives = dict[int, tuple[int, int, Allocation]]  # by id: the first and the last event that touch an allocation


@dataclass(frozen=True)
class MemoryUse:
    """Bytes of one partition in use over a kernel's life, in one memory of one core."""

    buffer: str  # "sbuf" or "psum"
    core: int
    capacity: int
    steps: tuple[tuple[int, int], ...]  # (index of an event, bytes in use from it on)
    peak: int
    peak_event: int
    alive: tuple[Allocation, ...]  # at the peak, the largest first


def partition_bytes(allocation: Allocation) -> int:
    """What a tensor takes of each partition, where it fills only some of them spread over all."""
    share = 1 if allocation.shape[0] > 64 else 2 if allocation.shape[0] > 32 else 4
    return -(-math.prod(allocation.shape[1:]) * allocation.dtype.itemsize // share)


def capacity_of(chip: Chip, buffer: str) -> int:
    """Bytes of a partition of "sbuf" or "psum"."""
    return int(getattr(chip, _FACTS[buffer]).value)


def memory_use(trace: Trace) -> list[MemoryUse]:
    """The use of SBUF and PSUM by each core, in program order."""
    lives: dict[tuple[int, str], _Lives] = {}
    for index, event in enumerate(trace.events):
        for region in (*event.reads, *event.writes):
            allocation = region.allocation
            if allocation.buffer in _FACTS and allocation.address is None:
                mine = lives.setdefault((event.core, allocation.buffer), {})
                mine[allocation.id] = (mine.get(allocation.id, (index,))[0], index, allocation)
    cores = sorted({event.core for event in trace.events})
    return [_use(trace.chip, buffer, core, lives.get((core, buffer), {})) for core in cores for buffer in _FACTS]


def _use(chip: Chip, buffer: str, core: int, lives: _Lives) -> MemoryUse:
    changes: dict[int, int] = {}
    for first, last, allocation in lives.values():
        size = partition_bytes(allocation)
        changes[first] = changes.get(first, 0) + size
        changes[last + 1] = changes.get(last + 1, 0) - size
    steps, in_use, peak, peak_event = [], 0, 0, 0
    for index in sorted(changes):
        in_use += changes[index]
        steps.append((index, in_use))
        if in_use > peak:
            peak, peak_event = in_use, index
    alive = [allocation for first, last, allocation in lives.values() if first <= peak_event <= last]
    alive.sort(key=partition_bytes, reverse=True)
    return MemoryUse(buffer, core, capacity_of(chip, buffer), tuple(steps), peak, peak_event, tuple(alive))


def check_capacity(trace: Trace) -> None:
    """Raise NkiValidationError if the kernel needs more SBUF or PSUM than a core has."""
    for use in memory_use(trace):
        if use.peak <= use.capacity:
            continue
        event = trace.events[use.peak_event]
        shown = ", ".join(
            f"{a.name!r} {a.shape} {a.dtype} {partition_bytes(a)} bytes from {show_line(a.line)}" for a in use.alive[:8]
        )
        more = f", and {len(use.alive) - 8} more" if len(use.alive) > 8 else ""
        fact = getattr(trace.chip, _FACTS[use.buffer])
        raise NkiValidationError(
            f"{event.op} needs {use.peak} bytes of each {use.buffer} partition, and {trace.chip.name} has "
            f"{use.capacity}; alive are {len(use.alive)} tensors: {shown}{more}",
            source=fact.source,
            line=event.line,
        )
