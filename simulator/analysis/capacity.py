"""How much SBUF and PSUM a kernel needs: a pure function of its trace.

A tensor is alive from the first instruction that touches it to the last. What is alive at one instruction has to be on
the chip at once, whatever the compiler does with addresses; so the largest sum, in bytes of one partition, is what the
kernel needs at least when its instructions run in program order. Each core has its own memories.

Tensors of few partitions can lie beside each other: one of up to 32 partitions takes a quarter of them, one of up to 64
a half, because it starts at partition 0, 32, 64 or 96 (0 or 64), and a taller one takes all
(nki/guides/architecture/trainium_inferentia2_arch.rst). Tensors in PSUM begin at a bank (nki/migration/index.rst), so
that each takes whole banks. Those with an address of their own share bytes where they overlap, and what lies at some
address counts once; tensors without one cannot lie there as long as it is in use.
"""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from triptych.simulator.built import built
from triptych.simulator.chip.record import Chip
from triptych.simulator.errors import NkiValidationError, show_line
from triptych.simulator.trace import Allocation, Event, Trace

WALKS: Any = built("walks")
_FACTS = {"sbuf": "sbuf_partition_bytes", "psum": "psum_partition_bytes"}  # of a chip: the bytes of one partition
_QUADRANTS = 4
_QUADRANT = 32  # partitions
Lives = list[tuple[int, int, Allocation]]  # the first and the last event that touch an allocation


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


def partition_bytes(allocation: Allocation, chip: Chip) -> int:
    """What a tensor takes of each partition, where it fills only some of them spread over all."""
    return bytes_of(allocation.shape, allocation.dtype.itemsize, allocation.buffer, chip)


def bytes_of(shape: tuple[int, ...], itemsize: int, buffer: str, chip: Chip) -> int:
    """The same of a tensor that is yet to be."""
    return _spread(shape, itemsize, _unit(buffer, chip))


def _unit(buffer: str, chip: Chip) -> int:
    return int(chip.psum_bank_bytes.value) if buffer == "psum" else 1


@functools.lru_cache(4096)
def _spread(shape: tuple[int, ...], itemsize: int, unit: int) -> int:
    height = shape[0]
    return -(-_rounded(shape[1:], itemsize, unit) // (1 if height > 64 else 2 if height > 32 else 4))


def _rounded(shape: tuple[int, ...], itemsize: int, unit: int) -> int:
    """Bytes of `shape`, up to a multiple of `unit`."""
    return -(-math.prod(shape) * itemsize // unit) * unit


def capacity_of(chip: Chip, buffer: str) -> int:
    """Bytes of a partition of "sbuf" or "psum"."""
    return int(getattr(chip, _FACTS[buffer]).value)


class Taken:
    """Bytes of a partition that are in use in one memory, while tensors come and go."""

    def __init__(self, chip: Chip, tensors: Iterable[Allocation]) -> None:
        self.chip = chip
        self.free = 0  # bytes of the tensors that lie anywhere
        placed = [a for a in tensors if a.address]
        self.edges = sorted({edge for a in placed for edge in self._range(a)})
        self.widths = np.diff(self.edges)
        self.covered = np.zeros((_QUADRANTS, len(self.widths)), np.int64)  # by how many, each stretch between two edges
        self.stretches = 0  # bytes of the stretches that one covers, summed over quadrants

    @property
    def bytes(self) -> int:
        return self.free - (-self.stretches // _QUADRANTS)

    def _range(self, a: Allocation) -> tuple[int, int]:
        """The bytes of a partition from which on and up to which a tensor lies, in PSUM up to the end of a bank."""
        assert a.address is not None
        return a.address[1], a.address[1] + _rounded(a.shape[1:], a.dtype.itemsize, _unit(a.buffer, self.chip))

    def begin(self, allocation: Allocation) -> None:
        self._change(allocation, 1)

    def end(self, allocation: Allocation) -> None:
        self._change(allocation, -1)

    def _change(self, allocation: Allocation, by: int) -> None:
        if not allocation.address:
            self.free += by * partition_bytes(allocation, self.chip)
            return
        low, high = [bisect.bisect_left(self.edges, edge) for edge in self._range(allocation)]
        first = allocation.address[0]
        quadrants = slice(first // _QUADRANT, -(-(first + allocation.shape[0]) // _QUADRANT))
        covered = self.covered[quadrants, low:high]
        covered += by
        turned = covered == (by > 0)  # the first to come, or the last to go
        self.stretches += by * int((turned * self.widths[low:high]).sum())


def memory_use(trace: Trace) -> list[MemoryUse]:
    """The use of SBUF and PSUM by each core, in program order."""
    lives = lives_of(trace, WALKS)
    cores = sorted({event.core for event in trace.events})
    return [_use(trace.chip, buffer, core, lives.get((core, buffer), [])) for core in cores for buffer in _FACTS]


def lives_of(trace: Trace, compiled: Any = None) -> dict[tuple[int, str], Lives]:
    """When tensors are alive, by core and buffer, those that are touched first before others.

    compiled: simulator/compiled/walks.c, or None where it is not built
    """
    found, last = (_touched if compiled is None else compiled.lives)(trace.events)
    lives: dict[tuple[int, str], Lives] = {}
    for first, core, allocation in found:
        lives.setdefault((core, allocation.buffer), []).append((first, last[allocation.id], allocation))
    return lives


def _touched(events: list[Event]) -> tuple[list[tuple[int, int, Allocation]], dict[int, int]]:
    """The first event that touches a tensor and its core, of each in turn; and the last event, by the tensor's id."""
    found: list[tuple[int, int, Allocation]] = []
    last: dict[int, int] = {}
    for index, event in enumerate(events):
        for region in (*event.reads, *event.writes):
            allocation = region.allocation
            if allocation.id not in last:
                found.append((index, event.core, allocation))
            last[allocation.id] = index
    return found, last


def _use(chip: Chip, buffer: str, core: int, lives: Lives) -> MemoryUse:
    taken = Taken(chip, [allocation for _, _, allocation in lives if allocation.address])
    changes: dict[int, int] = {}  # by event: bytes of tensors that lie anywhere and come with it, less what is gone
    placed: dict[int, list[tuple[Allocation, bool]]] = {}  # the same of those with addresses
    for first, last, allocation in lives:
        size = 0 if allocation.address else partition_bytes(allocation, chip)
        changes[first] = changes.get(first, 0) + size
        changes[last + 1] = changes.get(last + 1, 0) - size
        if allocation.address:
            placed.setdefault(first, []).append((allocation, True))
            placed.setdefault(last + 1, []).append((allocation, False))
    steps, peak, peak_event = [], 0, 0
    for index in sorted(changes):
        taken.free += changes[index]
        for allocation, comes in placed.get(index, ()):
            (taken.begin if comes else taken.end)(allocation)
        in_use = taken.bytes
        steps.append((index, in_use))
        if in_use > peak:
            peak, peak_event = in_use, index
    alive = [allocation for first, last, allocation in lives if first <= peak_event <= last]
    alive.sort(key=lambda a: partition_bytes(a, chip), reverse=True)
    return MemoryUse(buffer, core, capacity_of(chip, buffer), tuple(steps), peak, peak_event, tuple(alive))


def check_capacity(trace: Trace) -> None:
    """Raise NkiValidationError if the kernel needs more SBUF or PSUM than a core has."""
    for use in memory_use(trace):
        if use.peak <= use.capacity:
            continue
        event = trace.events[use.peak_event]
        shown = ", ".join(_shown(a, trace.chip) for a in use.alive[:8])
        more = f", and {len(use.alive) - 8} more" if len(use.alive) > 8 else ""
        fact = getattr(trace.chip, _FACTS[use.buffer])
        raise NkiValidationError(
            f"{event.op} needs {use.peak} bytes of each {use.buffer} partition, and {trace.chip.name} has "
            f"{use.capacity}; alive are {len(use.alive)} tensors: {shown}{more}",
            source=fact.source,
            line=event.line,
        )


def _shown(a: Allocation, chip: Chip) -> str:
    at = f" at {a.address}" if a.address else ""
    return f"{a.name!r} {a.shape} {a.dtype} {partition_bytes(a, chip)} bytes{at} from {show_line(a.line)}"
