"""The judge catches planted bugs, rejects no honest kernel, and says what is wrong in one sentence."""

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

from triptych.harness import precision
from triptych.harness.collection import builtin
from triptych.harness.judge import tolerance
from triptych.harness.judge.bounds import requested_bounds
from triptych.harness.judge.problem import Problem
from triptych.harness.judge.verdict import judge
from triptych.harness.ops import regimes
from triptych.harness.ops.case import Case
from triptych.harness.ops.inputs import make_inputs
from triptych.harness.results.measures import Derived
from triptych.harness.results.record import to_plain
from triptych.harness.results.status import Status
from triptych.harness.upkeep.figures import honest_variants as variants

OPS = builtin()
REGIMES = ("normal", "tiny", "large", "offset")
DTYPES = ("float32", "bfloat16", "float16")
MATMUL = Case("matmul", "33x200x17", {"M": 33, "K": 200, "N": 17}, "float32")
ATTENTION = Case("attention", "a", {"B": 1, "H": 2, "Hkv": 1, "Sq": 40, "Sk": 90, "D": 24}, "float32", {"causal": True})


def verdict_on(kernel, case):
    op = OPS[case.op]
    inputs = make_inputs(op, case)
    with np.errstate(all="ignore"):
        return judge(Problem(op, case, inputs), kernel(**inputs, **case.params))


SMALL = {
    "matmul": [(1, 1, 1), (1, 300, 1), (3, 257, 5), (33, 200, 17)],
    "attention": [(1, 1, 1, 1, 1), (2, 1, 1, 130, 16), (2, 1, 5, 40, 8), (2, 2, 30, 70, 24)],
}


def small_cases(op, shape, seeds):
    if op == "matmul":
        axes, all_params = dict(zip("MKN", shape, strict=True)), [{}]
    else:
        h, hkv, sq, sk, d = shape
        axes, all_params = {"B": 1, "H": h, "Hkv": hkv, "Sq": sq, "Sk": sk, "D": d}, [{"causal": c} for c in (0, 1)]
    for params in all_params:
        for regime in (*REGIMES, "nonfinite"):
            for dtype in DTYPES:
                for seed in seeds:
                    yield Case(op, "small", axes, dtype, params, regime, seed)


LENGTHY = [pytest.param("attention", shape, marks=pytest.mark.slow) for shape in SMALL["attention"][1:]]
QUICK = [*(("matmul", shape) for shape in SMALL["matmul"]), ("attention", SMALL["attention"][0])]


@pytest.mark.parametrize(("op", "shape"), [*QUICK, *LENGTHY])
def test_no_honest_kernel_is_rejected(op, shape):
    """Over regimes, dtypes and seeds, well over 200 draws an op; single-element outputs included."""
    for case in small_cases(op, shape, seeds=range(2)):
        inputs = make_inputs(OPS[op], case)
        expected = tolerance.expect(Problem(OPS[op], case, inputs))
        for name, kernel in variants.HONEST[op].items():
            with np.errstate(all="ignore"):
                out = kernel(**inputs, **case.params)
            verdict = judge(Problem(OPS[op], case, inputs), out, expected=expected)
            assert verdict.status is Status.PASSED, (name, case, verdict.reason)


def doubled(lhsT, rhs):
    """The bug: one element of ordinary size counts twice."""
    out = variants.matmul_by(64)(lhsT, rhs)
    flat = out.reshape(-1)
    flat[np.argsort(np.abs(flat.astype(np.float32)))[3 * flat.size // 4]] *= 2
    return out


def without_last_tile(lhsT, rhs):
    """The bug: the ragged last tile of K is forgotten."""
    k = (lhsT.shape[0] - 1) // 64 * 64
    return variants.matmul_by(64)(lhsT[:k], rhs[:k])


BUGS = {
    "last tile missing": (MATMUL, without_last_tile),
    "one element doubled": (MATMUL, doubled),
    "transposed result": (replace(MATMUL, axes={"M": 30, "K": 200, "N": 30}), lambda lhsT, rhs: rhs.T @ lhsT),
    "zeros": (MATMUL, lambda lhsT, rhs: np.zeros((33, 17), lhsT.dtype)),
    "scale missing": (ATTENTION, variants.attention_by(32, scaled=False)),
    "mask one too far": (ATTENTION, variants.attention_by(32, shift=1)),
    "mask one too short": (ATTENTION, variants.attention_by(32, shift=-1)),
    "no mask": (ATTENTION, lambda q, k, v, causal: variants.attention_by(32)(q, k, v, causal=False)),
    "last keys missing": (ATTENTION, lambda q, k, v, causal: variants.attention_by(32)(q, k[:, :, :64], v[:, :, :64])),
    "max not subtracted": (ATTENTION, lambda **arguments: without_max(**arguments)),
}


def without_max(q, k, v, causal):
    """The bug: exponentials of raw scores overflow float32 where scores are large."""
    q, k, v = (x.astype(np.float32) for x in (q, np.repeat(k, 2, axis=1), np.repeat(v, 2, axis=1)))
    weights = np.exp(q @ k.swapaxes(-1, -2) / np.float32(np.sqrt(q.shape[-1])))
    weights *= np.arange(90)[None] <= np.arange(40)[:, None] + 50
    return weights @ v / weights.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bug", BUGS)
def test_planted_bugs_are_caught(bug, dtype):
    """A bug counts as caught if one regime shows it."""
    case, kernel = BUGS[bug]

    def rounded(**arguments):
        return kernel(**arguments).astype(regimes.dtype_of(dtype))

    verdicts = [verdict_on(rounded, replace(case, dtype=dtype, regime=regime)) for regime in REGIMES]
    assert Status.FAILED in [verdict.status for verdict in verdicts]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("case", "kernel"),
    [
        (
            replace(MATMUL, axes={"M": 33, "K": 512, "N": 17}),
            variants.matmul_by(32, accumulate=ml_dtypes.bfloat16),
        ),
        (
            replace(ATTENTION, axes={**ATTENTION.axes, "Sk": 400}),
            variants.attention_by(16, accumulate=ml_dtypes.bfloat16),
        ),
    ],
)
def test_accumulation_in_bfloat16_is_caught(case, kernel, dtype):
    assert verdict_on(kernel, replace(case, dtype=dtype)).status is Status.FAILED


def judged(out, *, dtype="float32", **bounds):
    """The verdict on `out` for a small matmul, whose inputs are returned too."""
    case = replace(MATMUL, axes={"M": 4, "K": 8, "N": 6}, dtype=dtype)
    inputs = make_inputs(OPS["matmul"], case)
    problem = Problem(OPS["matmul"], case, inputs)
    expected = tolerance.expect(problem, requested_bounds(**bounds))
    return judge(problem, out(inputs) if callable(out) else out, expected)


def right(inputs):
    return (inputs["lhsT"].T @ inputs["rhs"]).astype(np.float32)


@pytest.mark.parametrize(
    ("out", "said"),
    [
        (None, "the kernel returned None instead of an array: return its output"),
        ((1, 2), "the kernel returned 2 values instead of one array: an op has one output, which it must return alone"),
        ("text", "the kernel returned a str instead of one array: an op has one output, which it must return alone"),
        (np.zeros((6, 4), np.float32), r"the output has a wrong shape: expected (4, 6), got (6, 4)"),
        (np.zeros((4, 6), np.float64), "the output has a wrong dtype: expected float32, got float64"),
    ],
)
def test_what_is_no_output_is_an_error(out, said):
    verdict = judged(out)
    assert (verdict.status, verdict.reason) == (Status.ERROR, said)


def test_an_output_that_is_an_input_or_the_reference_is_an_error():
    case = replace(MATMUL, axes={"M": 4, "K": 4, "N": 4})
    op, inputs = OPS["matmul"], make_inputs(OPS["matmul"], case)
    expected = tolerance.expect(Problem(op, case, inputs))
    for out, said in ((inputs["rhs"], "shares memory with input rhs"), (expected.rounded, "reference's own array")):
        verdict = judge(Problem(op, case, inputs), out, expected=expected)
        assert verdict.status is Status.ERROR and said in verdict.reason


def test_nothing_to_compare_is_an_error():
    op = replace(OPS["matmul"], reference=lambda lhsT, rhs: np.zeros((0, 3)))
    verdict = judge(Problem.of(op, MATMUL), np.zeros((0, 3), np.float32))
    assert verdict.status is Status.ERROR and "nothing to compare" in verdict.reason


def test_what_the_reference_refuses_is_an_error():
    case = replace(MATMUL, axes={"M": 4, "K": 0, "N": 6})
    verdict = judge(Problem.of(OPS["matmul"], case), np.zeros((4, 6), np.float32))
    assert verdict.status is Status.ERROR and "no axis of size zero" in verdict.reason


def test_a_failure_names_index_values_count_and_bound():
    def wrong(inputs):
        out = right(inputs)
        out[3, 5] = 7
        return out

    verdict = judged(wrong)
    assert verdict.status is Status.FAILED
    assert verdict.metrics.worst_index == [3, 5] and verdict.metrics.mismatches == 1
    assert verdict.reason.startswith("1 of 24 elements off by more than")
    assert "honest baselines such as 'tiled'" in verdict.reason and "got 7" in verdict.reason


@pytest.mark.parametrize("strange", [np.nan, np.inf])
def test_a_nonfinite_element_where_the_reference_is_finite_fails(strange):
    def wrong(inputs):
        out = right(inputs)
        out[1, 2] = strange
        return out

    verdict = judged(wrong)
    assert verdict.status is Status.FAILED and verdict.metrics.worst_index == [1, 2]
    assert "NaN or infinite unlike the reference" in verdict.reason
    assert np.isfinite([verdict.metrics.max_abs, verdict.metrics.rel_l2]).all()


def test_an_infinity_of_the_wrong_sign_fails():
    case = replace(MATMUL, regime="nonfinite")
    op, inputs = OPS["matmul"], make_inputs(OPS["matmul"], case)
    with np.errstate(invalid="ignore"):
        out = inputs["lhsT"].T @ inputs["rhs"]
    assert judge(Problem(op, case, inputs), out).status is Status.PASSED
    assert judge(Problem(op, case, inputs), np.where(np.isinf(out), -out, out)).status is Status.FAILED


def test_bounds_of_the_command_line_replace_the_derived_ones():
    loose = judged(lambda inputs: right(inputs) + np.float32(0.01), atol=0.1)
    tight = judged(right, rtol=0.0, atol=0.0)
    assert loose.status is Status.PASSED and tight.status is Status.FAILED
    asked = {"source": "command line", "regime": "normal", "rule": "fixed", "rtol": 0.0, "atol": 0.1}
    assert to_plain(loose.tolerance) == asked
    assert "where the command line allows no difference" in tight.reason


def test_the_tolerance_says_where_it_came_from():
    found = judged(right).tolerance
    assert isinstance(found, Derived)
    assert (found.source, found.factor, found.regime) == ("default", 2, "normal")
    assert found.baseline in found.baselines == ["tiled", "sequential"] and found.draws == 32
    assert found.max_abs >= found.floor > 0 and found.rel_l2 > 0 and found.max_local >= 4


def test_an_error_of_many_small_steps_fails_by_its_norm():
    def drifted(inputs):
        return right(inputs) + np.float32(bound * 0.55)

    bound = judged(right).tolerance.max_abs
    verdict = judged(drifted)
    assert verdict.status is Status.FAILED and "relative L2 error" in verdict.reason


@pytest.mark.parametrize(
    ("dtype", "value", "spacing"),
    [
        ("float32", 1.0, 2**-23),
        ("bfloat16", 1.0, 2**-7),
        ("bfloat16", 255.0, 1.0),
        ("float16", 1.0, 2**-10),
        ("float16", 0.0, 2**-24),
        ("float8_e4m3fn", 1.0, 2**-3),
    ],
)
def test_ulp(dtype, value, spacing):
    assert precision.ulp(regimes.dtype_of(dtype), value) == spacing


@pytest.mark.parametrize("dtype", DTYPES)
def test_ulps_apart_counts_representable_numbers(dtype):
    dtype = regimes.dtype_of(dtype)
    step = precision.ulp(dtype, 1.0)
    tiny = precision.ulp(dtype, 0.0)
    a = np.array([1, 1, 1, -1, 0.0, -0.0, tiny], dtype)
    b = np.array([1, 1 + step, 1 - step, -1 - 3 * step, -0.0, tiny, -tiny], dtype)
    assert precision.ulps_apart(a, b).tolist() == [0, 1, 2, 3, 0, 1, 2]
