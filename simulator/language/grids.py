"""Functions of `nki.language` that make tile and block grids (NKI 0.7)."""

from __future__ import annotations

import math
from typing import Any

from triptych.simulator.errors import NkiValidationError
from triptych.simulator.language.common import function
from triptych.simulator.machine.machine import machine
from triptych.simulator.memory.storage import MemoryRegion
from triptych.simulator.operands.operands import describe
from triptych.simulator.tensors.grids import (
    SOURCE,
    NkiBlockGrid,
    NkiGrid,
    NkiTileGrid,
    cells_of,
    checked_shape,
    regrouped,
)
from triptych.simulator.tensors.tensor import NkiTensor


@function("tiles")
def tiles(source: NkiTensor | NkiGrid, *, tile_shape: tuple[int, ...] | None = None) -> NkiTileGrid:
    """A tensor or a grid in tile coordinates."""
    grid = _grid(source, tile_shape, None)
    assert isinstance(grid, NkiTileGrid)
    return grid


@function("blocks")
def blocks(
    source: NkiTensor | NkiGrid, *, tile_shape: tuple[int, ...] | None = None, block_shape: tuple[int, ...]
) -> NkiBlockGrid:
    """A tensor or a grid in blocks of tiles."""
    grid = _grid(source, tile_shape, block_shape)
    assert isinstance(grid, NkiBlockGrid)
    return grid


def _grid(source: Any, tile: Any, block: Any) -> NkiGrid:
    if not isinstance(source, (NkiTensor, NkiGrid)):
        raise NkiValidationError(f"source must be a tensor or a grid, got {describe(source)}", source=SOURCE)
    if tile is None:
        if isinstance(source, NkiTensor):
            raise NkiValidationError("a tensor needs a tile_shape", source=SOURCE)
        tile = source.tile_shape
    rank = source.ndim if isinstance(source, NkiTensor) else len(source.element_shape)
    checked_shape("tile_shape", tile, 2, rank)
    if block is not None:
        checked_shape("block_shape", block, len(tile), len(tile))
    if isinstance(source, NkiGrid):
        return regrouped(source, tile, block)
    kind = NkiTileGrid if block is None else NkiBlockGrid
    return kind(source, cells_of(source.shape, tile, block), tile)


@function("alloc_tiles")
def alloc_tiles(
    *,
    tile_shape: tuple[int, ...],
    element_shape: tuple[int, ...],
    buffer: MemoryRegion,
    dtype: Any,
    address: tuple[int, int] | None = None,
    name: str = "",
) -> NkiTileGrid:
    """Uninitialized storage of its own, in tiles."""
    grid = _allocated(tile_shape, None, element_shape, buffer, dtype, address, name)
    assert isinstance(grid, NkiTileGrid)
    return grid


@function("alloc_blocks")
def alloc_blocks(
    *,
    tile_shape: tuple[int, ...],
    block_shape: tuple[int, ...],
    element_shape: tuple[int, ...],
    buffer: MemoryRegion,
    dtype: Any,
    address: tuple[int, int] | None = None,
    name: str = "",
) -> NkiBlockGrid:
    """Uninitialized storage of its own, in blocks of tiles, which add no allocation and change no order."""
    checked_shape("block_shape", block_shape, 2)
    grid = _allocated(tile_shape, block_shape, element_shape, buffer, dtype, address, name)
    assert isinstance(grid, NkiBlockGrid)
    return grid


def _allocated(tile: Any, block: Any, extent: Any, buffer: Any, dtype: Any, address: Any, name: str) -> NkiGrid:
    """HBM keeps the extent; on chip the tiles of all rows lie beside each other on the partitions of one."""
    checked_shape("element_shape", extent, 2)
    checked_shape("tile_shape", tile, 2, len(extent))
    if block is not None and len(block) != len(tile):
        raise ValueError(f"block_shape must have the {len(tile)} entries of tile_shape, got {block!r}")
    if not isinstance(buffer, MemoryRegion):
        raise TypeError(f"buffer must be nl.sbuf, nl.psum, nl.private_hbm or nl.shared_hbm, got {buffer!r}")
    kind = NkiTileGrid if block is None else NkiBlockGrid
    cells = cells_of(extent, tile, block)
    if not buffer.on_chip:
        return kind(machine().allocate(extent, dtype, buffer, name, address), cells, tile)
    if len(tile) != 2:
        raise NkiValidationError(f"tiles on chip have a partition and a free dimension here, got {tile}", source=SOURCE)
    rows = math.prod(extent[:-2]) * math.ceil(extent[-2] / tile[0])
    storage = machine().allocate((min(tile[0], extent[-2]), rows * extent[-1]), dtype, buffer, name, address)
    return kind(storage, cells_of(extent, tile, block), tile, packed=True)
