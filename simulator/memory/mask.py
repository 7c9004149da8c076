"""Which bytes of a memory are marked, in units as large as the views that are asked about allow.

A memory that is marked in whole rows takes a truth value a row, one that is marked in tiles a value for each row of a
tile; a view that begins or ends inside a unit splits all of them. So a mark costs what the rows of a view cost, not its
bytes, and no mask is larger than the memory.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triptych.simulator.memory.layout import Shape

Array = NDArray[Any]


class Mask:
    """A truth value for each unit of `nbytes`.

    A view is given in bytes: the offset of its first element, its shape, the steps between elements, their size.
    """

    __slots__ = ("bits", "unit")

    def __init__(self, nbytes: int, value: bool) -> None:
        self.unit = nbytes
        self.bits: Array = np.full(1, value)

    def keep(self, *view: Any) -> Array:
        """The units of a view as they are now, for `put_back`."""
        return self.runs(*view).copy()

    def put_back(self, kept: Array, *view: Any) -> None:
        """Make the units of a view what they were, though the mask may have been split since."""
        now = self.runs(*view)
        now[...] = kept if now.shape == kept.shape else np.repeat(kept, now.shape[-1] // kept.shape[-1], axis=-1)

    def units(self, offset: int, shape: Shape, steps: Shape, size: int) -> Array:
        """The units of a view: its shape, and behind it those of an element."""
        found = None if offset % self.unit else _in_units(shape, steps, size, self.unit)
        if found is None:
            unit = math.gcd(self.unit, offset, size, *steps)
            self.bits = np.repeat(self.bits, self.unit // unit)
            self.unit = unit
            found = _in_units(shape, steps, size, unit)
            assert found is not None
        counts, strides = found
        return np.ndarray(counts, bool, self.bits, offset // self.unit, strides)

    def runs(self, offset: int, shape: Shape, steps: Shape, size: int) -> Array:
        """The units of a view, what lies side by side in it taken as one element; of repeated elements the first."""
        return self.units(offset, *side_by_side(shape, steps, size, False))

    def rows(self, offset: int, shape: Shape, steps: Shape, size: int) -> Array:
        """The units of a view by its dimension 0, which stays the first."""
        inner, inner_steps, run = side_by_side(shape[1:], steps[1:], size, False)
        return self.units(offset, (shape[0], *inner), (steps[0], *inner_steps), run)

    def at(self, offset: int, shape: Shape, steps: Shape, size: int) -> Array | bool:
        """Which elements of a view are wholly marked: all, none, or an array of its shape."""
        found = self.units(offset, *side_by_side(shape, steps, size, True))
        if found.all():
            return True
        if not found.any():
            return False
        if self.unit > size:
            return np.repeat(found, self.unit // size, axis=-1).reshape(shape)
        whole: Array = np.all(found.reshape(*shape, size // self.unit), -1)
        return whole if whole.any() else False

    @property
    def unmarked(self) -> int:
        """Bytes."""
        return (self.bits.size - int(np.count_nonzero(self.bits))) * self.unit


@functools.lru_cache(4096)
def _in_units(shape: Shape, steps: Shape, size: int, unit: int) -> tuple[Shape, Shape] | None:
    """Shape and strides of a view, counted in units; None where it does not consist of them."""
    if size % unit or any([step % unit for step in steps]):
        return None
    return (*shape, size // unit), (*[step // unit for step in steps], 1)


Kept = tuple[Mask | bool | None, Any]  # and the units, of a mask


def keep(mask: Mask | bool | None, view: tuple[int, Shape, Shape, int]) -> Kept:
    """A mask, or the one value that stands for it, and what it says of a view."""
    return mask, mask.keep(*view) if isinstance(mask, Mask) else None


def put_back(kept: Kept, view: tuple[int, Shape, Shape, int]) -> Any:
    """The mask of `keep`, which says of the view what it said then."""
    mask, units = kept
    if isinstance(mask, Mask):
        mask.put_back(units, *view)
    return mask


@functools.lru_cache(4096)
def side_by_side(shape: Shape, steps: Shape, size: int, repeats: bool) -> tuple[Shape, Shape, int]:
    """A view with its last dimensions, as far as they leave no gap, as one element; `repeats`: with steps of zero."""
    dims = [(n, step) for n, step in zip(shape, steps, strict=True) if n > 1 and (step or repeats)]
    while dims and dims[-1][1] == size:
        size *= dims.pop()[0]
    return tuple([n for n, _ in dims]), tuple([step for _, step in dims]), size
