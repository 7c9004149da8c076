"""`triptych.assert_agree`: the judge for a test of one's own, on arrays of NumPy, PyTorch or JAX.

    triptych.assert_agree(my_softmax(x), op=softmax, inputs={"x": x})     # as `triptych check` judges
    triptych.assert_agree(actual, expected)                               # by the dtype alone

With an op and its inputs the tolerance is derived: at most twice the error of the op's honest baselines on these very
inputs, the further draws that small outputs need being the same numbers in other places.

Without an op nothing is known of how `actual` came about, and the bound is a rule of thumb that stands in the message:
|actual - expected| <= n eps (|expected| + r), r the root mean square of `expected` and eps that of the coarser dtype,
with n = 4 for dtypes of up to 16 bits, whose last rounding dominates, and n = 64 for wider ones, where it is sums of
some thousand terms. Because r is no larger than the largest element, zeros never agree. Integers must be equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from triptych.harness import comparison, judge, ops
from triptych.harness.precision import round_to
from triptych.harness.records import Array, Arrays, Case, Op
from triptych.harness.regimes import dtype_of, finfo, is_float
from triptych.harness.tolerance import Expected, expect
from triptych.harness.truth import OpError

NARROW, WIDE = 4, 64  # n for dtypes of up to 16 bits, and for wider ones


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
    `expected` may then be left out: it is the op's reference.
    """
    __tracebackhide__ = True
    out = as_array(actual, "actual")
    wanted = None if expected is None else as_array(expected, "expected")
    if op is None:
        if wanted is None or inputs is not None or params is not None:
            raise TypeError("assert_agree takes actual and expected, or actual, op= and inputs=")
        case, given = Case("", "", {}, out.dtype.name), {}
        target = by_dtype(out, wanted)
    else:
        if inputs is None:
            raise TypeError("assert_agree derives the tolerance of an op from its inputs: give inputs={name: array}")
        if isinstance(op, str):
            known = ops.builtin()
            if op not in known:
                raise ValueError(f"there is no op {op!r}; there is {', '.join(known)}")
            op = known[op]
        given = {name: as_array(x, f"input {name}") for name, x in inputs.items()}
        case = Case(op.name, "assert_agree", {}, out.dtype.name, dict(params or {}))
        target = by_op(op, case, given, wanted)
    if wanted is not None and np.may_share_memory(out, wanted):
        raise AssertionError("actual and expected share their memory: comparing them says nothing")
    wrong = judge.malformed(case, given, out, target)
    if wrong:
        raise AssertionError(wrong.replace("the output", "actual"))
    compared = comparison.compare(out, target)
    numbers = comparison.metrics(compared)
    reason = judge.disagreement(compared, numbers)
    if reason:
        raise AssertionError(f"{reason}\n\n{figures(out, numbers)}")


def by_dtype(out: Array, expected: Array) -> Expected:
    """What is expected, with the rule of thumb as its tolerance."""
    if expected.size == 0:
        raise AssertionError(f"expected has no elements (shape {expected.shape}): there is nothing to compare")
    reference = expected.astype(np.float64)
    floats = [dtype for dtype in (out.dtype, expected.dtype) if is_float(dtype)]
    share = max((thumb(dtype) for dtype in floats), default=0.0) if is_float(out.dtype) else 0.0
    finite = reference[np.isfinite(reference)]
    size = float(np.sqrt(np.mean(finite * finite))) if finite.size else 0.0
    tolerance = {"source": "dtype", "rule": "fixed", "rtol": share, "atol": share * size}
    return Expected(reference, round_to(reference, out.dtype), tolerance)


def thumb(dtype: np.dtype[Any]) -> float:
    return float((NARROW if dtype.itemsize <= 2 else WIDE) * finfo(dtype).eps)


def by_op(op: Op, case: Case, inputs: Arrays, expected: Array | None) -> Expected:
    """The op's reference, or `expected` in its place, with the tolerance that is derived from `inputs`."""

    def elsewhere(case: Case, rng: np.random.Generator) -> Arrays:
        return {
            name: rng.permuted(x.reshape(-1)).reshape(x.shape) if is_float(x.dtype) else x for name, x in inputs.items()
        }

    try:
        found = expect(replace(op, inputs=elsewhere), case, inputs)
    except OpError as error:
        raise ValueError(f"the tolerance could not be derived: {error}") from None
    except TypeError as error:
        raise TypeError(f"op {op.name} does not take these inputs and params: {error}") from None
    if expected is None:
        return found
    reference = expected.astype(np.float64)
    return replace(found, reference=reference, rounded=round_to(reference, dtype_of(case.dtype)))


def figures(out: Array, numbers: Mapping[str, Any]) -> str:
    """The size of the disagreement in one line."""
    words = [f"{out.dtype.name}{list(out.shape)}", f"largest error {numbers['max_abs']:.3g}"]
    words += [f"{numbers['max_ulp']} representable numbers apart", f"relative L2 error {numbers['rel_l2']:.3g}"]
    return ", ".join(words)


def as_array(value: Any, name: str) -> Array:
    """A NumPy array of what PyTorch, JAX, NumPy or plain Python holds, in the same dtype."""
    if type(value).__module__.partition(".")[0] == "torch":
        return of_torch(value)
    array = np.asarray(value)
    if not (array.dtype.kind in "biu" or is_float(array.dtype)):
        raise TypeError(f"{name} must hold numbers, got {type(value).__name__} of dtype {array.dtype}")
    return array.astype(np.uint8) if array.dtype.kind == "b" else array


def of_torch(tensor: Any) -> Array:
    """NumPy has no bfloat16 or float8 of its own, so that PyTorch does not hand them over: their bytes do."""
    import torch

    here = tensor.detach().cpu().contiguous()
    name = str(here.dtype).removeprefix("torch.")
    if here.dtype == torch.bool:
        name = "uint8"
    size = here.element_size()
    bits: Array = here.view(getattr(torch, f"int{8 * size}") if size > 1 else torch.uint8).numpy()
    return bits.view(dtype_of(name))
