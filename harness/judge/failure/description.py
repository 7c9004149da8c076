"""What a failure looks like: the worst element, a histogram, a map, and a diagnosis in words where one holds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from triptych.harness.arrays import Array
from triptych.harness.judge.comparison import Comparison, worst_place
from triptych.harness.judge.failure import maps, patterns
from triptych.harness.ops.op import COMMON_TILES, Op
from triptych.harness.results.findings import Failure, Histogram, Worst

EDGES = (0.0, 0.25, 0.5, 1.0, 2.0, 10.0, 100.0, float("inf"))  # of the histogram, in units of what is allowed
LARGE = 2**24  # elements beyond which an output is described by its axes alone


def describe(c: Comparison, op: Op | None = None) -> Failure:
    """The failure of a comparison, for JSON, text and HTML; without an op its axes have numbers and common tiles."""
    beyond = c.beyond
    names = axis_names(op, beyond.ndim)
    place = worst_place(c)
    shown = beyond if beyond.any() else c.share > c.share.max() / 2  # only the norm is too large: where most of it is
    worst = Worst(
        index=list(place),
        axes=dict(zip(names, place, strict=True)),
        expected=float(c.expected.rounded[place]),
        got=float(c.out[place]),
        error=float(c.error[place]),
        allowed=float(c.expected.allowed(place)),
    )
    picture = maps.draw(shown, c.strange, place, names, [tiles_of(op, name) for name in names])
    return Failure(diagnosis=diagnosis(op, c, shown, names), worst=worst, histogram=histogram(c), map=picture)


def axis_names(op: Op | None, ndim: int) -> list[str]:
    """The axes of the output as the op calls them, else by number."""
    return list(op.out) if op and len(op.out) == ndim else [f"axis {i}" for i in range(ndim)]


def tiles_of(op: Op | None, name: str) -> Sequence[int]:
    return op.tiles_along(name) if op else COMMON_TILES


def histogram(c: Comparison) -> Histogram:
    """How many elements have which error, in units of what is allowed there."""
    counts, _ = np.histogram(c.share[~c.strange], bins=[*EDGES[:-1], np.inf])
    # NumPy's bins are closed below; an error of exactly what is allowed is allowed
    exact = int(np.count_nonzero(c.share[~c.strange] == 1.0))
    counts[2] += exact
    counts[3] -= exact
    return Histogram(edges=list(EDGES), counts=counts.tolist(), nonfinite=int(c.strange.sum()))


def diagnosis(op: Op | None, c: Comparison, beyond: Array, names: Sequence[str]) -> str:
    """One sentence on where the failures are; it names a pattern only where all failures have it."""
    count = int(beyond.sum())
    if not c.beyond.any():
        return "no element is beyond its bound: the error is spread over many of them"
    if beyond.ndim == 0 or beyond.size == 1:
        return "the only element is wrong"
    if beyond.mean() > 0.5 and beyond.size <= LARGE:
        got = c.out.astype(np.float64)
        whole = patterns.whole_pattern(got, c.expected.reference, c.expected.allowed(), names)
        if whole:
            return whole
    if count == 1:
        return "one element alone is wrong"
    found = region(op, beyond, names)
    if count == beyond.size:
        return "every element is wrong, and the output is no simple change of the reference"
    if found is not None and found[1] > patterns.DENSE:
        return found[0]
    if beyond.ndim >= 2 and beyond.size <= LARGE:
        diagonal = patterns.diagonal_pattern(beyond, names[-2], names[-1])
        if diagonal:
            return f"all failures are {diagonal}"
    if found is not None:
        return found[0]
    if beyond.mean() > patterns.MOST:
        return f"{count:,} of {beyond.size:,} elements are wrong, and the output is no simple change of the reference"
    touched = ", ".join(
        f"{int(fails_along(beyond, axis).sum())} of {size} along {name}"
        for axis, (name, size) in enumerate(zip(names, beyond.shape, strict=True))
        if size > 1
    )
    return f"scattered ({touched}): no pattern of tiles, rows, columns or diagonals"


def fails_along(beyond: Array, axis: int) -> Array:
    """Whether anything fails at each index of an axis."""
    return np.asarray(beyond.any(axis=tuple(i for i in range(beyond.ndim) if i != axis)))


def region(op: Op | None, beyond: Array, names: Sequence[str]) -> tuple[str, float] | None:
    """The failures as a box of rows, columns and slices, and the share of it that fails.

    None unless every axis that does not fail throughout has a pattern.
    """
    said, box = [], 1
    for axis, name in enumerate(names):
        failing = fails_along(beyond, axis)
        box *= int(failing.sum())
        words = {beyond.ndim - 1: "column", beyond.ndim - 2: "row"} if beyond.ndim > 1 else {0: "element"}
        tiles = tiles_of(op, name)
        if axis in words:
            found = patterns.axis_pattern(failing, words[axis], "" if name.startswith("axis ") else name, tiles)
        else:
            found = patterns.axis_pattern(failing, "index", name, ())
            if found and failing.sum() == 1:
                found = f"{name} = {int(np.argmax(failing))} only (of {len(failing)})"
        if found == "":
            return None
        if found:
            said.append(found)
    if not said:
        return None
    share, rest = int(beyond.sum()) / box, box - int(beyond.sum())
    part = "every element there" if rest == 0 else f"all but {rest} elements there"
    if share < 0.99:
        part = f"{100 * share:.3g} % of the elements there"
    return f"all failures are in {'; '.join(said)}: {part}", share
