"""What `check` runs unless told tells the commonest wrong kernels from right ones."""

import numpy as np
import pytest

from triptych.harness.collection import builtin
from triptych.harness.dtypes import dtype_of
from triptych.harness.judge.prepared import prepare
from triptych.harness.judge.problem import Problem
from triptych.harness.ops.cases import cases_of
from triptych.harness.ops.op import SHORT_SET, Op
from triptych.harness.results.status import Status


def softmax(x):
    """out[M, N] = exp(x[M, N]) / sum over N."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def variance(x):
    """out[M] = the variance of x[M, N] over N."""
    return ((x - x.mean(axis=-1, keepdims=True)) ** 2).mean(axis=-1)


SOFTMAX = Op("softmax", {"x": ("M", "N")}, softmax, [{"M": 16, "N": 100}])
VARIANCE = Op("variance", {"x": ("M", "N")}, variance, [{"M": 24, "N": 100}])


def online(start, block=32):
    """A softmax over blocks with a running maximum that begins at `start`."""

    def kernel(x):
        wide = x.astype(np.float32)
        top = np.full((len(wide), 1), start, np.float32)
        total = np.zeros_like(top)
        for i in range(0, wide.shape[1], block):
            new = np.maximum(top, wide[:, i : i + block].max(axis=1, keepdims=True))
            total = total * np.exp(top - new) + np.exp(wide[:, i : i + block] - new).sum(axis=1, keepdims=True)
            top = new
        return (np.exp(wide - top) / total).astype(x.dtype)

    return kernel


def without_max(x):
    e = np.exp(x.astype(np.float32))
    return (e / e.sum(axis=-1, keepdims=True)).astype(x.dtype)


def two_passes(x):
    wide = x.astype(np.float32)
    return variance(wide).astype(x.dtype)


def squares_minus_square(x):
    wide = x.astype(np.float32)
    return ((wide**2).mean(axis=-1) - wide.mean(axis=-1) ** 2).astype(x.dtype)


def failed_regimes(op, kernel, dtype):
    failed = []
    for case in cases_of(op, ("smoke", SHORT_SET), [dtype], {}, 0):
        prepared = prepare(Problem.of(op, case))
        with np.errstate(all="ignore"):
            out = kernel(**prepared.problem.arguments)
        assert out.dtype == dtype_of(dtype)
        failed += [case.regime] * (prepared.judge({"": out}).status is not Status.PASSED)
    return failed


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_softmax_is_told_from_one_whose_maximum_begins_elsewhere(dtype):
    assert failed_regimes(SOFTMAX, online(-np.inf), dtype) == []
    assert failed_regimes(SOFTMAX, online(np.finfo(np.float32).min), dtype) == []
    assert failed_regimes(SOFTMAX, online(0.0), dtype) == ["negative"]
    assert failed_regimes(SOFTMAX, online(-10000.0), dtype) == ["negative"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_softmax_without_its_maximum_does_not_pass(dtype):
    assert failed_regimes(SOFTMAX, without_max, dtype) == ["large", "offset", "negative"]


def test_digits_that_cancel_are_missed_in_offset_inputs():
    assert failed_regimes(VARIANCE, two_passes, "float32") == []
    assert "offset" in failed_regimes(VARIANCE, squares_minus_square, "float32")


@pytest.mark.parametrize("op", builtin().values(), ids=builtin())
def test_the_short_set_is_the_smallest_case_of_a_few_regimes(op):
    short, whole = op.case_sets[SHORT_SET], op.case_sets["adversarial"]
    assert [case.regime for case in short] == ["large", "offset", "negative"]
    size = {case.name: np.prod(list(case.axes.values())) for case in whole}
    for case in short:
        assert size[case.name] == min(size[other.name] for other in whole if other.regime == case.regime)


def test_an_op_of_normal_numbers_alone_has_none():
    assert SHORT_SET not in Op("op", lambda case, rng: {}, lambda: 0, [{"M": 5}]).case_sets
    nearly = {"smoke": [{"M": 5}], "adversarial": [{"M": 5, "regime": "sorted"}]}
    assert SHORT_SET not in Op("op", lambda case, rng: {}, lambda: 0, nearly).case_sets
