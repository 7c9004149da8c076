"""The definitions against sums written out one element at a time, and their refusals."""

import math

import ml_dtypes
import numpy as np
import pytest

from triptych.harness.collection.attentions.baselines import online, plain, prescaled
from triptych.reference.attention import attention
from triptych.reference.linear import linear, linear_transposed, rmsnorm_linear
from triptych.reference.matmul import matmul, matmul_batched, matmul_mk
from triptych.reference.mlp import gated_mlp, silu
from triptych.reference.rmsnorm import rmsnorm
from triptych.reference.rope import heads_first, rope, rope_angles


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


def test_matmul_batched_is_each_product():
    lhsT, rhs = draw(2, 5, 3), draw(2, 5, 4, seed=1)
    assert np.array_equal(matmul_batched(lhsT, rhs)[1], matmul(lhsT[1], rhs[1]))
    with pytest.raises(ValueError, match=r"one B, got \(2, 5, 3\) and \(1, 5, 4\)"):
        matmul_batched(lhsT, rhs[:1])


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


@pytest.mark.parametrize("attention", [attention, online, plain, prescaled])
@pytest.mark.parametrize(("queries", "segments"), [(4, (1, 3)), (4, (4,)), (4, (2, 4)), (3, (1, 3)), (3, (1, 4))])
def test_segments_are_as_many_as_queries_and_keys(attention, queries, segments):
    q, k = np.zeros((1, 1, queries, 2), np.float32), np.zeros((1, 1, 4, 2), np.float32)
    with pytest.raises(ValueError, match=r"segments must be \[B, S\] with S = Sq = Sk, got \("):
        attention(q, k, k, segments=np.zeros(segments, np.int32))


def test_rmsnorm_divides_each_row_by_its_root_mean_square():
    x, gain = draw(3, 5), draw(5, seed=1)
    out = rmsnorm(x, gain, eps=0.5)
    for m in range(3):
        root = math.sqrt(sum(value**2 for value in x[m]) / 5 + 0.5)
        assert out[m] == pytest.approx([x[m, n] / root * gain[n] for n in range(5)], rel=1e-13)


def test_rmsnorm_refuses():
    with pytest.raises(ValueError, match=r"x must have 2 axes \[M, N\]"):
        rmsnorm(np.zeros(3), np.zeros(3))
    with pytest.raises(ValueError, match=r"gain must have shape \[N\] = \(3,\), got \(2,\)"):
        rmsnorm(np.zeros((2, 3)), np.zeros(2))


@pytest.mark.parametrize("interleaved", [False, True])
def test_rope_turns_each_pair_by_its_angle(interleaved):
    x, angles = draw(3, 2, 6), draw(3, 3, seed=1)
    out = rope(x, np.cos(angles), np.sin(angles), interleaved)
    for s in range(3):
        for h in range(2):
            for i in range(3):
                a, b = (2 * i, 2 * i + 1) if interleaved else (i, i + 3)
                turned = complex(x[s, h, a], x[s, h, b]) * complex(math.cos(angles[s, i]), math.sin(angles[s, i]))
                assert complex(out[s, h, a], out[s, h, b]) == pytest.approx(turned, rel=1e-12)


def test_rope_makes_scores_depend_on_the_distance_alone():
    q, k = draw(1, 1, 8), draw(1, 1, 8, seed=1)
    scores = []
    for i, j in ((5, 2), (103, 100)):
        at_i, at_j = (rope_angles(np.array([position]), 8) for position in (i, j))
        scores.append((rope(q, np.cos(at_i), np.sin(at_i)) * rope(k, np.cos(at_j), np.sin(at_j))).sum())
    assert scores[0] == pytest.approx(scores[1], rel=1e-12)
    assert rope_angles(np.array([2, 3]), 4, base=100.0).tolist() == [[2, 0.2], [3, pytest.approx(0.3)]]


def test_rope_refuses():
    with pytest.raises(ValueError, match=r"x must have 3 axes \[S, H, D\], D even"):
        rope(np.zeros((2, 1, 3)), np.zeros((2, 1)), np.zeros((2, 1)))
    with pytest.raises(ValueError, match=r"sin must have shape \[S, D/2\] = \(2, 2\), got \(2, 4\)"):
        rope(np.zeros((2, 1, 4)), np.zeros((2, 2)), np.zeros((2, 4)))


def test_gated_mlp_is_the_sum_over_hidden_numbers():
    x, wg, wu, wd = draw(2, 3), draw(3, 4, seed=1), draw(3, 4, seed=2), draw(4, 5, seed=3)
    out = gated_mlp(x, wg, wu, wd)
    for m in range(2):
        hidden = []
        for f in range(4):
            g, u = (sum(x[m, k] * w[k, f] for k in range(3)) for w in (wg, wu))
            hidden.append(g / (1 + math.exp(-g)) * u)
        assert out[m] == pytest.approx([sum(hidden[f] * wd[f, n] for f in range(4)) for n in range(5)], rel=1e-12)
        assert gated_mlp(x, wg, wu, wd, residual=out) == pytest.approx(2 * out, rel=1e-12)
    assert silu(np.array([-np.inf, -800.0, 0.0, 800.0, np.inf])).tolist() == [0, -0.0, 0, 800, np.inf]


def test_gated_mlp_refuses():
    with pytest.raises(ValueError, match=r"wg and wu must have shape \[K, F\] = \(3, 4\), got \(3, 4\) and \(3, 5\)"):
        gated_mlp(np.zeros((2, 3)), np.zeros((3, 4)), np.zeros((3, 5)), np.zeros((4, 5)))
    with pytest.raises(ValueError, match=r"wd must have 2 axes \[F, N\]"):
        gated_mlp(np.zeros((2, 3)), np.zeros((3, 4)), np.zeros((3, 4)), np.zeros(4))


@pytest.mark.parametrize("activation", [None, "silu", "gelu", "relu"])
def test_linear_is_the_product_and_what_follows_it(activation):
    x, w, bias, residual = draw(2, 3), draw(3, 4, seed=1), draw(4, seed=2), draw(2, 4, seed=3)
    out = linear(x, w, bias, residual, activation=activation, scale=0.5)
    plain = linear(x, w)
    for m in range(2):
        for n in range(4):
            product = sum(x[m, k] * w[k, n] for k in range(3))
            assert plain[m, n] == pytest.approx(product, rel=1e-12)
            y = 0.5 * product + bias[n]
            after = {
                None: y,
                "silu": y / (1 + math.exp(-y)),
                "gelu": y * (1 + math.erf(y / math.sqrt(2))) / 2,
                "relu": max(y, 0),
            }
            assert out[m, n] == pytest.approx(after[activation] + residual[m, n], rel=1e-12)


def test_rmsnorm_linear_is_the_norm_and_the_product():
    x, gain, w = draw(3, 5), draw(5, seed=1), draw(5, 2, seed=2)
    assert rmsnorm_linear(x, gain, w, eps=0.5) == pytest.approx(matmul_mk(rmsnorm(x, gain, eps=0.5), w), rel=1e-13)


def test_linear_transposed_takes_the_weight_the_other_way_round():
    x, w, residual = draw(3, 5), draw(2, 5, seed=1), draw(3, 2, seed=2)
    assert linear_transposed(x, w, residual) == pytest.approx(matmul_mk(x, w.T) + residual, rel=1e-13)


def test_heads_first_keeps_every_number():
    x = draw(3, 4, 5)
    assert all(heads_first(x)[h, s, d] == x[s, h, d] for s in range(3) for h in range(4) for d in range(5))


def test_linear_refuses():
    with pytest.raises(ValueError, match="must have the same K, got 3 and 4"):
        linear(np.zeros((2, 3)), np.zeros((4, 5)))
    with pytest.raises(ValueError, match=r"bias must have shape \[N\] = \(5,\), got \(4,\)"):
        linear(np.zeros((2, 3)), np.zeros((3, 5)), np.zeros(4))
    with pytest.raises(ValueError, match=r"residual must have shape \[M, N\] = \(2, 5\), got \(5,\)"):
        linear(np.zeros((2, 3)), np.zeros((3, 5)), None, np.zeros(5))
    with pytest.raises(ValueError, match="activation must be None, 'silu', 'gelu', 'relu', got 'tanh'"):
        linear(np.zeros((2, 3)), np.zeros((3, 5)), activation="tanh")
    with pytest.raises(ValueError, match=r"gain must have shape \[K\] = \(3,\), got \(2,\)"):
        rmsnorm_linear(np.zeros((2, 3)), np.zeros(2), np.zeros((3, 5)))
