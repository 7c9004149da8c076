"""out = softmax(q k^T / sqrt(D)) v, within the rounding of p and of the output's dtype."""

import ml_dtypes
import numpy as np
import pytest

from triptych.harness.emulators import KernelRaised, interpret
from triptych.kernels.triton.attention import attention

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def inputs(B, H, Hkv, Sq, Sk, D, dtype, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "q": rng.standard_normal((B, H, Sq, D)).astype(dtype),
        "k": rng.standard_normal((B, Hkv, Sk, D)).astype(dtype),
        "v": rng.standard_normal((B, Hkv, Sk, D)).astype(dtype),
    }


def dense(q, k, v, causal):
    """(softmax, v of each query head, expected) in float64; each row's sum runs over its visible keys alone."""
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    k, v = (np.repeat(x, q.shape[1] // k.shape[1], axis=1) for x in (k, v))
    B, H, Sq, D = q.shape
    Sk = k.shape[2]
    weights, expected = np.zeros((B, H, Sq, Sk)), np.zeros(q.shape)
    with np.errstate(all="ignore"):
        for i in range(Sq):
            seen = min(Sk, max(0, i + Sk - Sq + 1)) if causal else Sk
            if seen:
                s = np.einsum("bhd,bhkd->bhk", q[:, :, i], k[:, :, :seen]) / np.sqrt(D)
                p = np.exp(s - s.max(-1, keepdims=True))
                p /= p.sum(-1, keepdims=True)
                weights[:, :, i, :seen] = p
                expected[:, :, i] = np.einsum("bhk,bhkd->bhd", p, v[:, :, :seen])
    return weights, v, expected


def check(out, arrays, dtype, causal):
    weights, v, expected = dense(**arrays, causal=causal)
    half_ulp = ml_dtypes.finfo(dtype).eps / 2
    spread = weights @ np.abs(v)
    bound = 1.02 * half_ulp * (spread + np.abs(expected)) + 4e-6 * spread + ml_dtypes.finfo(dtype).smallest_subnormal
    assert np.all(np.abs(out - expected) <= np.asarray(bound, np.float64))


SHAPES = [  # (B, H, Hkv, Sq, Sk, D)
    (1, 1, 1, 1, 1, 1),
    (1, 2, 2, 17, 17, 16),
    (2, 4, 2, 37, 129, 40),  # grouped heads; fewer queries than keys, one key past a tile
    (1, 3, 1, 129, 37, 80),  # more queries than keys: when causal, 92 rows see nothing
    (1, 2, 1, 65, 257, 64),
    (1, 1, 1, 130, 131, 128),
    (1, 1, 1, 1, 300, 128),  # decoding
]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_any_shape(run, shape, dtype, causal):
    arrays = inputs(*shape, dtype)
    check(run(attention, arrays, np.empty_like(arrays["q"]), causal=causal), arrays, dtype, causal)


def test_a_row_that_sees_no_key_is_zero(run, dtype):
    arrays = inputs(1, 1, 1, 200, 8, 16, dtype)
    out = run(attention, arrays, np.empty_like(arrays["q"]), causal=True)
    assert np.all(out[:, :, :192] == 0)
    assert np.all(out[:, :, 192:] != 0)


@pytest.mark.parametrize("scale", [1e-3, 30.0])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_large_and_shifted_scores(run, scale, offset):
    """Scores in the thousands need the maximum subtracted; a wrong rescale shows when it grows tile by tile."""
    arrays = inputs(1, 1, 1, 33, 300, 16, np.dtype(np.float32))
    arrays["q"] *= np.float32(scale)
    arrays["k"] *= np.linspace(0.1, 1, 300, dtype=np.float32)[:, None]
    arrays["v"] += np.float32(offset)
    _, _, expected = dense(**arrays, causal=False)
    out = run(attention, arrays, np.empty_like(arrays["q"]), causal=False)
    assert np.allclose(out, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["q", "k", "v"])
def test_special_values_go_where_the_formula_takes_them(run, where, bad, causal):
    """A masked key takes no part, even when its v is infinite and 0 * inf would be NaN."""
    arrays = inputs(1, 2, 1, 40, 150, 16, BFLOAT16)
    arrays[where][0, 0, arrays[where].shape[2] - 10, 3] = bad
    _, _, expected = dense(**arrays, causal=causal)
    out = run(attention, arrays, np.empty_like(arrays["q"]), causal=causal)
    assert np.array_equal(np.isnan(out), np.isnan(expected))
    assert np.array_equal(np.isposinf(out), np.isposinf(expected))
    assert np.array_equal(np.isneginf(out), np.isneginf(expected))
    finite = np.isfinite(expected)
    assert np.allclose(out[finite], expected[finite], rtol=2e-2, atol=2e-2)
    assert finite.any() or (where == "k" and not causal)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["k", "v"])
def test_a_row_that_sees_no_key_is_zero_whatever_the_keys_hold(run, where, bad):
    arrays = inputs(1, 2, 1, 40, 16, 16, BFLOAT16)
    arrays[where][0, 0, 15, 3] = bad
    out = run(attention, arrays, np.empty_like(arrays["q"]), causal=True)
    assert not out[:, :, :24].any() and np.isfinite(out[:, :, 24:39]).all() and not np.isfinite(out[:, :, 39]).all()


def test_a_whole_first_tile_of_minus_infinity(run):
    """Keys whose scores are all -inf take no part once a finite score turns up, and give NaN if none does."""
    arrays = inputs(1, 1, 1, 16, 300, 16, np.dtype(np.float32))
    arrays["q"][...] = np.abs(arrays["q"])
    arrays["k"][:, :, :200, 0] = -np.inf
    out = run(attention, arrays, np.empty_like(arrays["q"]), causal=False)
    assert np.allclose(out, dense(**arrays, causal=False)[2], rtol=1e-5, atol=1e-5)
    arrays["k"][:, :, :, 0] = -np.inf
    assert np.all(np.isnan(run(attention, arrays, np.empty_like(arrays["q"]), causal=False)))


@pytest.mark.parametrize(
    ("q", "k", "v", "says"),
    [
        ((1, 2, 3, 4), (1, 2, 3, 5), (1, 2, 3, 5), "sizes disagree"),
        ((1, 3, 3, 4), (1, 2, 3, 4), (1, 2, 3, 4), "H a multiple of Hkv"),
        ((1, 1, 3, 257), (1, 1, 3, 257), (1, 1, 3, 257), "D up to 256"),
        ((3, 4), (3, 4), (3, 4), r"takes q\[B, H, Sq, D\]"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(q, k, v, says):
    arrays = {"q": np.zeros(q), "k": np.zeros(k), "v": np.zeros(v)}
    with pytest.raises(KernelRaised, match=says):
        interpret(attention, arrays, np.zeros(q))
