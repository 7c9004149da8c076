"""Bytes for on-chip tensors, taken and given back within one kernel."""

from __future__ import annotations

import functools
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
_SLAB = 16 << 20
_BYTE = np.dtype(np.uint8)
_spare: list[Array] = []  # slabs of kernels that have ended, for the next one
# References to arrays by their ids, and where their bytes go.
_Live = dict[int, tuple[Any, list[memoryview], memoryview]]


def _unused(live: _Live, block: Any) -> None:
    """Nobody refers to an array any more."""
    _, free, place = live.pop(id(block))
    free.append(place)


class Pool:
    """Bytes for the on-chip tensors of one kernel: a dropped tensor's go to the next of its size.

    They are cut from slabs that outlive the kernel, because on a virtual host a fresh page costs as much as many an
    instruction. A slab is large enough to lie in huge pages. Blocks do not all begin at one offset in a page, since a
    copy between equal offsets stalls.
    """

    def __init__(self) -> None:
        self._free: dict[int, list[memoryview]] = {}  # parts of slabs, by size
        self._live: _Live = {}
        self._unused = functools.partial(_unused, self._live)  # it knows no pool, which so ends with its kernel
        self._slabs: list[Array] = []
        self._end = _SLAB  # of what is taken of the last slab

    def take(self, nbytes: int) -> Array:
        """Bytes with anything in them, which come back by themselves."""
        if nbytes > _SLAB:
            return np.empty(nbytes, np.uint8)
        free = self._free.get(nbytes)
        if free is None:
            free = self._free[nbytes] = []
        place = free.pop() if free else self._cut(nbytes)
        # Of a memoryview: a view of a slice refers to the whole slab, and then nobody sees that the block is in use.
        raw: Array = np.frombuffer(place, _BYTE)
        block = weakref.ref(raw, self._unused)
        self._live[id(block)] = block, free, place
        return raw

    def _cut(self, nbytes: int) -> memoryview:
        if self._end + nbytes > _SLAB:
            self._slabs.append(_spare.pop() if _spare else np.empty(_SLAB, np.uint8))
            self._end = 0
        start = self._end
        self._end += (nbytes + 127) // 64 * 64
        return self._slabs[-1].data[start : start + nbytes]

    def __del__(self) -> None:
        if not self._live:  # no view of a tensor outlives the kernel
            _spare.extend(self._slabs[: 4 - len(_spare)])
