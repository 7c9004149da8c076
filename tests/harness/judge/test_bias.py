"""Errors that are small one by one and have something in common: a sign, or that there are so many."""

import ml_dtypes
import numpy as np
import pytest

from triptych.harness.collection import builtin
from triptych.harness.dtypes import dtype_of
from triptych.harness.judge.problem import Problem
from triptych.harness.judge.verdict import judge
from triptych.harness.judge.yardstick import bias
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Op
from triptych.harness.precision import spacing
from triptych.harness.results.status import Status
from triptych.harness.upkeep.figures.honest_variants import matmul_by

HALVES = ("bfloat16", "float16")
MATMUL = builtin()["matmul"]


def truncated(x, dtype):
    """`x` rounded toward zero."""
    near = x.astype(dtype_of(dtype))
    away = np.abs(near.astype(np.float64)) > np.abs(x)
    near.view(np.uint16)[away] -= 1
    return near


def rounded_down(x, dtype):
    near = x.astype(dtype_of(dtype)).astype(np.float64)
    step = spacing(dtype_of(dtype), np.abs(near))
    return np.where(near > x, near - step, near).astype(dtype_of(dtype))


def scaled(dtype, shape=(24, 40), **options):
    axes = dict(zip("MN", shape, strict=False))
    op = Op("scaled", {"x": tuple(axes)}, lambda x: x * 1.1, {}, **options)
    return Problem.of(op, Case("scaled", "c", axes, dtype))


@pytest.mark.parametrize("shape", [(24, 40), (400,), (1, 300), (300, 1)])
@pytest.mark.parametrize("dtype", HALVES)
def test_truncation_is_no_rounding(dtype, shape):
    problem = scaled(dtype, shape)
    exact = problem.inputs["x"].astype(np.float64) * 1.1
    assert judge(problem, exact.astype(dtype_of(dtype))).status is Status.PASSED
    for wrong in (truncated(exact, dtype), rounded_down(exact, dtype)):
        verdict = judge(problem, wrong)
        assert verdict.status is Status.FAILED and "as of truncation where the reference rounds" in verdict.reason
        assert verdict.metrics.mismatches == 0 and 0.2 < verdict.metrics.bias < 0.5


def test_so_few_elements_may_all_err_to_one_side():
    problem = scaled("bfloat16", (bias.FEWEST_ELEMENTS - 1,))
    verdict = judge(problem, truncated(problem.inputs["x"].astype(np.float64) * 1.1, "bfloat16"))
    assert verdict.status is Status.PASSED and verdict.metrics.bias is None and verdict.tolerance.bias is None


def test_float32_has_no_such_bounds():
    verdict = judge(scaled("float32"), scaled("float32").inputs["x"] * np.float32(1.1))
    assert verdict.status is Status.PASSED and verdict.metrics.bias is None and verdict.tolerance.not_nearest is None


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(
    "axes", [{"M": 40, "K": 256, "N": 48}, pytest.param({"M": 9, "K": 4096, "N": 24}, marks=pytest.mark.slow)]
)
def test_sums_in_16_bits_are_told_from_sums_in_32(dtype, axes):
    """One rounding in the middle of K suffices, whose errors are within every other bound."""
    problem = Problem.of(MATMUL, Case("matmul", "c", axes, dtype))
    assert judge(problem, matmul_by(64)(**problem.inputs)).status is Status.PASSED
    half = matmul_by(axes["K"] // 2, accumulate=dtype_of(dtype))
    verdict = judge(problem, half(**problem.inputs))
    assert verdict.status is Status.FAILED and "of the elements, beyond chance, are not the reference" in verdict.reason
    assert judge(problem, matmul_by(32, accumulate=dtype_of(dtype))(**problem.inputs)).status is Status.FAILED


def quantised(atol):
    def to_int8(x):
        return np.clip(np.rint(x * 20), -127, 127).astype(np.int64)

    def inputs(case, rng):
        return {"x": np.float32(rng.standard_normal((30, 50)))}

    op = Op("quantise", inputs, to_int8, {}, tolerance={"atol": atol})
    return Problem.of(op, Case("quantise", "c", {}, "int8"))


def test_a_step_of_one_does_not_hide_truncation_of_integers():
    problem = quantised(1)
    exact = problem.inputs["x"].astype(np.float64) * 20
    near = np.clip(np.rint(exact), -127, 127)
    one_off = near + (np.random.default_rng(0).integers(0, 20, near.shape) == 0)
    for right in (near, np.clip(one_off, -127, 127)):
        assert judge(problem, right.astype(np.int8)).status is Status.PASSED
    for wrong in (np.trunc(exact), np.floor(exact)):
        verdict = judge(problem, np.clip(wrong, -127, 127).astype(np.int8))
        assert verdict.status is Status.FAILED and verdict.reason.startswith("the errors lie on one side, by 0.4")


def test_a_larger_step_that_the_user_asks_for_is_no_licence_either():
    problem = quantised(2)
    exact = problem.inputs["x"].astype(np.float64) * 20
    assert judge(problem, np.clip(np.floor(exact) - 1, -127, 127).astype(np.int8)).status is Status.FAILED


def test_what_a_row_shares_counts_once():
    """A scale that is rounded to 16 bits moves a whole row to one side: of three rows that says nothing."""
    rng = np.random.default_rng(0)
    reference = rng.uniform(1, 2, (40, 64))
    rounded = reference.astype(ml_dtypes.bfloat16)
    shared = (reference + 0.2 * 2**-7 * rng.choice((-1, 1), (40, 1))).astype(ml_dtypes.bfloat16)
    found = bias.systematic(shared, reference, rounded)
    assert found.bias < found.chance, "as many rows up as down, but for chance"
    assert found.chance > 4 * bias.systematic(rounded, reference, rounded).chance


def test_the_constants_lie_between_rounding_and_truncation():
    rng = np.random.default_rng(1)
    reference = rng.uniform(1, 2, (100, 100))
    found = {}
    for name, moved in (("nearest", 0.0), ("a tenth", 0.1), ("a sixth", 1 / 6), ("half", 0.5)):
        out = (reference - moved * 2**-7).astype(ml_dtypes.bfloat16)
        one = bias.systematic(out, reference, reference.astype(ml_dtypes.bfloat16))
        found[name] = one.bias - one.chance > bias.LEAST_BIAS, one.share - one.share_chance > bias.LEAST_SHARE
    assert found == {
        "nearest": (False, False),
        "a tenth": (False, False),
        "a sixth": (True, True),
        "half": (True, True),
    }


def test_what_the_dtype_holds_exactly_says_nothing():
    reference = np.arange(400.0).reshape(20, 20) % 250
    assert (
        bias.systematic(reference.astype(ml_dtypes.bfloat16), reference, reference.astype(ml_dtypes.bfloat16)) is None
    )


def test_sixty_four_elements_say_something():
    for size, says in ((63, False), (64, True)):
        reference = np.linspace(1, 2, 200)[1 : size + 1]
        found = bias.systematic(reference.astype(ml_dtypes.bfloat16), reference, reference.astype(ml_dtypes.bfloat16))
        assert (found is not None) is says
    mixed = np.concatenate([np.linspace(1, 2, 200)[1:64], np.full(50, 1.5)])  # 63 that are not exact
    assert bias.systematic(mixed.astype(ml_dtypes.bfloat16), mixed, mixed.astype(ml_dtypes.bfloat16)) is None


ULP = 2.0**-7
HALF = np.arange(1, 1 + 64).reshape(4, 16) % 100 * ULP + 1  # exact in bfloat16


def of(out, reference):
    narrow = ml_dtypes.bfloat16
    return bias.systematic(np.asarray(out).astype(narrow), reference, reference.astype(narrow))


@pytest.mark.parametrize("units", [0.25, -0.25, 0.125])
def test_a_bias_is_the_mean_of_what_counts(units):
    """Numbers that the dtype holds exactly do not, nor those that are not finite."""
    exact = np.concatenate([HALF, np.full((4, 30), 1.5), np.full((4, 2), np.inf)], axis=1)
    out, reference = exact.copy(), exact.copy()
    reference[:, :16] -= units * ULP
    reference[0, -1], out[1, -2], out[2, 16] = 1.51, np.nan, np.nan
    found = of(out, reference)
    assert found.bias == abs(units) and found.chance == 0 and found.share == 0


@pytest.mark.parametrize("by", [3, -3])
def test_an_error_of_many_units_counts_as_one(by):
    found = of(HALF + by * ULP, HALF + 0.25 * ULP)
    assert found.bias == 1.0 and found.share == 1.0


def test_errors_toward_zero_and_down_are_told_apart():
    sign = np.array([1.0, -1, 1, -1])[:, None]
    down, inward = of(sign * HALF, sign * HALF + 0.25 * ULP), of(sign * HALF, sign * (HALF + 0.25 * ULP))
    for found in (down, inward):
        assert (found.bias, found.chance) == (0.25, 0.0), "where the other mean is 0, which rows alone may make 1"


def test_how_many_are_not_nearest_by_chance():
    reference = np.tile(HALF.reshape(-1), 2)[:100] + 0.25 * ULP
    out = reference.astype(ml_dtypes.bfloat16).astype(float)
    out[:30] += ULP
    found = of(out, reference)
    assert found.share == 0.3 and found.share_chance == pytest.approx(0.12)


def test_chance_is_that_of_the_groups_that_err_together():
    rows = np.ones((4, 8)) * np.array([1.0, -1, 1, -1])[:, None]
    every = np.ones((4, 8), bool)
    for error in (rows, rows.T.copy()):
        assert bias.mean_and_chance(error, every.reshape(error.shape), 32) == (0.0, 4.0), "4 (1 + 4/4) 16/32"
    alone = np.where(np.add.outer(np.arange(4), np.arange(8)) % 2, 1.0, -1.0)
    assert bias.mean_and_chance(alone, every, 32) == (0.0, pytest.approx(4 * (1 + 4 / 32) * 32**0.5 / 32))
    few = np.ones((3, 8)) * np.array([2.0, -1, -1])[:, None]
    assert bias.mean_and_chance(few, every[:3], 24)[1] < 2, "three groups say nothing"
    padded, counts = np.zeros((4, 12)), np.zeros((4, 12), bool)
    padded[:, :8], counts[:, :8] = rows + 0.25, True
    assert bias.mean_and_chance(padded, counts, 32) == (0.25, 4.0)


def test_rounding_decides_up_to_16_bits_and_of_integers():
    applies = {name: bias.applies(dtype_of(name)) for name in ("float32", "float16", "float8_e5m2", "int32", "int8")}
    assert [name for name, yes in applies.items() if not yes] == ["float32"]
    reference = HALF + 1e-9
    assert bias.systematic(reference.astype(np.float32), reference, reference.astype(np.float32)) is None
    whole = np.arange(100) + 0.25
    found = bias.systematic(np.arange(100), whole, np.arange(100))
    assert (found.bias, found.share) == (0.25, 0.0)
    found = bias.systematic(np.arange(100), np.arange(100.0), np.arange(100))
    assert (found.bias, found.share) == (0.0, 0.0), "of integers every element counts"
