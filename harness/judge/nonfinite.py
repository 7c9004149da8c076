"""What a reference leaves open where NaN and infinities are planted in its inputs (the regime "nonfinite").

Its formula is one of several that are equal for ordinary numbers. A planted place *reaches* an element of the output if
that changes with the number there, all planted numbers being replaced by ordinary ones.

- One that does not reach an element comes in times zero, or is not looked at, as a key that the mask hides. Where the
  reference makes a NaN of it, the value that it has without such places is right as well; where it makes none, a NaN
  is, if the element is *beside* the place: reached by others in a row through it, which is summed up.
- An infinity may be a NaN: compensated sums and running maxima subtract it from itself.

Everything else stands as the reference has it: a NaN that reaches an element is there, and none comes to other rows.
An op that promises more says so (`Op.strict_nonfinite`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from triptych.harness.arrays import Array, Arrays
from triptych.harness.bits import nonfinite_apart
from triptych.harness.dtypes import is_float
from triptych.harness.judge.problem import Problem, widen

LARGEST = 2**18  # elements of inputs and output, up to which a case is worth the evaluations of its reference
MOST_PLACES = 32
ORDINARY = 0.5  # in the place of a planted number,
OTHERS = (-1e3, 1e3)  # and what it is changed to
APART = 1e-12  # of the largest element: nothing, but for the order of a sum


@dataclass(frozen=True)
class Leeway:
    """The reference with what is right as well, and where a NaN is."""

    reference: Array
    may_be_nan: Array


def leeway(problem: Problem) -> Leeway | None:
    """What the reference of a problem leaves open; None where that is nothing."""
    op, case, reference = problem.op, problem.case, problem.reference
    if case.regime != "nonfinite" or op.strict_nonfinite or not is_float(problem.dtype):
        return None
    infinite = np.isinf(reference)
    planted = list(places(problem.inputs))
    size = reference.size + sum(x.size for x in problem.inputs.values())
    if size > LARGEST or len(planted) > MOST_PLACES:
        return Leeway(reference, infinite)
    wide = widen(problem.inputs)
    ordinary = {name: np.where(np.isfinite(x), x, ORDINARY) if is_float(x.dtype) else x for name, x in wide.items()}
    without = problem.evaluate(ordinary)
    if not np.isfinite(without).all():
        return Leeway(reference, infinite)
    reached_by = np.zeros(reference.shape, np.int64)  # a bit for each planted place
    beside = np.zeros(reference.shape, bool)
    for bit, (name, place) in enumerate(planted):
        here = changed(problem, ordinary, without, name, [place])
        reached_by |= here.astype(np.int64) << bit
        for row in rows_through(place, wide[name].shape):
            there = changed(problem, ordinary, without, name, row)
            if (here & there).any():  # the row is summed up
                beside |= there & ~here
    settled = reference.copy()
    for some in np.unique(reached_by):
        x = {name: one.copy() for name, one in ordinary.items()}
        for bit, (name, place) in enumerate(planted):
            if some >> bit & 1:
                x[name][place] = wide[name][place]
        alike = reached_by == some
        settled[alike] = problem.evaluate(x)[alike]
    taken_in = nonfinite_apart(settled, reference) & ~np.isfinite(reference)  # times zero
    return Leeway(np.where(taken_in, settled, reference), taken_in | beside | infinite)


def places(inputs: Arrays) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Where NaN and infinities stand."""
    for name, x in inputs.items():
        if is_float(x.dtype):
            for place in np.argwhere(~np.isfinite(x.astype(np.float64))):
                yield name, tuple(int(i) for i in place)


def rows_through(place: tuple[int, ...], shape: tuple[int, ...]) -> Iterator[list[tuple[int, ...]]]:
    """Other places, the first, the last and the next, of every row that runs through one along an axis."""
    for axis, size in enumerate(shape):
        i = place[axis]
        others = {0, size - 1, i - 1, i + 1} & set(range(size)) - {i}
        if others:
            yield [(*place[:axis], j, *place[axis + 1 :]) for j in sorted(others)]


def changed(problem: Problem, ordinary: Arrays, without: Array, name: str, some: list[tuple[int, ...]]) -> Array:
    """Which elements of the output change with the numbers in some places of an input."""
    found = np.zeros(without.shape, bool)
    least = APART * float(np.abs(without).max(initial=0.0))
    for value in OTHERS:
        x = ordinary[name].copy()
        for place in some:
            x[place] = value
        moved = np.abs(problem.evaluate({**ordinary, name: x}) - without)
        found |= ~(moved <= least)
    return found
