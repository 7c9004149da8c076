"""How far off is too far: derived for each op, dtype, size and regime of inputs from kernels known to be honest.

A fixed tolerance is too loose for one case and too tight for another. This one runs honest baselines of the case's
dtype, measures their error against the float64 reference, and allows twice as much (FlashAttention's tests introduced
the rule). Three measures must all hold:

- `max_abs`, the largest error of any element, and `rel_l2`, the length of the error over that of the reference;
- `max_local`, the largest error in units of its own element. The unit is what one rounding of every input to the dtype
  does to that element, at least half a unit in its last place: the element's condition, in numbers. It sees a small
  row beside a large one, where `max_abs` is blind; and it forgives where terms cancel, where a relative error would
  not. One element has more luck than the worst of all, so it is allowed twice as much: four times the baselines'.

Luck is kept out: outputs of few elements draw the baselines on further seeds; in float32 they also run on inputs moved
by a unit in their last place, as a kernel moves them that scales first (a softmax row in which two large scores nearly
tie is decided by the last bit of a score). The worst counts. Nothing is allowed less than one unit in the last place of
the largest element, since a baseline may hit the rounded result exactly.

The command line may set bounds of its own, then the environment, the op, the dtype; the first that says something
decides alone, and the result says which it was.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from triptych.harness.arrays import Array, Arrays
from triptych.harness.dtypes import dtype_of, is_float
from triptych.harness.judge import truth
from triptych.harness.judge.baselines import Baselines, baselines_of, name_of
from triptych.harness.judge.truth import OpError, SaysNothing
from triptych.harness.ops.case import Case
from triptych.harness.ops.inputs import make_inputs
from triptych.harness.ops.op import Op
from triptych.harness.precision import overflow, round_to, roundoff, spacing, ulp
from triptych.harness.results.measures import Derived, Fixed, Tolerance

FACTOR = 2.0
LOCAL = 2.0  # how much more one element may be off in its own unit
ENOUGH_ELEMENTS = 16384  # outputs smaller than this sample the baselines on further draws, at most MOST_DRAWS
MOST_DRAWS = 32
NUDGES = 6  # how often float32 inputs are moved by a unit in their last place
MANY_ELEMENTS = 2**18  # outputs larger than this hold enough rows of every kind
LOCAL_DRAWS = 8  # of these draws, how many are measured in local units too
APART, APART_LOCAL = 1e-4, 2e3  # honest float32 baselines stay below 1e-5 and, of our ops, 300; float16 is beyond
LOCAL_LIMIT = 2**22  # input elements up to which local units are worth their four evaluations of the reference

KEYS = ("rtol", "atol", "budget")
VARIABLES = {"rtol": "TRIPTYCH_RTOL", "atol": "TRIPTYCH_ATOL", "budget": "TRIPTYCH_BUDGET"}


@dataclass(frozen=True)
class Bounds:
    """What somebody said about the tolerance: rtol and atol replace the derived bound, a budget replaces its factor."""

    source: str
    rtol: float | None = None
    atol: float | None = None
    budget: float | None = None

    def __post_init__(self) -> None:
        if self.budget is not None and (self.rtol is not None or self.atol is not None):
            raise ValueError(
                f"the {self.source} gives a budget and rtol or atol: a budget scales the derived tolerance, the others "
                "replace it; give one or the other"
            )
        for name in KEYS:
            value = getattr(self, name)
            if value is not None and not (value > 0 if name == "budget" else value >= 0) or value == float("inf"):
                least = "above zero" if name == "budget" else "zero or above"
                raise ValueError(f"the {self.source} gives {name} {value}: it must be a finite number {least}")

    @property
    def says_something(self) -> bool:
        return any(getattr(self, name) is not None for name in KEYS)


def asked(
    rtol: float | None = None,
    atol: float | None = None,
    budget: float | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Bounds | None:
    """What the command line says, else what the environment says, else None. ValueError for what makes no sense."""
    command = Bounds("command line", rtol, atol, budget)
    if command.says_something:
        return command
    values = {}
    for name, variable in VARIABLES.items():
        text = environ.get(variable, "").strip()
        if text:
            try:
                values[name] = float(text.removesuffix("x") if name == "budget" else text)
            except ValueError:
                raise ValueError(f"the environment variable {variable} must be a number, got {text!r}") from None
    return Bounds("environment", **values) if values else None


def in_force(op: Op, case: Case, wanted: Bounds | None) -> Bounds:
    """The bounds that decide: those asked for, else the op's (for this dtype, then all), the dtype's, the default."""
    if wanted is not None:
        return wanted
    own = op.tolerance.get(case.dtype) or {name: value for name, value in op.tolerance.items() if name in KEYS}
    if own:
        return Bounds("op", **own)
    if not is_float(dtype_of(case.dtype)):
        return Bounds("dtype", rtol=0.0, atol=0.0)  # integers have no rounding to forgive
    return Bounds("default", budget=FACTOR)


@dataclass(frozen=True)
class Expected:
    """What a case is judged against: the float64 reference, its rounding to the dtype, and how far off is too far."""

    reference: Array
    rounded: Array
    tolerance: Tolerance
    unit: Array | None = None  # of each element, for `max_local`; None where the case is too large for it

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


def expect(
    op: Op, case: Case, inputs: Arrays, wanted: Bounds | None = None, baselines: Baselines | None = None
) -> Expected:
    """The reference of a case and the tolerance around it, by the op's own baselines unless others are given."""
    reference = truth.reference_of(op, case, inputs)
    truth.remember(case, inputs, reference)
    rounded = truth.rounded_reference(case, reference)
    truth.check_telling(case, rounded)
    bounds = in_force(op, case, wanted)
    unit = local_unit(op, case, inputs, reference)
    if bounds.budget is None:
        fixed = Fixed(source=bounds.source, regime=case.regime, rtol=bounds.rtol or 0.0, atol=bounds.atol or 0.0)
        return Expected(reference, rounded, fixed, unit)
    return Expected(
        reference, rounded, derived(op, case, inputs, reference, unit, bounds, baselines or baselines_of(op)), unit
    )


def derived(
    op: Op,
    case: Case,
    inputs: Arrays,
    reference: Array,
    unit: Array | None,
    bounds: Bounds,
    baselines: Baselines,
) -> Derived:
    """The three bounds, and what they come from."""
    factor = bounds.budget or FACTOR
    dtype = dtype_of(case.dtype)
    finite = np.isfinite(round_to(reference, dtype))
    size = float(np.abs(reference[finite]).max(initial=0.0))
    norm = float(np.linalg.norm(reference[finite]))
    floor = ulp(dtype, size)
    if unit is not None:
        check_agreement(op, case, inputs, baselines)
    errors = baseline_errors(op, case, inputs, reference, unit, baselines)
    draws = 1
    while draws < MOST_DRAWS and draws * reference.size < ENOUGH_ELEMENTS:
        again = make_inputs(op, case, draw=draws)
        other = truth.reference_of(op, case, again)
        own = None if unit is None or draws >= LOCAL_DRAWS else local_unit(op, case, again, other)
        errors += baseline_errors(op, case, again, other, own, baselines)
        draws += 1
    if dtype == np.float32 and reference.size <= MANY_ELEMENTS:
        for i in range(NUDGES):
            errors += baseline_errors(op, case, nudged(inputs, i), reference, unit, baselines)
    largest = max(errors, key=lambda error: float(error["max_abs"]))
    l2, local = (max(float(error[key]) for error in errors) for key in ("l2", "max_local"))
    return Derived(
        source=bounds.source,
        regime=case.regime,
        factor=factor,
        baseline=largest["name"],
        baselines=baselines.names,
        draws=draws,
        max_abs=max(factor * float(largest["max_abs"]), floor),
        rel_l2=max(factor * l2, floor, roundoff(dtype) * norm) / norm if norm else 0.0,
        floor=floor,
        max_local=None if unit is None else LOCAL * factor * max(local, 1.0),
    )


def check_agreement(op: Op, case: Case, inputs: Arrays, baselines: Baselines) -> None:
    """OpError if a baseline, run in float32, is much further from the reference than float32's rounding explains.

    One of the two is then wrong, and a tolerance derived from their distance would pass any kernel. Both measures must
    say so: a result that jumps, as a rounding to integers does, may be far off in single elements.
    """
    given, case = case, replace(case, dtype="float32")
    inputs = {name: x.astype(np.float32) if is_float(x.dtype) else x for name, x in inputs.items()}
    reference = truth.reference_of(op, case, inputs)
    unit = local_unit(op, case, inputs, reference)
    norm = float(np.linalg.norm(reference[np.isfinite(reference)]))
    for error in baseline_errors(op, case, inputs, reference, unit, baselines):
        relative = error["l2"] / norm if norm else 0.0
        if relative > APART and error["max_local"] > APART_LOCAL:
            if baselines.from_reference:
                raise SaysNothing(
                    given,
                    f"the reference of {op.name} evaluated in float32 is {relative:.2g} apart (relative L2) from "
                    "itself in float64, as where it underflows, so that no tolerance can be derived; write it so that "
                    "it stays within float32's range, or give the op baselines that do (`honest=`)",
                )
            raise OpError(
                f"the baseline {error['name']!r} and the reference of {op.name} disagree: run in float32 they are "
                f"{relative:.2g} apart (relative L2), where rounding explains less than {APART:g}; one of them is "
                "wrong or computes in a narrower dtype, and a tolerance derived from both would pass wrong kernels"
            )


def baseline_errors(
    op: Op, case: Case, inputs: Arrays, reference: Array, unit: Array | None, baselines: Baselines
) -> list[dict[str, Any]]:
    """How far every honest baseline, rounded to the case's dtype, is from the reference.

    Those that leave the dtype's range where the reference does not are left out, as long as one is left.
    """
    dtype = dtype_of(case.dtype)
    finite = np.isfinite(round_to(reference, dtype))
    errors: list[dict[str, Any]] = []
    given = at_least(inputs, dtype) if baselines.from_reference else inputs
    for baseline in baselines.functions:
        if baseline is op.reference:
            raise OpError(
                f"the baseline of {op.name} is its reference, whose error is 0 by definition; give one that computes "
                "in the case's dtype, or leave `honest` out"
            )
        with np.errstate(all="ignore"):
            out = np.asarray(baseline(**given, **case.params))
        if out.shape != reference.shape:
            raise OpError(f"baseline {name_of(baseline)} has shape {out.shape} and the reference {reference.shape}")
        error = np.abs(_before_overflow(out[finite], reference[finite], dtype) - reference[finite])
        if not np.isfinite(error).all():
            continue
        errors.append(
            {
                "name": name_of(baseline),
                "max_abs": float(error.max(initial=0.0)),
                "l2": float(np.linalg.norm(error)),
                "max_local": 0.0 if unit is None else float((error / unit[finite]).max(initial=0.0)),
            }
        )
    if not errors:
        names = " and ".join(repr(name_of(baseline)) for baseline in op.honest)
        raise OpError(f"of {op.name}, no baseline is finite wherever the reference is ({names})")
    return errors


def _before_overflow(out: Array, reference: Array, dtype: np.dtype[Any]) -> Array:
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


def nudged(inputs: Arrays, seed: int) -> Arrays:
    """`inputs` with every float32 number moved by up to a unit in its last place and rounded again."""
    rng = np.random.default_rng(seed)
    unit = np.finfo(np.float32).eps
    return {
        name: (x * (1 + unit * rng.uniform(-1, 1, x.shape))).astype(np.float32) if x.dtype == np.float32 else x
        for name, x in inputs.items()
    }


def local_unit(op: Op, case: Case, inputs: Arrays, reference: Array) -> Array | None:
    """By how much one rounding of every input moves each element: the unit of `max_local`, or None for large cases.

    Inputs x become x (1 + s u), s random with mean 0 and variance 1, u the dtype's roundoff. The squares of what the
    reference then moves are averaged over a few such draws and smoothed, row mean times column mean over mean of the
    last two axes, so that chance leaves no element with a unit near zero. Below stand half a unit in the element's last
    place, and u u times the largest element: further down an honest kernel's partial sums may have underflowed.
    """
    dtype = dtype_of(case.dtype)
    u = roundoff(dtype)
    if dtype == np.float64 or u == 0 or sum(x.size for x in inputs.values()) > LOCAL_LIMIT:
        return None
    finite = np.isfinite(round_to(reference, dtype))
    squares = np.zeros(reference.shape)
    draws = 4 if reference.size >= 256 else 16
    wide = truth.widened(inputs)
    truth.check_repeats(op, reference, truth.evaluated(op, case, wide))
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        moved = {
            name: x * (1 + u * rng.uniform(-(3**0.5), 3**0.5, x.shape)) if x.dtype == np.float64 else x
            for name, x in wide.items()
        }
        other = truth.evaluated(op, case, moved)
        if seed == 0:
            truth.check_precision(op, other)
        both = finite & np.isfinite(other)
        squares[both] += (other[both] - reference[both]) ** 2
    magnitude = np.abs(np.where(finite, reference, 0.0))
    lowest = np.maximum(spacing(dtype, magnitude) / 2, u * u * float(magnitude.max(initial=0.0)))
    unit: Array = np.maximum(np.sqrt(_smoothed(squares / draws)), lowest)
    return unit


def _smoothed(variance: Array) -> Array:
    """Row mean times column mean over mean, of each matrix of the last two axes."""
    if variance.ndim < 2:
        return np.broadcast_to(variance.mean(), variance.shape)
    row, column = variance.mean(axis=-1, keepdims=True), variance.mean(axis=-2, keepdims=True)
    mean = variance.mean(axis=(-1, -2), keepdims=True)
    out: Array = np.divide(row * column, mean, out=np.zeros(variance.shape), where=mean > 0)
    return out
