"""The NKI attention backward against its definition, and both against finite differences of the forward definition."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from triptych import simulator
from triptych.reference.attention import attention
from triptych.reference.attention_backward import attention_backward as reference

PATH = Path(__file__).parents[2] / "kernels" / "nki" / "attention_backward.py"
KERNEL = simulator.load(PATH).attention_backward
FORWARD = simulator.load(PATH.with_name("attention.py")).attention
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


FLOAT32 = np.dtype(np.float32)


def draw(queries, keys, d=64, dtype=FLOAT32, heads=(2, 1), batch=1, **options):
    """Arguments of the kernel; out and lse are the forward definition's."""
    rng = np.random.default_rng(0)
    shapes = {"q": (heads[0], queries), "k": (heads[1], keys), "v": (heads[1], keys), "dout": (heads[0], queries)}
    found = {name: rng.standard_normal((batch, *shape, d)).astype(dtype) for name, shape in shapes.items()}
    out, lse = attention(found["q"], found["k"], found["v"], with_lse=True, **options)
    return {**found, "out": out.astype(dtype), "lse": lse.astype(np.float32), **options}


def agrees(arguments, target="trn2", kernel=KERNEL):
    ran = simulator.on(target).run(kernel, **arguments)
    for name, found, expected in zip(("dq", "dk", "dv"), ran.outputs, reference(**arguments), strict=True):
        assert found.dtype == arguments["q"].dtype
        bound = 3 * float(ml_dtypes.finfo(found.dtype).eps)
        off, size = np.linalg.norm(found.astype(np.float64) - expected), np.linalg.norm(expected)
        assert off <= max(bound, 2e-6) * max(size, 1e-3), (name, off, size)
    return ran


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
@pytest.mark.parametrize("dtype", [FLOAT32, BFLOAT16, np.dtype(np.float16)])
def test_all_targets_and_dtypes(dtype, target):
    agrees(draw(200, 300, dtype=dtype, causal=True), target)


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"causal": True, "window": 90}])
@pytest.mark.parametrize(
    ("queries", "keys", "d"), [(1, 1, 1), (128, 128, 128), (129, 513, 96), (600, 200, 40), (300, 700, 256), (1, 600, 8)]
)
def test_shapes(queries, keys, d, options):
    agrees(draw(queries, keys, d, **options))


def test_dk_and_dv_are_sums_over_the_heads_of_a_group():
    arguments = draw(140, 140, heads=(6, 2), batch=2, causal=True)
    agrees(arguments)
    each = reference(**{**arguments, "k": np.repeat(arguments["k"], 3, 1), "v": np.repeat(arguments["v"], 3, 1)})
    for whole, part in zip(reference(**arguments)[1:], each[1:], strict=True):
        np.testing.assert_allclose(whole, part.reshape(2, 2, 3, 140, 64).sum(axis=2), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"causal": True, "window": 300}])
def test_keys_beyond_what_fits_in_sbuf_are_another_span(options, tmp_path):
    text = PATH.read_text()
    assert "SPAN = 128 * 1024" in text
    (tmp_path / "spans.py").write_text(text.replace("SPAN = 128 * 1024", "SPAN = 1"))
    kernel = simulator.load(tmp_path / "spans.py").attention_backward
    agrees(draw(1200, 1300, d=32, dtype=BFLOAT16, **options), kernel=kernel)


def test_keys_that_no_query_sees_have_no_gradient():
    arguments = draw(100, 1200, causal=True, window=50)
    _, dk, dv = agrees(arguments).outputs
    assert not dk[:, :, :1051].any() and not dv[:, :, :1051].any() and dk[:, :, 1051].any()


def test_it_goes_with_what_the_forward_kernel_saves():
    arguments = draw(300, 300, dtype=BFLOAT16, causal=True)
    forward = {name: arguments[name] for name in ("q", "k", "v", "causal")}
    arguments["out"], arguments["lse"] = simulator.on("trn2").run(FORWARD, with_lse=True, **forward).outputs
    ran = simulator.on("trn2").run(KERNEL, **arguments)
    for found, expected in zip(ran.outputs, reference(**draw(300, 300, dtype=BFLOAT16, causal=True)), strict=True):
        off = np.linalg.norm(found.astype(np.float64) - expected) / np.linalg.norm(expected)
        assert off < 0.01


def test_large_scores_need_no_care():
    arguments = draw(150, 150, dtype=BFLOAT16)
    arguments["q"] = (arguments["q"].astype(np.float32) * 50).astype(BFLOAT16)
    out, lse = attention(arguments["q"], arguments["k"], arguments["v"], with_lse=True)
    arguments.update(out=out.astype(BFLOAT16), lse=lse.astype(np.float32))
    ran = simulator.on("trn2").run(KERNEL, **arguments)
    for found, expected in zip(ran.outputs, reference(**arguments), strict=True):
        assert np.linalg.norm(found.astype(np.float64) - expected) < 0.02 * np.linalg.norm(expected)


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"causal": True, "window": 3}])
def test_the_definition_is_the_gradient_of_the_forward_definition(options):
    """Central differences of sum(dout * attention(q, k, v)), in float64, for every element."""
    rng = np.random.default_rng(3)
    q, dout = rng.standard_normal((2, 1, 4, 5, 3))
    k, v = rng.standard_normal((2, 1, 2, 7, 3))
    out, lse = attention(q, k, v, with_lse=True, **options)
    found = reference(q, k, v, out, dout, lse, **options)
    for n, x in enumerate((q, k, v)):
        for index in np.ndindex(x.shape):
            sides = []
            for step in (1e-5, -1e-5):
                moved = [y.copy() for y in (q, k, v)]
                moved[n][index] += step
                sides.append(np.sum(dout * attention(*moved, **options)))
            assert found[n][index] == pytest.approx((sides[0] - sides[1]) / 2e-5, abs=1e-8)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"window": 3}, "a window of one or more keys goes with causal, got 3"),
        ({"lse": np.zeros((1, 2, 9), np.float32)}, r"lse \(1, 2, 8\), got .* \(1, 2, 9\)"),
        ({"dout": np.zeros((1, 2, 8, 64), np.float16)}, "all arrays but lse must have one dtype"),
        ({"lse": np.zeros((1, 2, 8), np.float16)}, "lse must be float32, got float16"),
    ],
)
def test_arguments_that_do_not_fit(change, said):
    with pytest.raises(AssertionError, match=said):
        simulator.on("trn2").run(KERNEL, **{**draw(8, 8), **change})
