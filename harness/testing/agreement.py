"""`triptych.assert_agree`: the judge for a test of one's own, on arrays of NumPy, PyTorch or JAX.

    triptych.assert_agree(my_softmax(x), op=softmax, inputs={"x": x})     # as `triptych check` judges
    triptych.assert_agree(actual, expected)                               # by the dtype alone

With an op and its inputs the tolerance is derived: at most twice the error of the op's honest baselines on these very
inputs, the further draws that small outputs need being the same numbers in other places.

Without an op nothing is known of how `actual` came about, and the bound is a rule of thumb that stands in the message:
|actual - expected| <= n eps (|expected| + r), r the root mean square of `expected` and eps that of the coarser dtype,
with n = 64 for dtypes wider than 16 bits, where sums of some thousand terms dominate, and n = 4 for those of 16 bits,
where the last rounding does. Narrower ones have n = 1, a step to the neighbouring number, and n eps is never more than
1/4: because r is no larger than the largest element, zeros never agree. Integers must be equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from numbers import Number
from typing import Any

import numpy as np

from triptych.harness.arrays import Array, Arrays, from_torch
from triptych.harness.collection import builtin
from triptych.harness.dtypes import finfo, is_float
from triptych.harness.judge import comparison, verdict
from triptych.harness.judge.failure import description
from triptych.harness.judge.prepared import Prepared, PreparedCase
from triptych.harness.judge.problem import Problem
from triptych.harness.judge.tolerance import Expected, expect
from triptych.harness.ops.case import Case
from triptych.harness.ops.errors import InvalidOp
from triptych.harness.ops.op import Op
from triptych.harness.ops.outputs.kinds import MalformedOutput
from triptych.harness.ops.outputs.naming import flatten, in_words, listed, renamed
from triptych.harness.precision import round_to
from triptych.harness.reports import failures
from triptych.harness.results.measures import Fixed, Metrics

STEPS = {1: 1, 2: 4}  # n for dtypes of so many bytes
WIDE = 64  # and for wider ones
MOST = 0.25  # of n eps
NONE: Arrays = {}


def assert_agree(
    actual: Any,
    expected: Any = None,
    *,
    op: Op | str | None = None,
    inputs: Mapping[str, Any] | None = None,
    params: Mapping[str, Any] | None = None,
) -> None:
    """AssertionError unless `actual` is as near to `expected` as its dtype, or an honest kernel of `op`, would be.

    `op` is an Op or the name of one of triptych's; it needs the `inputs` by name and, if it has any, the `params`.
    `expected` may then be left out: it is the op's reference. Several outputs are a tuple, a list or a dict of arrays
    on both sides; those of an op are what its reference returns and, after these, the inputs that it changes, as they
    are after the call.
    """
    __tracebackhide__ = True
    if actual is expected and not isinstance(actual, (Number, type(None))):  # Python has one object for every 1
        raise AssertionError("actual and expected are one object: comparing it with itself says nothing")
    outs = arrays_of(actual, "actual")
    wanted = None if expected is None else arrays_of(expected, "expected")
    if op is None:
        if wanted is None or inputs is not None or params is not None:
            raise TypeError("assert_agree takes actual and expected, or actual, op= and inputs=")
        sides = [(name, outs[name], other) for name, other in paired(wanted, outs, "expected").items()]
        wrong = [(name, disagreement(out, other, by_dtype(out, other))) for name, out, other in sides]
    else:
        if not isinstance(inputs, Mapping):
            raise TypeError("assert_agree derives the tolerance of an op from its inputs: give inputs={name: array}")
        op = op_of(op)
        given = {name: as_array(x, f"input {name}") for name, x in inputs.items()}
        dtype = next((x.dtype.name for x in outs.values() if is_float(x.dtype)), next(iter(outs.values())).dtype.name)
        case = Case(op.name, "assert_agree", {}, dtype, dict(params or {}))
        wrong = list(by_op(op, case, given, outs, wanted))
    mutates = op.mutates if isinstance(op, Op) else ()
    told = [f"{in_words(name, mutates)}: {text}" if len(wrong) > 1 else text for name, text in wrong if text]
    if told:
        raise AssertionError("\n\n".join(told))


def arrays_of(value: Any, side: str) -> Arrays:
    """The arrays of a side by their names; "" for one that is alone. Numbers in a list are one array."""
    several = isinstance(value, Mapping) or (
        isinstance(value, (list, tuple)) and any(getattr(x, "ndim", 0) or isinstance(x, (list, Mapping)) for x in value)
    )
    leaves = flatten(value) if several and not is_table(value) else {"": value}
    if not leaves:
        raise AssertionError(f"{side} holds no array: there is nothing to compare")
    return {name: as_array(x, f"{side} {name}".strip()) for name, x in leaves.items() if x is not None}


def is_table(value: Any) -> bool:
    """Whether nested lists are one array of plain numbers."""
    return isinstance(value, (list, tuple)) and all(isinstance(x, Number) or is_table(x) for x in value)


def paired(outs: Arrays, names: Iterable[str], side: str) -> Arrays:
    """The arrays of a side by the names of the other, in its order; AssertionError unless there are as many."""
    names = list(names)
    found = renamed(outs, names)
    if found is None:
        raise AssertionError(
            f"{side} has {listed(list(outs))} where {listed(names)} must be compared: give a tuple in this order, or "
            "a dict by these names"
        )
    return found


def disagreement(
    out: Array, wanted: Array | None, target: Expected, inputs: Arrays = NONE, op: Op | None = None
) -> str:
    """How an output disagrees, with a picture and its figures; "" if it does not."""
    if wanted is not None and np.may_share_memory(out, wanted):
        return "actual and expected share their memory: comparing them says nothing"
    wrong = verdict.malformed(out, target, inputs)
    if wrong:
        return wrong.replace("the output", "actual")
    compared = comparison.compare(out, target)
    numbers = comparison.metrics(compared)
    reason = verdict.disagreement(compared, numbers)
    if not reason:
        return ""
    picture = "\n".join(failures.lines(description.describe(compared, op))) if out.size > 1 else ""
    return "\n\n".join(filter(None, [reason, picture, figures(out, numbers, target)]))


def op_of(op: Any) -> Op:
    if isinstance(op, Op):
        return op
    known = builtin()
    if not isinstance(op, str):
        raise TypeError(f"op= takes a triptych.Op or the name of one of triptych's ({', '.join(known)}), got {op!r}")
    if op not in known:
        raise ValueError(f"there is no op {op!r}; there is {', '.join(known)}")
    return known[op]


def by_dtype(out: Array, expected: Array) -> Expected:
    """What is expected, with the rule of thumb as its tolerance."""
    if expected.size == 0:
        raise AssertionError(f"expected has no elements (shape {expected.shape}): there is nothing to compare")
    reference = expected.astype(np.float64)
    finite = reference[np.isfinite(reference)]
    if not finite.size:
        raise AssertionError("expected is NaN or infinite in every element: there is no number to compare")
    floats = [dtype for dtype in (out.dtype, expected.dtype) if is_float(dtype)]
    share = max(map(thumb, floats)) if is_float(out.dtype) else 0.0
    size = float(np.sqrt(np.mean(finite * finite)))
    tolerance = Fixed(source="dtype", regime="normal", rtol=share, atol=share * size)
    return Expected(reference, rounded(expected, out.dtype), tolerance)


def rounded(expected: Array, dtype: np.dtype[Any]) -> Array:
    """`expected` in the dtype of `actual`; where that is an integer one, it must have room for each value."""
    if is_float(dtype):
        return round_to(expected.astype(np.float64), dtype)
    with np.errstate(invalid="ignore"):
        out = expected.astype(dtype)
    lost = np.argwhere(out.astype(np.float64) != expected.astype(np.float64))
    if len(lost):
        at = tuple(int(i) for i in lost[0])
        raise AssertionError(
            f"actual is {dtype} and expected holds {expected[at]} at {list(at)}, which is no such number: give both "
            "in one dtype"
        )
    return out


def thumb(dtype: np.dtype[Any]) -> float:
    return min(MOST, float(STEPS.get(dtype.itemsize, WIDE) * finfo(dtype).eps))


def by_op(op: Op, case: Case, inputs: Arrays, outs: Arrays, wanted: Arrays | None) -> Iterator[tuple[str, str]]:
    """Each output's name and how it disagrees with the op's reference, or with what is `wanted` in its place.

    The tolerance is derived from `inputs`.
    """

    def elsewhere(case: Case, rng: np.random.Generator) -> Arrays:
        return {
            name: rng.permuted(x.reshape(-1)).reshape(x.shape) if is_float(x.dtype) else x for name, x in inputs.items()
        }

    problem = Problem(replace(op, inputs=elsewhere), case, inputs)
    try:
        expected = {name: expect(one) for name, one in problem.outputs.items()}
    except InvalidOp as error:
        raise ValueError(f"the tolerance could not be derived: {error}") from None
    except TypeError as error:
        raise TypeError(f"op {op.name} does not take these inputs and params: {error}") from None
    prepared = PreparedCase(problem, {name: Prepared(problem.outputs[name], x) for name, x in expected.items()})
    others = None if wanted is None else paired(wanted, expected, "expected")
    for name, out in paired(outs, expected, "actual").items():
        target, other = expected[name], None if others is None else others[name]
        if other is not None:
            reference = other.astype(np.float64)
            target = replace(target, reference=reference, rounded=round_to(reference, target.rounded.dtype))
        try:
            seen = prepared.compared(name, out)
        except MalformedOutput as error:
            yield name, str(error).replace("the output", "actual")
        else:
            yield name, disagreement(seen, other, target, {} if name in op.mutates else inputs, op)


def figures(out: Array, numbers: Metrics, target: Expected) -> str:
    """The size of the disagreement in one line, and of a rule of thumb that it is one."""
    words = [f"{out.dtype.name}{list(out.shape)}", f"largest error {numbers.max_abs:.3g}"]
    if is_float(out.dtype):
        words += [f"{numbers.max_ulp} representable numbers apart"]
    words += [f"relative L2 error {numbers.rel_l2:.3g}"]
    text = ", ".join(words) + (", of what is finite" if numbers.nonfinite.misplaced else "")
    if isinstance(target.tolerance, Fixed) and target.tolerance.source == "dtype" and target.tolerance.rtol:
        text += (
            "\nthe tolerance is a rule of thumb for the coarser dtype of the two; with op= and inputs= it is derived "
            "from honest kernels"
        )
    return text


def as_array(value: Any, name: str) -> Array:
    """A NumPy array of what PyTorch, JAX, NumPy or plain Python holds, in the same dtype, and in place if it can be."""
    try:
        array = from_torch(value) if type(value).__module__.partition(".")[0] == "torch" else np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name}, a {type(value).__name__}, is no array: {str(error).partition(chr(10))[0]}") from None
    if not (array.dtype.kind in "biu" or is_float(array.dtype)) or array.dtype.itemsize > 8:
        raise TypeError(
            f"{name} must hold real numbers of up to 64 bits, got {type(value).__name__} of dtype {array.dtype}"
        )
    return array.view(np.uint8) if array.dtype.kind == "b" else array
