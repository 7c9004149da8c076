"""Backward definitions against finite differences of the forward ones; what is quantised against ml_dtypes."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

from triptych.reference.cross_entropy import cross_entropy, cross_entropy_backward
from triptych.reference.mlp import gate_backward, silu
from triptych.reference.quantize import matmul_fp8, matmul_mx, mx, quantize_fp8
from triptych.reference.rmsnorm import rmsnorm, rmsnorm_backward

STEP = 1e-5


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def gradient(scalar, x):
    """d scalar / dx by central differences."""
    out = np.zeros(x.shape)
    for at in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[at] += STEP
        down[at] -= STEP
        out[at] = (scalar(up) - scalar(down)) / (2 * STEP)
    return out


def test_rmsnorm_backward_is_the_gradient():
    x, gain, dy = draw(3, 5), draw(5, seed=1), draw(3, 5, seed=2)
    dx, dgain = rmsnorm_backward(x, gain, dy, eps=0.3)
    assert dx == pytest.approx(gradient(lambda x: (rmsnorm(x, gain, 0.3) * dy).sum(), x), abs=1e-8)
    assert dgain == pytest.approx(gradient(lambda gain: (rmsnorm(x, gain, 0.3) * dy).sum(), gain), abs=1e-8)


def test_a_residual_goes_past_the_norm():
    x, gain, dy = draw(3, 5), draw(5, seed=1), draw(3, 5, seed=2)
    plain, past = rmsnorm_backward(x, gain, dy)[0], rmsnorm_backward(x, gain, dy, residual=x)[0]
    assert past == pytest.approx(plain + x, rel=1e-12)


def test_gate_backward_is_the_gradient():
    g, u, dh = draw(3, 5), draw(3, 5, seed=1), draw(3, 5, seed=2)
    h, dg, du = gate_backward(g, u, dh)
    assert h == pytest.approx(silu(g) * u, rel=1e-12)
    assert dg == pytest.approx(gradient(lambda g: (silu(g) * u * dh).sum(), g), abs=1e-8)
    assert du == pytest.approx(gradient(lambda u: (silu(g) * u * dh).sum(), u), abs=1e-8)


def test_cross_entropy_is_minus_the_logarithm_of_the_label_s_share():
    logits, labels = 3 * draw(3, 5), np.array([4, 0, -1])
    loss, lse = cross_entropy(logits, labels)
    for m in range(3):
        weights = [math.exp(logit) for logit in logits[m]]
        assert lse[m] == pytest.approx(math.log(sum(weights)), rel=1e-12)
        assert loss[m] == (
            0 if labels[m] < 0 else pytest.approx(-math.log(weights[labels[m]] / sum(weights)), rel=1e-12)
        )
    assert np.isfinite(cross_entropy(1e4 * logits, labels)[0]).all()


def test_cross_entropy_backward_is_the_gradient():
    logits, labels, dloss = draw(3, 5), np.array([4, 0, -1]), draw(3, seed=1)
    _, lse = cross_entropy(logits, labels)
    found = cross_entropy_backward(logits, labels, lse, dloss)
    assert found == pytest.approx(
        gradient(lambda logits: (cross_entropy(logits, labels)[0] * dloss).sum(), logits), abs=1e-8
    )
    assert (found[2] == 0).all()


def test_quantised_numbers_fill_float8_and_multiply_back():
    x, w = draw(3, 8), draw(4, 8, seed=1)
    x[1] = 0
    (q, scale), (qw, w_scale) = quantize_fp8(x), quantize_fp8(w)
    assert np.abs(q).max(axis=1).tolist() == pytest.approx([240, 0, 240]) and scale[1] == 2.0**-100
    assert q * scale[:, None] == pytest.approx(x, rel=1e-12)
    assert matmul_fp8(q.T, qw.T, scale, w_scale) == pytest.approx(x @ w.T, rel=1e-12, abs=1e-12)


def test_mx_shares_a_power_of_two_among_the_32_that_are_packed_together():
    x = draw(600, 3) * np.exp(draw(600, 3, seed=1))
    found = mx(x)
    for i in (0, 15):
        rows = np.array([128 * j + 8 * i + r for j in range(4) for r in range(8)])
        scale = 2.0 ** (np.floor(np.log2(np.abs(x[rows, 1]).max())) - 7)
        rounded = (x[rows, 1] / scale).astype(ml_dtypes.float8_e4m3fn).astype(float) * scale
        assert found[rows, 1].tolist() == rounded.tolist()
    assert np.linalg.norm(found - x) < 0.04 * np.linalg.norm(x) and (mx(np.zeros((3, 2))) == 0).all()
    assert np.array_equal(matmul_mx(x, x), found.T @ found)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: rmsnorm_backward(np.ones((2, 3)), np.ones(3), np.ones((3, 2))), r"dy must have x's shape \(2, 3\)"),
        (
            lambda: rmsnorm_backward(np.ones((2, 3)), np.ones(2), np.ones((2, 3))),
            r"gain must have shape \[N\] = \(3,\)",
        ),
        (lambda: cross_entropy(np.ones((2, 3)), np.ones(2)), "labels must be 2 integers .* got float64"),
        (lambda: cross_entropy(np.ones((2, 3)), np.array([0, 3])), "labels must be below V = 3, got 3"),
        (
            lambda: cross_entropy_backward(np.ones((2, 3)), np.array([0, 1]), np.ones(3), np.ones(2)),
            r"lse must have shape \[M\] = \(2,\), got \(3,\)",
        ),
        (lambda: quantize_fp8(np.ones(3)), r"x must have 2 axes \[M, N\]"),
        (lambda: matmul_fp8(np.ones((2, 3)), np.ones((3, 3)), np.ones(3), np.ones(3)), "must share K"),
        (lambda: matmul_mx(np.ones((2, 3)), np.ones((3, 3))), "must share K"),
        (
            lambda: matmul_fp8(np.ones((2, 3)), np.ones((2, 4)), np.ones(3), np.ones(3)),
            r"rhs_scale .* \(4,\), got \(3,\)",
        ),
    ],
)
def test_refusals(call, said):
    with pytest.raises(ValueError, match=said):
        call()
