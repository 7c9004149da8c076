"""Bytes for on-chip tensors, taken and given back within one kernel."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
_SLAB = 16 << 20
_spare: list[Array] = []  # slabs of kernels that have ended, for the next one


class Pool:
    """Bytes for the on-chip tensors of one kernel: a dropped tensor's go to the next of its size.

    They are cut from slabs that outlive the kernel, because on a virtual host a fresh page costs as much as many an
    instruction. A slab is large enough to lie in huge pages. Blocks do not all begin at one offset in a page, since a
    copy between equal offsets stalls.
    """

    def __init__(self) -> None:
        self._free: dict[int, list[Array]] = {}
        self._slabs: list[Array] = []
        self._end = _SLAB  # of what is taken of the last slab

    def take(self, nbytes: int) -> Array:
        free = self._free.get(nbytes)
        return free.pop() if free else self._cut(nbytes)

    def give(self, raw: Array) -> None:
        self._free.setdefault(raw.nbytes, []).append(raw)

    def _cut(self, nbytes: int) -> Array:
        if nbytes > _SLAB:
            return np.empty(nbytes, np.uint8)
        if self._end + nbytes > _SLAB:
            self._slabs.append(_spare.pop() if _spare else np.empty(_SLAB, np.uint8))
            self._end = 0
        start = self._end
        self._end += (nbytes + 127) // 64 * 64
        # By way of a memoryview: a view of a slice refers to the slab, and then nobody sees that the block is in use.
        return np.frombuffer(self._slabs[-1].data, np.uint8, nbytes, start)

    def __del__(self) -> None:
        self._free.clear()
        while self._slabs and len(_spare) < 4:
            slab = self._slabs.pop()
            if sys.getrefcount(slab) == 2:  # this name and getrefcount's: no view of a tensor outlives the kernel
                _spare.append(slab)
