"""Sums of products on the Tensor Engine that were put off, and how tiles of them are computed at once.

A sum is one product for each K tile, added in their order in float32: the bits of a result are those of that order, and
tiles are never joined along K. Along M and N they may be: where the operands of neighbouring tiles are neighbours at
every step, one product of BLAS is as good as many (triptych.simulator.machine.deferral.blas), and much faster.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from triptych.simulator.dtypes import F32, float32, round_to
from triptych.simulator.machine.deferral.blas import is_flipped, multiply, readable, same_bits
from triptych.simulator.memory.layout import Layout, Shape, laid_out, row_major
from triptych.simulator.memory.references import Reference
from triptych.simulator.memory.storage import Storage

Array = NDArray[Any]
Line = tuple[str, int]
_MOST = (2048, 2048)  # rows and columns of one product of BLAS, beyond which little is gained
_MOST_ROUNDED = (1024, 2048)  # of one that needs scratch


class Product:
    """sum over steps of left[K, M].T @ right[K, N], both references to bytes of storages.

    lines: of the kernel, which put off the first matmul and its operands
    is_new: whether it waits nowhere yet
    is_shared: whether another tensor than the one that the matmuls write to refers to it, so that it stays as it is
    values: the sum, where it was computed for one of those and another may ask
    """

    __slots__ = ("is_new", "is_shared", "left", "lines", "m", "n", "right", "values")

    def __init__(self, left: Reference, right: Reference, lines: tuple[Line, ...]) -> None:
        self.left, self.right = [left], [right]
        self.lines = lines
        self.m, self.n = left.layout.shape[1], right.layout.shape[1]
        self.is_new = True
        self.is_shared = False
        self.values: Array | None = None

    def layout(self, shape: Shape) -> Layout:
        """All of it in a shape: the elements row by row."""
        return laid_out(0, shape, row_major(shape), float32)

    def adds(self, left: Reference, right: Reference) -> bool:
        """Take one more step, if nothing else refers to the sum."""
        if self.is_shared or left.layout.shape[1] != self.m:
            return False
        self.left.append(left)
        self.right.append(right)
        return True

    def block(self, to: Layout, part: Layout) -> Block | None:
        """All of it, not computed yet, as it goes to a view of a storage; None if `part` is not all of it in order."""
        whole = to.reshape((self.m, self.n)) if to.size == self.m * self.n else None
        if whole is None or self.values is not None or part[:3] != self.layout(to.shape)[:3]:
            return None
        return Block(self, whole)

    def computed(self) -> Array:
        """[M, N] in float32, kept."""
        if self.values is None:
            self.values = _computed(self, (self.m, self.n))
        return self.values


class Block(NamedTuple):
    """Tiles that are computed at once: the first one's product, and where in a storage all of them go."""

    product: Product
    to: Layout

    @property
    def is_in_place(self) -> bool:
        """Whether BLAS can write where they go."""
        rows, columns = self.to.strides
        return self.to.dtype == "float32" and columns == 1 and rows >= self.to.shape[1]

    @property
    def key(self) -> Any:
        """What neighbours along M and N have in common."""
        p = self.product
        steps = [_steps(p.left), _steps(p.right)]
        return None if None in steps else (p.m, p.n, self.to.strides, *steps)


def _steps(references: Sequence[Reference]) -> Any:
    """Of the operands of each step the source, how it lies and how far from the first; None if strides differ."""
    first = references[0].layout
    if any([r.layout.strides[1] != first.strides[1] for r in references]):
        return None
    return tuple([(id(source), at.shape[0], at.strides, at.offset - first.offset) for source, at in references])


def compute(storage: Storage, tiles: Sequence[Block]) -> None:
    """Compute tiles of a storage, neighbours together, and write them rounded to its dtype."""
    for block in _joined(tiles):
        product, to = block
        out = storage.array_of(storage.raw, to)
        if block.is_in_place:
            _compute(product, to.shape, out)
        else:
            round_to(_computed(product, to.shape), to.dtype, out)


def _joined(tiles: Sequence[Block]) -> Iterator[Block]:
    """Tiles and their neighbours, first along N and then along M."""
    if len(tiles) == 1:
        yield tiles[0]
        return
    groups: dict[Any, list[Block]] = {}
    for tile in tiles:
        key = tile.key
        groups.setdefault(id(tile) if key is None else key, []).append(tile)
    for group in groups.values():
        yield from _strips(_strips(group, 1), 0)


def _strips(blocks: Sequence[Block], axis: int) -> list[Block]:
    """Blocks of one group, those that are neighbours along an axis of the result as one."""

    def place(block: Block) -> tuple[int, ...]:
        left, right = block.product.left[0].layout, block.product.right[0].layout
        return (left.offset, right.offset) if axis else (right.offset, left.offset)

    strips: list[Block] = []
    for block in sorted(blocks, key=place):
        if strips and _follows(strips[-1], block, axis):
            first, to = strips[-1]
            shape = list(to.shape)
            shape[axis] += block.to.shape[axis]
            strips[-1] = Block(first, to.changed(to.offset, shape, to.strides))
        else:
            strips.append(block)
    return strips


def _follows(first: Block, second: Block, axis: int) -> bool:
    """Whether a block goes on where another ends, in the result and in the operand that this axis comes from."""
    size = first.to.shape[axis]
    most = (_MOST if first.is_in_place else _MOST_ROUNDED)[axis]
    if first.to.shape[1 - axis] != second.to.shape[1 - axis] or size + second.to.shape[axis] > most:
        return False
    if second.to.offset - first.to.offset != size * first.to.strides[axis]:
        return False
    for which, along in (("left", 0), ("right", 1)):
        a, b = (getattr(block.product, which)[0].layout for block in (first, second))
        if b.offset - a.offset != (size * a.strides[1] if along == axis else 0):
            return False
    return True


def _computed(product: Product, shape: Shape) -> Array:
    """A product and those of the tiles beside it, together of this shape."""
    values = np.empty(shape, F32)
    _compute(product, shape, values)
    return values


def _compute(product: Product, shape: Shape, out: Array) -> None:
    """out = a product and those of the tiles beside it, together of this shape."""
    tile = product.m, product.n
    rows, columns = shape
    adds, form, piece = False, None, None
    for left, right in zip(product.left, product.right, strict=True):
        a, b = _operand(left, rows), _operand(right, columns)
        flips = is_flipped(a), is_flipped(b)
        if (len(a), flips) != form:
            form = len(a), flips
            piece = next((size for size in (shape, tile) if same_bits(len(a), tile, size, flips)), None)
        if piece:
            multiply(a, b, out, flips, adds, piece)
        else:
            _by_tile(a, b, tile, out, adds)
        adds = True
        del a, b  # so that the next ones are converted into bytes that are in a cache


def _operand(reference: Reference, columns: int) -> Array:
    """An operand of a step, with as many columns as all the tiles have."""
    source, at = reference
    if at.shape[1] != columns:
        at = at.changed(at.offset, (at.shape[0], columns), at.strides)
    return readable(source.array_of(source.raw, at))


def _by_tile(left: Array, right: Array, tile: tuple[int, int], out: Array, adds: bool) -> None:
    """As the instruction computes each tile at once."""
    m, n = tile
    for i in range(0, out.shape[0], m):
        for j in range(0, out.shape[1], n):
            to = out[i : i + m, j : j + n]
            a, b = np.ascontiguousarray(left[:, i : i + m]), np.ascontiguousarray(right[:, j : j + n])
            to[...] = np.add(np.matmul(a.T, b), to) if adds else np.matmul(a.T, b)
