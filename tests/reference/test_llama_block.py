"""The block against the definitions of its parts, and its gradients against finite differences."""

from __future__ import annotations

import numpy as np
import pytest

from triptych.reference import llama_block
from triptych.reference.attention import attention
from triptych.reference.linear import linear, rmsnorm_linear
from triptych.reference.mlp import gated_mlp
from triptych.reference.rmsnorm import rmsnorm
from triptych.reference.rope import rope, rope_angles

S, HIDDEN, H, H_KV, D, F = 5, 6, 4, 2, 4, 7


@pytest.fixture
def drawn():
    rng = np.random.default_rng(0)
    shapes = {
        "gain1": (HIDDEN,),
        "wqkv": (HIDDEN, (H + 2 * H_KV) * D),
        "wo": (H * D, HIDDEN),
        "gain2": (HIDDEN,),
        "wg": (HIDDEN, F),
        "wu": (HIDDEN, F),
        "wd": (F, HIDDEN),
    }
    weights = {name: rng.standard_normal(shape) / 2 for name, shape in shapes.items()}
    angles = rope_angles(np.arange(S), D)
    return rng.standard_normal((S, HIDDEN)), weights, np.cos(angles), np.sin(angles)


def test_prefill_is_its_parts_in_turn(drawn):
    x, w, cos, sin = drawn
    heads = rmsnorm_linear(x, w["gain1"], w["wqkv"]).reshape(S, -1, D)
    q, k, v = rope(heads[:, :H], cos, sin), rope(heads[:, H : H + H_KV], cos, sin), heads[:, H + H_KV :]
    o = attention(*(part.transpose(1, 0, 2)[None] for part in (q, k, v)), causal=True)[0].transpose(1, 0, 2)
    y = linear(o.reshape(S, H * D), w["wo"], None, x)
    expected = gated_mlp(rmsnorm(y, w["gain2"]), w["wg"], w["wu"], w["wd"], y)
    assert llama_block.prefill(x, w, cos, sin) == pytest.approx(expected, rel=1e-12)


def test_decode_goes_on_where_prefill_ended(drawn):
    x, w, cos, sin = drawn
    out = llama_block.prefill(x, w, cos, sin)
    k_cache, v_cache = np.zeros((1, H_KV, 8, D)), np.zeros((1, H_KV, 8, D))
    for s in range(S):
        at = slice(s, s + 1)
        now, k_cache, v_cache = llama_block.decode(x[at], w, cos[at], sin[at], k_cache, v_cache, np.array([s]))
        assert now[0] == pytest.approx(out[s], rel=1e-12)
    assert (k_cache[0, :, S:] == 0).all() and (k_cache[0, :, :S] != 0).all()


def test_gradients_are_those_of_the_forward(drawn):
    x, w, cos, sin = drawn
    dout = np.random.default_rng(1).standard_normal(x.shape)
    found = llama_block.gradients(x, w, cos, sin, dout)
    assert np.array_equal(found["out"], llama_block.prefill(x, w, cos, sin))
    values = {"x": x, **w}
    rng = np.random.default_rng(2)
    for name, value in values.items():
        direction = rng.standard_normal(value.shape)
        ends = []
        for step in (1e-5, -1e-5):
            moved = {**values, name: value + step * direction}
            ends.append((llama_block.prefill(moved.pop("x"), moved, cos, sin) * dout).sum())
        assert (found[name] * direction).sum() == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6), name
