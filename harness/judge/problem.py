"""A problem: one case of an op on given inputs, with the float64 reference that every output is compared with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from triptych.harness.arrays import Array, Arrays
from triptych.harness.dtypes import dtype_of, finfo, is_float
from triptych.harness.ops.case import Case
from triptych.harness.ops.errors import InvalidOp, RefusedInputs
from triptych.harness.ops.frameworks import on_arrays
from triptych.harness.ops.inputs import make_inputs
from triptych.harness.ops.op import Op
from triptych.harness.precision import round_to, saturates


@dataclass(frozen=True, eq=False)
class Problem:
    """What every backend computes. The reference is evaluated once, when it is first asked for.

    op, case: what to compute, and at which sizes, dtype and params.
    inputs: by name, in the dtypes that kernels get.
    known_reference: the reference of these inputs, where somebody has it already.
    """

    op: Op
    case: Case
    inputs: Arrays
    known_reference: Array | None = None

    @classmethod
    def of(cls, op: Op, case: Case, draw: int = 0) -> Problem:
        """The problem of a case; each `draw` has inputs of its own."""
        return cls(op, case, make_inputs(op, case, draw))

    def on(self, inputs: Arrays, known_reference: Array | None = None) -> Problem:
        """The same case on other inputs."""
        return replace(self, inputs=inputs, known_reference=known_reference)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the output."""
        return dtype_of(self.case.dtype)

    @property
    def arguments(self) -> dict[str, Any]:
        """Inputs and params by name, as a baseline or a reference takes them."""
        return {**self.inputs, **self.case.params}

    @cached_property
    def reference(self) -> Array:
        """The right output, in float64. InvalidOp if the reference refuses the inputs or returns no such array."""
        return self.evaluate(widen(self.inputs)) if self.known_reference is None else self.known_reference

    @cached_property
    def rounded(self) -> Array:
        """The reference in the output's dtype: what a kernel without any error of its own would return."""
        return round_to(self.reference, self.dtype)

    @cached_property
    def finite(self) -> Array:
        """Where the rounded reference is finite."""
        out: Array = np.isfinite(self.rounded)
        return out

    def evaluate(self, wide: Arrays) -> Array:
        """The reference of `wide` inputs, which are in float64 already, in the place of this problem's own."""
        try:
            with np.errstate(all="ignore"):
                returned = on_arrays(self.op.reference)(**wide, **self.case.params)
        except ValueError as error:
            raise RefusedInputs(f"the reference refuses these inputs: {error}") from error
        if not isinstance(returned, (np.ndarray, np.generic, int, float)):
            what = f"{len(returned)} values" if isinstance(returned, (tuple, list)) else f"a {type(returned).__name__}"
            raise InvalidOp(f"the reference of {self.op.name} returned {what}: it must return one array")
        reference = np.asarray(returned)
        if reference.size == 0:
            raise InvalidOp(f"the reference has no elements (shape {reference.shape}): there is nothing to compare")
        if is_float(reference.dtype) and reference.dtype != np.float64:
            raise InvalidOp(
                f"the reference returns {reference.dtype}: it must compute in float64, or its own rounding counts as "
                "truth; its inputs come in float64, so take the cast out of it"
            )
        reference = reference.astype(np.float64, copy=False)
        if saturates(self.dtype):
            largest = float(finfo(self.dtype).max)
            reference = np.clip(reference, -largest, largest)
        return reference


def widen(inputs: Arrays) -> Arrays:
    """Floating-point inputs in float64, as the reference gets them; indices and masks as they are."""
    return {name: x.astype(np.float64) if is_float(x.dtype) else x for name, x in inputs.items()}
