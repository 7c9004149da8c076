"""Which partitions a tile lies on, and where it may begin."""

from __future__ import annotations

from triptych.simulator.memory.placement import PlacedStorage, allowed_starts
from triptych.simulator.tensors.tensor import NkiTensor


def _row(t: NkiTensor) -> int:
    """The first partition of a tile, counted within its allocation."""
    allocation = t.storage.allocation
    return t.offset * t.dtype.itemsize // (allocation.nbytes // allocation.shape[0])


def partitions_of(t: NkiTensor) -> slice:
    """The partitions that a tile lies on.

    An allocation without an address of its own is taken to start at 0.
    """
    first = _row(t)
    if isinstance(t.storage, PlacedStorage):
        first += t.storage.base // t.storage.arena.row
    return slice(first, first + t.shape[0])


def starts(t: NkiTensor) -> list[int]:
    """Where a tile may start: at its address, or wherever a compiler may lay its allocation."""
    if isinstance(t.storage, PlacedStorage):
        return [partitions_of(t).start]
    return [first + _row(t) for first in allowed_starts(t.storage.allocation.shape[0])]
