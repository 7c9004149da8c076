"""Tensors that a kernel creates: with nothing in them, with one value everywhere, or with constants of the program.

And the grids that show a tensor in tiles or blocks.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from triptych.simulator.dtypes import round_to, uint8
from triptych.simulator.engines.dma import dma_copy
from triptych.simulator.engines.vector.elementwise import memset
from triptych.simulator.errors import NkiValidationError
from triptych.simulator.language.common import function, into, new
from triptych.simulator.machine.machine import machine
from triptych.simulator.memory.storage import SBUF, MemoryRegion
from triptych.simulator.operands.operands import describe, in_buffer
from triptych.simulator.tensors.grids import (
    LIKE,
    SOURCE,
    Cells,
    G,
    NkiBlockGrid,
    NkiGrid,
    NkiTileGrid,
    cells_of,
    checked_shape,
    own_cells,
    regrouped,
    transposed,
)
from triptych.simulator.tensors.tensor import NkiTensor

_CONSTANT_TILE = 2048  # elements per partition of the tile that fills HBM
_NOT_CONSTANT = ("bool_", "float8_e4m3")  # dtypes that shared_constant's documentation leaves out


@function
def ndarray(
    shape: Sequence[int],
    dtype: Any,
    buffer: MemoryRegion = SBUF,
    name: str = "",
    address: tuple[int, ...] | None = None,
) -> NkiTensor:
    """A tensor of `shape` in `buffer`, with nothing written in it.

    `address` places it: (partition, byte) on chip, (byte,) in HBM; tensors whose addresses overlap share bytes.
    """
    return machine().allocate(shape, dtype, buffer, name, address)


@function
def full(shape: Sequence[int], fill_value: Any, dtype: Any, buffer: MemoryRegion = SBUF, name: str = "") -> NkiTensor:
    """A tensor that holds `fill_value` everywhere."""
    return _full(shape, fill_value, dtype, buffer, name)


def _full(shape: Sequence[int], value: Any, dtype: Any, buffer: Any, name: str) -> NkiTensor:
    tensor = machine().allocate(shape, dtype, buffer, name)
    if tensor.on_chip:
        memset(tensor, value)
    else:
        _fill_hbm(tensor, value)
    return tensor


def by_tiles(tensor: NkiTensor) -> Iterator[NkiTensor]:
    """Views [P, F] that cover a dense tensor in HBM, each of a size that a tile in SBUF can have."""
    partitions = _largest_divisor(tensor.size, 128)
    row = tensor.size // partitions
    flat = tensor.reshape((partitions, row))
    for start in range(0, row, _CONSTANT_TILE):
        yield flat[:, start : min(start + _CONSTANT_TILE, row)]


def _fill_hbm(tensor: NkiTensor, value: Any) -> None:
    """No engine sets HBM: a DMA copies one constant tile of SBUF into it, as often as it takes."""
    partitions = _largest_divisor(tensor.size, 128)
    row = _largest_divisor(tensor.size // partitions, _CONSTANT_TILE)
    source = into(new((partitions, 1, row), tensor.dtype), memset, value)
    dma_copy(tensor, source.broadcast(1, tensor.size // (partitions * row)))


def _largest_divisor(n: int, limit: int) -> int:
    return next(d for d in range(min(n, limit), 0, -1) if n % d == 0)


@function
def zeros(shape: Sequence[int], dtype: Any, buffer: MemoryRegion = SBUF, name: str = "") -> NkiTensor:
    """A tensor of zeros."""
    return _full(shape, 0, dtype, buffer, name)


@function
def ones(shape: Sequence[int], dtype: Any, buffer: MemoryRegion = SBUF, name: str = "") -> NkiTensor:
    """A tensor of ones."""
    return _full(shape, 1, dtype, buffer, name)


@function
def zeros_like(x: NkiTensor, dtype: Any = None, buffer: MemoryRegion | None = None, name: str = "") -> NkiTensor:
    """Zeros in x's shape and dtype; in SBUF unless said otherwise, as the documentation has it."""
    if not isinstance(x, NkiTensor):
        raise NkiValidationError(f"x must be a tensor, got {describe(x)}")
    return _full(x.shape, 0, x.dtype if dtype is None else dtype, SBUF if buffer is None else buffer, name)


@function
def shared_constant(constant: Any) -> NkiTensor:
    """A NumPy array, or the one in a .npy file, in shared HBM. It comes with the program: no instruction writes it."""
    if isinstance(constant, (str, os.PathLike)):
        try:
            constant = np.load(constant)
        except (OSError, ValueError) as e:
            raise NkiValidationError(f"constant must be a readable .npy file: {e}") from None
    if not isinstance(constant, np.ndarray):
        raise NkiValidationError(f"constant must be a NumPy array or the path of a .npy file, got {constant!r}")
    tensor = machine().allocate(constant.shape, constant.dtype, MemoryRegion.shared_hbm)
    if tensor.dtype in _NOT_CONSTANT:
        raise NkiValidationError(f"a constant of dtype {tensor.dtype} is not supported")
    _write(tensor, constant)
    return tensor


def _write(tensor: NkiTensor, values: np.ndarray[Any, Any]) -> None:
    round_to(values, tensor.dtype, tensor.array)
    tensor.wrote()


@function
def shared_identity_matrix(n: int, dtype: Any = uint8, dst: NkiTensor | None = None) -> NkiTensor:
    """The n x n identity in SBUF, in `dst` if one is given: a constant of the program, and the DMA that loads it."""
    if dst is None:
        dst = new((n, n), dtype)
    in_buffer(SBUF, dst=dst)
    if dst.shape != (n, n):
        raise NkiValidationError(f"dst must be ({n}, {n}), got {dst.shape}")
    constant = machine().allocate((n, n), dtype, MemoryRegion.shared_hbm)
    _write(constant, np.eye(*constant.shape, dtype=constant.array.dtype))
    dma_copy(dst, constant)
    return dst


# Grids (NKI 0.7)


@function
def tiles(source: NkiTensor | NkiGrid, *, tile_shape: tuple[int, ...] | None = None) -> NkiTileGrid:
    """A tensor or a grid in tile coordinates."""
    return _grid(NkiTileGrid, source, tile_shape)


@function
def blocks(
    source: NkiTensor | NkiGrid, *, tile_shape: tuple[int, ...] | None = None, block_shape: tuple[int, ...]
) -> NkiBlockGrid:
    """A tensor or a grid in blocks of tiles."""
    return _grid(NkiBlockGrid, source, tile_shape, block_shape)


def _grid(kind: type[G], source: Any, tile: Any, block: Any = None) -> G:
    if not isinstance(source, (NkiTensor, NkiGrid)):
        raise NkiValidationError(f"source must be a tensor or a grid, got {describe(source)}", source=SOURCE)
    if tile is None:
        if isinstance(source, NkiTensor):
            raise NkiValidationError("a tensor needs a tile_shape", source=SOURCE)
        tile = source.tile_shape
    rank = source.ndim if isinstance(source, NkiTensor) else len(source.element_shape)
    checked_shape("tile_shape", tile, 2, rank)
    if kind is NkiBlockGrid:
        checked_shape("block_shape", block, len(tile), len(tile))
    if isinstance(source, NkiGrid):
        return regrouped(kind, source, tile, block)
    return kind(source, cells_of(source.shape, tile, block), tile)


@function
def alloc_tiles(
    *,
    tile_shape: tuple[int, ...],
    element_shape: tuple[int, ...],
    buffer: MemoryRegion,
    dtype: Any,
    address: tuple[int, ...] | None = None,
    name: str = "",
) -> NkiTileGrid:
    """Uninitialized storage of its own, in tiles."""
    return _allocated(NkiTileGrid, tile_shape, None, element_shape, buffer, dtype, address, name)


@function
def alloc_blocks(
    *,
    tile_shape: tuple[int, ...],
    block_shape: tuple[int, ...],
    element_shape: tuple[int, ...],
    buffer: MemoryRegion,
    dtype: Any,
    address: tuple[int, ...] | None = None,
    name: str = "",
) -> NkiBlockGrid:
    """Uninitialized storage of its own, in blocks of tiles, which add no allocation and change no order."""
    checked_shape("block_shape", block_shape, 2)
    return _allocated(NkiBlockGrid, tile_shape, block_shape, element_shape, buffer, dtype, address, name)


def _allocated(
    kind: type[G], tile: Any, block: Any, extent: Any, buffer: Any, dtype: Any, address: Any, name: str
) -> G:
    checked_shape("element_shape", extent, 2)
    checked_shape("tile_shape", tile, 2, len(extent))
    if block is not None and len(block) != len(tile):
        raise ValueError(f"block_shape must have the {len(tile)} entries of tile_shape, got {block!r}")
    if not isinstance(buffer, MemoryRegion):
        raise TypeError(f"buffer must be nl.sbuf, nl.psum, nl.private_hbm or nl.shared_hbm, got {buffer!r}")
    return _stored(kind, cells_of(extent, tile, block), tile, dtype, buffer, name, address)


def _stored(
    kind: type[G], cells: tuple[Cells, ...], tile: tuple[int, ...], dtype: Any, buffer: Any, name: str, address: Any
) -> G:
    """Storage for whole `cells`: HBM keeps the extent; on chip the tiles of all rows lie beside each other."""
    extent = tuple([c.extent for c in cells])
    if not buffer.on_chip:
        return kind(machine().allocate(extent, dtype, buffer, name, address), cells, tile)
    if len(tile) != 2:
        raise NkiValidationError(f"tiles on chip have a partition and a free dimension here, got {tile}", source=SOURCE)
    rows = math.prod(extent[:-2]) * math.ceil(extent[-2] / tile[0])
    storage = machine().allocate((min(tile[0], extent[-2]), rows * extent[-1]), dtype, buffer, name, address)
    return kind(storage, cells, tile, packed=True)


@function
def empty_like(
    x: NkiTensor | NkiGrid,
    dtype: Any = None,
    buffer: MemoryRegion | None = None,
    name: str = "",
    *,
    transpose_axes: tuple[int, ...] | None = None,
    address: tuple[int, ...] | None = None,
) -> NkiTensor | NkiGrid:
    """A tensor or a grid like x, in its dtype and buffer unless said otherwise, with nothing written in it.

    A grid keeps its kind, cells, tiles and clamped ends; cells that a slice took apart lie beside each other.
    `transpose_axes`, the order of the tiled dimensions, makes it what nisa.dma_transpose writes to, in SBUF.
    """
    if not isinstance(x, (NkiTensor, NkiGrid)):
        raise NkiValidationError(f"x must be a tensor or a grid, got {describe(x)}", source=LIKE)
    dtype, buffer = x.dtype if dtype is None else dtype, x.buffer if buffer is None else buffer
    tile = x.shape if isinstance(x, NkiTensor) else x.tile_shape
    if transpose_axes is not None:
        tile = transposed(tile, transpose_axes)
        if buffer is not SBUF:
            raise NkiValidationError(f"transpose_axes is for nl.sbuf, got {buffer!r}; give buffer=nl.sbuf", source=LIKE)
    if isinstance(x, NkiTensor):
        return machine().allocate(tile, dtype, buffer, name, address)
    return _stored(type(x), own_cells(x, transpose_axes), tile, dtype, buffer, name, address)
