"""The reference of a case: what every output is compared with, and what makes it worth comparing with.

A comparison against a reference that says nothing always passes. So a reference is refused that has no elements, that
is nowhere finite, that is zero everywhere in the dtype of the output, or that computes in less than float64.
"""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from triptych.harness.arrays import Array, Arrays
from triptych.harness.dtypes import dtype_of, finfo, is_float
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Op
from triptych.harness.precision import fits, round_to, saturates
from triptych.harness.results.status import Cause


class OpError(Exception):
    """The op's own declaration is at fault, not a kernel; its text is one sentence."""

    cause = Cause.INVALID_OP


class RefusedInputs(OpError):
    """The reference raised ValueError: it does not take what was drawn."""

    cause = Cause.REFUSED_INPUTS


class SaysNothing(OpError):
    """No output can be judged by the case, which in a regime or a size of 1 that does not suit the op is no fault."""

    cause = Cause.UNINFORMATIVE_CASE

    def __init__(self, case: Case, why: str) -> None:
        regime = case.regime != "normal"
        self.unsuitable = regime or 1 in case.axes.values()  # normal inputs of ordinary sizes must say something
        instead = f"; {case.regime} inputs do not suit the op in {case.dtype}, unless it draws them itself (`inputs=`)"
        super().__init__(f"the case says nothing: {why}" + instead * regime)


def widened(inputs: Arrays) -> Arrays:
    """Floating-point inputs in float64, as the reference gets them; indices and masks as they are."""
    return {name: x.astype(np.float64) if is_float(x.dtype) else x for name, x in inputs.items()}


def reference_of(op: Op, case: Case, inputs: Arrays) -> Array:
    """The reference of `inputs`, which it gets in float64; what it refuses is an OpError."""
    return evaluated(op, case, widened(inputs))


def evaluated(op: Op, case: Case, wide: Arrays) -> Array:
    """The reference of inputs that are in float64 already."""
    try:
        with np.errstate(all="ignore"):
            returned = op.reference(**wide, **case.params)
    except ValueError as error:
        raise RefusedInputs(f"the reference refuses these inputs: {error}") from error
    if not isinstance(returned, (np.ndarray, np.generic, int, float)):
        what = f"{len(returned)} values" if isinstance(returned, (tuple, list)) else f"a {type(returned).__name__}"
        raise OpError(f"the reference of {op.name} returned {what}: it must return one array")
    reference = np.asarray(returned)
    if reference.size == 0:
        raise OpError(f"the reference has no elements (shape {reference.shape}): there is nothing to compare")
    if is_float(reference.dtype) and reference.dtype != np.float64:
        raise OpError(
            f"the reference returns {reference.dtype}: it must compute in float64, or its own rounding counts as "
            "truth; its inputs come in float64, so take the cast out of it"
        )
    reference = reference.astype(np.float64, copy=False)
    if saturates(dtype_of(case.dtype)):
        largest = float(finfo(dtype_of(case.dtype)).max)
        reference = np.clip(reference, -largest, largest)
    return reference


def check_telling(case: Case, rounded: Array) -> None:
    """SaysNothing if the reference, rounded to the case's dtype, would let an empty kernel pass.

    NaNs that are planted on purpose may reach every element of a small output. Integers are compared exactly, so that
    zeros tell as much as other numbers where the regime makes them, as the first of equal elements is element 0.
    """
    values = rounded.astype(np.float64)
    if not np.isfinite(values).any() and case.regime != "nonfinite":
        raise SaysNothing(
            case,
            f"the reference is NaN or infinite in all {rounded.size} elements in {case.dtype}, so that whatever "
            "returns NaN would pass; use smaller inputs, or plant fewer NaNs",
        )
    if not values.any() and (is_float(rounded.dtype) or case.regime == "normal"):
        raise SaysNothing(
            case,
            f"the reference is zero in all {rounded.size} elements in {case.dtype}, so that a kernel that computes "
            "nothing would pass; use larger inputs",
        )


def check_repeats(op: Op, reference: Array, again: Array) -> None:
    """OpError if a second evaluation of the reference differs by more than the order of float64 sums explains.

    Baselines that are derived from a random reference are as far from it as any kernel.
    """
    both = np.isfinite(reference) & np.isfinite(again)
    apart = float(np.linalg.norm(reference[both] - again[both]))
    if apart > 1e-9 * float(np.linalg.norm(reference[both])) or not np.array_equal(
        np.isfinite(reference), np.isfinite(again)
    ):
        raise OpError(
            f"the reference of {op.name} gives two results for the same inputs, and a tolerance around either would "
            "pass any kernel; take what is random, or kept from call to call, out of it"
        )


def check_precision(op: Op, values: Array) -> None:
    """OpError if `values`, the reference of inputs with digits beyond float32, all are float32 numbers.

    Then the reference went through float32 on its way. Results that are whole numbers, or that fit 16 bits as well
    (what is quantised on purpose), say nothing about it.
    """
    finite = values[np.isfinite(values)]
    coarse = (finite == np.rint(finite)).all() or fits(finite, np.float16) or fits(finite, dtype_of("bfloat16"))
    if fits(finite, np.float32) and not coarse:
        raise OpError(
            f"the reference of {op.name} computes in float32: all its results of float64 inputs are float32 numbers, "
            "so its own rounding would count as truth; keep float64 from its inputs to its result"
        )


_known: list[tuple[Case, list[weakref.ref[Any]], Array]] = []  # cases of late, their inputs and their reference
REMEMBERED = 16


def remember(case: Case, inputs: Arrays, reference: Array) -> None:
    """Keep the reference of these very arrays for `known_reference`, as long as they live."""
    _known[:] = [entry for entry in _known if all(array() is not None for array in entry[1])]
    _known.insert(0, (case, [weakref.ref(x) for x in inputs.values()], reference))
    del _known[REMEMBERED:]


def known_reference(op: Op, case: Case, inputs: Arrays) -> Array:
    """`reference_of`, without computing it again for arrays that were remembered."""
    for known, arrays, reference in _known:
        if known == case and all(a() is x for a, x in zip(arrays, inputs.values(), strict=True)):
            return reference
    return reference_of(op, case, inputs)


def rounded_reference(case: Case, reference: Array) -> Array:
    """What a kernel without any error of its own would return."""
    return round_to(reference, dtype_of(case.dtype))
