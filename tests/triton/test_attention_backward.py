"""Gradients of attention where the op's cases do not look: what nobody sees, and which tiles are visited."""

import ml_dtypes
import numpy as np
import pytest

from triptych.harness.emulators import KernelRaised, interpret
from triptych.harness.emulators.correction import CorrectedBuilder
from triptych.harness.emulators.interpreter import together
from triptych.kernels.triton.attention_backward import attention_backward
from triptych.reference.attention import attention
from triptych.reference.attention_backward import attention_backward as reference

GRADIENTS = ("dq", "dk", "dv")


def inputs(H, Hkv, Sq, Sk, D, dtype=np.float32, **options):
    rng = np.random.default_rng(0)
    shapes = {"q": (1, H, Sq, D), "k": (1, Hkv, Sk, D), "v": (1, Hkv, Sk, D), "dout": (1, H, Sq, D)}
    arrays = {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}
    out, lse = attention(arrays["q"], arrays["k"], arrays["v"], with_lse=True, **options)
    return arrays | {"out": out.astype(dtype), "lse": lse.astype(np.float32)}


def gradients(arrays, **options):
    found = {"dq": np.full_like(arrays["q"], np.nan), "dk": np.full_like(arrays["k"], np.nan)}
    found["dv"] = np.full_like(arrays["v"], np.nan)
    interpret(attention_backward, arrays | found, None, GRADIENTS, **options)
    return [found[name] for name in GRADIENTS]


def test_a_row_without_keys_has_no_gradient_and_gives_none():
    options = {"causal": True}
    arrays = inputs(2, 1, 40, 30, 16, **options)
    found = gradients(arrays, **options)
    assert np.isneginf(arrays["lse"][..., :10]).all() and np.all(found[0][:, :, :10] == 0)
    for ours, right in zip(found, reference(**arrays, **options), strict=True):
        assert np.allclose(ours, right, rtol=2e-5, atol=2e-5)


def test_a_key_that_nobody_sees_has_no_gradient():
    options = {"causal": True, "window": 4}
    arrays = inputs(2, 2, 8, 60, 16, **options)
    found = gradients(arrays, **options)
    assert all(np.all(x[:, :, :49] == 0) and np.all(x[:, :, 49:] != 0) for x in found[1:])
    for ours, right in zip(found, reference(**arrays, **options), strict=True):
        assert np.allclose(ours, right, rtol=2e-5, atol=2e-5)


def test_tiles_that_are_hidden_are_not_visited(monkeypatch):
    """512 x 512 in tiles of 128 x 64, of two heads: four products each for dk and dv, three for dq."""
    made, dot = [], CorrectedBuilder.create_dot

    def counted(self, *operands):
        made.append(1)
        return dot(self, *operands)

    monkeypatch.setattr(CorrectedBuilder, "create_dot", counted)
    monkeypatch.setattr(together, "FEWEST", 1000)  # programs together would make one product for all
    arrays = inputs(2, 1, 512, 512, 16, ml_dtypes.bfloat16, causal=True)
    for options, for_keys, for_rows in (
        ({}, 4 * 8, 4 * 8),
        ({"causal": True}, 8 + 6 + 4 + 2, 2 + 4 + 6 + 8),
        ({"causal": True, "window": 64}, 3 + 3 + 3 + 2, 2 + 3 + 3 + 3),
    ):
        made.clear()
        gradients(arrays, **options)
        assert len(made) == 2 * (4 * for_keys + 3 * for_rows)


@pytest.mark.parametrize(
    ("name", "shape", "says"),
    [
        ("q", (1, 3, 5, 16), "H a multiple of Hkv"),
        ("dout", (1, 4, 6, 16), r"dout must have q's shape \(1, 4, 5, 16\), got \(1, 4, 6, 16\)"),
        ("v", (1, 2, 6, 16), r"v must have k's shape"),
        ("lse", (1, 4, 6), "attention_backward's sizes disagree"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(name, shape, says):
    arrays = inputs(4, 2, 5, 7, 16) | {name: np.zeros(shape, np.float32)}
    with pytest.raises(KernelRaised, match=says):
        gradients(arrays)


def test_a_window_goes_with_causal():
    with pytest.raises(KernelRaised, match="a window of one or more keys goes with causal, got 3"):
        gradients(inputs(1, 1, 5, 7, 16), window=3)
