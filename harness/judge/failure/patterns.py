"""Where failures lie, in words: the patterns that a wrong kernel leaves, each said only where it holds exactly.

A failing set is described axis by axis (one head, the last tile of columns, every 128th row), as a side of the
diagonal, or as something that the whole output is (zero, a multiple of the reference, its transpose, shifted by a row).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from triptych.harness.arrays import Array

MOST = 0.99  # of the elements, for what is said of an output as a whole
DENSE = 0.9  # of a side of the diagonal


def axis_pattern(failing: Array, word: str, name: str, tiles: Sequence[int]) -> str | None:
    """What `failing`, a flag for each index of an axis, has in common; None if all fail, "" if nothing."""
    size = len(failing)
    where = np.flatnonzero(failing)
    if len(where) == size:
        return None
    of, several = f" of {name}" if name else "", {"index": "indices"}.get(word, f"{word}s")
    first, last = int(where[0]), int(where[-1])
    if len(where) == 1:
        return f"{word} {first}{of}" + (", the last" if first == size - 1 else "")
    if last - first == len(where) - 1:
        span = f"{several} {first}-{last}{of}"
        tile = max((t for t in tiles if first % t == 0 and last - first < t), default=0)
        if tile and last == size - 1:
            return f"{span}, the last tile of {tile}"
        if len(where) == tile:
            return f"{span}, a whole tile of {tile}"
        rest = {(0, size - 2): ", all but the last", (1, size - 1): ", all but the first"}
        return span + rest.get((first, last), ", up to the end" if last == size - 1 else "")
    steps = np.diff(where)
    step = int(steps[0])
    if (steps == step).all() and first < step and last + step >= size and (len(where) > 2 or step in tiles):
        more = ", ..." if len(where) > 2 else ""
        return f"every {ordinal(step)} {word}{of} ({first}, {first + step}{more})"
    for tile in (t for t in tiles if t <= size // 2):
        inside = np.unique(where % tile)
        again = np.flatnonzero(np.isin(np.arange(size) % tile, inside))
        if len(inside) <= tile // 2 and inside[-1] - inside[0] == len(inside) - 1 and np.array_equal(again, where):
            return f"{several} {inside[0]}-{inside[-1]} of every tile of {tile}{of}"
    return ""


def ordinal(n: int) -> str:
    ending = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"


def diagonal_pattern(beyond: Array, row: str, column: str) -> str | None:
    """Whether the failures of matrices [..., R, C] fill one side of a diagonal, or the diagonal itself."""
    rows, columns = beyond.shape[-2:]
    if min(rows, columns) < 3:
        return None
    matrices = beyond.reshape(-1, rows, columns)
    matrices = matrices[matrices.any(axis=(1, 2))]
    offset = np.arange(columns)[None, :] - np.arange(rows)[:, None]
    present = offset[matrices.any(axis=0)]
    low, high = int(present.min()), int(present.max())
    if low == high and matrices[:, offset == low].mean() > DENSE and int((offset == low).sum()) > 2:
        return f"on the diagonal {column} = {row}{shift(low)}"
    for region, sign, edge in ((offset >= low, ">=", low), (offset <= high, "<=", high)):
        if region.mean() < 0.95 and matrices[:, region].mean() > DENSE and region.any(axis=1).sum() > 2:
            side = "above" if sign == ">=" else "below"
            return f"{side} the diagonal ({column} {sign} {row}{shift(edge)})"
    return None


def shift(by: int) -> str:
    return f" {'+' if by > 0 else '-'} {abs(by)}" if by else ""


def whole_pattern(got: Array, reference: Array, allowed: Array, names: Sequence[str]) -> str | None:
    """What an output is instead of the reference, if most of it is that. Both in float64, of one shape."""
    finite = np.isfinite(got) & np.isfinite(reference)
    if np.isnan(got).all():
        return "every element is NaN"
    if not finite.any() or got.size < 2:
        return None
    if (got == 0).all():
        return "the output is zero everywhere: was it written at all?"
    if got.min() == got.max():
        return f"every element is {got.flat[0]:.6g}"
    for what, other in candidates(reference, names):
        both = finite & np.isfinite(other)
        near = np.abs(got[both] - other[both]) <= np.maximum(allowed[both], np.abs(other[both]) * 1e-6)
        if near.size and near.mean() > MOST:
            return what
    return multiple(got[finite], reference[finite])


def candidates(reference: Array, names: Sequence[str]) -> Iterator[tuple[str, Array]]:
    """What may have been written in the place of the reference."""
    if reference.ndim >= 2 and reference.shape[-1] == reference.shape[-2] > 1:
        yield "the output is the reference transposed", reference.swapaxes(-1, -2)
    for axis in range(reference.ndim):
        if reference.shape[axis] < 2:
            continue
        yield f"the output is the reference reversed along {names[axis]}", np.flip(reference, axis)
        for by in (1, -1):
            moved = np.roll(reference, by, axis)
            np.moveaxis(moved, axis, 0)[0 if by == 1 else -1] = np.nan  # where nothing was moved to
            from_where = "i - 1" if by == 1 else "i + 1"
            yield f"the output is shifted along {names[axis]}: index i holds what belongs at {from_where}", moved


def multiple(got: Array, reference: Array) -> str | None:
    """Whether the output is the reference times a number, or plus one."""
    large = np.abs(reference) >= np.median(np.abs(reference))
    with np.errstate(all="ignore"):
        ratio = got[large] / reference[large]
    factor = float(np.median(ratio))
    if (np.abs(ratio - factor) <= 0.02 * abs(factor)).mean() > MOST and factor and abs(factor - 1) > 0.05:
        return f"every element is {factor:.4g} times what it should be"
    difference = got - reference
    common = float(np.median(difference))
    spread = float(np.median(np.abs(reference - np.median(reference))))
    if (np.abs(difference - common) <= 0.02 * abs(common)).mean() > MOST and abs(common) > 0.05 * spread:
        return f"every element is off by the same {common:.4g}"
    return None
