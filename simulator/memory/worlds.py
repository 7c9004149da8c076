"""What elements that count as unwritten are in each world with which instructions are tried.

A world has another value for whatever nothing wrote (triptych.simulator.machine.unwritten). What instructions made of
those values there is kept for the next instruction that reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triptych.simulator.memory.layout import Layout
from triptych.simulator.memory.mask import Mask
from triptych.simulator.memory.storage import Storage

Array = NDArray[Any]
Part = tuple[tuple[NDArray[np.intp], ...], Array]  # elements of a view by their indices, and their bits


class Worlds:
    """The bytes of one memory in each world, of which only those that an instruction made there are known."""

    def __init__(self, nbytes: int, count: int) -> None:
        self.bytes = [np.empty(nbytes, np.uint8) for _ in range(count)]
        self.known = Mask(nbytes, False)


def fill(storage: Storage, at: Layout, world: int, byte: int, unwritten: Array | np.bool_) -> None:
    """Fill elements of a view that count as unwritten: with what came of them in a world before, else with a byte."""
    if not unwritten.any():
        return
    array = storage.array(at)
    storage.forget_converted()
    np.copyto(array, np.frombuffer(bytes([byte]) * array.itemsize, array.dtype)[0], where=unwritten)
    worlds = storage.bytes_owner.worlds
    if worlds is not None:
        known = worlds.known.at(*storage.place(at))
        if known is not False:
            values = storage.array_of(worlds.bytes[world], at)
            np.copyto(array, values, where=np.logical_and(unwritten, known))


def remember(storage: Storage, at: Layout, chosen: Array, worlds: Sequence[Sequence[Part]]) -> None:
    """Keep what the chosen elements of a view are in each world: bits, of which a later part counts."""
    owner = storage.bytes_owner
    if owner.worlds is None:
        owner.worlds = Worlds(storage.raw.nbytes, len(worlds))
    for raw, parts in zip(owner.worlds.bytes, worlds, strict=True):
        there = storage.array_of(raw, at)
        bits = there.view(f"u{there.itemsize}")
        for where, values in parts:
            bits[where] = values
    np.copyto(owner.worlds.known.units(*storage.place(at)), True, where=chosen[..., None])
