"""The definitions against sums written out one element at a time, and their refusals."""

import math

import ml_dtypes
import numpy as np
import pytest

from triptych.reference.attention import attention
from triptych.reference.matmul import matmul, matmul_mk


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def test_matmul_is_the_sum_over_k():
    lhsT, rhs = draw(5, 3), draw(5, 4, seed=1)
    out = matmul(lhsT, rhs)
    assert out.dtype == np.float64
    for m in range(3):
        for n in range(4):
            assert out[m, n] == pytest.approx(sum(lhsT[k, m] * rhs[k, n] for k in range(5)), rel=1e-13)


def test_matmul_widens_before_it_multiplies():
    x = np.full((3, 1), 0.1, ml_dtypes.bfloat16)
    assert matmul(x, x)[0, 0] == pytest.approx(3 * float(x[0, 0]) ** 2, rel=1e-15)


def test_matmul_propagates_nan_and_infinities():
    lhsT, rhs = np.ones((2, 3)), np.ones((2, 3))
    lhsT[0, 0], lhsT[0, 1], rhs[1, 2] = np.nan, np.inf, -np.inf
    out = matmul(lhsT, rhs)
    assert np.isnan(out[0]).all()
    assert np.array_equal(out[1:], [[np.inf, np.inf, np.nan], [2, 2, -np.inf]], equal_nan=True)


def test_matmul_mk_takes_the_left_operand_as_it_is_stored():
    lhs, rhs = draw(5, 3), draw(3, 4, seed=1)
    assert np.array_equal(matmul_mk(lhs, rhs), matmul(lhs.T, rhs))
    with pytest.raises(ValueError, match=r"lhs must have 2 axes \[M, K\], got 3"):
        matmul_mk(np.zeros((1, 2, 3)), rhs)


@pytest.mark.parametrize(
    ("lhsT", "rhs", "said"),
    [
        ((2, 3, 4), (2, 3), r"lhsT must have 2 axes \[K, M\], got 3: shape \(2, 3, 4\)"),
        ((2, 3), (2,), r"rhs must have 2 axes \[K, N\], got 1"),
        ((2, 3), (4, 3), "must have the same K, got 2 and 4"),
        ((0, 3), (0, 3), r"lhsT \[K, M\] must have no axis of size zero, got shape \(0, 3\)"),
    ],
)
def test_matmul_refuses(lhsT, rhs, said):
    with pytest.raises(ValueError, match=said):
        matmul(np.zeros(lhsT), np.zeros(rhs))


def by_hand(q, k, v, causal):
    """Attention with Python floats: out[b, h, i] = sum over visible j of weight(i, j) v[j]."""
    batch, heads, rows, size = q.shape
    keys, group = k.shape[2], heads // k.shape[1]
    out = np.zeros(q.shape)
    for b in range(batch):
        for h in range(heads):
            for i in range(rows):
                seen = [j for j in range(keys) if not causal or j <= i + keys - rows]
                weights = [math.exp(sum(q[b, h, i] * k[b, h // group, j]) / math.sqrt(size)) for j in seen]
                for j, weight in zip(seen, weights, strict=True):
                    out[b, h, i] += weight / sum(weights) * v[b, h // group, j]
    return out


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("sq", "sk"), [(4, 4), (2, 5), (5, 2), (1, 1), (1, 6)])
def test_attention_is_the_weighted_sum_over_visible_keys(sq, sk, causal):
    q, k, v = draw(2, 4, sq, 3), draw(2, 2, sk, 3, seed=1), draw(2, 2, sk, 3, seed=2)
    assert np.allclose(attention(q, k, v, causal=causal), by_hand(q, k, v, causal), rtol=1e-12, atol=1e-14)


def test_attention_of_a_row_that_sees_no_key_is_zero():
    q, k = draw(1, 1, 5, 3), draw(1, 1, 2, 3)
    out = attention(q, k, k, causal=True)
    assert (out[0, 0, :3] == 0).all() and (out[0, 0, 3:] != 0).all()


def test_attention_survives_large_scores():
    q, k = 1e3 * draw(1, 1, 3, 8), draw(1, 1, 4, 8, seed=1)
    assert np.isfinite(attention(q, k, k)).all()


def test_what_a_row_does_not_see_does_not_reach_it():
    q, k, v = draw(1, 1, 4, 3), draw(1, 1, 4, 3, seed=1), draw(1, 1, 4, 3, seed=2)
    k[0, 0, 2], v[0, 0, 2] = np.nan, np.inf
    out = attention(q, k, v, causal=True)
    assert np.isfinite(out[0, 0, :2]).all() and np.isnan(out[0, 0, 2:]).all()


def test_attention_propagates_an_infinite_value_to_its_column():
    q, k, v = draw(1, 1, 4, 3), draw(1, 1, 4, 3, seed=1), draw(1, 1, 4, 3, seed=2)
    v[0, 0, 1, 2] = -np.inf
    out = attention(q, k, v)
    assert np.isneginf(out[0, 0, :, 2]).all() and np.isfinite(out[0, 0, :, :2]).all()


@pytest.mark.parametrize(
    ("q", "k", "v", "said"),
    [
        ((1, 1, 4), (1, 1, 4, 2), (1, 1, 4, 2), r"q must have 4 axes \[B, H, Sq, D\], got 3"),
        ((1, 1, 4, 2), (1, 1, 4, 2), (1, 1, 5, 2), "k and v .* must have the same shape"),
        ((1, 1, 4, 2), (1, 1, 4, 3), (1, 1, 4, 3), "must have the same B and D"),
        ((1, 3, 4, 2), (1, 2, 4, 2), (1, 2, 4, 2), "H of q must be a multiple of Hkv of k, got H = 3 and Hkv = 2"),
        ((1, 1, 4, 2), (1, 1, 0, 2), (1, 1, 0, 2), "k .* must have no axis of size zero"),
    ],
)
def test_attention_refuses(q, k, v, said):
    with pytest.raises(ValueError, match=said):
        attention(np.zeros(q), np.zeros(k), np.zeros(v))
