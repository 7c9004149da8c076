"""The judge: is an output as near to the reference as an honest kernel of the same dtype would be?

A fixed tolerance is too loose for one dtype, size or distribution of inputs and too tight for another. This one is
derived from each case: run baselines that are known to be honest, measure their error against the float64 reference,
and allow twice as much, once for the worst element and once for the relative L2 norm of all (FlashAttention's tests
introduced the rule). Two things make it hold for small outputs as well:

- a floor of one unit in the last place of the output dtype at the reference's largest magnitude, since an honest
  baseline may hit the rounded result exactly by luck;
- outputs of fewer than 16384 elements draw the baselines on further seeds, and in float32 also on inputs that were
  moved by a unit in their last place, as a kernel moves them that scales first. The worst counts. (A softmax row in
  which two large scores nearly tie is decided by the last bit of a score; such rows are few, and a baseline may be
  lucky.)

NaN, +inf and -inf must be at the positions where the reference, rounded to the output dtype, has them.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from triptych.harness.ops import make_inputs
from triptych.harness.records import Array, Arrays, Case, Op, Status
from triptych.harness.regimes import dtype_of, finfo, is_float

REFUSED = "the reference refuses these inputs"
FACTOR = 2.0
ENOUGH_ELEMENTS = 16384  # outputs smaller than this sample the baselines on further draws, at most MOST_DRAWS
MOST_DRAWS = 32
NUDGES = 6  # how often float32 inputs are moved by a unit in their last place
MANY_ELEMENTS = 2**18  # outputs larger than this hold enough rows of every kind


@dataclass(frozen=True)
class Expected:
    """What a case is judged against: the float64 reference, its rounding to the dtype, and how far off is too far."""

    reference: Array
    rounded: Array
    tolerance: dict[str, Any]


@dataclass(frozen=True)
class Verdict:
    status: Status
    reason: str | None
    metrics: dict[str, Any] = field(default_factory=dict)
    tolerance: dict[str, Any] = field(default_factory=dict)


class OpError(Exception):
    """The op's own declaration is at fault, not a kernel; its text is one sentence."""


def ulp(dtype: np.dtype[Any], value: float) -> float:
    """The distance between neighbouring numbers of `dtype` at magnitude `value`."""
    info = finfo(dtype)
    exponent = np.frexp(value)[1] - 1 if value > 0 else info.minexp
    return float(2.0 ** (max(exponent, info.minexp) - info.nmant))


def ulps_apart(a: Array, b: Array) -> Array:
    """How many representable numbers lie between each a and b of one floating-point dtype, as int64.

    Bit patterns of IEEE formats count upwards within a sign; negative ones are mirrored so that -0 and +0 meet.
    """
    bits = 8 * a.dtype.itemsize
    patterns = [x.view(f"i{a.dtype.itemsize}").astype(np.int64) for x in (a, b)]
    ranks = [np.where(p < 0, -(p & (2 ** (bits - 1) - 1)), p) for p in patterns]
    apart: Array = np.abs(ranks[0] - ranks[1])
    return apart


def round_to(x: Array, dtype: np.dtype[Any]) -> Array:
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        out: Array = x if x.dtype == dtype else x.astype(dtype)
    return out


def reference_of(op: Op, case: Case, inputs: Arrays) -> Array:
    """The reference of `inputs`, which it gets in float64; what it refuses is an OpError."""
    wide = {name: x.astype(np.float64) if is_float(x.dtype) else x for name, x in inputs.items()}
    try:
        with np.errstate(all="ignore"):
            reference = np.asarray(op.reference(**wide, **case.params))
    except ValueError as error:
        raise OpError(f"{REFUSED}: {error}") from error
    if reference.size == 0:
        raise OpError(f"the reference has no elements (shape {reference.shape}): there is nothing to compare")
    return reference.astype(np.float64, copy=False)


_known: tuple[Case, list[weakref.ref[Array]], Array] | None = None  # the last case, its inputs and their reference


def known_reference(op: Op, case: Case, inputs: Arrays) -> Array:
    """`reference_of`, without computing it again for the very arrays that `expect` saw last."""
    if _known is not None and _known[0] == case:
        _, arrays, reference = _known
        if all(known() is x for known, x in zip(arrays, inputs.values(), strict=True)):
            return reference
    return reference_of(op, case, inputs)


def expect(op: Op, case: Case, inputs: Arrays, *, rtol: float | None = None, atol: float | None = None) -> Expected:
    """The reference of a case and the tolerance around it: derived, or as the command line says."""
    global _known
    dtype = dtype_of(case.dtype)
    if not is_float(dtype):
        raise OpError(
            f"outputs of dtype {case.dtype} cannot be judged: only floating-point ones have a derived tolerance"
        )
    reference = reference_of(op, case, inputs)
    _known = case, [weakref.ref(x) for x in inputs.values()], reference
    rounded = round_to(reference, dtype)
    if rtol is not None or atol is not None:
        tolerance: dict[str, Any] = {"source": "command line", "rtol": rtol or 0.0, "atol": atol or 0.0}
        return Expected(reference, rounded, tolerance)
    finite = np.isfinite(rounded)
    size = float(np.abs(reference[finite]).max(initial=0.0))
    norm = float(np.linalg.norm(reference[finite]))
    floor = ulp(dtype, size)
    errors = [_baseline_errors(op, case, inputs, reference)]
    while len(errors) < MOST_DRAWS and len(errors) * reference.size < ENOUGH_ELEMENTS:
        again = make_inputs(op, case, draw=len(errors))
        errors.append(_baseline_errors(op, case, again, reference_of(op, case, again)))
    if dtype == np.float32 and reference.size <= MANY_ELEMENTS:
        errors += [_baseline_errors(op, case, nudged(inputs, i), reference) for i in range(NUDGES)]
    worst, l2 = np.max(np.concatenate(errors), axis=0)
    tolerance = {
        "source": "derived",
        "factor": FACTOR,
        "baseline": _name(op.honest[0]),
        "max_abs": max(FACTOR * float(worst), floor),
        "rel_l2": max(FACTOR * float(l2), floor) / norm if norm else 0.0,
        "floor": floor,
    }
    return Expected(reference, rounded, tolerance)


def nudged(inputs: Arrays, seed: int) -> Arrays:
    """`inputs` with every float32 number moved by up to a unit in its last place and rounded again."""
    rng = np.random.default_rng(seed)
    unit = np.finfo(np.float32).eps
    return {
        name: (x * (1 + unit * rng.uniform(-1, 1, x.shape))).astype(np.float32) if x.dtype == np.float32 else x
        for name, x in inputs.items()
    }


def _baseline_errors(op: Op, case: Case, inputs: Arrays, reference: Array) -> Sequence[tuple[float, float]]:
    """(largest absolute error, L2 norm of the error) of every honest baseline, rounded to the case's dtype."""
    dtype = dtype_of(case.dtype)
    finite = np.isfinite(round_to(reference, dtype))
    errors = []
    for baseline in op.honest:
        with np.errstate(all="ignore"):
            out = round_to(np.asarray(baseline(**inputs, **case.params)), dtype)
        if out.shape != reference.shape:
            raise OpError(f"baseline {_name(baseline)} has shape {out.shape} and the reference {reference.shape}")
        error = np.abs(out[finite].astype(np.float64) - reference[finite])
        if not np.isfinite(error).all():
            raise OpError(f"baseline {_name(baseline)} is not finite where the reference is")
        errors.append((float(error.max(initial=0.0)), float(np.linalg.norm(error))))
    return errors


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", function))


def judge(
    op: Op,
    case: Case,
    inputs: Arrays,
    out: Any,
    *,
    expected: Expected | None = None,
    rtol: float | None = None,
    atol: float | None = None,
) -> Verdict:
    """The verdict on `out`, which a kernel computed from `inputs`."""
    if expected is None:
        try:
            expected = expect(op, case, inputs, rtol=rtol, atol=atol)
        except OpError as error:
            return Verdict(Status.ERROR, str(error))
    wrong = malformed(case, inputs, out, expected)
    if wrong:
        return Verdict(Status.ERROR, wrong, tolerance=expected.tolerance)
    metrics, beyond = measure(out, expected)
    reason = _disagreement(metrics, beyond, expected)
    return Verdict(Status.FAILED if reason else Status.PASSED, reason, metrics, expected.tolerance)


def malformed(case: Case, inputs: Arrays, out: Any, expected: Expected) -> str | None:
    """Why `out` cannot be compared at all, or None."""
    if out is None:
        return "the kernel returned None instead of an array"
    if not isinstance(out, np.ndarray):
        what = f"{len(out)} values" if isinstance(out, (tuple, list)) else f"a {type(out).__name__}"
        return f"the kernel returned {what} instead of one array"
    if out.shape != expected.reference.shape:
        return f"the output has a wrong shape: expected {expected.reference.shape}, got {out.shape}"
    if out.dtype != expected.rounded.dtype:
        return f"the output has a wrong dtype: expected {case.dtype}, got {out.dtype}"
    if np.may_share_memory(out, expected.reference) or np.may_share_memory(out, expected.rounded):
        return "the output is the reference's own array: the comparison would say nothing"
    for name, x in inputs.items():
        if np.may_share_memory(out, x):
            return f"the output shares memory with input {name}"
    return None


def measure(out: Array, expected: Expected) -> tuple[dict[str, Any], Array]:
    """The metrics of a well-formed output, and which of its elements are beyond the tolerance."""
    reference, rounded, tolerance = expected.reference, expected.rounded, expected.tolerance
    got = out.astype(np.float64)
    finite = np.isfinite(rounded)
    both = finite & np.isfinite(got)
    strange = np.where(finite, ~both, ~((got == rounded.astype(np.float64)) | (np.isnan(got) & np.isnan(reference))))
    error = np.zeros(got.shape)
    np.subtract(got, reference, out=error, where=both)
    error = np.abs(error)
    magnitude = np.where(both, np.abs(reference), 0.0)
    if tolerance["source"] == "derived":
        excess = error - tolerance["max_abs"]
    else:
        excess = error - (tolerance["atol"] + tolerance["rtol"] * magnitude)
    beyond = strange | (both & (excess > 0))
    worst = int(np.argmax(np.where(strange, np.inf, np.where(both, excess, -np.inf))))
    relative = np.divide(error, magnitude, out=np.zeros(error.shape), where=magnitude > 0)
    norm = float(np.linalg.norm(magnitude))
    l2 = float(np.linalg.norm(error))
    metrics = {
        "max_abs": float(error.max()),
        "max_rel": float(relative.max()),
        "rel_l2": l2 / norm if norm else (0.0 if l2 == 0 else float("inf")),
        "max_abs_ulp": float(error.max()) / ulp(out.dtype, float(magnitude.max())),
        "max_ulp": int(ulps_apart(out, rounded)[both].max(initial=0)),
        "worst_index": [int(i) for i in np.unravel_index(worst, got.shape)],
        "expected": float(rounded.flat[worst]),
        "got": float(out.flat[worst]),
        "mismatches": int(beyond.sum()),
        "strange": int(strange.sum()),
    }
    return metrics, beyond


def _disagreement(metrics: dict[str, Any], beyond: Array, expected: Expected) -> str | None:
    """One sentence on how the output disagrees, or None if it does not."""
    tolerance = expected.tolerance
    worst = f"at {metrics['worst_index']}: expected {metrics['expected']:.9g}, got {metrics['got']:.9g}"
    count = f"{metrics['mismatches']} of {beyond.size} element{'s' * (beyond.size > 1)}"
    strange = metrics.pop("strange")
    if strange:
        return f"{strange} of {beyond.size} elements are NaN or infinite unlike the reference, for example {worst}"
    if tolerance["source"] == "command line":
        bound = f"atol {tolerance['atol']:.3g} + rtol {tolerance['rtol']:.3g} x |reference| of the command line"
        return f"{count} beyond {bound}; worst {worst}" if metrics["mismatches"] else None
    source = f"{tolerance['factor']:g} x the error of honest baselines such as '{tolerance['baseline']}'"
    if metrics["mismatches"]:
        return f"{count} off by more than {tolerance['max_abs']:.3g} ({source}); worst {worst}"
    if metrics["rel_l2"] > tolerance["rel_l2"]:
        over = f"relative L2 error {metrics['rel_l2']:.3g} is more than {tolerance['rel_l2']:.3g} ({source})"
        return f"{over}, though no single element is beyond its bound; worst {worst}"
    return None
