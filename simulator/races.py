"""Unsynchronised sharing between two cores: a pure function of a trace.

Only `core_barrier` orders the accesses of two cores to shared HBM, and a collective on shared HBM, which both cores of
a rank carry out together. Between two of these nothing does, so if one core writes an element there that the other
reads or writes in the same stretch, the result depends on who comes first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from triptych.simulator.errors import NkiValidationError, show_line
from triptych.simulator.trace import Event, Region, Trace

Mask = NDArray[np.bool_]


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


def races(trace: Trace) -> Iterator[tuple[Event, Event, Region]]:
    """(event of core 0, event of core 1, region) that touch an element of shared HBM in one stretch, one writing it."""
    groups: dict[tuple[int, int], tuple[list[_Access], list[_Access]]] = {}
    for event in trace.events:
        if event.op == "core_barrier" or event.attributes.get("joint"):
            continue
        for regions, writes in ((event.reads, False), (event.writes, True)):
            for region in regions:
                if region.allocation.buffer == "shared_hbm":
                    key = (region.allocation.id, event.attributes.get("epoch", 0))
                    groups.setdefault(key, ([], []))[event.core].append((event, region, writes))
    for mine, others in groups.values():
        yield from _conflicts(mine, others)


_Access = tuple[Event, Region, bool]


def _conflicts(mine: list[_Access], others: list[_Access]) -> Iterator[tuple[Event, Event, Region]]:
    if not mine or not others or not any(writes for _, _, writes in (*mine, *others)):
        return
    nbytes = mine[0][1].allocation.nbytes
    touched, written = np.zeros(nbytes, bool), np.zeros(nbytes, bool)
    for _, region, writes in mine:
        _bytes(touched, region)[...] = True
        if writes:
            _bytes(written, region)[...] = True
    for event, region, writes in others:
        if not _bytes(touched if writes else written, region).any():
            continue
        here = np.zeros(nbytes, bool)
        _bytes(here, region)[...] = True
        for other, theirs, wrote in mine:
            if (writes or wrote) and _bytes(here, theirs).any():
                yield other, event, region
                return


def _bytes(mask: Mask, region: Region) -> Mask:
    """The bytes of an allocation that a region covers."""
    n = region.dtype.itemsize
    shape, strides = (*region.shape, n), (*[s * n for s in region.strides], 1)
    assert math.prod(shape) > 0
    return np.ndarray(shape, np.bool_, mask, region.offset * n, strides)
