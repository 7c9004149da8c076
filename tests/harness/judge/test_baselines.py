"""How far baselines are off, which of them count, and what those that are made from a reference compute."""

import ml_dtypes
import numpy as np
import pytest

from triptych.harness.collection import builtin
from triptych.harness.judge.problem import Problem
from triptych.harness.judge.tolerance import expect
from triptych.harness.judge.yardstick import baseline_errors
from triptych.harness.judge.yardstick.baseline_errors import at_least, before_overflow, check_agreement, errors_of
from triptych.harness.judge.yardstick.baselines import Baselines, baselines_of, from_reference
from triptych.harness.ops.case import Case
from triptych.harness.ops.errors import InvalidOp, UninformativeCase
from triptych.harness.ops.op import Op

FLOAT, BF16 = np.float32, ml_dtypes.bfloat16
X = np.array([1.0, 2, 4, 8], FLOAT)


def problem_of(reference, inputs=None, dtype="float32"):
    inputs = {"x": X} if inputs is None else inputs
    return Problem(Op("op", lambda case, rng: inputs, reference, {}), Case("op", "c", {}, dtype), inputs)


def own(*functions, from_reference=False):
    return Baselines(functions, from_reference)


def half_more(x):
    return x + FLOAT(0.5)


def three_less(x):
    return x - FLOAT([3, 0, 0, 0])


def test_the_size_of_an_error_in_three_measures():
    problem, unit = problem_of(lambda x: 1.0 * x), np.array([0.25, 1, 1, 1])
    first, second = errors_of(problem, own(half_more, three_less), unit)
    assert (first.name, first.max_abs, first.l2, first.max_local) == ("half_more", 0.5, 1.0, 2.0)
    assert (second.name, second.max_abs, second.l2, second.max_local) == ("three_less", 3.0, 3.0, 12.0)
    assert first.systematic is None, "of float32"
    (without,) = errors_of(problem, own(half_more), None)
    assert (without.max_abs, without.max_local) == (0.5, 0.0)
    (exact,) = errors_of(problem, own(lambda x: x.copy()), unit)
    assert (exact.max_abs, exact.l2, exact.max_local) == (0.0, 0.0, 0.0)


def test_only_where_the_reference_is_finite():
    problem = problem_of(lambda x: np.where(x == 2, np.inf, x))
    (found,) = errors_of(problem, own(half_more), np.array([1.0, 0, 1, 1]))
    assert (found.max_abs, found.l2, found.max_local) == (0.5, pytest.approx(0.75**0.5), 0.5)
    (nowhere,) = errors_of(problem_of(lambda x: x * np.nan), own(half_more), np.ones(4))
    assert (nowhere.max_abs, nowhere.l2, nowhere.max_local) == (0.0, 0.0, 0.0)


def test_what_the_errors_of_16_bits_have_in_common():
    x = np.linspace(1, 2, 300).astype(BF16)
    (found,) = errors_of(
        problem_of(lambda x: x * 1.0837, {"x": x}, "bfloat16"), own(lambda x: x.astype(FLOAT) * 1.0837), None
    )
    assert found.systematic.share == 0.0 and found.systematic.bias < 0.1


def infinite(x):
    return x / FLOAT(0)


def test_a_baseline_that_leaves_the_range_is_left_out_unless_all_do():
    problem = problem_of(lambda x: 1.0 * x)
    assert [error.name for error in errors_of(problem, own(infinite, half_more), None)] == ["half_more"]
    with pytest.raises(InvalidOp, match=r"of op, no baseline is finite wherever the reference is \('infinite'\)"):
        errors_of(problem, own(infinite), None)


def test_what_is_no_baseline():
    problem = problem_of(lambda x: 1.0 * x)
    with pytest.raises(InvalidOp, match="is its reference, whose error is 0 by definition"):
        errors_of(problem, own(problem.op.reference), None)
    with pytest.raises(InvalidOp, match=r"baseline total has shape \(\) and the reference \(4,\)"):
        errors_of(problem, own(total), None)


def total(x):
    return x.sum()


def test_only_baselines_from_the_reference_get_inputs_as_wide_as_the_output():
    seen = []

    def noted(x):
        seen.append(x.dtype)
        return x.astype(FLOAT)

    problem = problem_of(lambda x: 1.0 * x, {"x": X.astype(BF16)})
    for made in (False, True):
        errors_of(problem, own(noted, from_reference=made), None)
    assert seen == [BF16, FLOAT]


def test_inputs_are_widened_and_never_narrowed():
    given = {"narrow": X.astype(np.float16), "same": X, "wide": X.astype(float), "i": np.arange(4, dtype=np.int8)}
    found = at_least(given, np.dtype(FLOAT))
    assert found["narrow"].dtype == FLOAT and all(found[name] is given[name] for name in ("same", "wide", "i"))
    assert at_least(given, np.dtype(np.int64))["narrow"] is given["narrow"]
    assert at_least(given, np.dtype(BF16))["narrow"] is given["narrow"], "which has as many bits"


@pytest.mark.parametrize(
    ("dtype", "out", "reference", "counts_as"),
    [
        ("float16", np.inf, 40000.0, 65520.0),
        ("float16", np.inf, 32760.0, np.inf),
        ("float16", -np.inf, -40000.0, -65520.0),
        ("float16", np.inf, -40000.0, np.inf),
        ("float16", 65520.0, 65500.0, 65520.0),
        ("float16", 65519.0, 65500.0, 65504.0),
        ("float8_e4m3fn", 500.0, 440.0, 500.0),
        ("float8_e4m3fn", 449.0, 440.0, 448.0),
    ],
)
def test_before_its_rounding_overflowed(dtype, out, reference, counts_as):
    dtype = np.dtype(getattr(ml_dtypes, dtype, dtype))
    found = before_overflow(np.array([1.00001, out]), np.array([1.0, reference]), dtype)
    assert found.tolist() == [1.0, counts_as]
    assert np.isnan(before_overflow(np.array([np.nan]), np.array([reference]), dtype)).all()


@pytest.mark.parametrize(("off", "agrees"), [(1.1e-4, True), (1.4e-4, False)])
def test_a_disagreement_is_of_2000_units_too(off, agrees):
    """Of ones a unit is half of the last place: 1.1e-4 are 1,850 of them, and 1.4e-4 are 2,350."""
    problem = problem_of(lambda x: 1.0 * x, {"x": np.ones(400, BF16)}, "bfloat16")
    baselines = own(lambda x: x * FLOAT(1 + off))
    if agrees:
        check_agreement(problem, baselines)
        return
    with pytest.raises(InvalidOp, match="disagree") as raised:
        check_agreement(problem, baselines)
    assert not isinstance(raised.value, UninformativeCase)
    with pytest.raises(UninformativeCase, match="evaluated in float32 is 0.00014 apart"):
        check_agreement(problem, own(*baselines.functions, from_reference=True))


def test_many_units_of_a_small_part_are_no_disagreement():
    problem = problem_of(lambda x: 1.0 * x, {"x": np.array([1e6] + [1.0] * 99, FLOAT)})
    check_agreement(problem, own(lambda x: x + FLOAT([0] + [1] * 99)))


def test_of_nothing_but_zeros_nothing_is_far():
    check_agreement(problem_of(lambda x: 0 * x), own(lambda x: 0 * x + FLOAT(1)))


def with_much_in_common(x):
    """exp(s - max s) of scores s near 20000, to which inputs come in steps: float32 has s to 0.002 and less."""
    scores = np.rint(x * 17.3) * 0.0231 + 20000
    return np.exp(scores - scores.max())


def test_rounding_that_no_input_is_moved_as_far_by_is_no_disagreement():
    x = np.random.default_rng(0).standard_normal(300).astype(BF16)
    problem = problem_of(with_much_in_common, {"x": x}, "bfloat16")
    check_agreement(problem, own(lambda x: with_much_in_common(x)))
    for wrong in (lambda x: FLOAT(1.02) * with_much_in_common(x), lambda x: with_much_in_common(FLOAT(1.1) * x)):
        with pytest.raises(InvalidOp, match="disagree"):
            check_agreement(problem, own(wrong))


def test_new_tokens_alone_of_a_float8_cache_have_a_tolerance():
    """Keys that are clipped give scores of 12,000, of which softmax sees the last two digits."""
    axes = {"B": 1, "H": 1, "Hkv": 1, "T": 3, "S": 3, "D": 2, "P": 3}
    op = builtin()["attention_decode_fp8_paged"]
    problem = Problem.of(op, Case(op.name, "c", axes, "bfloat16", regime="negative"))
    assert expect(problem.outputs["out"]).tolerance.rel_l2 < 0.05


def test_agreement_is_asked_in_float32_of_floats_alone():
    seen = {}

    def noted(**arguments):
        seen.update({name: x.dtype.name for name, x in arguments.items()})
        return arguments["x"] + arguments["i"]

    inputs = {"x": X.astype(BF16), "i": np.arange(4)}
    check_agreement(problem_of(lambda x, i: x + i, inputs, "bfloat16"), own(noted))
    assert seen == {"x": "float32", "i": "int64"}


def square(x, i=0):
    return x * x + i


def test_those_that_are_made_from_a_reference():
    float32, one_by_one, backwards, rounded = from_reference(square)
    made = baselines_of(Op("op", {"x": ("M",)}, square, {}))
    assert made.from_reference and made.finer().names == ["float32", "one_by_one", "backwards"]
    assert made.finer().from_reference and not baselines_of(Op("op", {}, square, {}, honest=(total,))).from_reference
    for narrow in (BF16, np.float16):
        assert float32(x=X.astype(narrow)).dtype == FLOAT
    assert float32(x=X).dtype == FLOAT and float32(x=X.astype(float)).dtype == np.float64
    indices = np.arange(4)
    assert float32(x=X, i=indices).tolist() == (X * X + indices).tolist()
    assert np.array_equal(one_by_one(x=X), X * X) and not np.array_equal(
        backwards(x=X + FLOAT(0.1)), (X + FLOAT(0.1)) ** 2
    )


def identity(x, other=None, i=0):
    return x + i


@pytest.mark.parametrize(
    ("dtype", "other", "unit"),
    [(FLOAT, None, 2.0**-23), (BF16, None, 2.0**-7), (BF16, FLOAT, 2.0**-23), (ml_dtypes.float8_e5m2, None, 2.0**-7)],
)
def test_inputs_are_rounded_once_more_in_the_finest_of_their_dtypes(dtype, other, unit):
    *_, rounded = from_reference(identity)
    given = {"x": np.ones(1000, dtype), "i": np.arange(1000) * 0}
    if other is not None:
        given["other"] = np.ones(1, other)
    moved = rounded(**given) - 1
    assert moved.dtype == np.float64 and 0.49 * unit < moved.max() <= 0.5 * unit
    assert -0.5 * unit <= moved.min() < -0.49 * unit


def test_a_nudge_leaves_other_dtypes_alone():
    i = np.arange(3)
    assert baseline_errors.nudge({"i": i}, 0)["i"] is i
