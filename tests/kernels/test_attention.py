"""The NKI attention where its certificate fails: what is computed again, and that it is exact."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from triptych import simulator
from triptych.reference.attention import attention as reference

KERNEL = Path(__file__).parents[2] / "kernels" / "nki" / "attention.py"
ATTENTION = simulator.load(KERNEL).attention
TARGETS = ("trn1", "trn2", "trn3")
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def draw(queries, keys, d=64, dtype=BFLOAT16, heads=1):
    rng = np.random.default_rng(0)
    shapes = ((1, heads, queries, d), (1, 1, keys, d), (1, 1, keys, d))
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def run(q, k, v, causal=False, target="trn2", kernel=ATTENTION):
    """The output, and how many tiles of 128 queries were computed again: each transposes a column of maxima once."""
    ran = simulator.on(target).run(kernel, q, k, v, causal=causal)
    again = [e for e in ran.trace.events if e.op == "dma_transpose" and e.reads[0].allocation.buffer == "sbuf"]
    return ran.outputs, len(again)


def agrees(out, q, k, v, causal=False):
    unit = float(ml_dtypes.finfo(out.dtype).eps)
    np.testing.assert_allclose(out.astype(np.float64), reference(q, k, v, causal), rtol=4 * unit, atol=4 * unit)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, BFLOAT16, np.float16])
def test_ordinary_rows_are_computed_once(causal, dtype):
    q, k, v = draw(300, 400, dtype=dtype)
    out, again = run(q, k, v, causal)
    assert again == 0
    agrees(out, q, k, v, causal)


@pytest.mark.parametrize("score", [1e3, -1e3, np.nan, np.inf])
def test_only_the_tile_of_a_row_that_fails_is_computed_again(score):
    q, k, v = draw(300, 200)
    k[..., 0] = 1
    q[0, 0, 130] = 0
    q[0, 0, 130, 0] = score
    out, again = run(q, k, v)
    assert again == 1
    agrees(out, q, k, v)


@pytest.mark.parametrize("target", TARGETS)
def test_values_that_a_query_does_not_see_do_not_reach_it(target):
    q, k, v = draw(140, 140)
    v[0, 0, 70, 3], v[0, 0, 80, 3], v[0, 0, 90, 4], k[0, 0, 100, 5] = np.inf, -np.inf, np.nan, np.inf
    out, again = run(q, k, v, True, target)
    assert again == 2
    assert np.isfinite(out[0, 0, :70]).all()
    assert (out[0, 0, 70:80, 3] == np.inf).all() and np.isnan(out[0, 0, 80:, 3]).all()
    assert np.isfinite(out[0, 0, 80:90, 4]).all() and np.isnan(out[0, 0, 90:, 4]).all()
    agrees(out, q, k, v, True)


@pytest.mark.parametrize("dtype", [np.float32, BFLOAT16])
def test_values_near_the_largest_number_do_not_overflow(dtype):
    q, k, v = draw(20, 200, dtype=dtype)
    v[...] = np.array(3e38, dtype)
    out, again = run(q, k, v)
    assert again == 1
    np.testing.assert_allclose(out.astype(np.float64), float(v[0, 0, 0, 0]), rtol=2e-2 if dtype == BFLOAT16 else 1e-5)


def test_a_row_is_certified_as_far_as_its_sum_allows():
    """Weights of exp(40) and of exp(-7) are certified as they are; of exp(70) and exp(-20) they are not."""
    q, k, v = draw(64, 100, dtype=np.float32)
    q[..., 0] = 8
    for score, expected in ((40.0, 0), (-5.0, 0), (75.0, 1), (-20.0, 1)):
        k[..., 0] = score
        out, again = run(q, k, v)
        assert again == expected, score
        np.testing.assert_allclose(out, reference(q, k, v), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("d", "keys"), [(129, 70), (256, 300), (200, 130)])
@pytest.mark.parametrize("causal", [False, True])
def test_large_head_dimensions(d, keys, causal):
    q, k, v = draw(280, keys, d)
    out, again = run(q, k, v, causal)
    agrees(out, q, k, v, causal)
    assert again == 0
    q[0, 0, 279] *= 100
    out, again = run(q, k, v, causal)
    agrees(out, q, k, v, causal)
    assert again == 1


def test_keys_that_do_not_fit_in_sbuf_are_loaded_for_each_block(tmp_path):
    text = KERNEL.read_text()
    assert "RESIDENT = 128 * 1024" in text
    (tmp_path / "streamed.py").write_text(text.replace("RESIDENT = 128 * 1024", "RESIDENT = 0"))
    streamed = simulator.load(tmp_path / "streamed.py").attention
    q, k, v = draw(700, 300, heads=2)
    assert np.array_equal(run(q, k, v)[0], run(q, k, v, kernel=streamed)[0])


def test_many_equal_weights_lose_no_significance_in_float32():
    q, k, v = draw(40, 1000, dtype=np.float32)
    k[...] = k[:, :, :1]
    out, again = run(q, k, v)
    expected = reference(q, k, v)
    assert again == 0 and np.linalg.norm(out - expected) < 4e-7 * np.linalg.norm(expected)


def test_scalar_has_exponentials_alone():
    """A block's sums leave PSUM by another engine: the next exponential is what the Tensor Engine waits for."""
    events = simulator.on("trn2").run(ATTENTION, *draw(512, 512, d=128)).trace.events
    assert len([e for e in events if e.op == "activation"]) == 3  # the table's load, and two groups of two tiles
