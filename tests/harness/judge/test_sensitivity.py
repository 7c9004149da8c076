"""A tolerance that accepts a wrong output is an error; what leaves the output as it is does not count."""

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from msgspec import structs

from triptych.harness.collection import builtin
from triptych.harness.judge import sensitivity, tolerance
from triptych.harness.judge.bounds import Bounds
from triptych.harness.judge.problem import Problem
from triptych.harness.judge.yardstick import serial_arithmetic
from triptych.harness.ops.case import Case
from triptych.harness.ops.errors import InvalidOp, UninformativeCase
from triptych.harness.ops.inputs import make_inputs
from triptych.harness.ops.op import Op
from triptych.harness.ops.regimes import REGIMES
from triptych.harness.results.status import Status
from triptych.harness.running import runner
from triptych.harness.running.tasks import Settings, Task

OPS = builtin()
MATMUL = Case("matmul", "m", {"M": 33, "K": 300, "N": 17}, "float32")
ATTENTION = Case("attention", "a", {"B": 1, "H": 4, "Hkv": 2, "Sq": 40, "Sk": 90, "D": 24}, "float32", {"causal": True})
CASES = {"matmul": MATMUL, "attention": ATTENTION}


def bitten(case, op=None, wanted=None):
    op = op or OPS[case.op]
    inputs = make_inputs(op, case)
    return sensitivity.try_mutations(Problem(op, case, inputs), tolerance.expect(Problem(op, case, inputs), wanted))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("op", CASES)
def test_no_tolerance_of_ours_accepts_a_corruption(op, regime, dtype):
    for seed in range(2):
        bite = bitten(replace(CASES[op], regime=regime, dtype=dtype, seed=seed))
        assert bite.accepted == [] and "zeros" in bite.caught


EVERY = ["zeros", "the mean everywhere", "the last row missing", "two rows swapped", "the last columns missing"]
OWN = {
    "matmul": ["sums kept in bfloat16", "the last tile of K missing"],
    "attention": [
        "H 0 taken from H 1",
        "a mask one key too far",
        "a mask one key too short",
        "the scale missing",
        "the keys and values of another head",
        "sums kept in bfloat16",
    ],
}


@pytest.mark.parametrize("op", CASES)
def test_all_corruptions_are_tried_and_caught_in_float32(op):
    bite = bitten(CASES[op])
    assert bite.caught == [*EVERY, "one element doubled", *OWN[op]] and bite.without_effect == []


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2"])
def test_float8_has_teeth_too(dtype):
    bite = bitten(replace(MATMUL, dtype=dtype))
    assert bite.accepted == [] and {"zeros", "the last row missing", "two rows swapped"} <= set(bite.caught)


def rows_op(**declared):
    return Op("twice", {"x": ("M", "N")}, lambda x: 2 * x, [{"M": 6, "N": 5}], **declared)


TWICE = Case("twice", "t", {"M": 6, "N": 5}, "float32")


def test_a_swap_of_equal_rows_is_no_corruption():
    op = Op("equal", lambda case, rng: {"x": np.ones((6, 1)) * rng.standard_normal(5)}, lambda x: 2 * x, {})
    bite = bitten(replace(TWICE, op="equal"), op)
    assert "two rows swapped" in bite.without_effect and "zeros" in bite.caught and bite.accepted == []


def test_a_vector_is_rows_and_a_single_number_is_zeroed_and_doubled():
    vector = Op("v", {"x": ("M",)}, lambda x: 2 * x, {})
    assert "two rows swapped" in bitten(Case("v", "v", {"M": 9}, "float32"), vector).caught
    single = Op("s", {"x": ("M",)}, lambda x: x.sum(), {})
    others = ["everything a sixteenth larger", "x without its last M", "sums kept in bfloat16"]
    assert bitten(Case("s", "s", {"M": 9}, "float32"), single).caught == ["zeros", "one element doubled", *others]


def scaled_softmax(x, scale, causal):
    scores = x * scale
    scores = np.where(np.tri(*x.shape, dtype=bool), scores, -np.inf) if causal else scores
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_an_op_of_which_nothing_is_known_has_the_corruptions_that_its_reference_can_compute(dtype):
    case = Case("softmax", "c", {"R": 60, "C": 300}, dtype, {"scale": 0.125, "causal": False})
    own = ["x without its last R", "x without its last C", "scale missing", "causal=True", "sums kept in bfloat16"]
    op = Op("softmax", {"x": ("R", "C")}, scaled_softmax, {})
    assert [name for name in bitten(case, op).caught if name in own] == own

    loose = replace(op, tolerance={"atol": 0.01})
    assert "sums kept in bfloat16" in bitten(case, loose).accepted and "scale missing" in bitten(case, loose).caught


def test_a_tolerance_that_accepts_zeros_is_an_error_that_says_so():
    op = rows_op(tolerance={"atol": 100})
    inputs = make_inputs(op, TWICE)
    with pytest.raises(InvalidOp) as raised:
        sensitivity.check(Problem(op, TWICE, inputs), tolerance.expect(Problem(op, TWICE, inputs)))
    said = str(raised.value)
    assert said.startswith("the tolerance of twice accepts a wrong output in float32 (normal inputs): zeros, the mean")
    assert said.endswith("would pass within atol 100 + rtol 0 x |reference|; tighten the op's `tolerance`")


def test_a_baseline_that_is_sloppy_is_an_error_that_says_so():
    """It keeps the sum of 16-bit inputs in bfloat16."""

    def sloppy(lhsT, rhs):
        narrow = np.float32 if lhsT.dtype == np.float32 else ml_dtypes.bfloat16
        total = np.zeros((lhsT.shape[1], rhs.shape[1]), narrow)
        for k in range(0, lhsT.shape[0], 8):
            part = lhsT[k : k + 8].astype(np.float32).T @ rhs[k : k + 8].astype(np.float32)
            total = (total.astype(np.float32) + part).astype(narrow)
        return total.astype(lhsT.dtype)

    own, case = OPS["matmul"], replace(MATMUL, axes={"M": 33, "K": 2000, "N": 17}, dtype="float16")
    op = Op("matmul", own.inputs, own.reference, {}, honest=(sloppy,), corruptions=own.corruptions)
    inputs = make_inputs(op, case)
    with pytest.raises(
        InvalidOp, match="kept in bfloat16 would pass within 2 x the error of 'sloppy'.*honest baseline"
    ):
        sensitivity.check(Problem(op, case, inputs), tolerance.expect(Problem(op, case, inputs)))


def test_large_outputs_are_looked_at_in_pieces(monkeypatch):
    whole = bitten(MATMUL)
    monkeypatch.setattr(sensitivity, "CHUNK", 40)
    assert bitten(MATMUL) == whole
    assert len(list(sensitivity.chunks((..., 0.0), (33, 17)))) == 17


FILE = """
from triptych import Op
op = Op("loose", {"x": ("M",)}, lambda x: 2 * x, [{"M": 40}], torch=lambda x: 2 * x, tolerance={"atol": 50})
fine = Op("fine", {"x": ("M",)}, lambda x: 2 * x, [{"M": 40}], torch=lambda x: 2 * x)
"""


def ran(tmp_path, op, wanted=None):
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    task = Task(op, str(path), Case(op, "40", {"M": 40}, "float32"), "numpy", None)
    (result,) = runner.run([task], timeout_s=60, settings=Settings(wanted=wanted))
    return result


def test_check_refuses_an_op_without_teeth(tmp_path):
    result = ran(tmp_path, "loose")
    assert result.status is Status.ERROR and "accepts a wrong output in float32" in result.reason


def test_bounds_that_the_user_asks_for_pass_with_a_remark(tmp_path):
    result = ran(tmp_path, "fine", Bounds("command line", atol=50.0))
    assert result.status is Status.PASSED and result.tolerance.sensitivity.accepted[0] == "zeros"
    assert result.reason.startswith("atol 50 + rtol 0 x |reference| of the command line would also pass zeros, ")
    assert ran(tmp_path, "fine").reason is None


def test_an_ops_own_baseline_answers_for_them_too():
    """This one is coarse in float16 alone, where nothing else compares it with the reference."""

    def sloppy(x, scale, causal):
        given = {"x": x, "scale": scale, "causal": causal}
        return serial_arithmetic.evaluate(scaled_softmax, given, backwards=False, coarse=x.dtype == np.float16)

    case = Case("softmax", "c", {"R": 60, "C": 300}, "float16", {"scale": 0.125, "causal": False})
    op = Op("softmax", {"x": ("R", "C")}, scaled_softmax, {}, honest=(sloppy,))
    assert "sums kept in bfloat16" in bitten(case, op).accepted


@pytest.mark.parametrize("regime", ["normal", "offset"])
def test_inputs_in_which_a_default_tolerance_has_no_teeth_judge_nothing(regime, monkeypatch):
    op, case = rows_op(), replace(TWICE, regime=regime)
    inputs = make_inputs(op, case)
    expected = tolerance.expect(Problem(op, case, inputs))
    loosened = structs.replace(expected.tolerance, max_abs=1e9, max_local=1e9, rel_l2=1e9)
    expected = replace(expected, tolerance=loosened)
    monkeypatch.setattr(sensitivity, "expect", lambda *_, **__: expected)
    with pytest.raises(InvalidOp, match="zeros, the mean") as raised:
        sensitivity.check(Problem(op, case, inputs), expected)
    assert isinstance(raised.value, UninformativeCase) == (regime != "normal")
