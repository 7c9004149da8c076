"""Tile and block grids (NKI 0.7): a tensor seen in tiles, or in blocks of tiles. Views: no storage, no copy.

A tiled dimension of n elements in cells of u (a tile, or the tiles of a block) has ceil(n / u) cells, the last one
clamped. Leading dimensions that are not tiled count slab by slab. An integer consumes a coordinate and chooses one
cell; slices with a positive step choose several. `data` is the tensor that an instruction takes.

Pages of SDK 2.33: nki.language.tiles, blocks, alloc_tiles, alloc_blocks, empty_like, and those of the three classes.
What the `data` of cells apart raises was not seen, nor in which form a grid on chip of more rows than partitions is
packed; here its cells lie in one row of columns, row-major.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from triptych.simulator.errors import NkiValidationError, OutOfBounds
from triptych.simulator.memory.storage import MemoryRegion
from triptych.simulator.objects import NKIObject
from triptych.simulator.tensors.tensor import NkiTensor

SOURCE = "nki.language.NkiGrid.html of SDK 2.33"
LIKE = "nki.language.empty_like.html of SDK 2.33"
_TRANSPOSES = {2: (1, 0), 3: (2, 1, 0), 4: (3, 1, 2, 0)}  # of nisa.dma_transpose, by the number of dimensions


@dataclass(frozen=True)
class Cells:
    """The cells of one dimension that are chosen: first, first + step, .., `count` of them."""

    extent: int  # elements of the whole dimension
    unit: int  # elements of a cell
    first: int
    count: int
    step: int = 1
    kept: bool = True  # no integer has consumed the coordinate
    tiled: bool = True

    @property
    def elements(self) -> int:
        last = self.first + (self.count - 1) * self.step
        return (self.count - 1) * self.unit + min(self.unit, self.extent - last * self.unit)

    @property
    def is_remainder(self) -> bool:
        return self.elements < self.count * self.unit

    @property
    def adjacent(self) -> bool:
        return self.count == 1 or self.step == 1

    def chosen(self, key: Any, dim: int) -> Cells:
        if isinstance(key, slice):
            start, stop, step = key.indices(self.count)
            if step < 1 or start >= stop:
                raise OutOfBounds(f"slice {key} of {self.count} cells of dimension {dim} chooses none", source=SOURCE)
            count = -(-(stop - start) // step)
            return replace(self, first=self.first + start * self.step, count=count, step=self.step * step)
        if isinstance(key, bool) or not isinstance(key, int):
            raise NkiValidationError(f"a grid is indexed by integers and slices, got {key!r}", source=SOURCE)
        at = key + self.count * (key < 0)
        if not 0 <= at < self.count:
            raise OutOfBounds(f"cell {key} is outside the {self.count} of dimension {dim}", source=SOURCE)
        return replace(self, first=self.first + at * self.step, count=1, step=1, kept=False)


class NkiGrid(NKIObject):
    """A tensor organized in tiles or blocks (nki.language.NkiGrid); nl.tiles and nl.blocks make one."""

    __slots__ = ("_backing", "_cells", "_packed", "tile_shape")

    def __init__(
        self, backing: NkiTensor, cells: tuple[Cells, ...], tile_shape: tuple[int, ...], packed: bool = False
    ) -> None:
        self._backing = backing
        self._cells = cells
        self._packed = packed  # the cells lie in one row of columns
        self.tile_shape = tile_shape

    def _of(self, cells: tuple[Cells, ...]) -> NkiGrid:
        return type(self)(self._backing, cells, self.tile_shape, self._packed)

    @property
    def buffer(self) -> MemoryRegion:
        return self._backing.buffer

    @property
    def dtype(self) -> Any:
        return self._backing.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """How many cells there are along each coordinate that is left."""
        return tuple([c.count for c in self._cells if c.kept])

    @property
    def element_shape(self) -> tuple[int, ...]:
        """How many elements are chosen along each dimension; a slab that an integer chose has none."""
        return tuple([c.elements for c in self._cells if c.kept or c.tiled])

    @property
    def index_step_elements(self) -> tuple[int, ...]:
        """How many elements a step of each coordinate is."""
        return tuple([c.step * c.unit for c in self._cells if c.kept])

    @property
    def is_remainder(self) -> bool:
        """Whether a chosen cell is clamped by the end of the tensor."""
        return any(c.is_remainder for c in self._cells)

    @property
    def is_data_representable(self) -> bool:
        """Whether `data` can show the cells in one access pattern."""
        if self._packed:
            *slabs, rows, columns = self._cells
            return all(c.count == 1 for c in slabs) and rows.elements <= self.tile_shape[0] and columns.adjacent
        return all(c.adjacent or c.unit == 1 for c in self._cells)

    @property
    def data(self) -> NkiTensor:
        """The chosen elements as a tensor."""
        if not self.is_data_representable:
            raise NkiValidationError(
                f"the cells of {self!r} are no one access pattern; take them one by one", source=SOURCE
            )
        if self._packed:
            return self._backing[: self.element_shape[-2], self._column() : self._column() + self.element_shape[-1]]
        key: list[Any] = []
        for c in self._cells:
            start = c.first * c.unit
            if not c.kept and not c.tiled:
                key.append(start)
            elif c.adjacent:
                key.append(slice(start, start + c.elements))
            else:
                key.append(slice(start, start + (c.count - 1) * c.step + 1, c.step))
        return self._backing[tuple(key)]

    def _column(self) -> int:
        """Where the first chosen cell of packed ones begins."""
        *slabs, rows, columns = self._cells
        number = 0
        for c in slabs:
            number = number * c.extent + c.first
        number = number * math.ceil(rows.extent / self.tile_shape[0]) + rows.first * rows.unit // self.tile_shape[0]
        return number * columns.extent + columns.first * columns.unit

    def __getitem__(self, key: Any) -> NkiGrid:
        keys = list(key) if isinstance(key, tuple) else [key]
        left = [d for d, c in enumerate(self._cells) if c.kept]
        if len(keys) > len(left):
            raise OutOfBounds(f"{len(keys)} indices for the {len(left)} coordinates of {self!r}", source=SOURCE)
        cells = list(self._cells)
        for d, k in zip(left, keys, strict=False):
            cells[d] = cells[d].chosen(k, d)
        return self._of(tuple(cells))

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        kind = f"{type(self).__name__}({self._backing.name!r}, {self.shape} cells of {self.tile_shape}"
        return f"{kind}; an instruction takes its .data)"

    __eq__ = object.__eq__
    __hash__ = object.__hash__


class NkiTileGrid(NkiGrid):
    """A tensor in tile coordinates (nki.language.NkiTileGrid)."""

    __slots__ = ()


class NkiBlockGrid(NkiGrid):
    """A tensor in blocks of tiles (nki.language.NkiBlockGrid); `block_shape` counts the tiles of one."""

    __slots__ = ()

    @property
    def block_shape(self) -> tuple[int, ...]:
        units = [c.unit for c in self._cells if c.tiled]
        return tuple([u // t for u, t in zip(units, self.tile_shape, strict=True)])


G = TypeVar("G", bound=NkiGrid)


def checked_shape(what: str, shape: Any, least: int, most: int | None = None) -> tuple[int, ...]:
    """`shape`, a tuple of `least` to `most` exact positive integers; else TypeError or ValueError, as AWS's."""
    if not isinstance(shape, tuple) or any(type(n) is not int for n in shape):
        raise TypeError(f"{what} must be a tuple of integers, got {shape!r}")
    if len(shape) < least or (most is not None and len(shape) > most) or any(n < 1 for n in shape):
        limit = f"{least} to {most}" if most is not None else f"{least} or more"
        raise ValueError(f"{what} must have {limit} positive entries, got {shape!r}")
    return shape


def cells_of(shape: tuple[int, ...], tile: tuple[int, ...], block: tuple[int, ...] | None = None) -> tuple[Cells, ...]:
    """All cells of an extent, tiled over its trailing dimensions."""
    untiled = len(shape) - len(tile)
    units = [t * b for t, b in zip(tile, block or (1,) * len(tile), strict=True)]
    return (
        *[Cells(n, 1, 0, n, tiled=False) for n in shape[:untiled]],
        *[Cells(n, u, 0, math.ceil(n / u)) for n, u in zip(shape[untiled:], units, strict=True)],
    )


def own_cells(grid: NkiGrid, order: tuple[int, ...] | None = None) -> tuple[Cells, ...]:
    """The cells of a grid of its own that has as many and as large ones, beside each other.

    `order` is another one of the tiled dimensions; slabs that an integer chose are left out.
    """
    slabs = [c for c in grid._cells if not c.tiled and c.kept]
    tiled = [c for c in grid._cells if c.tiled]
    chosen = [*slabs, *(tiled if order is None else [tiled[axis] for axis in order])]
    return tuple([replace(c, extent=c.elements, first=0, step=1) for c in chosen])


def transposed(shape: tuple[int, ...], axes: Any) -> tuple[int, ...]:
    """`shape` in the order of `axes`, one of nisa.dma_transpose; its last dimension becomes the partition."""
    if axes != _TRANSPOSES.get(len(shape)):
        known = " or ".join(map(str, _TRANSPOSES.values()))
        raise NkiValidationError(
            f"transpose_axes must be {known} for 2, 3 or 4 dimensions, got {axes!r} for {shape}", source=LIKE
        )
    if shape[-1] > 128:
        raise NkiValidationError(
            f"with transpose_axes the last dimension becomes the partition, at most 128; got {shape}", source=LIKE
        )
    return tuple([shape[axis] for axis in axes])


def regrouped(kind: type[G], grid: NkiGrid, tile: tuple[int, ...], block: tuple[int, ...] | None) -> G:
    """What a grid shows in tiles or blocks of its own: `nl.tiles(block)` opens a block."""
    if not grid._packed:
        shown = grid.data
        return kind(shown, cells_of(shown.shape, tile, block), tile)
    whole = [c for c in grid._cells if c.tiled]
    units = [t * b for t, b in zip(tile, block or (1,) * len(tile), strict=True)]
    if any(c.unit % u and u % c.unit for c, u in zip(whole, units, strict=True)):
        raise NkiValidationError(f"{grid!r} cannot be regrouped in cells of {tuple(units)}", source=SOURCE)
    cells = []
    for c, u in zip(whole, units, strict=True):
        start = c.first * c.unit
        cells.append(Cells(c.extent, u, start // u, math.ceil(c.elements / u)))
    untiled = [c for c in grid._cells if not c.tiled]
    return kind(grid._backing, (*untiled, *cells), tile, packed=True)
