"""A problem evaluates its reference once, on its own inputs; how arrays differ is counted in bits and in NaNs."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from triptych.harness.bits import digest, first_difference, nonfinite_apart, same_bits
from triptych.harness.judge.problem import Problem
from triptych.harness.ops.case import Case
from triptych.harness.ops.errors import InvalidOp, RefusedInputs
from triptych.harness.ops.op import Op
from triptych.harness.ops.work import work_of

CASE = Case("twice", "3x4", {"M": 3, "N": 4}, "bfloat16")


def counted() -> tuple[Op, list[int]]:
    calls: list[int] = []

    def reference(x: np.ndarray) -> np.ndarray:
        calls.append(1)
        return 2 * x

    return Op("twice", {"x": ("M", "N")}, reference, [{"M": 3, "N": 4}]), calls


def test_the_reference_is_evaluated_once_and_only_if_asked_for() -> None:
    op, calls = counted()
    problem = Problem.of(op, CASE)
    assert calls == [] and problem.inputs["x"].dtype == ml_dtypes.bfloat16
    assert problem.reference.dtype == np.float64 and problem.rounded.dtype == ml_dtypes.bfloat16
    assert problem.finite.all() and len(calls) == 1
    assert np.array_equal(problem.reference, 2 * problem.inputs["x"].astype(np.float64))


def test_other_inputs_are_another_problem() -> None:
    op, calls = counted()
    problem = Problem.of(op, CASE)
    known = np.ones((3, 4))
    other = problem.on({"x": np.zeros((3, 4), ml_dtypes.bfloat16)}, known)
    assert other.reference is known and problem.reference is not known and len(calls) == 1
    assert not np.array_equal(Problem.of(op, CASE, draw=1).inputs["x"], problem.inputs["x"])


def test_what_is_wrong_with_a_reference_is_told_when_it_is_evaluated() -> None:
    def refuses(x: np.ndarray) -> np.ndarray:
        raise ValueError("only square ones")

    with pytest.raises(RefusedInputs, match="the reference refuses these inputs: only square ones"):
        _ = Problem.of(Op("o", {"x": ("M", "N")}, refuses, []), CASE).reference
    with pytest.raises(InvalidOp, match="returned a NoneType: it must return one array"):
        _ = Problem.of(Op("o", {"x": ("M", "N")}, lambda x: None, []), CASE).reference
    with pytest.raises(InvalidOp, match="must compute in float64"):
        _ = Problem.of(Op("o", {"x": ("M", "N")}, lambda x: x.astype(np.float32), []), CASE).reference


def test_work_that_cannot_be_computed_is_the_ops_fault() -> None:
    op = Op("o", {"x": ("M",)}, lambda x: x, [], flops=lambda axes, params: axes["Q"], bytes=lambda *_: 12)
    with pytest.raises(InvalidOp, match="the `flops` or `bytes` of op o cannot be computed: KeyError: 'Q'"):
        work_of(op, CASE)


def test_arrays_differ_in_bits_in_nans_and_in_infinities() -> None:
    a = np.array([0.0, 1.0, np.nan, np.inf, 2.0], np.float32)
    b = np.array([-0.0, 1.0, -np.nan, -np.inf, np.nan], np.float32)
    assert same_bits(a, b).tolist() == [False, True, False, False, False]
    assert first_difference(a, b) == (3, [0]), "all NaNs count as one"
    assert first_difference(a, a.copy()) is None and first_difference(a, a[:3]) == (5, [0])
    apart = nonfinite_apart(a.astype(np.float64), b.astype(np.float64))
    assert apart.tolist() == [False, False, False, True, True]
    assert digest(a) == digest(a.copy()) != digest(b)
    assert nonfinite_apart(np.float64(1), np.float64(2)).shape == ()
