"""How far off is too far: derived for each op, dtype, size and regime of inputs from kernels known to be honest.

With error = out - reference in the shape of the output, in float64, an output passes if all of these hold:

    max_abs     max |error|                   <=  max(f B_abs, floor)
    rel_l2      ||error|| / ||reference||     <=  max(f B_l2, floor, u ||reference||) / ||reference||
    max_local   max |error| / unit            <=  2 f max(B_local, 1)
    bias        what the errors share, in ulp <=  max(f B_bias, 1/8), beyond chance; of 16 bits and less (`bias`)
    not_nearest elements not rounded to nearest, as a share <=  max(f B_share, 0.1), likewise

    f           the factor: 2, unless somebody asks for another budget
    B_abs, ..   max |error|, ||error|| and max |error| / unit of the baselines: the worst of them on all draws
    ulp(x)      the distance of neighbouring numbers of the output's dtype at magnitude x; u = ulp(1) / 2
    floor       ulp(max |reference|)
    unit        by how much one rounding of every input moves each element (`local_units`), in the output's shape

A fixed tolerance asks of each element instead

    |error|  <=  atol + rtol |reference|

`max_abs` is blind to a small row beside a large one, which `max_local` sees; and `max_local` forgives where terms
cancel, where a relative error would not. One element has more luck than the worst of all, hence its further factor 2.
The floor is there because a baseline may hit the rounded result exactly. The rule of twice a baseline's error is that
of FlashAttention's tests.

Luck is kept out. Outputs of few elements draw the baselines on further seeds. In float32 baselines also run on inputs
moved by a unit in their last place, as a kernel moves them that scales first: a softmax row in which two large scores
nearly tie is decided by the last bit of a score.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from msgspec import structs

from triptych.harness.arrays import Array
from triptych.harness.dtypes import is_float
from triptych.harness.judge.bounds import FACTOR, Bounds, bounds_in_force
from triptych.harness.judge.local_units import local_unit
from triptych.harness.judge.nonfinite import leeway
from triptych.harness.judge.problem import Problem
from triptych.harness.judge.truth import check_informative
from triptych.harness.judge.yardstick.baseline_errors import check_agreement, errors_of, nudge
from triptych.harness.judge.yardstick.baselines import Baselines, baselines_of
from triptych.harness.judge.yardstick.bias import LEAST_BIAS, LEAST_SHARE
from triptych.harness.precision import round_to, roundoff, ulp
from triptych.harness.results.measures import Derived, Fixed, Tolerance

LOCAL = 2.0  # how much more one element may be off in its own unit
ENOUGH_ELEMENTS = 16384  # outputs smaller than this sample the baselines on further draws, at most MOST_DRAWS
MOST_DRAWS = 32
NUDGES = 6  # how often float32 inputs are moved by a unit in their last place
MANY_ELEMENTS = 2**18  # outputs larger than this hold enough rows of every kind
LOCAL_DRAWS = 8  # of the draws, how many are measured in local units too


@dataclass(frozen=True)
class Expected:
    """What an output is compared with, and how far off is too far."""

    reference: Array  # float64
    rounded: Array  # the reference in the output's dtype
    tolerance: Tolerance
    unit: Array | None = None  # of each element, for `max_local`; None where the case is too large for it
    may_be_nan: Array | None = None  # where a NaN is right as well

    def with_leeway(self, problem: Problem) -> Expected:
        """The same tolerance around the reference of a problem, with what that leaves open."""
        found = leeway(problem)
        if found is None:
            return replace(self, reference=problem.reference, rounded=problem.rounded, may_be_nan=None)
        rounded = round_to(found.reference, problem.dtype)
        unit = self.unit
        if unit is not None:  # there is none of what was not finite
            unit = np.where(np.isfinite(found.reference) & ~np.isfinite(problem.reference), np.inf, unit)
        return replace(self, reference=found.reference, rounded=rounded, unit=unit, may_be_nan=found.may_be_nan)

    def allowed(self, where: Any = ...) -> Array:
        """The largest error allowed at each element, or at those of an index."""
        reference, tolerance = self.reference[where], self.tolerance
        if isinstance(tolerance, Fixed):
            magnitude = np.abs(np.where(np.isfinite(reference), reference, 0.0))
            fixed: Array = tolerance.atol + tolerance.rtol * magnitude
            return fixed
        bound: Array = np.broadcast_to(np.float64(tolerance.max_abs), reference.shape)
        if tolerance.max_local is None or self.unit is None:
            return bound
        both: Array = np.minimum(bound, tolerance.max_local * self.unit[where])
        return both


def expect(problem: Problem, wanted: Bounds | None = None, baselines: Baselines | None = None) -> Expected:
    """What is expected of every output of a problem.

    wanted: the bounds that the command line or the environment asks for.
    baselines: in the place of the op's own.

    Raises InvalidOp, or UninformativeCase, if no output can be judged by the reference.
    """
    check_informative(problem)
    bounds = bounds_in_force(problem.op, problem.case, wanted)
    unit = local_unit(problem)
    tolerance: Tolerance
    if bounds.budget is None:
        regime = problem.case.regime
        tolerance = Fixed(source=bounds.source, regime=regime, rtol=bounds.rtol or 0.0, atol=bounds.atol or 0.0)
        if not is_float(problem.dtype) and not tolerance.exact:
            tolerance = structs.replace(tolerance, bias=LEAST_BIAS)
    else:
        tolerance = derive(problem, unit, bounds, baselines or baselines_of(problem.op))
    return Expected(problem.reference, problem.rounded, tolerance, unit).with_leeway(problem)


def derive(problem: Problem, unit: Array | None, bounds: Bounds, baselines: Baselines) -> Derived:
    """The three bounds, and what they come from."""
    op, case, dtype = problem.op, problem.case, problem.dtype
    finite = problem.reference[problem.finite]
    factor, norm = bounds.budget or FACTOR, float(np.linalg.norm(finite))
    floor = ulp(dtype, float(np.abs(finite).max(initial=0.0)))
    if unit is not None:
        check_agreement(problem, baselines)
    errors = errors_of(problem, baselines, unit)
    draws = 1
    while draws < MOST_DRAWS and draws * problem.reference.size < ENOUGH_ELEMENTS:
        other = Problem.of(op, case, draw=draws)
        errors += errors_of(other, baselines, None if unit is None or draws >= LOCAL_DRAWS else local_unit(other))
        draws += 1
    if dtype == np.float32 and problem.reference.size <= MANY_ELEMENTS:
        for i in range(NUDGES):
            errors += errors_of(problem.on(nudge(problem.inputs, i), problem.reference), baselines, unit)
    largest = max(errors, key=lambda error: error.max_abs)
    l2, local = max(error.l2 for error in errors), max(error.max_local for error in errors)
    common = [error.systematic for error in errors if error.systematic is not None]
    return Derived(
        source=bounds.source,
        regime=case.regime,
        factor=factor,
        baseline=largest.name,
        baselines=baselines.names,
        draws=draws,
        max_abs=max(factor * largest.max_abs, floor),
        rel_l2=max(factor * l2, floor, roundoff(dtype) * norm) / norm if norm else 0.0,
        floor=floor,
        max_local=None if unit is None else LOCAL * factor * max(local, 1.0),
        bias=max(factor * max(one.bias for one in common), LEAST_BIAS) if common else None,
        not_nearest=max(factor * max(one.share for one in common), LEAST_SHARE) if common else None,
    )
