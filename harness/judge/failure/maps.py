"""A picture of a failing output in text: one mark for a block of elements, and lines where tiles begin.

An output with more than two axes shows the matrix of its last two that holds the worst element. Blocks are powers of
two, so that the borders of tiles fall between marks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from triptych.harness.arrays import Array
from triptych.harness.results.findings import Map

COLUMNS, ROWS = 64, 16  # marks at most
LEAST = 4  # marks between two lines of the grid
MOST_TILES = 6  # along an axis
RIGHT, SOME, ALL, STRANGE = ".", "o", "#", "x"
LEGEND = f"{RIGHT} right  {SOME} some wrong  {ALL} all wrong  {STRANGE} NaN or infinity unlike the reference"


def draw(
    beyond: Array, strange: Array, place: Sequence[int], names: Sequence[str], tiles: Sequence[Sequence[int]]
) -> Map:
    """The picture of an output of which `beyond` is wrong, around the element at `place`."""
    if beyond.ndim < 2:
        beyond, strange = (np.atleast_1d(x)[None, :] for x in (beyond, strange))
        names, tiles, place = ["", *names], [(), *tiles], [0, *place]
        names, tiles = names[-2:] if len(names) > 1 else ["", ""], tiles[-2:] if len(tiles) > 1 else [(), ()]
    leading = tuple(place[:-2])
    wrong, odd = beyond[leading], strange[leading]
    high, wide = (block(size, most) for size, most in zip(wrong.shape, (ROWS, COLUMNS), strict=True))
    shares = blocks(wrong, high, wide)
    oddities = blocks(odd, high, wide) > 0
    row_tile, column_tile = (
        grid(options, step, size) for options, step, size in zip(tiles[-2:], (high, wide), wrong.shape, strict=True)
    )
    lines = [
        "".join(mark(share, strange) for share, strange in zip(row, oddity, strict=True))
        for row, oddity in zip(shares, oddities, strict=True)
    ]
    if column_tile:
        step = column_tile // wide
        lines = ["|".join(line[i : i + step] for i in range(0, len(line), step)) for line in lines]
    label = len(str(wrong.shape[0] - 1))
    picture = []
    for i, line in enumerate(lines):
        if row_tile and i and (i * high) % row_tile == 0:
            picture.append(" " * label + "  " + "".join("+" if c == "|" else "-" for c in line))
        picture.append(f"{i * high:>{label}}  {line}")
    at = ", ".join(f"{name} = {i}" for name, i in zip(names, leading, strict=False))
    of = f"{names[-2]} down, {names[-1]} across" if names[-2] else f"{names[-1]} across"
    return Map(
        of=f"{of}{f' at {at}' if at else ''}",
        rows=high,
        columns=wide,
        row_tile=row_tile,
        column_tile=column_tile,
        lines=picture,
    )


def block(size: int, most: int) -> int:
    """The least power of two that cuts `size` into at most `most` blocks."""
    step = 1
    while -(-size // step) > most:
        step *= 2
    return step


def blocks(flags: Array, high: int, wide: int) -> Array:
    """The share of set flags in each block; the last ones may be smaller."""
    starts = [np.arange(0, size, step) for size, step in zip(flags.shape, (high, wide), strict=True)]
    counts = np.add.reduceat(np.add.reduceat(flags.astype(np.int64), starts[0], axis=0), starts[1], axis=1)
    sizes = [
        np.minimum(start + step, size) - start
        for start, step, size in zip(starts, (high, wide), flags.shape, strict=True)
    ]
    share: Array = counts / np.outer(*sizes)
    return share


def grid(tiles: Sequence[int], step: int, size: int) -> int:
    """The smallest tile with few borders that lie between marks, and marks between them; 0 if there is none."""
    fits = (t for t in tiles if t % step == 0 and t >= LEAST * step and t < size <= MOST_TILES * t)
    return min(fits, default=0)


def mark(share: float, strange: bool) -> str:
    if strange:
        return STRANGE
    return RIGHT if share == 0 else ALL if share == 1 else SOME
