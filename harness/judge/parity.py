"""Parity: how far two backends are from each other, beside how far each is from the reference.

The difference of two outputs is measured against what both tolerances allow together, which for one case is twice its
own: a share of 1 is as far apart as two kernels can be that both pass. `identical` is the share of elements with the
same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from msgspec import structs

from triptych.harness.arrays import Array
from triptych.harness.bits import both_finite, nonfinite_apart, same_bits
from triptych.harness.judge.prepared import PreparedCase
from triptych.harness.judge.tolerance import Expected
from triptych.harness.results.measures import Derived, Parity
from triptych.harness.results.result import Result


def of_outputs(a: Mapping[str, Array], b: Mapping[str, Array], prepared: PreparedCase) -> Parity:
    """Two backends' outputs of one case: of that output in which they are furthest apart for what is allowed there."""
    found = [
        structs.replace(difference(a[name], b[name], one.expected), output=name)
        for name, one in prepared.outputs.items()
    ]
    return max(found, key=lambda parity: (parity.share, -parity.identical))


def difference(a: Array, b: Array, expected: Expected) -> Parity:
    """Two arrays for one output of a case, which both have its shape and dtype."""
    one, other = a.astype(np.float64), b.astype(np.float64)
    both, strange = both_finite(one, other), nonfinite_apart(one, other)
    apart = np.abs(np.where(both, one, 0.0) - np.where(both, other, 0.0))
    allowed = 2 * expected.allowed()
    shares = np.where(apart > 0, np.inf, 0.0)
    np.divide(apart, allowed, out=shares, where=allowed > 0)
    share = float("inf") if strange.any() else float(shares.max())
    if isinstance(expected.tolerance, Derived):
        bound = expected.tolerance.rel_l2
        norm = float(np.linalg.norm(expected.reference[np.isfinite(expected.rounded)]))
        l2 = float(np.linalg.norm(apart))
        share = max(share, l2 / (2 * bound * norm) if bound and norm else (0.0 if l2 == 0 else float("inf")))
    return Parity(
        share=share, max_abs=float(apart.max()), identical=float(same_bits(a, b).mean()), strange=int(strange.sum())
    )


@dataclass
class Pair:
    """Two backends over the cases of an op."""

    cases: int = 0
    equal: int = 0  # cases in which every bit is the same
    share: float = 0.0  # the largest
    at: Result | None = None  # which has it

    def add(self, found: Parity, result: Result) -> None:
        self.cases += 1
        self.equal += found.identical == 1.0
        if self.at is None or not found.share <= self.share:
            self.share, self.at = found.share, result


@dataclass
class Matrix:
    """The pairs of backends of one op."""

    places: list[str] = field(default_factory=list)
    pairs: dict[frozenset[str], Pair] = field(default_factory=dict)

    def pair(self, a: str, b: str) -> Pair | None:
        return self.pairs.get(frozenset((a, b)))


def matrices(results: Sequence[Result]) -> dict[str, Matrix]:
    """One for each op of which two backends ran a case."""
    found: dict[str, Matrix] = {}
    for result in results:
        for other, difference in result.parity.items():
            matrix = found.setdefault(result.op, Matrix())
            matrix.places += [name for name in (other, result.backend_label) if name not in matrix.places]
            matrix.pairs.setdefault(frozenset((other, result.backend_label)), Pair()).add(difference, result)
    return found
