"""How far baselines are from the float64 reference, and whether that distance can be a yardstick at all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from triptych.harness.arrays import Array, Arrays
from triptych.harness.dtypes import is_float
from triptych.harness.judge.local_units import local_unit
from triptych.harness.judge.problem import Problem
from triptych.harness.judge.yardstick.baselines import Baselines, from_reference, name_of
from triptych.harness.judge.yardstick.bias import Systematic, systematic
from triptych.harness.ops.errors import InvalidOp, UninformativeCase
from triptych.harness.precision import overflow, round_to

APART, APART_LOCAL = 1e-4, 2e3  # honest float32 baselines stay below 1e-5 and, of our ops, 300; float16 is beyond
DRAWS = 8  # of inputs, on which a reference in float32 shows what rounding does to it
MORE = 4.0  # times that a baseline may err without being suspected


@dataclass(frozen=True)
class BaselineError:
    """What one baseline is off by on one problem."""

    name: str
    max_abs: float
    l2: float  # the length of the error
    max_local: float  # the largest error in its element's own unit; 0 without units
    systematic: Systematic | None  # what its errors have in common


def errors_of(problem: Problem, baselines: Baselines, unit: Array | None) -> list[BaselineError]:
    """How far every baseline, rounded to the case's dtype, is from the reference.

    Those that leave the dtype's range where the reference does not are left out, as long as one is left. InvalidOp if
    none is, or if a baseline is the reference or has another shape.
    """
    op, dtype, reference, finite = problem.op, problem.dtype, problem.reference, problem.finite
    given = at_least(problem.inputs, dtype) if baselines.from_reference else problem.inputs
    errors = []
    for baseline in baselines.functions:
        if baseline is op.reference:
            raise InvalidOp(
                f"the baseline of {op.name} is its reference, whose error is 0 by definition; give one that computes "
                "in the case's dtype, or leave `honest` out"
            )
        with np.errstate(all="ignore"):
            out = np.asarray(baseline(**given, **problem.case.params))
        if out.shape != reference.shape:
            raise InvalidOp(f"baseline {name_of(baseline)} has shape {out.shape} and the reference {reference.shape}")
        error = np.abs(before_overflow(out[finite], reference[finite], dtype) - reference[finite])
        if not np.isfinite(error).all():
            continue
        max_local = 0.0 if unit is None else float((error / unit[finite]).max(initial=0.0))
        max_abs, l2 = float(error.max(initial=0.0)), float(np.linalg.norm(error))
        common = systematic(round_to(out, dtype), reference, problem.rounded)
        errors.append(BaselineError(name_of(baseline), max_abs, l2, max_local, common))
    if not errors:
        names = " and ".join(map(repr, baselines.names))
        raise InvalidOp(f"of {op.name}, no baseline is finite wherever the reference is ({names})")
    return errors


def check_agreement(problem: Problem, baselines: Baselines) -> None:
    """InvalidOp if a baseline, run in float32, is much further from the reference than float32's rounding explains.

    One of the two is then wrong, and a tolerance derived from their distance would pass any kernel. Both measures must
    say so: a result that jumps, as a rounding to integers does, may be far off in single elements. And the reference
    must be nearer to itself: scores that have a large part in common, which softmax cancels, round to weights that are
    far off, and where keys are quantised no unit has that, because no rounding of an input reaches them.
    """
    op, narrow = problem.op, in_float32(problem)
    norm = length(narrow)
    for error in errors_of(narrow, baselines, local_unit(narrow)):
        relative = error.l2 / norm if norm else 0.0
        if relative > APART and error.max_local > APART_LOCAL:
            if baselines.from_reference:
                raise UninformativeCase(
                    problem.case,
                    f"the reference of {op.name} evaluated in float32 is {relative:.2g} apart (relative L2) from "
                    "itself in float64, as where it underflows, so that no tolerance can be derived; write it so that "
                    "it stays within float32's range, or give the op baselines that do (`honest=`)",
                )
            if relative <= MORE * of_rounding(problem):
                continue
            raise InvalidOp(
                f"the baseline {error.name!r} and the reference of {op.name} disagree: run in float32 they are "
                f"{relative:.2g} apart (relative L2), where rounding explains less than {APART:g}; one of them is "
                "wrong or computes in a narrower dtype, and a tolerance derived from both would pass wrong kernels"
            )


def of_rounding(problem: Problem) -> float:
    """The largest relative error (L2) of the reference in float32, on inputs drawn as the problem's are."""
    made = Baselines(from_reference(problem.op.reference), from_reference=True)
    relative = []
    for draw in range(DRAWS):
        narrow = in_float32(Problem.of(problem.op, problem.case, draw))
        relative += [error.l2 / length(narrow) for error in errors_of(narrow, made, None) if length(narrow)]
    return max(relative, default=0.0)


def in_float32(problem: Problem) -> Problem:
    """The problem whose inputs, and output, are float32."""
    inputs = {name: x.astype(np.float32) if is_float(x.dtype) else x for name, x in problem.inputs.items()}
    return Problem(problem.op, replace(problem.case, dtype="float32"), inputs)


def length(problem: Problem) -> float:
    """Of the reference, where it is finite."""
    return float(np.linalg.norm(problem.reference[np.isfinite(problem.reference)]))


def before_overflow(out: Array, reference: Array, dtype: np.dtype[Any]) -> Array:
    """`out` rounded to `dtype`; what only that rounding makes infinite or NaN counts as what it was."""
    rounded = round_to(out, dtype).astype(np.float64)
    if np.isfinite(rounded).all():
        return rounded
    raw = out.astype(np.float64)
    edge = np.copysign(overflow(dtype), reference)
    raw = np.where(np.isinf(raw) & (np.sign(raw) == np.sign(edge)) & (np.abs(reference) > np.abs(edge) / 2), edge, raw)
    return np.where(np.isfinite(rounded), rounded, raw)


def at_least(inputs: Arrays, dtype: np.dtype[Any]) -> Arrays:
    """`inputs`, those of narrower floats in the dtype of the output: no kernel need round them to less once more."""
    return {
        name: x.astype(dtype) if is_float(x.dtype) and is_float(dtype) and x.itemsize < dtype.itemsize else x
        for name, x in inputs.items()
    }


def nudge(inputs: Arrays, seed: int) -> Arrays:
    """`inputs` with every float32 number moved by up to a unit in its last place and rounded again."""
    rng = np.random.default_rng(seed)
    unit = np.finfo(np.float32).eps
    return {
        name: (x * (1 + unit * rng.uniform(-1, 1, x.shape))).astype(np.float32) if x.dtype == np.float32 else x
        for name, x in inputs.items()
    }
