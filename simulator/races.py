"""Unsynchronised sharing between two cores: a pure function of a trace.

Only `core_barrier` orders the accesses of two cores to shared HBM, and a collective on shared HBM, which both cores of
a rank carry out together. Between two of these nothing does, so if one core writes an element there that the other
reads or writes in the same stretch, the result depends on who comes first.

One case does not depend on it: both cores carry out the same write, of the same values to the same elements, and write
nothing else there. A kernel that knows nothing of cores does so everywhere, and AWS runs it on both
(release-notes/components/nki.rst, NKI 0.5.0). What a core then reads after its own write is what it wrote.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from triptych.simulator.errors import NkiValidationError, show_line
from triptych.simulator.trace import Event, Region, Trace

Array = NDArray[Any]


def check_races(trace: Trace) -> None:
    """Raise NkiValidationError for the first pair of accesses that race, with both lines."""
    for first, second, region in races(trace):
        a = region.allocation
        raise NkiValidationError(
            f"core {first.core} and core {second.core} race on {a.name!r} {a.shape}: {first.op} at "
            f"{show_line(first.line)} and {second.op} at {show_line(second.line)} touch the same elements, one writes "
            "them, and no nisa.core_barrier is between",
            source="nki/api/nki/isa/__init__.py, core_barrier",
            line=second.line,
        )


class _Access(NamedTuple):
    event: Event
    region: Region
    write: int  # 0 where it reads; the same number for the same write by either core


def races(trace: Trace) -> Iterator[tuple[Event, Event, Region]]:
    """(event of core 0, event of core 1, region) that touch an element of shared HBM in one stretch, one writing it."""
    groups: dict[tuple[int, int], tuple[list[_Access], list[_Access]]] = {}
    same: dict[Any, int] = {}
    for event in trace.events:
        if event.op == "core_barrier" or event.attributes.get("joint"):
            continue
        digests = event.attributes.get("written", (0,) * len(event.writes))
        for region, digest in (*[(r, None) for r in event.reads], *zip(event.writes, digests, strict=True)):
            if region.allocation.buffer == "shared_hbm":
                key = (region.allocation.id, event.attributes.get("epoch", 0))
                write = 0 if digest is None else same.setdefault((key, region[1:], digest), len(same) + 1)
                groups.setdefault(key, ([], []))[event.core].append(_Access(event, region, write))
    for mine, others in groups.values():
        yield from _conflicts(mine, others)


def _conflicts(mine: list[_Access], others: list[_Access]) -> Iterator[tuple[Event, Event, Region]]:
    if not mine or not others or not any(a.write for a in (*mine, *others)) or _apart(mine, others):
        return
    window = _Window.of([a.region for a in (*mine, *others)])
    (a, a_early), (b, b_early) = _touched(mine, window), _touched(others, window)
    clash = ((a != 0) & (b != 0) & ((a != b) | (a < 0))) | ((a != 0) & b_early) | ((b != 0) & a_early)
    if clash.any():
        here = np.zeros(window.size, bool)
        here[np.argmax(clash)] = True
        yield _pair(*([x for x in side if window.part(here, x.region).any()] for side in (mine, others)))


def _touched(accesses: list[_Access], window: _Window) -> tuple[Array, Array]:
    """For each unit of the window: the one write that a core makes there, 0 for none and -1 for several; and whether
    the core reads it before it has written it."""
    writes, early = np.zeros(window.size, np.int32), np.zeros(window.size, bool)
    for access in accesses:
        there = window.part(writes, access.region)
        if access.write:
            there[...] = np.where((there == 0) | (there == access.write), access.write, -1)
        else:
            window.part(early, access.region)[there == 0] = True
    return writes, early


def _pair(mine: list[_Access], others: list[_Access]) -> tuple[Event, Event, Region]:
    """The first two of these accesses, all of one element on which the cores race, that are no harmless pair."""
    written: set[int] = set()
    for other in others:
        mine_written: set[int] = set()
        for m in mine:
            if m.write and other.write:
                harmless = m.write == other.write
            else:
                harmless = m.write in written if m.write else not other.write or other.write in mine_written
            if not harmless:
                return m.event, other.event, other.region
            mine_written.add(m.write)
        written.add(other.write)
    raise AssertionError("a race that no pair makes")


def _apart(mine: list[_Access], others: list[_Access]) -> bool:
    """Whether the two cores keep to bytes that cannot overlap."""
    (a, b), (c, d) = (_span([x.region for x in side]) for side in (mine, others))
    return b <= c or d <= a


def _span(regions: list[Region]) -> tuple[int, int]:
    """The bytes of an allocation from the first that is touched to behind the last."""
    low, high = [], []
    for region in regions:
        steps = [s * (n - 1) for s, n in zip(region.strides, region.shape, strict=True)]
        size = region.dtype.itemsize
        low.append((region.offset + sum(s for s in steps if s < 0)) * size)
        high.append((region.offset + sum(s for s in steps if s > 0) + 1) * size)
    return min(low), max(high)


class _Window(NamedTuple):
    """The touched part of an allocation, in units of as many bytes as its smallest elements have."""

    unit: int
    start: int
    size: int

    @classmethod
    def of(cls, regions: list[Region]) -> _Window:
        unit = min(region.dtype.itemsize for region in regions)
        low, high = _span(regions)
        return cls(unit, low // unit, (high - low) // unit)

    def part(self, array: Array, region: Region) -> Array:
        """What a region covers of an array that has one element for each unit."""
        n = region.dtype.itemsize // self.unit
        shape, strides = (*region.shape, n), (*[s * n for s in region.strides], 1)
        size = array.itemsize
        return np.ndarray(
            shape, array.dtype, array, (region.offset * n - self.start) * size, [s * size for s in strides]
        )
