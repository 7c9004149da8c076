"""Wrong outputs of any op: its reference, evaluated as kernels go wrong.

Nothing is known of an op but its reference, which can be given wrong inputs: without the last slice along an axis, as
with a mask or a bound off by one; without a scale, or with an option the other way round; and it can be evaluated with
sums that are kept in bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from triptych.harness.arrays import Array
from triptych.harness.dtypes import dtype_of, is_float
from triptych.harness.judge.problem import Problem, widen
from triptych.harness.judge.yardstick import serial_arithmetic
from triptych.harness.ops.case import Case
from triptych.harness.ops.frameworks import framework_of, on_arrays
from triptych.harness.ops.op import Op

LARGEST = 2**18  # elements of inputs and output, up to which a case is worth these evaluations
MOST_SLICES = 6
LARGER = 17 / 16  # beyond what rounding to 8 bits explains


def of_any_op(problem: Problem, reference: Array) -> Iterator[tuple[str, Array]]:
    """Each wrong output under its name; only those that the reference can compute."""
    if small_errors_count(problem.case):
        yield "everything a sixteenth larger", reference * LARGER
    if reference.size + sum(x.size for x in problem.inputs.values()) > LARGEST:
        return
    for name, evaluate in evaluations(problem):
        try:
            with np.errstate(all="ignore"):
                wrong = np.asarray(evaluate(), np.float64)
        except Exception:  # a reference may refuse what it is never given otherwise
            continue
        if wrong.shape == reference.shape:
            yield name, wrong


def evaluations(problem: Problem) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The calls of the reference that compute them."""
    op, case, wide = problem.op, problem.case, widen(problem.inputs)
    places = [(name, axis) for name, x in wide.items() if x.dtype == np.float64 for axis in range(x.ndim)]
    for name, axis in [place for place in places if wide[place[0]].shape[place[1]] > 1][:MOST_SLICES]:
        x = wide[name].copy()
        x[(slice(None),) * axis + (-1,)] = 0
        label = op.shapes[name][axis] if op.shapes and name in op.shapes else f"index of axis {axis}"
        yield f"{name} without its last {label}", call_with(op, {**wide, name: x, **case.params})
    for name, value in case.params.items():
        if isinstance(value, bool):
            yield f"{name}={not value}", call_with(op, {**wide, **case.params, name: not value})
        elif isinstance(value, float) and value != 1.0:
            yield f"{name} missing", call_with(op, {**wide, **case.params, name: 1.0})
    of_floats = any(is_float(x.dtype) for x in problem.inputs.values())
    if of_floats and small_errors_count(case) and framework_of(op.reference) == "numpy":  # other sums are not ours
        given = problem.arguments
        yield (
            "sums kept in bfloat16",
            lambda: serial_arithmetic.evaluate(op.reference, given, backwards=False, coarse=True),
        )


def small_errors_count(case: Case) -> bool:
    """Whether small errors are wrong: of 16-bit inputs in other regimes, one more rounding may lose as much."""
    return case.regime == "normal" or dtype_of(case.dtype).itemsize > 2


def call_with(op: Op, arguments: dict[str, Any]) -> Callable[[], Any]:
    return lambda: on_arrays(op.reference)(**arguments)
