"""Metrics on examples worked out by hand, in every float dtype."""

import json
import math

import ml_dtypes
import numpy as np
import pytest

from triptych.harness.dtypes import dtype_of
from triptych.harness.judge import comparison
from triptych.harness.judge.problem import Problem
from triptych.harness.judge.tolerance import Expected
from triptych.harness.judge.verdict import judge
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Op
from triptych.harness.precision import overflow, ulp, ulps_apart
from triptych.harness.results.measures import Fixed, Kinds
from triptych.harness.results.record import to_plain
from triptych.harness.results.status import Status

FORMATS = {  # mantissa bits, largest, smallest subnormal, what an infinity becomes
    "float8_e4m3fn": (3, 448, 2**-9, "nan"),
    "float8_e4m3": (3, 240, 2**-9, "inf"),
    "float8_e5m2": (2, 57344, 2**-16, "inf"),
    "float8_e3m4": (4, 15.5, 2**-6, "inf"),
    "float8_e4m3fnuz": (3, 240, 2**-10, "nan"),
    "float8_e5m2fnuz": (2, 57344, 2**-17, "nan"),
    "bfloat16": (7, (2 - 2**-7) * 2.0**127, 2.0**-133, "inf"),
    "float16": (10, 65504, 2**-24, "inf"),
    "float32": (23, (2 - 2**-23) * 2.0**127, 2.0**-149, "inf"),
}


def compared(dtype, reference, out):
    reference = np.array(reference, np.float64)
    exact = Fixed(source="op", regime="normal", rtol=0.0, atol=0.0)
    expected = Expected(reference, reference.astype(dtype_of(dtype)), exact)
    return comparison.metrics(comparison.compare(np.array(out, dtype_of(dtype)), expected))


@pytest.mark.parametrize("dtype", FORMATS)
def test_units_in_the_last_place(dtype):
    bits, largest, smallest, infinity = FORMATS[dtype]
    of = dtype_of(dtype)
    assert ulp(of, 1.0) == 2.0**-bits and ulp(of, 1.99) == 2.0**-bits and ulp(of, 2.0) == 2.0 ** (1 - bits)
    assert ulp(of, 0.0) == smallest == ulp(of, smallest)
    assert overflow(of) == largest + ulp(of, largest) / 2 and float(np.array(largest, of)) == largest
    with np.errstate(over="ignore"):
        assert str(float(np.array(np.inf).astype(of))) == infinity
    steps = [1.0, 1 + 2.0**-bits, -1.0, 0.0, -0.0, smallest, -smallest]
    a, b = (np.array(x, of) for x in (steps[:-1], steps[1:]))
    below_one = int(ulps_apart(np.array([0.0], of), np.array([1.0], of))[0])
    assert ulps_apart(a, b).tolist() == [1, 2 * below_one + 1, below_one, 0, 1, 2]


@pytest.mark.parametrize("dtype", FORMATS)
def test_all_metrics_of_four_numbers(dtype):
    step = 2.0 ** -FORMATS[dtype][0]
    found = compared(dtype, [1.0, -2.0, 2.0, 4.0], [1 + step, -2.0, 2.0, 4 + 8 * step])
    assert found.max_abs == 8 * step and found.max_rel == 2 * step and found.max_ulp == 2
    assert found.max_abs_ulp == 2 and found.worst_index == [3] and found.mismatches == 2
    assert found.rel_l2 == pytest.approx(step * math.sqrt(65) / 5)
    norm = math.sqrt((1 + step) ** 2 + 8 + (4 + 8 * step) ** 2)
    assert found.cosine == pytest.approx((1 + step + 8 + 16 + 32 * step) / (5 * norm))
    assert (found.expected, found.got) == (4.0, 4 + 8 * step)


@pytest.mark.parametrize("dtype", FORMATS)
def test_nan_and_infinities_by_position(dtype):
    reference = [np.nan, np.inf, -np.inf, 1.0, 2.0, np.nan]
    right = compared(dtype, reference, reference).nonfinite
    assert right.misplaced == 0 and right.got == right.expected
    with_infinities = FORMATS[dtype][3] == "inf"
    counts = Kinds(nan=2, inf=1, minus_inf=1) if with_infinities else Kinds(nan=4, inf=0, minus_inf=0)
    assert right.expected == counts
    wrong = compared(dtype, reference, [np.nan, -np.inf, -np.inf, np.nan, 2.0, 0.0])
    misplaced = [[1], [3], [5]] if with_infinities else [[3], [5]]
    assert wrong.nonfinite.at == misplaced and wrong.nonfinite.misplaced == len(misplaced)
    assert wrong.max_abs == 0.0 and wrong.mismatches == len(misplaced)
    assert json.loads(json.dumps(to_plain(wrong), allow_nan=False))["nonfinite"]["at"] == misplaced


@pytest.mark.parametrize("dtype", ["float6_e2m3fn", "float6_e3m2fn", "float4_e2m1fn"])
def test_formats_that_have_neither_nan_nor_infinity(dtype):
    """Their casts saturate, so that the reference does."""
    op = Op("cast", {"x": ("N",)}, lambda x: x, [])
    x = np.array([900, 1, -3, 2, np.inf, -700], np.float32)
    out = x.astype(dtype_of(dtype))
    verdict = judge(Problem(op, Case("cast", "c", {"N": 6}, dtype), {"x": x}), out)
    assert verdict.status is Status.PASSED and verdict.metrics.max_ulp == verdict.metrics.max_abs == 0
    out[0] = 1
    assert judge(Problem(op, Case("cast", "c", {"N": 6}, dtype), {"x": x}), out).status is Status.FAILED


def test_a_saturating_kernel_is_told_what_its_reference_lacks():
    op = Op("cast", {"x": ("N",)}, lambda x: x, [])
    x = np.array([900, 1, -3, 2, 500, -700], np.float32)
    case, saturating = Case("cast", "c", {"N": 6}, "float8_e4m3fn"), np.clip(x, -448, 448)
    verdict = judge(Problem(op, case, {"x": x}), saturating.astype(ml_dtypes.float8_e4m3fn))
    assert verdict.status is Status.FAILED
    assert verdict.reason.endswith("; if float8_e4m3fn is meant to saturate, let the reference clip to 448 as well")
    clipped = Op("cast", {"x": ("N",)}, lambda x: np.clip(x, -448, 448), [])
    assert judge(Problem(clipped, case, {"x": x}), saturating.astype(ml_dtypes.float8_e4m3fn)).status is Status.PASSED
