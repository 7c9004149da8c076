"""The NKI attention with a window, a cap, a mask, sinks and segments, each for ordinary inputs and for any."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from triptych import simulator
from triptych.reference.attention import attention as reference

ATTENTION = simulator.load(Path(__file__).parents[2] / "kernels" / "nki" / "attention.py").attention
TARGETS = ("trn1", "trn2", "trn3")
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def mask(queries, keys, dtype, heads=1):
    """Distances times a slope, as ALiBi has them, a third of the keys hidden, and all of them from two queries."""
    rng = np.random.default_rng(1)
    found = -0.05 * np.abs(np.arange(queries)[:, None] - np.arange(keys)) * np.ones((1, heads, 1, 1))
    found[:, :, rng.random((queries, keys)) < 1 / 3] = -np.inf
    found[:, :, [queries // 3, queries // 2]] = -np.inf
    return found.astype(dtype)


def variants(queries, keys, dtype, heads):
    """Name -> options of the kernel, which the reference takes too."""
    packed = np.sort(np.random.default_rng(2).integers(0, 300, (1, keys))).astype(np.int32)
    sinks = np.linspace(-2, 3, heads).astype(dtype)
    return {
        "plain": {},
        "causal": {"causal": True},
        "window": {"causal": True, "window": 70},
        "window of one": {"causal": True, "window": 1},
        "window over all": {"causal": True, "window": 5000},
        "cap": {"softcap": 20.0},
        "large cap": {"softcap": 200.0, "causal": True},
        "sinks": {"sinks": sinks},
        "window and sinks": {"causal": True, "window": 130, "sinks": sinks},
        "mask": {"mask": mask(queries, keys, dtype)},
        "mask of each head": {"mask": mask(queries, keys, np.float32, heads), "causal": True},
        "cap and mask": {"mask": mask(queries, keys, dtype), "softcap": 10.0, "sinks": sinks},
        **({"packed": {"segments": packed}} if queries == keys else {}),
        **({"packed, causal": {"segments": packed, "causal": True, "window": 40}} if queries == keys else {}),
    }


NAMES = list(variants(8, 8, np.float32, 1))


def draw(queries, keys, d=64, dtype=BFLOAT16, heads=2):
    rng = np.random.default_rng(0)
    shapes = ((1, heads, queries, d), (1, 1, keys, d), (1, 1, keys, d))
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def agrees(q, k, v, options, target="trn2", factor=4.0):
    """Both outputs are right; returns how many tiles of 128 queries were computed again."""
    ran = simulator.on(target).run(ATTENTION, q, k, v, with_lse=True, **options)
    out, lse = ran.outputs
    expected, expected_lse = reference(q, k, v, with_lse=True, **options)
    unit = factor * float(ml_dtypes.finfo(out.dtype).eps)
    np.testing.assert_allclose(out.astype(np.float64), expected, rtol=unit, atol=unit)
    np.testing.assert_allclose(lse, expected_lse, rtol=2e-6, atol=2e-6)  # of float32, whatever the inputs are
    moved = [e.reads[0] for e in ran.trace.events if e.op == "dma_transpose"]
    return sum(r.allocation.buffer == "sbuf" and r.shape[1:] == (1,) for r in moved)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.float32, BFLOAT16, np.float16])
def test_variants_of_ordinary_inputs(name, dtype):
    q, k, v = draw(300, 300, dtype=dtype)
    options = variants(300, 300, dtype, 2)[name]
    again = agrees(q, k, v, options, factor=16.0 if dtype == np.float32 else 4.0)
    # Two queries of the mask see nothing; in float16 a row of a small segment cannot prove that nothing became 0.
    assert again == 0 or "mask" in options or ("segments" in options and dtype == np.float16)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", NAMES)
def test_variants_of_large_scores_and_of_what_is_not_finite(name, target):
    q, k, v = draw(200, 200)
    q[0, 0, :130] *= 30
    v[0, 0, 150, 3], k[0, 0, 170, 5], v[0, 0, 190, 7] = np.nan, -np.inf, np.inf
    options = variants(200, 200, BFLOAT16, 2)[name]
    with np.errstate(invalid="ignore"):
        assert agrees(q, k, v, options, target, factor=8.0) > 0


@pytest.mark.parametrize("name", ["window", "cap", "mask", "cap and mask", "window and sinks"])
@pytest.mark.parametrize(("queries", "keys", "d"), [(1, 1, 1), (129, 700, 128), (300, 130, 96), (70, 600, 256)])
def test_variants_of_other_shapes(name, queries, keys, d):
    q, k, v = draw(queries, keys, d)
    agrees(q, k, v, variants(queries, keys, BFLOAT16, 2)[name])


def test_a_window_visits_only_the_tiles_that_it_touches():
    q, k, v = draw(512, 2048, heads=1)
    matmuls = {}
    for window in (128, 2048):
        ran = simulator.on("trn2").run(ATTENTION, q, k, v, causal=True, window=window)
        matmuls[window] = sum(e.op == "nc_matmul" for e in ran.trace.events)
    assert matmuls[128] < matmuls[2048] / 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"window": 3}, "a window of one or more keys goes with causal, got 3"),
        ({"sinks": np.zeros(3, np.float32)}, r"sinks must be \[H\] = \(2,\), got \(3,\)"),
        ({"mask": np.zeros((1, 1, 9, 8), np.float32)}, r"mask must be .* of \(1, 2, 8, 8\), got \(1, 1, 9, 8\)"),
        ({"segments": np.zeros((1, 9), np.int32)}, r"as many queries as keys, \(1, 8\), got \(1, 9\) and 8 queries"),
    ],
)
def test_options_that_do_not_fit(options, said):
    with pytest.raises(AssertionError, match=said):
        simulator.on("trn2").run(ATTENTION, *draw(8, 8), **options)


@pytest.mark.parametrize("dtype", [np.float32, BFLOAT16])
def test_small_values_keep_their_digits_down_to_what_the_kernel_promises_beside_a_query_that_sees_nothing(dtype):
    q, k, v = draw(40, 256, dtype=dtype)
    hidden = np.zeros((1, 1, 40, 256), dtype)
    hidden[:, :, 3] = -np.inf
    v = (v.astype(np.float64) * 2.0**-126 * 256).astype(dtype)
    out = simulator.on("trn2").run(ATTENTION, q, k, v, mask=hidden).outputs
    expected = reference(q, k, v, mask=hidden)
    unit = 16.0 * float(ml_dtypes.finfo(dtype).eps)
    np.testing.assert_allclose(out.astype(np.float64), expected, rtol=unit, atol=unit * np.abs(expected).max())
