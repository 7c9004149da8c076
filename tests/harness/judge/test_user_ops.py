"""Ops that users write, judged by the baselines that an op gets by default: honest kernels pass, wrong ones do not."""

import math
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

from triptych.harness.dtypes import dtype_of
from triptych.harness.judge import local_units, sensitivity, tolerance
from triptych.harness.judge.problem import Problem
from triptych.harness.judge.verdict import judge
from triptych.harness.judge.yardstick import serial_arithmetic
from triptych.harness.ops.case import Case
from triptych.harness.ops.cases import cases_of
from triptych.harness.ops.errors import UninformativeCase
from triptych.harness.ops.inputs import make_inputs
from triptych.harness.ops.op import Op
from triptych.harness.ops.regimes import REGIMES
from triptych.harness.precision import round_to
from triptych.harness.results.status import Status
from triptych.harness.running import runner
from triptych.harness.running.tasks import Task

FLOAT = np.float32
erf = np.vectorize(math.erf)


def one_by_one(x):
    return np.add.accumulate(x, axis=1, dtype=x.dtype)[:, -1:]


def backwards(x):
    return one_by_one(x[:, ::-1])


def softmax(x):
    e = np.exp(x.astype(np.float64) - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def softmax_by(total, exp=np.exp):
    def kernel(x):
        e = exp(x - x.max(axis=1, keepdims=True))
        return e * (FLOAT(1) / total(e))

    return kernel


def base_2(x):
    return np.exp2(x * FLOAT(math.log2(math.e)))


def layernorm(x, w, b):
    centred = x - x.mean(axis=1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5) * w + b


def layernorm_by(total, eps=1e-5, less=0):
    def kernel(x, w, b):
        centred = x - total(x) * FLOAT(1 / x.shape[1])
        variance = total(centred * centred) / FLOAT(x.shape[1] - less)
        return centred * (FLOAT(1) / np.sqrt(variance + FLOAT(eps))) * w + b

    return kernel


def welford(x, w, b):
    mean = np.zeros((len(x), 1), FLOAT)
    squares = np.zeros_like(mean)
    for i in range(x.shape[1]):
        before = x[:, i : i + 1] - mean
        mean = mean + before * FLOAT(1 / (i + 1))
        squares = squares + before * (x[:, i : i + 1] - mean)
    return (x - mean) / np.sqrt(squares * FLOAT(1 / x.shape[1]) + FLOAT(1e-5)) * w + b


def gelu(x):
    return 0.5 * x * (1 + erf(x / np.sqrt(2)))


def fast_gelu(x):
    wave = FLOAT(1) + FLOAT(2**-23) * np.sign(np.sin(1e4 * np.nan_to_num(x, posinf=0, neginf=0))).astype(FLOAT)
    return np.where(
        x == -np.inf, FLOAT(np.nan), x * (FLOAT(0.5) + FLOAT(0.5) * (erf(x * FLOAT(0.7071068)).astype(FLOAT) * wave))
    )


def tanh_gelu(x):
    return x * (FLOAT(0.5) + FLOAT(0.5) * np.tanh(FLOAT(0.7978846) * (x + FLOAT(0.044715) * x**3)))


def row_sum(x):
    return x.sum(axis=1)


def in_bfloat16(x):
    total = np.zeros(len(x), ml_dtypes.bfloat16)
    for column in x.T:
        total = (total.astype(FLOAT) + column).astype(ml_dtypes.bfloat16)
    return total.astype(FLOAT)


SIZES = [{"R": 40, "C": 300}, {"R": 3, "C": 1500}]
OPS = {
    "softmax": Op("softmax", {"x": ("R", "C")}, softmax, SIZES),
    "layernorm": Op("layernorm", {"x": ("R", "C"), "w": ("C",), "b": ("C",)}, layernorm, SIZES),
    "gelu": Op("gelu", {"x": ("R", "C")}, gelu, [{"R": 20, "C": 64}]),
    "sum": Op("sum", {"x": ("R", "C")}, row_sum, SIZES),
}
HONEST = {
    "softmax": [softmax_by(one_by_one), softmax_by(backwards, base_2), softmax_by(one_by_one, base_2)],
    "layernorm": [layernorm_by(one_by_one), layernorm_by(backwards), welford],
    "gelu": [fast_gelu],
    "sum": [lambda x: one_by_one(x)[:, 0], lambda x: backwards(x)[:, 0], row_sum],
}
WRONG = {
    "softmax": [softmax_by(lambda e: one_by_one(e[:, :-1])), lambda x: np.exp(x) / (np.exp(x).sum(1)[:, None] + 0.01)],
    "layernorm": [layernorm_by(one_by_one, eps=1e-3), layernorm_by(one_by_one, less=1), lambda x, w, b: x * w + b],
    "gelu": [tanh_gelu],
    "sum": [in_bfloat16, lambda x: x[:, :-1].sum(axis=1)],
}


def judged(op, case, kernels):
    """The reasons why kernels, which compute in float32, are rejected; None where they pass."""
    inputs = make_inputs(op, case)
    expected = tolerance.expect(Problem(op, case, inputs))
    expected = sensitivity.check(Problem(op, case, inputs), expected)
    wide = {name: x.astype(FLOAT) for name, x in inputs.items()}
    with np.errstate(all="ignore"):
        outs = [round_to(np.array(kernel(**wide)), dtype_of(case.dtype)) for kernel in kernels]
    return [judge(Problem(op, case, inputs), out, expected=expected).reason for out in outs]


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("name", OPS)
def test_honest_kernels_pass_whatever_their_order_of_sums(name, regime):
    op = OPS[name]
    for case in cases_of(op, ["smoke"], ["float32", "bfloat16"], {}, seed=1):
        case = replace(case, regime=regime, name=f"{case.name}-{regime}")
        if (name, regime) == ("gelu", "negative"):  # zero everywhere
            with pytest.raises(UninformativeCase):
                judged(op, case, HONEST[name])
            continue
        assert judged(op, case, HONEST[name]) == [None] * len(HONEST[name])


@pytest.mark.parametrize("name", OPS)
def test_wrong_kernels_do_not(name):
    op = OPS[name]
    regime = {"layernorm": "tiny"}.get(name, "normal")
    for case in cases_of(op, ["smoke"], ["float32"], {}, seed=1):
        case = replace(case, regime=regime)
        assert None not in judged(op, case, WRONG[name])


def test_stepwise_arrays_stay_so_and_sum_one_after_the_other():
    x = np.random.default_rng(0).standard_normal((4, 1000)).astype(FLOAT)
    w = np.random.default_rng(1).standard_normal((1000, 3)).astype(FLOAT)
    forward = np.add.accumulate(x, axis=1)[:, -1]
    contracted = np.zeros((4, 3), FLOAT)
    for k in range(1000):
        contracted += x[:, k : k + 1] * w[k]
    for reference in (row_sum, lambda x: np.sum(x.astype(np.float64), axis=-1), lambda x: np.einsum("ij->i", x)):
        assert np.array_equal(serial_arithmetic.evaluate(reference, {"x": x}, False), forward)
        assert not np.array_equal(serial_arithmetic.evaluate(reference, {"x": x}, True), forward)
    for product in (lambda x, w: x @ w, lambda x, w: np.einsum("ik,kj->ij", x, w), lambda x, w: np.dot(x, w)):
        assert np.array_equal(serial_arithmetic.evaluate(product, {"x": x, "w": w}, False), contracted)
    off = serial_arithmetic.evaluate(lambda x: np.sqrt(x), {"x": np.full(64, 2, FLOAT)}, False)
    assert set(np.round((off.astype(float) / 2**0.5 - 1) / 2**-23)) == {-2, 2}
    assert serial_arithmetic.evaluate(row_sum, {"x": x.astype(np.float64)}, False).dtype == np.float64


def test_references_that_refuse_such_arrays_are_computed_plainly():
    def picky(x):
        if type(x) is not np.ndarray:
            raise TypeError("an ndarray, please")
        return 2 * x

    assert np.array_equal(serial_arithmetic.evaluate(picky, {"x": np.ones(3, FLOAT)}, False), [2, 2, 2])


def test_a_baseline_that_overflows_is_left_out():
    def naive(x):
        return np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)

    case = Case("naive", "n", {"R": 9, "C": 900}, "float32", regime="large")
    op = Op("naive", {"x": ("R", "C")}, naive, [])
    assert judged(op, case, HONEST["softmax"]) == [None] * 3
    assert "NaN or infinite" in judged(op, case, [naive])[0]


def test_the_coarsest_baseline_is_left_out_where_it_takes_the_teeth(monkeypatch):
    """Without local units: one more rounding of a float16 number moves it by a good part of a wave."""

    def wave(x):
        return np.sin(1500 * x)

    monkeypatch.setattr(local_units, "LOCAL_LIMIT", 0)
    op, case = Op("wave", {"x": ("R", "C")}, wave, []), Case("wave", "w", {"R": 30, "C": 40}, "float16")
    problem = Problem.of(op, case)
    coarse = tolerance.expect(problem)
    assert "one element doubled" in sensitivity.try_mutations(problem, coarse).accepted
    finer = sensitivity.check(problem, coarse)
    assert finer.tolerance.sensitivity.accepted == [] and "rounded_once_more" not in finer.tolerance.baselines
    assert judged(op, case, [lambda x: np.sin(FLOAT(1500) * x)]) == [None]


def test_divisions_by_powers_of_two_are_exact_as_everywhere():
    """The mean of one number is that number."""
    x = np.array([0, 1, 4, 0.25, np.inf], FLOAT)
    assert np.array_equal(serial_arithmetic.evaluate(lambda x: 3 * x / 8, {"x": x}, False), 3 * x / 8)
    assert np.array_equal(serial_arithmetic.evaluate(lambda x: x.mean(axis=1), {"x": x[:, None]}, False), x)


def exp(x):
    return np.exp(x)


@pytest.mark.parametrize(
    ("dtype", "x", "returned", "accepted"),
    [
        (
            "float16",
            math.log(65519),
            np.inf,
            True,
        ),  # one float32 rounding further it is 65520, which rounds to infinity
        ("float16", math.log(65521), 65504, True),
        ("float16", math.log(65500), np.inf, False),
        ("float16", math.log(66000), 65504, False),
        ("float8_e5m2", math.log(61400), np.inf, True),
        ("float8_e5m2", math.log(57344), np.inf, False),
        ("float8_e4m3fn", math.log(463.9), np.nan, True),
        ("float8_e4m3fn", math.log(464.1), 448, True),
        ("float8_e4m3fn", math.log(448), np.nan, False),
        ("float8_e4m3fn", math.log(900), 448, False),  # a saturating cast, where the reference does not saturate
    ],
)
def test_rounding_may_decide_what_overflows_and_nothing_else(dtype, x, returned, accepted):
    inputs = {"x": np.linspace(0, 5, 40).astype(FLOAT)}
    inputs["x"][7] = x
    op = Op("exp", lambda case, rng: inputs, exp, [])
    case = Case("exp", "e", {}, dtype)
    out = round_to(np.exp(inputs["x"]), dtype_of(dtype))
    assert judge(Problem(op, case, inputs), out).status is Status.PASSED
    out[7] = returned
    verdict = judge(Problem(op, case, inputs), out)
    assert (verdict.status is Status.PASSED) == accepted, verdict.reason


def test_finite_inputs_stay_finite_in_narrow_dtypes():
    op = Op("same", {"x": ("N",)}, lambda x: x, [])
    for regime in REGIMES[:-1]:
        x = make_inputs(op, Case("same", "s", {"N": 4000}, "float8_e3m4", regime=regime))["x"]
        assert np.isfinite(x.astype(FLOAT)).all()


FILE = """
import numpy as np
from triptych import Op
op = Op("row_norm", {"x": ("R", "C")}, lambda x: np.sqrt((x * x).sum(axis=1)), [{"R": 4, "C": 30}],
        dtypes=("float32", "float8_e3m4"))
"""


@pytest.mark.parametrize(
    ("regime", "dtype", "said"),
    [("subnormal", "float32", "evaluated in float32 is 1 apart"), ("tiny", "float8_e3m4", "zero in all 4 elements")],
)
def test_a_regime_that_does_not_suit_an_op_is_no_error(tmp_path, regime, dtype, said):
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    task = Task("row_norm", str(path), Case("row_norm", "n", {"R": 4, "C": 30}, dtype, {}, regime), "numpy", None)
    (result,) = runner.run([task], timeout_s=60)
    assert result.status is Status.UNSUPPORTED and said in result.reason, result.reason
    assert result.reason.endswith(
        f"{regime} inputs do not suit the op in {dtype}, unless it draws them itself (`inputs=`)"
    )


@pytest.mark.parametrize("size", [1, 9])
def test_normal_inputs_must_say_something_unless_a_size_is_one(size):
    op = Op("nothing", {"x": ("N",)}, lambda x: 0 * x, [])
    case = Case("nothing", "n", {"N": size}, "float32")
    with pytest.raises(UninformativeCase) as raised:
        tolerance.expect(Problem.of(op, case))
    assert raised.value.unsuitable == (size == 1)


def test_one_rounding_of_each_element_is_within_the_norm():
    """Few different values may all be rounded with luck by the baselines; a kernel that rounds earlier has none."""
    op = Op("third", {"x": ("N",)}, lambda x: 1 / 2049 + 0 * x, [])
    case = Case("third", "t", {"N": 50}, "float16")
    inputs = make_inputs(op, case)
    assert tolerance.expect(Problem(op, case, inputs)).tolerance.rel_l2 >= 2**-11
