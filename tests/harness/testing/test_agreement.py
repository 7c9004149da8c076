"""`assert_agree`: what passes, what does not, and what it says."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import triptych
from triptych.harness.testing.agreement import as_array

RNG = np.random.default_rng(0)
DTYPES = [np.float32, np.float16, np.float64, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn]


def softmax(x: Any) -> Any:
    """out[R, C] = softmax of each row of x[R, C]."""
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


OP = triptych.Op("soft", {"x": ("R", "C")}, softmax, [{"R": 4, "C": 8}])


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_rounded_result_agrees_and_a_wrong_one_does_not(dtype: Any) -> None:
    expected = RNG.normal(size=(16, 32))
    actual = expected.astype(dtype)
    triptych.assert_agree(actual, expected)
    for wrong in (np.zeros_like(actual), actual * dtype(2), np.roll(actual, 1), np.full_like(actual, np.nan)):
        with pytest.raises(AssertionError):
            triptych.assert_agree(wrong, expected)


def test_the_sum_of_a_thousand_terms_agrees_in_float32() -> None:
    a, b = RNG.normal(size=(2, 64, 1024)).astype(np.float32)
    exact = a.astype(np.float64) @ b.astype(np.float64).T
    one_by_one = np.cumsum(a[:, None] * b[None], axis=2, dtype=np.float32)[..., -1]
    triptych.assert_agree(one_by_one, exact)
    with pytest.raises(AssertionError):
        triptych.assert_agree(one_by_one * np.float32(1.0001), exact)


def test_the_coarser_dtype_decides() -> None:
    x = RNG.normal(size=100).astype(np.float32)
    triptych.assert_agree(x, x.astype(ml_dtypes.bfloat16))
    with pytest.raises(AssertionError):
        triptych.assert_agree(x.astype(ml_dtypes.bfloat16).astype(np.float32), x)


def test_nan_and_infinity_agree_where_both_have_them() -> None:
    values = np.array([1.0, np.nan, np.inf, -np.inf], np.float32)
    triptych.assert_agree(values, values.copy())
    with pytest.raises(AssertionError, match="NaN or infinite unlike the reference"):
        triptych.assert_agree(values[::-1].copy(), values)


def test_integers_and_booleans_must_be_equal() -> None:
    triptych.assert_agree(np.arange(5), np.arange(5))
    triptych.assert_agree(np.array([True, False]), [True, False])
    with pytest.raises(AssertionError, match=r"1 of 5 elements differ, .* no difference.* at \[4\]: expected 4, got 5"):
        triptych.assert_agree(np.array([0, 1, 2, 3, 5]), np.arange(5))
    with pytest.raises(AssertionError, match=f"expected {2**62}, got {2**62 + 1}"):  # one number in float64
        triptych.assert_agree(np.array([2**62 + 1]), np.array([2**62]))
    with pytest.raises(AssertionError, match="expected holds 300 .* no such number"):
        triptych.assert_agree(np.array([44], np.uint8), np.array([300]))


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2", "float6_e2m3fn", "float4_e2m1fn"])
def test_narrow_dtypes_are_allowed_their_rounding_and_no_zeros(dtype: str) -> None:
    narrow = getattr(ml_dtypes, dtype)
    x = RNG.normal(size=(16, 32))
    triptych.assert_agree(x.astype(narrow), x)
    for wrong, expected in ((x * 1.5, x), (np.zeros((2, 2)), np.ones((2, 2)))):
        with pytest.raises(AssertionError):
            triptych.assert_agree(wrong.astype(narrow), expected)


def test_the_message_says_where_by_how_much_and_what_was_allowed() -> None:
    expected = np.ones((4, 8))
    actual = expected.astype(np.float32)
    actual[2, 5] = 1.5
    with pytest.raises(AssertionError) as caught:
        triptych.assert_agree(actual, expected)
    text = str(caught.value)
    assert "1 of 32 elements beyond atol 7.63e-06 + rtol 7.63e-06 x |reference| of the dtype" in text
    assert "worst at [2, 5]: expected 1, got 1.5" in text and "float32[4, 8], largest error 0.5" in text
    assert "2  .....#.." in text and "a rule of thumb" in text


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_with_an_op_the_tolerance_is_derived_from_the_inputs(dtype: Any, scale: float) -> None:
    x = (RNG.normal(size=(40, 64)) * scale).astype(dtype)
    exact = softmax(x.astype(np.float64))
    triptych.assert_agree(exact.astype(dtype), op=OP, inputs={"x": x})
    triptych.assert_agree(exact.astype(dtype), exact, op=OP, inputs={"x": x})
    with pytest.raises(AssertionError, match="honest baselines"):
        triptych.assert_agree((exact * 1.3).astype(dtype), op=OP, inputs={"x": x})


def test_an_op_of_triptych_goes_by_its_name() -> None:
    q, k, v = RNG.normal(size=(3, 1, 1, 16, 8)).astype(np.float32)
    s = np.where(np.tri(16, dtype=bool), q[0, 0].astype(np.float64) @ k[0, 0].T.astype(np.float64) / 8**0.5, -np.inf)
    out = (softmax(s) @ v[0, 0])[None, None].astype(np.float32)
    triptych.assert_agree(out, op="attention", inputs={"q": q, "k": k, "v": v}, params={"causal": True})
    with pytest.raises(AssertionError):
        triptych.assert_agree(out, op="attention", inputs={"q": q, "k": k, "v": v})


def test_pytorch() -> None:
    torch = pytest.importorskip("torch")
    x = torch.randn(8, 8, requires_grad=True)
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn):
        triptych.assert_agree(x.to(dtype), x.detach().double())
    np.testing.assert_array_equal(as_array(torch.tensor([1, -2]), "x"), [1, -2])
    np.testing.assert_array_equal(as_array(torch.tensor([True, False]), "x"), [1, 0])
    with pytest.raises(AssertionError):
        triptych.assert_agree(x.to(torch.bfloat16).T, x)
    with pytest.raises(AssertionError, match="share their memory"):
        triptych.assert_agree(x.T, x.T)


def test_jax() -> None:
    jnp = pytest.importorskip("jax.numpy")
    x = RNG.normal(size=(8, 8)).astype(np.float32)
    triptych.assert_agree(jnp.asarray(x, jnp.bfloat16), jnp.asarray(x))


TWO = triptych.Op("two", {"x": ("N",)}, lambda x: (x, 2 * x), [{"N": 3}])


@pytest.mark.parametrize(
    "arguments, options, error, sentence",
    [
        ([np.ones(3)], {}, TypeError, "actual and expected, or actual, op= and inputs="),
        ([np.ones(3)], {"op": OP}, TypeError, "give inputs={name: array}"),
        ([np.ones(3)], {"op": "softmin", "inputs": {}}, ValueError, "no op 'softmin'; there is matmul"),
        ([np.ones((2, 2))], {"op": OP, "inputs": {"y": np.ones((2, 2))}}, TypeError, "does not take these inputs"),
        ([np.ones(3), np.ones(4)], {}, AssertionError, r"actual has a wrong shape: expected \(4,\), got \(3,\)"),
        ([np.ones(0), np.ones(0)], {}, AssertionError, "nothing to compare"),
        ([["a"], [1.0]], {}, TypeError, "actual must hold real numbers"),
        ([np.ones(2, np.complex64), np.ones(2)], {}, TypeError, "real numbers of up to 64 bits, got .* complex64"),
        ([(np.ones(2), np.ones(3)), np.ones(2)], {}, AssertionError, r"1 output where 2 outputs \(0, 1\) must be"),
        ([{}, np.ones(2)], {}, AssertionError, "actual holds no array"),
        ([[[1.0], 2.0], np.ones(2)], {}, TypeError, "actual, a list, is no array"),
        (
            [np.ones(3)],
            {"op": TWO, "inputs": {"x": np.ones(3)}},
            AssertionError,
            r"actual has 1 output where 2 outputs",
        ),
        ([np.full(3, np.nan), np.full(3, np.nan)], {}, AssertionError, "there is no number to compare"),
        ([np.ones(3)], {"op": softmax, "inputs": {}}, TypeError, "takes a triptych.Op or the name of one"),
        ([np.ones(3)], {"op": OP, "inputs": [np.ones(3)]}, TypeError, "give inputs={name: array}"),
    ],
)
def test_what_cannot_be_compared_is_said(arguments: Any, options: Any, error: Any, sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        triptych.assert_agree(*arguments, **options)


def test_an_array_is_not_compared_with_itself() -> None:
    x = np.ones(3, np.float32)
    for same in (x, [1.0, 2.0]):
        with pytest.raises(AssertionError, match="are one object"):
            triptych.assert_agree(same, same)
    for kept in (x, x > 0):
        with pytest.raises(AssertionError, match="share their memory"):
            triptych.assert_agree(kept, kept[:])
    triptych.assert_agree(3, 3)


def test_several_outputs_are_compared_each_by_its_name() -> None:
    x, y = RNG.normal(size=(2, 16, 32)).astype(np.float32)
    labels = np.arange(16)
    triptych.assert_agree((x, {"y": y, "at": labels}), (x.astype(np.float64), {"y": y * 1.0, "at": labels.copy()}))
    triptych.assert_agree({"a": x, "b": y}, {"b": y.copy(), "a": x.copy()})
    with pytest.raises(AssertionError, match=r"^output 1: 1 of 16 elements differ") as told:
        triptych.assert_agree((x, labels), (x.copy(), np.where(labels == 3, 4, labels)))
    assert "output 0" not in str(told.value)


def scaled_in_place(x: Any, total: Any) -> Any:
    """out[R, C] = 3 x and total[R] += the sums of x's rows, in place."""
    total += x.sum(axis=1)
    return 3 * x


def test_the_outputs_of_an_op_have_each_its_own_tolerance() -> None:
    op = triptych.Op(
        "scaled", {"x": ("R", "C"), "total": ("R",)}, scaled_in_place, [{"R": 4, "C": 8}], mutates=("total",)
    )
    x, total = RNG.normal(size=(64, 32)).astype(np.float32), RNG.normal(size=64).astype(np.float32)
    after = total + x.sum(axis=1)
    triptych.assert_agree((3 * x, after), op=op, inputs={"x": x, "total": total})
    for wrong, name in (((3 * x, total), "^input total after the call: "), ((3.001 * x, after), "^the output: ")):
        actual = tuple(np.asarray(part, np.float32) for part in wrong)
        with pytest.raises(AssertionError, match=name):
            triptych.assert_agree(actual, op=op, inputs={"x": x, "total": total})
