"""The registers of the Vector and the Scalar Engine's lanes, one lane a partition: their accumulators."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from triptych.simulator.dtypes import F32, float32
from triptych.simulator.trace import Allocation, Region


class RegisterTile(NamedTuple):
    """The registers of some partitions."""

    region: Region


class Registers:
    """An engine's accumulator: one float32 register a partition, and whether it holds a value.

    In the trace it is a memory of its own, so that what goes through it can be seen.
    """

    def __init__(self, owner: str, buffer: str) -> None:
        self.owner = owner
        self.values = np.zeros((128, 1), F32)
        self.started = np.zeros((128, 1), bool)
        self._allocation = Allocation(-1, owner, buffer, (128, 1), float32, ("?", 0), (0, 0))
        self._tiles: dict[tuple[int, int], RegisterTile] = {}

    def tile(self, partitions: slice) -> RegisterTile:
        key = (partitions.start, partitions.stop)
        tile = self._tiles.get(key)
        if tile is None:
            first, last = key
            region = Region(self._allocation, first, (last - first, 1), (1, 1), self._allocation.dtype)
            tile = self._tiles[key] = RegisterTile(region)
        return tile
