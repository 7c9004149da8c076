"""Unsynchronised sharing between two cores: a pure function of a trace.

Only `core_barrier` orders the accesses of two cores to shared HBM, and a collective on shared HBM, which both cores of
a rank carry out together. Between two of these nothing does, so if one core writes an element there that the other
reads or writes in the same stretch, the result depends on who comes first.

One case does not depend on it: both cores carry out the same writes, of the same values to the same elements, in the
same order, and no others there. A kernel that knows nothing of cores does so everywhere, and AWS runs it on both
(release-notes/components/nki.rst, NKI 0.5.0). After one write by each, what a core reads after its own is what it
wrote; after several, the other core may be back at an earlier one, so that nobody may read there. A dma_copy of a
region onto itself, by which AWS's kernels wait for their stores, leaves there what it reads: it counts as a read.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from triptych.simulator.dtypes import Array
from triptych.simulator.errors import NkiValidationError, show_line
from triptych.simulator.memory.extents import best_width, pieces
from triptych.simulator.memory.layout import Layout, reach
from triptych.simulator.trace import Event, Region, Trace

_SAMPLE = 16  # regions by which an allocation is laid out in rows


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
    """(event of core 0, event of core 1, region) that race on an element of shared HBM, which one writes."""
    groups: dict[tuple[int, int], tuple[list[_Access], list[_Access]]] = {}
    same: dict[Any, int] = {}
    for event in trace.events:
        if event.op == "core_barrier" or event.attributes.get("joint"):
            continue
        writes = () if event.op == "dma_copy" and event.writes == event.reads else event.writes
        digests = event.attributes.get("written", (0,) * len(event.writes))
        for region, digest in (*[(r, None) for r in event.reads], *zip(writes, digests, strict=False)):
            if region.allocation.buffer == "shared_hbm":
                key = (region.allocation.id, event.attributes.get("epoch", 0))
                write = 0 if digest is None else same.setdefault((key, region[1:], digest), len(same) + 1)
                groups.setdefault(key, ([], []))[event.core].append(_Access(event, region, write))
    for mine, others in groups.values():
        yield from _conflicts(mine, others)


def _conflicts(mine: list[_Access], others: list[_Access]) -> Iterator[tuple[Event, Event, Region]]:
    if not mine or not others or not any(a.write for a in (*mine, *others)) or _apart(mine, others):
        return
    cells = _Cells([a.region for a in (*mine, *others)])
    sequences: dict[tuple[int, int], int] = {}
    (a, a_early, a_late), (b, b_early, b_late) = (_touched(side, cells, sequences) for side in (mine, others))
    differ = (a != b) | ((a < 0) & (a_late | b_late))
    clash = ((a != 0) & (b != 0) & differ) | ((a != 0) & b_early) | ((b != 0) & a_early)
    if clash.any():
        here = np.zeros(cells.shape, bool)
        here.flat[np.argmax(clash)] = True
        there = [
            [x for x in side if any(part.any() for part in cells.parts(here, x.region))] for side in (mine, others)
        ]
        yield _pair(*there)


def _touched(
    accesses: list[_Access], cells: _Cells, sequences: dict[tuple[int, int], int]
) -> tuple[Array, Array, Array]:
    """For each cell, what a core writes there, and whether it reads the cell before and after its first write.

    A write is 0 for none, and the negative number of `sequences` for several: by what was written before, and the last.
    """
    writes = np.zeros(cells.shape, np.int32)
    early, late = np.zeros(cells.shape, bool), np.zeros(cells.shape, bool)
    for access in accesses:
        for there, before, after in zip(
            *[cells.parts(state, access.region) for state in (writes, early, late)], strict=True
        ):
            if access.write:
                old = there.copy()
                last = {sequence: write for (_, write), sequence in sequences.items()}
                for known in np.unique(old).tolist():
                    if last.get(known, known) != access.write:  # the same again adds nothing
                        longer = sequences.setdefault((known, access.write), -len(sequences) - 1)
                        there[old == known] = longer if known else access.write
            else:
                before[there == 0] = True
                after[there != 0] = True
    return writes, early, late


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
        before, behind = reach(region.shape, region.strides)
        low.append((region.offset + before) * region.dtype.itemsize)
        high.append((region.offset + behind + 1) * region.dtype.itemsize)
    return min(low), max(high)


class _Cells:
    """An allocation, cut where the regions that are touched begin and end, so that each is made of whole cells."""

    def __init__(self, regions: list[Region]) -> None:
        views = list(dict.fromkeys(Layout._make(region[1:]) for region in regions))
        allocation = regions[0].allocation
        width = best_width(allocation.shape, allocation.dtype.itemsize, views[:_SAMPLE])
        self._pieces = {view: pieces(view, width) for view in views}
        rows = {cut for found in self._pieces.values() for runs, _ in found for run in runs for cut in run}
        columns = {cut for found in self._pieces.values() for _, runs in found for run in runs for cut in run}
        self._row = {cut: i for i, cut in enumerate(sorted(rows))}
        self._column = {cut: i for i, cut in enumerate(sorted(columns))}
        self.shape = (max(self._row.values()), max(self._column.values()))  # the last cut ends the last cell

    def parts(self, array: Array, region: Region) -> Iterator[Array]:
        """What a region covers of an array that has one element for each cell."""
        for rows, columns in self._pieces[Layout._make(region[1:])]:
            for (top, bottom), (left, right) in itertools.product(rows, columns):
                yield array[self._row[top] : self._row[bottom], self._column[left] : self._column[right]]
